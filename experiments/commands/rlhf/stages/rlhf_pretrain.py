"""`jsafe rlhf pretrain`: train a language model on plain text, with evaluated checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from experiments.cli.argument_types import Count, Counts, Folder, NotNegative
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.model_flags import Sources
from experiments.commands.rlhf.shared.stage_flags import StageRequest, StartFlags, data_config
from rlhf.config import TrainingConfig
from rlhf.training.presets import STAGES, training_config

if TYPE_CHECKING:
    from rlhf.data.dataset import DataConfig
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(TrainingConfig, presets={"": STAGES["pretrain"]})
class PretrainTraining(HyperparameterFlags):
    """Hyper-parameters of pretraining."""


@flags
class PretrainRequest(StageRequest):
    """Settings of `jsafe rlhf pretrain`.

    Attributes:
        data: Text file to train on; repeatable.
        eval_data: Held-out text file for the evaluation; repeatable.
        eval_share: Fraction of the texts held out for the evaluation, instead of --eval-data.
        save_at: Numbers of training tokens to save a checkpoint at; the last model is always saved.
        save_every: Number of training tokens between checkpoints.
        harness: Directory of multiple-choice questions to evaluate checkpoints on, as --multiple-choice of harness.
        language: Language of the questions.
    """

    STAGE: ClassVar[str] = "pretrain"

    start: StartFlags = StartFlags()
    data: Sources = ()
    eval_data: Sources = ()
    eval_share: NotNegative | None = None
    save_at: Counts = ()
    save_every: Count | None = None
    harness: Folder | None = None
    language: Literal["en", "zh"] = "en"
    training: PretrainTraining = PretrainTraining()

    @property
    def source(self) -> Path | None:
        """Directory of the starting model."""
        return self.start.source

    def _data(self) -> DataConfig:
        return data_config("pretrain", self.data, self.eval_data, self.eval_share, skip=False)

    def missing_files(self) -> list[str]:
        """Return a line for each missing file."""
        from rlhf import preflight

        config = self._data()
        texts = preflight.missing_texts([*config.data, *config.eval_data])
        return texts + preflight.missing_model(self.start.model, self.start.tokenizer)

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.training import recipes
        from rlhf.training.checkpoint_schedule import ScheduleConfig

        training = self.training.applied_to(training_config("pretrain", self.start.model))
        schedule = ScheduleConfig(
            save_at=self.save_at, save_every=self.save_every, multiple_choice=self.harness, language=self.language
        )
        return recipes.pretraining(self.start.config(run_dir, self.run.seed), self._data(), training, schedule)


def run(request: PretrainRequest) -> Result:
    """Run `jsafe rlhf pretrain`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
