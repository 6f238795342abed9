"""`jsafe rlhf moderation`: train a classifier of responses by category of harm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.stage_flags import SupervisedRequest
from rlhf.config import TrainingConfig
from rlhf.training.presets import STAGES, training_config

if TYPE_CHECKING:
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(TrainingConfig, presets={"": STAGES["moderation"]})
class ModerationTraining(HyperparameterFlags):
    """Hyper-parameters of the stage."""


@flags
class ModerationRequest(SupervisedRequest):
    """Settings of `jsafe rlhf moderation`."""

    STAGE: ClassVar[str] = "moderation"

    training: ModerationTraining = ModerationTraining()

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.training import recipes

        training = self.training.applied_to(training_config("moderation", self.start.model))
        return recipes.moderation(self.start_config(run_dir), self.data.config("moderation"), training)


def run(request: ModerationRequest) -> Result:
    """Run `jsafe rlhf moderation`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
