"""Flags of the training stages."""

# Annotations are types, not text, because subclasses in other modules inherit the fields.

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from experiments.cli.argument_types import Count, Folder, Folders, NotNegative, Switch, Whole, parameter
from experiments.cli.errors import CommandError
from experiments.cli.request import flag_group, flags
from experiments.cli.shared_flags import Machine, Output, Processes, RunFlags
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, flag_of
from experiments.commands.rlhf.shared.model_flags import Columns, Sources, Template, TokenizerPath

if TYPE_CHECKING:
    from rlhf.data.dataset import DataConfig
    from rlhf.reinforcement.setup import ReinforcementSetup
    from rlhf.training.recipes import JudgeConfig, Recipe, StartConfig


@flags
class StageRequest:
    """Settings of a training stage."""

    STAGE: ClassVar[str]
    """Name of the stage."""

    run: RunFlags = RunFlags()
    processes: Processes = Processes()
    machine: Machine = Machine()
    output: Output = Output()

    @property
    def source(self) -> Path | None:
        """Directory of the model that the stage starts with, None for a model from scratch."""
        raise NotImplementedError

    def missing_files(self) -> list[str]:
        """Return a line for each file or folder that does not exist.

        Raises:
            CommandError: the settings are incomplete or contradict each other.
        """
        raise NotImplementedError

    def recipe(self, run_dir: Path) -> "Recipe":
        """Build the stage."""
        raise NotImplementedError


@flag_group("Model", 10)
class StartFlags:
    """Model that a stage starts with.

    Attributes:
        model: Model directory, or a size to train from scratch: small, mini, tiny, nano or a published size.
        tokenizer: Directory or file of the tokenizer (default that of the model).
        vocabulary: Size of a tokenizer trained on the data (default 4,096; 16,384 for reward and cost models).
        length: Maximum number of tokens of a text (default 512; 256 for a small model from scratch).
    """

    model: Annotated[str, parameter(str, "MODEL")] = "small"
    tokenizer: TokenizerPath | None = None
    vocabulary: Count | None = None
    length: Count | None = None

    def config(self, run_dir: Path, seed: int, template: str | None = None) -> "StartConfig":
        """Return the starting model of a run."""
        from rlhf.training.recipes import StartConfig

        return StartConfig(
            model=self.model,
            run_dir=run_dir,
            tokenizer=self.tokenizer,
            template=template,
            vocabulary=self.vocabulary,
            length=self.length,
            seed=seed,
        )

    @property
    def source(self) -> Path | None:
        """Directory of the model, None for a size."""
        return Path(self.model) if Path(self.model).is_dir() else None


@flag_group("Data", 20)
class DataFlags:
    """Rows to train and to evaluate on.

    Attributes:
        data: File, folder or NAME:SHARE:PATH with training rows; repeatable.
        eval_data: File, folder or NAME:SHARE:PATH with held-out rows for the evaluation; repeatable.
        eval_share: Fraction of the prompts held out for the evaluation, instead of --eval-data.
        columns: Columns of the files by the name of a field, for example prompt=question,chosen=better.
        skip: Leave out unusable rows, and count them.
        template: Template of conversations (default baichuan for a model of that family, else safe-rlhf).
    """

    data: Sources = ()
    eval_data: Sources = ()
    eval_share: NotNegative | None = None
    columns: Columns = ()
    skip: Switch = False
    template: Template | None = None

    def config(self, stage: str) -> "DataConfig":
        """Return the data of a run."""
        config = data_config(stage, self.data, self.eval_data, self.eval_share, skip=self.skip)
        return dataclasses.replace(config, columns=self.columns)


def data_config(
    stage: str, data: tuple[str, ...], eval_data: tuple[str, ...], eval_share: float | None, *, skip: bool
) -> "DataConfig":
    """Return the data of a run, checked.

    Raises:
        CommandError: there are no data, or held-out rows are named twice.
    """
    from rlhf.data.dataset import DataConfig

    if not data:
        raise CommandError(f"no training data. Use jsafe rlhf {stage} --data FILE")
    if eval_data and eval_share:
        raise CommandError("--eval-share has no effect next to --eval-data. Leave --eval-share out")
    return DataConfig(data=data, eval_data=eval_data, eval_share=eval_share, skip=skip)


@flag_group("Judge", 30)
class JudgeFlags:
    """Settings of reward and cost models.

    Attributes:
        warm_epochs: Passes over the texts as a language model first, for a model from scratch.
        regularization: Weight of the squared scores.
        level: Compare whole responses, or all tokens after their first difference.
        pooling: Score a response by its last token, as published, or by the mean of its tokens (default mean for a
            model from scratch, else that of the model).
        word_scores: Fit a score of each token before training (default for a model from scratch; needs
            mean pooling).
        baseline: Compare the evaluation with a bag of words.
    """

    warm_epochs: Whole = 0
    regularization: NotNegative = 0.001
    level: Literal["sequence", "token"] = "sequence"
    pooling: Literal["last", "mean"] | None = None
    word_scores: bool | None = None
    baseline: bool = True

    def config(self, *, prefer_harmful: bool = False) -> "JudgeConfig":
        """Return the settings of a judge."""
        from rlhf.training.recipes import JudgeConfig

        return JudgeConfig(
            regularization=self.regularization,
            level=self.level,
            pooling=self.pooling,
            unigram_scores=self.word_scores,
            warm_epochs=self.warm_epochs,
            prefer_harmful=prefer_harmful,
            baseline=self.baseline,
        )


