"""Supervised stages of Safe RLHF from models and samples; each function returns a trainer and what to do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jsafe import Trainer, TrainState, multihost
from jsafe.runs import resume
from jsafe.supervised import Loss
from rlhf.adapters import lora
from rlhf.checkpoints.model_folder import Model
from rlhf.config import TrainingConfig
from rlhf.data import plain_text
from rlhf.data.embedding_noise import token_dropout
from rlhf.data.encoding import Encoded, Labelled, Supervised
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.judges.score_normalizer import ScoreStatistics
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.training import objectives
from rlhf.training.supervised_trainer import supervised_trainer

MOMENTUM = 0.9
"""Momentum of the moving statistics of scores, as published."""


class Stage(NamedTuple):
    """A stage, ready to run.

    Attributes:
        trainer: the trainer for `jsafe.fit`.
        iterations: iterations of a whole run.
        finish: function from the last state of one member to the trained model on the host.
        kind: kind of a model with scores for `save_model`, else empty.
        left_out: number of unusable samples, by reason.
        adapters: function from a state of one member to the trained adapters and heads; None if every weight is
            trained.
        digest: digest of the tokens and labels that are learned, by which a resumed run recognises its data.
    """

    trainer: Trainer
    iterations: int
    finish: Callable[[TrainState], Model]
    kind: str = ""
    left_out: dict[str, int] = {}  # noqa: RUF012
    adapters: Callable[[TrainState], Any] | None = None
    digest: str = ""


def trained_model(model: Model, trained: Any) -> Model:
    """The model with its trained parameters, adapters merged into their matrices."""
    return model._replace(params=lora.merged(lora.joined(model.params, multihost.on_host(trained))))


def _language_model(model: Model, config: TrainingConfig) -> LanguageModel:
    return LanguageModel(model.config, config.dtype, remat=config.remat, loss_chunk=config.loss_chunk)


def _score_model(model: Model, config: TrainingConfig, size: int = 1) -> ScoreModel:
    return ScoreModel(model.config, size, dtype=config.dtype, remat=config.remat)


class _Samples(NamedTuple):
    """Samples of a stage.

    Attributes:
        batch: all samples that are learned from.
        left_out: number of unusable samples, by reason.
        digest: digest of the samples; empty for that of `batch`.
    """

    batch: Any
    left_out: dict[str, int]
    digest: str = ""


class _Objective(NamedTuple):
    """Objective of a stage, with what is recorded about it.

    Attributes:
        name: name of the method.
        loss: loss of a minibatch.
        recorded: settings that the training config does not have, by name.
        shown: metrics on a progress line.
        kind: kind of a model with scores, else empty.
        momentum: momentum of the statistics of scores; None for a loss without them.
    """

    name: str
    loss: Loss
    recorded: Mapping[str, Any]
    shown: Sequence[str] = ()
    kind: str = ""
    momentum: float | None = None


def _stage(model: Model, samples: _Samples, objective: _Objective, config: TrainingConfig) -> Stage:
    """A supervised stage around a loss; see `supervised_trainer` and `Stage`."""
    trainer = supervised_trainer(
        objective.name,
        model.params,
        samples.batch,
        objective.loss,
        config,
        momentum=objective.momentum,
        augment=token_dropout(config.token_dropout, model.tokenizer),
        share=objectives.share_by_learned_tokens if isinstance(samples.batch, Supervised) else None,
        shown=objective.shown,
        recorded=objective.recorded,
    )

    def finish(state: TrainState) -> Model:
        statistics = state.algo if isinstance(state.algo, ScoreStatistics) else None
        trained = trained_model(model, state.params["model"])
        return trained._replace(statistics=multihost.on_host(statistics) if statistics else None)

    def adapters(state: TrainState) -> Any:
        return multihost.on_host(state.params["model"])

    return Stage(
        trainer=trainer,
        iterations=trainer.info.config["updates"],
        finish=finish,
        kind=objective.kind,
        left_out=samples.left_out,
        adapters=adapters if config.lora_rank else None,
        digest=samples.digest or resume.digest(samples.batch) or "",
    )


def sft(model: Model, answers: Encoded[Supervised], config: TrainingConfig) -> Stage:
    """Supervised fine-tuning on answers.

    Args:
        model: a language model.
        answers: prompts with answers, in the tokens of the model.
        config: hyper-parameters.
    """
    data = answers.batch
    loss = objectives.supervised(_language_model(model, config))
    objective = _Objective("sft", loss, {"length": data.ids.shape[1]})
    return _stage(model, _Samples(data, answers.left_out), objective, config)


def pretraining(model: Model, texts: Sequence[str], config: TrainingConfig, *, length: int = 512) -> Stage:
    """Next-token prediction on plain texts, joined by end-of-text tokens and cut into pieces of one length.

    Raises:
        ValueError: the texts are shorter than one piece.
    """
    ids = plain_text.pieces(plain_text.stream(texts, model.tokenizer), length)
    data = Supervised(ids, ids, np.ones(ids.shape, bool))
    loss = objectives.supervised(_language_model(model, config))
    return _stage(model, _Samples(data, {}), _Objective("pretrain", loss, {"length": length}), config)


def preference(
    kind: str,
    model: Model,
    pairs: Encoded[PreferenceBatch],
    config: TrainingConfig,
    *,
    regularization: float = 0.001,
    level: str = "sequence",
) -> Stage:
    """A reward model (`kind="reward"`) or a cost model (`kind="cost"`) from preference pairs.

    Args:
        kind: kind of the model.
        model: a model with one score.
        pairs: preference pairs in the tokens of the model.
        config: hyper-parameters.
        regularization: weight of the squared scores.
        level: one of `rlhf.losses.preference.LEVELS`.
    """
    make_loss, shown = {
        "reward": (objectives.reward, ("accuracy",)),
        "cost": (objectives.cost, ("accuracy", "sign_accuracy")),
    }[kind]
    objective = _Objective(
        kind,
        make_loss(_score_model(model, config), regularization=regularization, level=level),
        {"length": pairs.batch.chosen.shape[1], "regularization": regularization, "level": level},
        shown=shown,
        kind=kind,
        momentum=MOMENTUM,
    )
    return _stage(model, _Samples(pairs.batch, pairs.left_out), objective, config)


def dpo(
    model: Model,
    pairs: Encoded[PreferenceBatch],
    config: TrainingConfig,
    *,
    beta: float = 0.1,
    published_off_by_one: bool = False,
) -> Stage:
    """Direct preference optimisation; the initial model is the reference.

    Args:
        model: a language model.
        pairs: preference pairs in the tokens of the model.
        config: hyper-parameters.
        beta: scale of the implied reward.
        published_off_by_one: sum as the published code does, one token late at both ends.

    Raises:
        ValueError: `token_dropout` is not 0; the reference reads whole texts.
    """
    if config.token_dropout:
        raise ValueError(f"token_dropout must be 0 for dpo, got {config.token_dropout}")
    language_model = _language_model(model, config)
    length = pairs.batch.chosen.shape[1]
    # The reference's log-probabilities are not in the digest, because other machines round them differently.
    digest = resume.digest(pairs.batch) or ""
    batch = objectives.with_reference(language_model, model.params, pairs.batch)
    objective = _Objective(
        "dpo",
        objectives.dpo(language_model, beta=beta, published_off_by_one=published_off_by_one),
        {"length": length, "beta": beta, "published_off_by_one": published_off_by_one},
        shown=("accuracy", "margin"),
    )
    return _stage(model, _Samples(batch, pairs.left_out, digest), objective, config)


def moderation(model: Model, answers: Encoded[Labelled], labels: Sequence[str], config: TrainingConfig) -> Stage:
    """A classifier of answers by category of harm.

    Args:
        model: a model with as many scores as there are labels.
        answers: answers with categories, in the tokens of the model.
        labels: names of the categories, in the order of the scores.
        config: hyper-parameters.
    """
    objective = _Objective(
        "moderation",
        objectives.moderation(_score_model(model, config, len(labels))),
        {"labels": list(labels)},
        shown=("flagged_accuracy",),
        kind="moderation",
    )
    return _stage(model, _Samples(answers.batch, answers.left_out), objective, config)
