"""Supervised trainer of language models: AdamW on batches of data, as a `jsafe.Trainer` around a loss.

An iteration is one update of the optimiser. Data and initial weights stay on the host (`jsafe.host_data`): the compiled
program fetches the rows it needs and embeds no copy of either.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jsafe import Metrics, Trainer, TrainerInfo, TrainState
from jsafe.config import hyperparameters, option
from jsafe.supervised import (
    Augment,
    Loss,
    LossOutput,
    accumulated_gradient,
    count_rows,
    epoch_rows,
    initial_hyper,
    select,
    update_metrics,
)
from jsafe.trainer import shown_metrics
from rlhf.adapters import lora
from rlhf.adapters.lora import LoraConfig
from rlhf.judges import score_normalizer
from rlhf.models.architecture import DTYPES
from rlhf.parallel import sharding
from rlhf.training.adamw import AdamW, adamw
from rlhf.training.schedules import SCHEDULES, schedule

_DROPOUT_STREAM = (1 << 31) + 1
"""Folded into a run's key for the dropout of adapters; distinct from the stream of their initial values."""


@hyperparameters
class TrainingConfig(LoraConfig):
    """Hyper-parameters of the supervised stages (AdamW, Loshchilov and Hutter 2019)."""

    epochs: int = option("passes over the data", default=1, low=1)
    batch_size: int = option("rows of one gradient, a multiple of accumulation", default=16, low=1)
    accumulation: int = option("parts of a batch, processed one after another to save memory", default=1, low=1)
    learning_rate: float = option("largest learning rate", default=2e-5, traced=True, low=0)
    schedule: str = option(
        "learning-rate schedule, one of rlhf.training.schedules.SCHEDULES", default="cosine", choices=SCHEDULES
    )
    warmup_ratio: float = option(
        "fraction of the updates in which the learning rate rises", default=0.03, low=0, high=1
    )
    weight_decay: float = option(
        "decoupled weight decay; biases and the norms of layers are exempt", default=0.0, low=0
    )
    max_grad_norm: float = option("largest norm of a gradient", default=1.0, above=0)
    token_dropout: float = option(
        "fraction of the tokens of a text that are masked in training, drawn for each update",
        default=0.0,
        low=0,
        high=1,
    )
    lora_dropout: float = option(
        "fraction of an adapter's input that is dropped in training", default=0.0, low=0, high=0.99
    )
    remat: bool = option("recompute activations in the backward pass (gradient checkpointing)", default=False)
    loss_chunk: int = option(
        "tokens whose logits a loss keeps in memory at once; 0 for the whole batch", default=1024, low=0
    )
    dtype: str = option(
        "type of activations and matrix products; parameters, losses and moments are float32 for either type",
        default="float32",
        choices=tuple(DTYPES),
    )
    beta1: float = option("Adam's beta1, decay of the first-moment estimate", default=0.9, low=0, high=1)
    beta2: float = option("Adam's beta2, decay of the second-moment estimate", default=0.95, low=0, high=1)

    def __post_init__(self) -> None:
        """Check each option, and that the parts of a batch have one size."""
        super().__post_init__()
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulation {self.accumulation}")
        if self.lora_dropout and not self.lora_rank:
            raise ValueError("lora_dropout changes nothing without a lora_rank of at least 1")


def count_updates(rows: int, config: TrainingConfig) -> int:
    """Updates of a whole run; each epoch drops the rows of its incomplete batch, different rows in each epoch.

    Raises:
        ValueError: there are fewer rows than in one batch.
    """
    updates_per_epoch = rows // config.batch_size
    if not updates_per_epoch:
        raise ValueError(f"batch_size must be at most the number of rows, {rows}, got {config.batch_size}")
    return updates_per_epoch * config.epochs


@dataclasses.dataclass(frozen=True)
class _Learner:
    """Settings and data that updates share.

    Attributes:
        config: hyper-parameters.
        data: tree of arrays of the host, `[rows, ...]` each.
        rows: rows of the data.
        loss: loss of a batch.
        augment: random transformation of a batch, None for none.
        momentum: momentum of the score statistics, None for a loss without scores.
        optimizer: optimiser of the trained parameters.
        schedule: factor on the learning rate, by update.
    """

    config: TrainingConfig
    data: Any
    rows: int
    loss: Loss
    augment: Augment | None
    momentum: float | None
    optimizer: AdamW
    schedule: Callable[[jax.Array], jax.Array]