@flags
class SupervisedRequest(StageRequest):
    """Settings of a supervised stage on rows."""

    start: StartFlags = StartFlags()
    data: DataFlags = DataFlags()

    @property
    def source(self) -> Path | None:
        """Directory of the starting model."""
        return self.start.source

    def missing_files(self) -> list[str]:
        """Return a line for each missing file."""
        from rlhf import preflight

        config = self.data.config(self.STAGE)
        rows = preflight.missing_rows([*config.data, *config.eval_data])
        return rows + preflight.missing_model(self.start.model, self.start.tokenizer)

    def start_config(self, run_dir: Path) -> "StartConfig":
        """Return the starting model."""
        return self.start.config(run_dir, self.run.seed, self.data.template)


@flag_group("Models and data", 10)
class ReinforcementFlags:
    """Models and data of reinforcement.

    Attributes:
        model: Directory of the language model to train.
        tokenizer: Directory or file of the tokenizer (default that of the model).
        template: Template of conversations (default baichuan for a model of that family, else safe-rlhf).
        reward_model: Directory of the reward model.
        cost_model: Directory of a cost model; repeatable.
        data: File, folder or NAME:SHARE:PATH with prompts; repeatable.
        ptx_data: File, folder or NAME:SHARE:PATH with human-written answers for the PTX loss; repeatable.
        prompt_length: Maximum number of tokens of a prompt.
        columns: Columns of the files by the name of a field, for example prompt=question,chosen=better.
        skip: Leave out unusable rows, and count them.
        remat: Recompute activations in the backward pass to save memory.
    """

    model: Folder | None = None
    tokenizer: TokenizerPath | None = None
    template: Template | None = None
    reward_model: Folder | None = None
    cost_model: Folders = ()
    data: Sources = ()
    ptx_data: Sources = ()
    prompt_length: Count = 64
    columns: Columns = ()
    skip: Switch = False
    remat: Switch = False


LIMIT_OPTIONS = frozenset(
    ("cost_limit", "cost_window", *(f"multiplier_{name}" for name in ("init", "learning_rate", "max", "delay")))
)
"""Hyper-parameters of cost limits, which a stage without limits does not have."""


@flag_group("Limits", 99)
class LimitFlags:
    """Flags of cost limits in a stage without limits, which name the stage that has them."""

    cost_limit: Annotated[str | None, flag_of("ppo-lag")] = None
    cost_window: Annotated[str | None, flag_of("ppo-lag")] = None
    multiplier_init: Annotated[str | None, flag_of("ppo-lag")] = None
    multiplier_learning_rate: Annotated[str | None, flag_of("ppo-lag")] = None
    multiplier_max: Annotated[str | None, flag_of("ppo-lag")] = None
    multiplier_delay: Annotated[str | None, flag_of("ppo-lag")] = None


CRITIC_OPTIONS = ("critic_learning_rate", "clip_value", "gae_lambda")
"""Hyper-parameters of critics, which the estimator `group` does not have."""


@flags
class ReinforcementRequest(StageRequest):
    """Settings of a reinforcement stage."""

    models: ReinforcementFlags = ReinforcementFlags()
    training: HyperparameterFlags = HyperparameterFlags()

    @property
    def source(self) -> Path | None:
        """Directory of the actor."""
        return self.models.model

    def missing_files(self) -> list[str]:
        """Return a line for each missing file."""
        from rlhf import preflight

        models = self.models
        if not models.data:
            raise CommandError(f"no training data. Use jsafe rlhf {self.STAGE} --data FILE")
        options = self.training.explicit()
        idle = [f"--{name.replace('_', '-')}" for name in CRITIC_OPTIONS if name in options]
        if options.get("estimator") == "group" and idle:
            raise CommandError(f"--estimator group has no critics. Leave {', '.join(idle)} out")
        missing = preflight.missing_rows([*models.data, *models.ptx_data])
        missing += preflight.missing_model(models.model, models.tokenizer)
        return missing + [
            line for path in (models.reward_model, *models.cost_model) for line in preflight.missing_model(path)
        ]

    def setup(self, *, preset: str | None = None, cost_weight: float = 1.0) -> "ReinforcementSetup":
        """Return models, data and settings for `rlhf.reinforcement.build`.

        Raises:
            CommandError: a model is missing.
        """
        from rlhf.config import SamplingConfig
        from rlhf.reinforcement.method_presets import reinforcement_config
        from rlhf.reinforcement.setup import ReinforcementSetup

        models = self.models
        if models.model is None or models.reward_model is None:
            named = {"--model": models.model, "--reward-model": models.reward_model}
            named |= {"--cost-model": models.cost_model} if self.STAGE != "ppo" else {}
            missing = [flag for flag, value in named.items() if not value]
            raise CommandError(f"{self.STAGE} needs {', '.join(missing)}: directories of models")
        return ReinforcementSetup(
            method=self.STAGE,
            model=models.model,
            reward_model=models.reward_model,
            cost_models=models.cost_model,
            data=models.data,
            ptx_data=models.ptx_data,
            tokenizer=models.tokenizer,
            template=models.template,
            prompt_length=models.prompt_length,
            skip=models.skip,
            columns=models.columns,
            remat=models.remat,
            cost_weight=cost_weight,
            config=self.training.applied_to(reinforcement_config(self.STAGE, preset, ptx=bool(models.ptx_data))),
            sampling=self.training.applied_to(SamplingConfig()),
        )
