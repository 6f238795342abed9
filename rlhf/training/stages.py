"""The stages of Safe RLHF from models and samples: each function gives a trainer and says what becomes of its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import Trainer, TrainState, multihost
from jsafe.runs import resume
from rlhf.adapters import lora
from rlhf.checkpoints.model_folder import Model
from rlhf.data import encoding, plain_text
from rlhf.data.embedding_noise import token_dropout
from rlhf.data.schemas import Sample
from rlhf.generation.generate import SamplingConfig
from rlhf.judges.score_normalizer import ScoreStatistics
from rlhf.models.architecture import ModelConfig
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.reinforcement.policy_trainer import Judge, reinforcement_trainer, score_judge
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.tokenizer.tokenizer import difference
from rlhf.training import objectives
from rlhf.training.supervised_trainer import TrainingConfig, supervised_trainer

MOMENTUM = 0.9
"""Of the moving statistics of scores, as published."""


class Stage(NamedTuple):
    """A stage, ready to run.

    Attributes:
        trainer: what `jsafe.fit` runs.
        iterations: of a whole run.
        finish: the trained model, on the host, from the last state of one member.
        kind: what `save_model` calls a model with scores, else empty.
        left_out: samples that could not be used, by reason.
        adapters: from a state of one member, the adapters and heads that were trained; None if every weight was.
        digest: of the tokens and labels it learns from, by which a run that goes on knows them again.
    """

    trainer: Trainer
    iterations: int
    finish: Callable[[TrainState], Model]
    kind: str = ""
    left_out: dict[str, int] = {}  # noqa: RUF012
    adapters: Callable[[TrainState], Any] | None = None
    digest: str = ""


def _whole(model: Model, trained: Any) -> Model:
    """A model with what was trained of it, adapters merged into their matrices."""
    return model._replace(params=lora.merged(lora.joined(model.params, multihost.on_host(trained))))


def _language_model(model: Model, options: TrainingConfig) -> LanguageModel:
    return LanguageModel(model.config, options.dtype, remat=options.remat, loss_chunk=options.loss_chunk)


def _score_model(config: ModelConfig, options: TrainingConfig | ReinforcementConfig, **more: Any) -> ScoreModel:
    return ScoreModel(config, dtype=options.dtype, **more)


def _supervised(
    name: str,
    model: Model,
    data: Any,
    loss: Any,
    options: TrainingConfig,
    left_out: dict[str, int],
    *,
    digest: str | None = None,
    **more: Any,
) -> Stage:
    digest = digest or resume.digest(data) or ""
    trainer = supervised_trainer(
        name, model.params, data, loss, options, augment=token_dropout(options.token_dropout, model.tokenizer), **more
    )

    def finish(state: TrainState) -> Model:
        seen = state.normalizer if isinstance(state.normalizer, ScoreStatistics) else None
        return _whole(model, state.params["model"])._replace(statistics=multihost.on_host(seen) if seen else None)

    adapters = (lambda state: multihost.on_host(state.params["model"])) if options.lora_rank else None
    return Stage(trainer, trainer.info.config["updates"], finish, "", left_out, adapters, digest)


def sft(
    model: Model, samples: Sequence[Sample], options: TrainingConfig, *, length: int = 512, skip: bool = False
) -> Stage:
    """Supervised fine-tuning on answers."""
    data, left_out = encoding.supervised(samples, model.tokenizer, length, skip=skip)
    loss = objectives.supervised(_language_model(model, options))
    return _supervised("sft", model, data, loss, options, left_out, recorded={"length": length})


def pretraining(model: Model, texts: Sequence[str], options: TrainingConfig, *, length: int = 512) -> Stage:
    """Next-token prediction on plain texts, joined by the end of a text and cut into pieces of one length.

    Raises:
        ValueError: there is less than one piece of text.
    """
    ids = plain_text.pieces(plain_text.stream(texts, model.tokenizer), length)
    data = encoding.Supervised(ids, ids, np.ones(ids.shape, bool))
    loss = objectives.supervised(_language_model(model, options))
    return _supervised("pretrain", model, data, loss, options, {}, recorded={"length": length})


def preference(
    kind: str,
    model: Model,
    samples: Sequence[Sample],
    options: TrainingConfig,
    *,
    length: int = 512,
    skip: bool = False,
    regularization: float = 0.001,
    level: str = "sequence",
) -> Stage:
    """A reward model (`kind="reward"`) or a cost model (`kind="cost"`) from pairs of answers.

    Args:
        kind: of the model.
        model: with one score.
        samples: pairs.
        options: of the training.
        length: longest text.
        skip: leave out samples that cannot be used.
        regularization: weight of the squared scores.
        level: one of `rlhf.losses.preference.LEVELS`.
    """
    by = {"reward": "better", "cost": "safer"}[kind]
    data, left_out = encoding.preferences(samples, model.tokenizer, length, by=by, skip=skip)
    make = {"reward": objectives.reward, "cost": objectives.cost}[kind]
    scorer = _score_model(model.config, options, remat=options.remat)
    loss = make(scorer, regularization=regularization, level=level)
    shown = ("accuracy", "sign_accuracy") if kind == "cost" else ("accuracy",)
    config = {"length": length, "regularization": regularization, "level": level}
    made = _supervised(kind, model, data, loss, options, left_out, momentum=MOMENTUM, shown=shown, recorded=config)
    return made._replace(kind=kind)


def dpo(
    model: Model,
    samples: Sequence[Sample],
    options: TrainingConfig,
    *,
    length: int = 512,
    skip: bool = False,
    beta: float = 0.1,
    published_off_by_one: bool = False,
) -> Stage:
    """Direct preference optimisation, the model at its beginning being the reference.

    Raises:
        ValueError: `token_dropout`, since the reference reads whole texts.
    """
    if options.token_dropout:
        raise ValueError(f"token_dropout must be 0 for dpo, got {options.token_dropout}")
    pairs, left_out = encoding.preferences(samples, model.tokenizer, length, by="better", skip=skip)
    language_model = _language_model(model, options)
    data = objectives.with_reference(language_model, model.params, pairs)
    loss = objectives.dpo(language_model, beta=beta, published_off_by_one=published_off_by_one)
    recorded = {"length": length, "beta": beta, "published_off_by_one": published_off_by_one}
    rest: dict[str, Any] = {"recorded": recorded}
    # Without the reference's log-probabilities, which another machine rounds in another way.
    rest["digest"] = resume.digest(pairs)
    return _supervised("dpo", model, data, loss, options, left_out, shown=("accuracy", "margin"), **rest)


def moderation(
    model: Model,
    samples: Sequence[Sample],
    labels: Sequence[str],
    options: TrainingConfig,
    *,
    length: int = 512,
    skip: bool = False,
) -> Stage:
    """A classifier of answers by category of harm.

    Args:
        model: with as many scores as there are labels.
        samples: answers with categories.
        labels: names of the categories, in the order of the scores.
        options: of the training.
        length: longest text.
        skip: leave out samples that cannot be used.
    """
    data, left_out = encoding.labelled(samples, labels, model.tokenizer, length, skip=skip)
    loss = objectives.moderation(_score_model(model.config, options, size=len(labels), remat=options.remat))
    made = _supervised(
        "moderation",
        model,
        data,
        loss,
        options,
        left_out,
        shown=("flagged_accuracy",),
        recorded={"labels": list(labels)},
    )
    return made._replace(kind="moderation")


def reinforcement(
    name: str,
    actor: Model,
    reward: Model | Judge,
    costs: Sequence[Model | Judge],
    prompts: Sequence[Sample],
    options: ReinforcementConfig,
    sampling: SamplingConfig,
    *,
    critics: Sequence[Model] | None = None,
    prompt_length: int = 128,
    skip: bool = False,
    ptx: Sequence[Sample] | None = None,
    watched: Mapping[str, Model] | None = None,
    remat: bool = False,
) -> Stage:
    """PPO without costs, PPO-Lag with them, a constrained group-relative method without critics.

    Args:
        name: of the stage.
        actor: the language model; also the reference it must not leave too far.
        reward: what an answer is worth.
        costs: what it costs, each with its own limit.
        prompts: what is asked.
        options: of the method.
        sampling: how answers are drawn.
        critics: what the value functions begin from, the reward's first; None for the reward and cost models.
        prompt_length: longest prompt.
        skip: leave out prompts that are longer.
        ptx: texts that people wrote, to learn beside, with the weight `ptx_coefficient`.
        watched: models whose scores are reported and not learned from, `return` or `cost`.
        remat: recompute activations to save memory.

    Raises:
        ValueError: a judge or critic has other tokens than the actor or more than one score, or judges are functions
            and no critics are given, or texts to learn beside have no weight, or the weight no texts.
    """
    judges = [reward, *costs]
    for model in (*judges, *(critics or ()), *(watched or {}).values()):
        if isinstance(model, Model):
            _check_judge(model, actor)
    if critics is None:
        critics = [judge for judge in judges if isinstance(judge, Model)]
    with_critics = options.estimator == "critic"
    if with_critics and len(critics) != len(judges):
        raise ValueError("a judge that is a function needs a critic to begin from")
    asked, left_out = encoding.prompts(prompts, actor.tokenizer, prompt_length, skip=skip)
    learned = None
    if ptx is not None:
        length = prompt_length + sampling.max_new_tokens
        learned, unused = encoding.supervised(ptx, actor.tokenizer, length, skip=skip)
        left_out = left_out | {f"{reason} (of the texts to learn beside)": count for reason, count in unused.items()}

    def judging(model: Model) -> Judge:
        return score_judge(_score_model(model.config, options), model.params)

    made = [judging(judge) if isinstance(judge, Model) else judge for judge in judges]
    trainer = reinforcement_trainer(
        name,
        LanguageModel(actor.config, options.dtype, remat=remat, loss_chunk=options.loss_chunk),
        actor.params,
        tuple(_score_model(critic.config, options, remat=remat) for critic in critics) if with_critics else (),
        tuple(critic.params for critic in critics) if with_critics else (),
        asked,
        made[0],
        tuple(made[1:]),
        sampling,
        options,
        pad=actor.tokenizer.pad,
        ptx=learned,
        watched={name: judging(model) for name, model in (watched or {}).items()},
    )

    def finish(state: TrainState) -> Model:
        return _whole(actor, state.params["actor"])

    adapters = (lambda state: multihost.on_host(state.params["actor"])) if options.lora_rank else None
    digest = resume.digest((asked, learned)) or ""
    return Stage(trainer, options.iterations, finish, "", left_out, adapters, digest)


def _check_judge(model: Model, actor: Model) -> None:
    """Refuse a judge or critic with several scores, or with other tokens: it would score the actor's at random."""
    if model.score_size != 1:
        kind = f"gives {model.score_size} scores to a text" if model.score_size else "gives no scores"
        raise ValueError(f"the model of {model.tokenizer.path} {kind}, and a judge or critic gives one")
    names = f"{model.tokenizer.path} and the actor's {actor.tokenizer.path}"
    if how := difference(model.tokenizer, actor.tokenizer):
        raise ValueError(f"{names} are different tokenizers, and judges and critics read the actor's tokens: {how}")
    if actor.tokenizer.pad >= model.config.vocab_size:
        raise ValueError(f"{names} do not fit: the model embeds no padding of id {actor.tokenizer.pad}")


def shaped_judge(reward: Model, cost: Model, weight: float, dtype: str = "float32") -> Judge:
    """Reward minus `weight` times cost, as one judge (Safe RLHF's reward shaping)."""
    first, second = (score_judge(ScoreModel(model.config, dtype=dtype), ()) for model in (reward, cost))

    def apply(params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
        return first.apply(params[0], ids, mask) - jnp.float32(weight) * second.apply(params[1], ids, mask)

    return Judge(apply, (reward.params, cost.params))
