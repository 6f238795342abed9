"""`jsafe rlhf reward`: train a reward model on preference pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.stage_flags import JudgeFlags, SupervisedRequest
from rlhf.config import TrainingConfig
from rlhf.training.presets import STAGES, training_config

if TYPE_CHECKING:
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(TrainingConfig, presets={"": STAGES["reward"]})
class RewardTraining(HyperparameterFlags):
    """Hyper-parameters of the stage."""


@flags
class RewardRequest(SupervisedRequest):
    """Settings of `jsafe rlhf reward`.

    Attributes:
        prefer: Response with the larger reward: the more helpful one, or the harmful one, for a reward that opposes
            the cost.
    """

    STAGE: ClassVar[str] = "reward"

    judge: JudgeFlags = JudgeFlags()
    prefer: Literal["better", "harmful"] = "better"
    training: RewardTraining = RewardTraining()

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.training import recipes

        training = self.training.applied_to(training_config("reward", self.start.model))
        judge = self.judge.config(prefer_harmful=self.prefer == "harmful")
        return recipes.preference("reward", self.start_config(run_dir), self.data.config("reward"), judge, training)


def run(request: RewardRequest) -> Result:
    """Run `jsafe rlhf reward`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
