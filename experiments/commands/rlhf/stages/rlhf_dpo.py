"""`jsafe rlhf dpo`: direct preference optimisation on preference pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from experiments.cli.argument_types import NotNegative, Switch
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.stage_flags import SupervisedRequest
from rlhf.config import TrainingConfig
from rlhf.training.presets import STAGES, training_config

if TYPE_CHECKING:
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(TrainingConfig, presets={"": STAGES["dpo"]})
class DpoTraining(HyperparameterFlags):
    """Hyper-parameters of the stage."""


@flags
class DpoRequest(SupervisedRequest):
    """Settings of `jsafe rlhf dpo`.

    Attributes:
        beta: Factor of the implied reward.
        published_off_by_one: Sum the tokens that the published code sums, one late at both ends.
    """

    STAGE: ClassVar[str] = "dpo"

    beta: NotNegative = 0.1
    published_off_by_one: Switch = False
    training: DpoTraining = DpoTraining()

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.training import recipes

        training = self.training.applied_to(training_config("dpo", self.start.model))
        return recipes.dpo(
            self.start_config(run_dir),
            self.data.config("dpo"),
            training,
            beta=self.beta,
            published_off_by_one=self.published_off_by_one,
        )


def run(request: DpoRequest) -> Result:
    """Run `jsafe rlhf dpo`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
