"""Supervised trainer of language models: AdamW on batches of data, as a `jsafe.Trainer` around a loss.

An iteration is one update of the optimiser. Data and initial weights stay on the host (`jsafe.host_data`): the compiled
program fetches the rows it needs and embeds no copy of either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

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
)
from jsafe.trainer import shown_metrics
from rlhf.adapters import lora
from rlhf.adapters.lora import LoraConfig
from rlhf.judges import score_normalizer
from rlhf.models.architecture import DTYPES
from rlhf.parallel import sharding
from rlhf.training.adamw import adamw
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
    updates_per_epoch = total // config.epochs
    factor = schedule(config.schedule, total, config.warmup_ratio)
    optimizer = adamw(
        weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm, beta1=config.beta1, beta2=config.beta2
    )
    parts = config.accumulation
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

    def part_loss(state: TrainState, params: Any, part: Any, index: jax.Array) -> LossOutput:
        """Loss of one part of a batch, with its own dropout and augmentation."""
        number = state.iteration * parts + index
        if config.lora_dropout:
            key = jax.random.fold_in(jax.random.fold_in(state.key, _DROPOUT_STREAM), number)
            params = lora.dropped_out(params, key, config.lora_dropout)
        if augment is not None:
            # The keys of the row order are folded with epochs from 0 up, these with negative numbers.
            part = augment(jax.random.fold_in(state.key, -1 - state.iteration * parts - index), part)
        return loss(lora.joined(state.frozen, params), part)

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        chosen = epoch_rows(state.key, state.iteration, rows, config.batch_size)
        batches = sharding.rows(data, chosen.reshape(parts, -1))
        model = state.params["model"]
        gradient, output = accumulated_gradient(
            lambda params, part, index: part_loss(state, params, part, index), model, batches
        )
        gradient_norm, mean_loss = optax.tree.norm(gradient), jnp.mean(output.loss)
        rate = state.hyper["learning_rate"] * factor(state.iteration)
        updated = optimizer.update(gradient, state.optimizer, model, rate, jnp.isfinite(mean_loss))
        normalizer = state.algo
        if momentum is not None and output.scores is not None:
            scores = output.scores.reshape(-1, output.scores.shape[-1])
            normalizer = score_normalizer.moving(state.algo, scores, momentum)
        done, skipped = state.iteration + 1, state.skipped + (~updated.finite).astype(jnp.int32)
        metrics = {name: jnp.mean(value, axis=0) for name, value in output.metrics.items()}
        metrics |= {"loss": mean_loss, "gradient_norm": gradient_norm, "learning_rate": rate, "skipped": skipped}
        metrics |= {"epoch": done / updates_per_epoch, "env_steps": done * config.batch_size}
        state = dataclasses.replace(
            state,
            params={"model": updated.params},
            optimizer=updated.optimizer,
            algo=select(updated.finite, normalizer, state.algo),
            iteration=done,
            skipped=skipped,
        )
        return state, metrics

    info = TrainerInfo(
        algorithm=name,
        config={**config.config(), "rows": rows, "updates": total, **(recorded or {})},
        traced=config.traced(),
        units_per_step=config.batch_size,
        metrics=shown_metrics("loss", *shown),
        unit="rows",
    )
    return Trainer(init=init, step=step, info=info)
