"""`jsafe rlhf sft`: fine-tune a language model on responses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.stage_flags import SupervisedRequest
from rlhf.config import TrainingConfig
from rlhf.training.presets import BAICHUAN2, STAGES, training_config

if TYPE_CHECKING:
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(TrainingConfig, presets={"safe-rlhf": STAGES["sft"], "baichuan2": BAICHUAN2["sft"]})
class SftTraining(HyperparameterFlags):
    """Hyper-parameters of fine-tuning."""


@flags
class SftRequest(SupervisedRequest):
    """Settings of `jsafe rlhf sft`.

    Attributes:
        preset: Published hyper-parameters to start from.
    """

    STAGE: ClassVar[str] = "sft"

    preset: Literal["safe-rlhf", "baichuan2"] = "safe-rlhf"
    training: SftTraining = SftTraining()

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.training import recipes

        training = self.training.applied_to(training_config("sft", self.start.model, self.preset))
        return recipes.sft(self.start_config(run_dir), self.data.config("sft"), training)


def run(request: SftRequest) -> Result:
    """Run `jsafe rlhf sft`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
