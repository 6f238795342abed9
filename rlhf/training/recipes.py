"""Recipes of the supervised stages: from files and settings to a trainer, a finished model and its evaluation.

`rlhf.training.supervised_stages` builds trainers from models and arrays. A recipe also loads data, prepares the model,
trains its tokenizer where it has none, and evaluates the result on held-out rows. Each row is tokenised once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jsafe
from jsafe.runs import resume
from rlhf import preflight
from rlhf.adapters import lora
from rlhf.checkpoints import model_folder
from rlhf.checkpoints.model_folder import Model
from rlhf.config import TrainingConfig
from rlhf.data import dataset, encoding, plain_text
from rlhf.data.beavertails import CATEGORIES
from rlhf.data.dataset import DataConfig
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.data.schemas import Example
from rlhf.evaluation import held_out
from rlhf.judges import from_scratch
from rlhf.models.architecture import ModelConfig, parameter_count
from rlhf.parallel import memory
from rlhf.tokenizer.tokenizer import Tokenizer, load_tokenizer
from rlhf.tokenizer.train_bpe import learn_tokenizer
from rlhf.training import presets, supervised_stages
from rlhf.training.checkpoint_schedule import CheckpointEvaluator, ScheduleConfig
from rlhf.training.supervised_stages import Stage

LOG = logging.getLogger(__name__)

SMALL_MODEL_LENGTH, DEFAULT_LENGTH = 256, 512
"""Maximum number of tokens of a text, for small models from scratch and for others (as published)."""

VOCABULARY, JUDGE_VOCABULARY = 4096, 16_384
"""Size of a trained tokenizer. That of a judge has mostly whole words, each with a score of its own."""


class Recipe(NamedTuple):
    """A stage with its data, ready for `jsafe.fit`.

    Attributes:
        stage: trainer, number of iterations and the trained model.
        evaluate: evaluation of the trained model on held-out rows; None without such rows.
        digest: hash of the training and held-out data, which a resumed run must reproduce.
        skipped: lines about the rows that could not be read.
        schedule: callback that saves and evaluates checkpoints of a pretraining.
    """

    stage: Stage
    evaluate: Callable[[Model], dict[str, Any]] | None
    digest: str
    skipped: list[str]
    schedule: CheckpointEvaluator | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Model that a stage starts with.

    Attributes:
        model: folder of a model, or a size to train from scratch.
        run_dir: folder of the run, which a model from scratch is kept in, so that the run can be resumed.
        tokenizer: folder or file; None for the model's own, or for one trained on the data.
        template: conversation template; None for that of the model's family.
        vocabulary: number of tokens of a trained tokenizer; None for the default.
        length: maximum number of tokens of a text; None for the default.
        seed: seed of random weights.
    """

    model: str
    run_dir: Path
    tokenizer: Path | None = None
    template: str | None = None
    vocabulary: int | None = None
    length: int | None = None
    seed: int = 0

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of a text."""
        return self.length or (SMALL_MODEL_LENGTH if self.model in model_folder.PRESETS else DEFAULT_LENGTH)

    @property
    def is_size(self) -> bool:
        """True for a size that is trained from scratch."""
        return not Path(self.model).is_dir() and self.model in (*model_folder.PRESETS, *model_folder.PUBLISHED)

    @property
    def kept_folder(self) -> Path:
        """Folder of a model that this run made."""
        return self.run_dir / "start"

    @property
    def is_kept(self) -> bool:
        """True if the run has made its starting model already."""
        return (self.kept_folder / "config.json").is_file()


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Settings of reward and cost models.

    Attributes:
        regularization: weight of the squared scores.
        level: `"sequence"` compares the scores of whole responses, `"token"` those of all tokens after the first
            difference.
        pooling: `"mean"` or `"last"` token of a response; None for the model's own, mean for a model from scratch.
        unigram_scores: fit token scores first (`rlhf.judges.unigram_scores`); None for a model from scratch.
        warm_epochs: passes over the texts as a language model first, for a model from scratch.
        prefer_harmful: train the reward on the more harmful response, for a reward that opposes the cost.
        baseline: also evaluate a bag of words.
    """

    regularization: float = 0.001
    level: str = "sequence"
    pooling: str | None = None
    unigram_scores: bool | None = None
    warm_epochs: int = 0
    prefer_harmful: bool = False
    baseline: bool = True