def supervised_trainer(
    name: str,
    params: Any,
    data: Any,
    loss: Loss,
    config: TrainingConfig,
    *,
    momentum: float | None = None,
    augment: Augment | None = None,
    shown: Sequence[str] = (),
    recorded: Mapping[str, Any] | None = None,
) -> Trainer:
    """Return a trainer that minimises a loss over batches of data.

    With a `lora_rank` it trains adapters and heads, and the other weights are frozen.

    Args:
        name: name of the stage.
        params: initial parameters, arrays of the host.
        data: tree of arrays of the host, `[N, ...]` each.
        loss: loss of a batch.
        config: hyper-parameters.
        momentum: momentum of the score statistics, None for a loss without scores.
        augment: random transformation of a batch before the loss, None for none.
        shown: metrics shown in addition to the loss during training.
        recorded: further entries of the recorded configuration.

    Raises:
        ValueError: arrays of different lengths, or fewer rows than in one batch.
    """
    rows = count_rows(data)
    total = count_updates(rows, config)
    optimizer = adamw(
        weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm, beta1=config.beta1, beta2=config.beta2
    )
    factor = schedule(config.schedule, total, config.warmup_ratio)
    learner = _Learner(config, data, rows, loss, augment, momentum, optimizer, factor)
    frozen, _ = lora.split(params, config)

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        model = lora.begin(key, params, config)
        return TrainState(
            params={"model": model},
            optimizer=optimizer.init(model),
            algo=score_normalizer.nothing() if momentum is not None else (),
            memory=(),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            hyper=initial_hyper(config.traced(), hyper, name, config),
            frozen=sharding.loaded(frozen, key) if frozen else (),
        )

    info = TrainerInfo(
        algorithm=name,
        config={**config.config(), "rows": rows, "updates": total, **(recorded or {})},
        traced=config.traced(),
        units_per_step=config.batch_size,
        metrics=shown_metrics("loss", *shown),
        unit="rows",
    )
    return Trainer(init=init, step=functools.partial(_step, learner), info=info)


def _step(learner: _Learner, state: TrainState) -> tuple[TrainState, Metrics]:
    """One update of the optimiser."""
    config, model = learner.config, state.params["model"]
    chosen = epoch_rows(state.key, state.iteration, learner.rows, config.batch_size)
    batches = sharding.rows(learner.data, chosen.reshape(config.accumulation, -1))
    slope, parts = accumulated_gradient(functools.partial(_part_loss, learner, state), model, batches)
    output = LossOutput(jnp.mean(parts.loss), {k: jnp.mean(v, axis=0) for k, v in parts.metrics.items()}, parts.scores)
    rate = state.hyper["learning_rate"] * learner.schedule(state.iteration)
    metrics = update_metrics(output, slope, rate)
    updated = learner.optimizer.update(slope, state.optimizer, model, rate, jnp.isfinite(output.loss))
    statistics = _score_statistics(learner, state.algo, output.scores)
    done, skipped = state.iteration + 1, state.skipped + (~updated.finite).astype(jnp.int32)
    metrics |= {"skipped": skipped, "env_steps": done * config.batch_size}
    metrics["epoch"] = done / (learner.rows // config.batch_size)
    state = dataclasses.replace(
        state,
        params={"model": updated.params},
        optimizer=updated.optimizer,
        algo=select(updated.finite, statistics, state.algo),
        iteration=done,
        skipped=skipped,
    )
    return state, metrics


def _part_loss(learner: _Learner, state: TrainState, params: Any, part: Any, index: jax.Array) -> LossOutput:
    """Loss of one part of a batch, with its own dropout and augmentation."""
    config = learner.config
    number = state.iteration * config.accumulation + index
    if config.lora_dropout:
        key = jax.random.fold_in(jax.random.fold_in(state.key, _DROPOUT_STREAM), number)
        params = lora.dropped_out(params, key, config.lora_dropout)
    if learner.augment is not None:
        # The keys of the row order are folded with epochs from 0 up, these with negative numbers.
        part = learner.augment(jax.random.fold_in(state.key, -1 - number), part)
    return learner.loss(lora.joined(state.frozen, params), part)


def _score_statistics(learner: _Learner, statistics: Any, scores: jax.Array | None) -> Any:
    """Running statistics including the scores `[parts, R, S]` of a batch; unchanged without scores."""
    if learner.momentum is None or scores is None:
        return statistics
    return score_normalizer.moving(statistics, scores.reshape(-1, scores.shape[-1]), learner.momentum)
