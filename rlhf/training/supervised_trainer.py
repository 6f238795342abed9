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
from jsafe.trainer import count_units, shown_metrics
from rlhf.adapters import lora
from rlhf.config import TrainingConfig
from rlhf.judges import score_normalizer
from rlhf.parallel import sharding
from rlhf.training.adamw import AdamW, adamw
from rlhf.training.schedules import schedule

_DROPOUT_STREAM = (1 << 31) + 1
"""Folded into a run's key for the dropout of adapters; distinct from the stream of their initial values."""


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
        share: function from the parts of a batch to parts with weights, None for parts of equal weight.
    """

    config: TrainingConfig
    data: Any
    rows: int
    loss: Loss
    augment: Augment | None
    momentum: float | None
    optimizer: AdamW
    schedule: Callable[[jax.Array], jax.Array]
    share: Callable[[Any], Any] | None


def supervised_trainer(
    name: str,
    params: Any,
    data: Any,
    loss: Loss,
    config: TrainingConfig,
    *,
    momentum: float | None = None,
    augment: Augment | None = None,
    share: Callable[[Any], Any] | None = None,
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
        share: function from the parts `[accumulation, ...]` of a batch to parts with weights, for a loss that is not a
            mean over rows; None for parts of equal weight.
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
    learner = _Learner(config, data, rows, loss, augment, momentum, optimizer, factor, share)
    frozen, _ = lora.split(params, config)

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        model = lora.begin(key, params, config)
        return TrainState(
            params={"model": model},
            optimizer=optimizer.init(model),
            algo=score_normalizer.init() if momentum is not None else (),
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
    if learner.share is not None and config.accumulation > 1:
        batches = learner.share(batches)
    slope, parts = accumulated_gradient(functools.partial(_part_loss, learner, state), model, batches)
    output = LossOutput(jnp.mean(parts.loss), {k: jnp.mean(v, axis=0) for k, v in parts.metrics.items()}, parts.scores)
    rate = state.hyper["learning_rate"] * learner.schedule(state.iteration)
    metrics = update_metrics(output, slope, rate)
    updated = learner.optimizer.update(slope, state.optimizer, model, rate, jnp.isfinite(output.loss))
    statistics = _score_statistics(learner, state.algo, output.scores)
    done, skipped = state.iteration + 1, state.skipped + (~updated.finite).astype(jnp.int32)
    metrics |= {"skipped": skipped, "env_steps": count_units(done, config.batch_size)}
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
