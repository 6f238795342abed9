"""`jsafe rlhf cost`: train a cost model on preference pairs with safety labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.stage_flags import JudgeFlags, SupervisedRequest
from rlhf.config import TrainingConfig
from rlhf.training.presets import STAGES, training_config

if TYPE_CHECKING:
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(TrainingConfig, presets={"": STAGES["cost"]})
class CostTraining(HyperparameterFlags):
    """Hyper-parameters of the stage."""


@flags
class CostRequest(SupervisedRequest):
    """Settings of `jsafe rlhf cost`."""

    STAGE: ClassVar[str] = "cost"

    judge: JudgeFlags = JudgeFlags()
    training: CostTraining = CostTraining()

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.training import recipes

        training = self.training.applied_to(training_config("cost", self.start.model))
        judge = self.judge.config()
        return recipes.preference("cost", self.start_config(run_dir), self.data.config("cost"), judge, training)


def run(request: CostRequest) -> Result:
    """Run `jsafe rlhf cost`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