def _open(start: StartConfig, folder: Path, tokenizer: Path | None = None, num_scores: int = 0) -> Model:
    model = model_folder.open_model(folder, tokenizer, score=bool(num_scores), new_scores=num_scores)
    return model_folder.with_template(model, start.template)


def _keep(start: StartConfig, model: Model, kind: str, num_scores: int = 0) -> Model:
    """Write the starting model of a run, and read it as a resumed run does."""
    model_folder.save_model(start.kept_folder, model, kind)
    return _open(start, start.kept_folder, num_scores=num_scores)


def _new_tokenizer(start: StartConfig, texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Return the named tokenizer, or train one on the texts."""
    if start.tokenizer is not None:
        return load_tokenizer(start.tokenizer)
    if start.model not in model_folder.PRESETS:
        raise ValueError(f"{start.model} needs a tokenizer. Use --tokenizer PATH")
    return learn_tokenizer(texts, start.vocabulary or vocabulary, start.run_dir / "tokenizer")


def _fresh(start: StartConfig, texts: Iterable[str], vocabulary: int = VOCABULARY) -> Model:
    """Return an untrained language model."""
    tokenizer = _new_tokenizer(start, texts, vocabulary)
    return model_folder.with_template(model_folder.fresh(start.model, tokenizer, start.seed), start.template)


def language_model(start: StartConfig, texts: Callable[[], Iterable[str]]) -> Model:
    """Return the language model that a stage starts with.

    Args:
        start: the model.
        texts: the texts that a new tokenizer is trained on.
    """
    if start.is_kept:
        return _open(start, start.kept_folder)
    if not start.is_size:
        return _open(start, Path(start.model), start.tokenizer)
    return _keep(start, _fresh(start, texts()), "")


def classifier(start: StartConfig, texts: Callable[[], Iterable[str]], num_scores: int, kind: str) -> Model:
    """Return the model with a head of several scores that a stage starts with; see `language_model`."""
    if start.is_kept:
        return _open(start, start.kept_folder, num_scores=num_scores)
    if not start.is_size:
        return _open(start, Path(start.model), start.tokenizer, num_scores)
    model = from_scratch.with_scores(_fresh(start, texts()), num_scores, seed=start.seed)
    return _keep(start, model, kind, num_scores)


def judge(
    kind: str, start: StartConfig, rows: Sequence[Example], config: JudgeConfig, *, skip: bool = False
) -> tuple[Model, encoding.Encoded[PreferenceBatch]]:
    """Return the reward or cost model that a stage starts with, and its training pairs.

    Args:
        kind: `"reward"` or `"cost"`.
        start: the model.
        rows: training rows.
        config: settings of the judge.
        skip: leave out unusable rows.

    Raises:
        ValueError: a warm start or unigram scores of a model that does not support them.
    """

    def encode(model: Model) -> encoding.Encoded[PreferenceBatch]:
        by = from_scratch.ORDER[kind]
        return encoding.preferences(rows, model.tokenizer, start.max_length, by=by, skip=skip)

    if start.is_kept:
        model = _open(start, start.kept_folder, num_scores=1)
        return model, encode(model)
    if not start.is_size:
        if config.warm_epochs:
            raise ValueError("--warm-epochs needs a model from scratch, got a folder. Leave --warm-epochs out")
        model = from_scratch.with_pooling(_open(start, Path(start.model), start.tokenizer, 1), config.pooling)
        pairs = encode(model)
        if config.unigram_scores:
            model = from_scratch.with_unigram_scores(model, kind, encoding.require_rows(pairs, rows))
            model = _keep(start, model, kind, 1)
        return model, pairs
    base = _fresh(start, dataset.conversation_texts(rows), JUDGE_VOCABULARY)
    pairs = encode(base)
    if config.warm_epochs:
        base = warm_start(base, rows, config.warm_epochs, length=start.max_length, seed=start.seed)
    model = from_scratch.with_scores(base, pooling=config.pooling or "mean", seed=start.seed)
    if from_scratch.fits_unigrams(model, config.unigram_scores):
        model = from_scratch.with_unigram_scores(model, kind, encoding.require_rows(pairs, rows))
    return _keep(start, model, kind, 1), pairs


def warm_start(model: Model, rows: Sequence[Example], epochs: int, *, length: int, seed: int = 0) -> Model:
    """Train a model as a language model on all responses before it becomes a judge."""
    LOG.info("warm start as a language model of the same texts, %d epochs ...", epochs)
    answers = encoding.supervised(dataset.all_responses(rows), model.tokenizer, length, skip=True)
    config = dataclasses.replace(presets.SMALL["warm-start"], epochs=epochs)
    stage = supervised_stages.sft(model, answers, config)
    result = jsafe.fit(stage.trainer, iterations=stage.iterations, seed=seed, progress=True)
    return stage.finish(jax.tree.map(lambda leaf: leaf[0], result.state))


def _log_memory(config: ModelConfig, length: int, training: TrainingConfig) -> None:
    preflight.warn_of_positions(config, length)
    rows = training.batch_size // training.accumulation
    LOG.info(memory.describe(memory.supervised(config, rows, length, training, training.loss_chunk, training.dtype)))
    log_adapters(config, training)


def log_adapters(config: ModelConfig, adapters: lora.LoraConfig) -> None:
    """Log how many parameters adapters train."""
    if adapters.lora_rank:
        trained, total = lora.parameter_count(config, adapters), parameter_count(config)["total"]
        LOG.info("adapters of rank %d train %s of %s parameters", adapters.lora_rank, f"{trained:,}", f"{total:,}")


def data_digest(stage: Stage, held_out_rows: Iterable[Example] = (), text: plain_text.HeldOutText | None = None) -> str:
    """Return a hash of the training data and of the held-out data of a stage."""
    digest = hashlib.blake2b(stage.digest.encode(), digest_size=8)
    if text is not None:
        digest.update((resume.digest(text[:2]) or "").encode())
    # Files may move between sessions, so the source of a row does not count.
    digest.update("".join(repr(row._replace(source="")) for row in held_out_rows).encode())
    return digest.hexdigest()


def _recipe(
    stage: Stage,
    split: dataset.Split,
    evaluate: Callable[[Model], dict[str, Any]] | None,
) -> Recipe:
    return Recipe(stage, evaluate, data_digest(stage, split.held_out), split.skipped)


def sft(start: StartConfig, data: DataConfig, training: TrainingConfig) -> Recipe:
    """Supervised fine-tuning on responses."""
    split = dataset.load_split(data)
    model = language_model(start, lambda: dataset.conversation_texts(split.train))
    _log_memory(model.config, start.max_length, training)
    answers = encoding.supervised(split.train, model.tokenizer, start.max_length, skip=data.skip)
    stage = supervised_stages.sft(model, answers, training)
    evaluate = None
    if split.held_out:
        held_rows = encoding.supervised(split.held_out, model.tokenizer, start.max_length, skip=data.skip)
        evaluate = functools.partial(held_out.evaluate_answers, answers=held_rows, dtype=training.dtype)

    return _recipe(stage, split, evaluate)


def preference(
    kind: str, start: StartConfig, data: DataConfig, config: JudgeConfig, training: TrainingConfig
) -> Recipe:
    """Train a reward model (`kind="reward"`) or a cost model (`kind="cost"`) on preference pairs."""
    split = dataset.load_split(data)
    if config.prefer_harmful:
        split = split._replace(
            train=dataset.prefer_harmful(split.train), held_out=dataset.prefer_harmful(split.held_out)
        )
    model, pairs = judge(kind, start, split.train, config, skip=data.skip)
    _log_memory(model.config, start.max_length, training)
    stage = supervised_stages.preference(
        kind, model, pairs, training, regularization=config.regularization, level=config.level
    )
    evaluate = None
    if split.held_out:
        by = from_scratch.ORDER[kind]
        held_rows = encoding.preferences(split.held_out, model.tokenizer, start.max_length, by=by, skip=data.skip)
        held_rows = encoding.require_rows(held_rows, split.held_out)
        evaluate = functools.partial(
            held_out.evaluate_judge,
            kind,
            pairs=held_rows,
            train=split.train,
            baseline=config.baseline,
            dtype=training.dtype,
        )

    return _recipe(stage, split, evaluate)


def dpo(
    start: StartConfig,
    data: DataConfig,
    training: TrainingConfig,
    *,
    beta: float = 0.1,
    published_off_by_one: bool = False,
) -> Recipe:
    """Direct preference optimisation, with the starting model as the reference."""
    split = dataset.load_split(data)
    model = language_model(start, lambda: dataset.conversation_texts(split.train))
    _log_memory(model.config, start.max_length, training)
    pairs = encoding.preferences(split.train, model.tokenizer, start.max_length, by="better", skip=data.skip)
    stage = supervised_stages.dpo(model, pairs, training, beta=beta, published_off_by_one=published_off_by_one)
    evaluate = None
    if split.held_out:
        held_rows = encoding.preferences(split.held_out, model.tokenizer, start.max_length, by="better", skip=data.skip)
        held_rows = encoding.require_rows(held_rows, split.held_out)
        evaluate = functools.partial(
            held_out.evaluate_dpo,
            reference=model,
            pairs=held_rows,
            beta=beta,
            published_off_by_one=published_off_by_one,
            dtype=training.dtype,
        )

    return _recipe(stage, split, evaluate)


def moderation(start: StartConfig, data: DataConfig, training: TrainingConfig) -> Recipe:
    """Train a classifier of responses by category of harm."""
    split = dataset.load_split(data)
    texts = lambda: dataset.conversation_texts(split.train)  # noqa: E731
    model = classifier(start, texts, len(CATEGORIES), "moderation")
    _log_memory(model.config, start.max_length, training)
    answers = encoding.labelled(split.train, CATEGORIES, model.tokenizer, start.max_length, skip=data.skip)
    stage = supervised_stages.moderation(model, answers, CATEGORIES, training)
    evaluate = None
    if split.held_out:
        held_rows = encoding.labelled(split.held_out, CATEGORIES, model.tokenizer, start.max_length, skip=data.skip)
        evaluate = functools.partial(
            held_out.evaluate_moderation, answers=held_rows, names=CATEGORIES, dtype=training.dtype
        )

    return _recipe(stage, split, evaluate)


def pretraining(
    start: StartConfig, data: DataConfig, training: TrainingConfig, schedule: ScheduleConfig | None = None
) -> Recipe:
    """Pretrain a language model on plain text, with a schedule of evaluated checkpoints."""
    texts = dataset.load_text_split(data)
    model = language_model(start, lambda: texts.train)
    preflight.warn_of_positions(model.config, start.max_length)
    held_rows = plain_text.held_out_text(texts.held_out, model.tokenizer, start.max_length) if texts.held_out else None
    stage = supervised_stages.pretraining(model, texts.train, training, length=start.max_length)
    schedule, callback = schedule or ScheduleConfig(), None
    if held_rows is not None or schedule.active:
        callback = CheckpointEvaluator(
            schedule, start.run_dir, stage, held_rows, length=start.max_length, dtype=training.dtype
        )
    return Recipe(stage, None, data_digest(stage, text=held_rows), [], callback)
