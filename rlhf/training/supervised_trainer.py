"""What the supervised stages share: batches, optimiser, and a `jsafe.Trainer` around a loss.

An iteration is one update of the optimiser. Data stay on the host, and so do the weights a run begins with: the
compiled program asks for the rows it needs, so that neither is copied into it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jsafe import Metrics, Trainer, TrainerInfo, TrainState
from jsafe.config import hyperparameters, option
from rlhf.adapters import lora
from rlhf.adapters.lora import LoraOptions
from rlhf.data import host_rows
from rlhf.judges import score_normalizer
from rlhf.models.architecture import DTYPES
from rlhf.training.adamw import adamw, where
from rlhf.training.schedules import SCHEDULES, schedule

_OF_DROPOUT = (1 << 31) + 1
"""Folded into a run's key for what adapters drop; beside `rlhf.adapters.lora`'s own number for their beginning."""


@hyperparameters
class TrainingOptions(LoraOptions):
    """Hyper-parameters of the supervised stages (AdamW, Loshchilov and Hutter 2019)."""

    epochs: int = option("passes over the data", default=1, low=1)
    batch_size: int = option("rows of one gradient, a multiple of accumulation", default=16, low=1)
    accumulation: int = option("parts in which a batch is worked through, to save memory", default=1, low=1)
    learning_rate: float = option("largest step size", default=2e-5, traced=True, low=0)
    schedule: str = option(
        "how it changes, one of rlhf.training.schedules.SCHEDULES", default="cosine", choices=SCHEDULES
    )
    warmup_ratio: float = option("part of the updates in which it rises", default=0.03, low=0, high=1)
    weight_decay: float = option("decoupled; biases and the norms of layers are exempt", default=0.0, low=0)
    max_grad_norm: float = option("largest norm of a gradient", default=1.0, above=0)
    token_dropout: float = option(
        "share of the tokens of a text that are hidden from the model while it learns, other ones each time",
        default=0.0,
        low=0,
        high=1,
    )
    lora_dropout: float = option(
        "share of what an adapter reads that is dropped while it learns", default=0.0, low=0, high=0.99
    )
    remat: bool = option("compute activations anew for the gradient, to save memory", default=False)
    loss_chunk: int = option(
        "tokens whose logits a loss holds at once, to save memory; 0 for the whole batch", default=1024, low=0
    )
    dtype: str = option(
        "of activations and matrix products; parameters, losses and moments are float32 in either",
        default="float32",
        choices=tuple(DTYPES),
    )
    beta1: float = option("of Adam", default=0.9, low=0, high=1)
    beta2: float = option("of Adam", default=0.95, low=0, high=1)

    def __post_init__(self) -> None:
        """Check each option, and that the parts of a batch are of one size."""
        super().__post_init__()
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulation {self.accumulation}")
        if self.lora_dropout and not self.lora_rank:
            raise ValueError("lora_dropout changes nothing without a lora_rank of at least 1")


class Judgement(NamedTuple):
    """What a loss says of a batch.

    Attributes:
        loss: `[]`.
        metrics: scalars to report.
        scores: `[R, S]`, scores to take statistics of; None where there are none.
    """

    loss: jax.Array
    metrics: dict[str, jax.Array]
    scores: jax.Array | None = None


Loss = Callable[[Any, Any], Judgement]
"""`(parameters, batch) -> Judgement`; the batch is a tree of the data's rows `[B, ...]`."""


Augment = Callable[[jax.Array, Any], Any]
"""`(key, batch) -> batch`."""


def updates_of(rows: int, options: TrainingOptions) -> int:
    """Updates of a whole run; the rows that do not fill a batch are left out, other ones in each epoch.

    Raises:
        ValueError: there are fewer rows than in one batch.
    """
    each = rows // options.batch_size
    if not each:
        raise ValueError(f"batch_size {options.batch_size} is more than the {rows} rows there are")
    return each * options.epochs


def supervised_trainer(
    name: str,
    params: Any,
    data: Any,
    loss: Loss,
    options: TrainingOptions,
    *,
    momentum: float | None = None,
    augment: Augment | None = None,
    shown: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Trainer:
    """A trainer that goes through data in batches.

    With a `lora_rank` it trains adapters and heads, and the weights are frozen.

    Args:
        name: of the stage.
        params: what the run begins with, arrays of the host.
        data: tree of arrays of the host, `[N, ...]` each.
        loss: of a batch.
        options: hyper-parameters.
        momentum: of the statistics of scores, None for a loss without scores.
        augment: what changes a batch before the loss sees it, None for nothing.
        shown: metrics to show beside the loss while it trains.
        config: further entries of the recorded configuration.

    Raises:
        ValueError: arrays of unlike length, or fewer rows than a batch has.
    """
    lengths = {len(leaf) for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1:
        raise ValueError(f"data must have arrays of one length, got {sorted(lengths)}")
    rows = lengths.pop()
    total = updates_of(rows, options)
    each = total // options.epochs
    factor = schedule(options.schedule, total, options.warmup_ratio)
    descent = adamw(
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        beta1=options.beta1,
        beta2=options.beta2,
    )
    parts = options.accumulation
    frozen, _ = lora.split(params, options)

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        started = lora.begin(key, params, options)
        traced = {"learning_rate": options.learning_rate} | dict(hyper or {})
        return TrainState(
            params={"model": started},
            optimizer=descent.init(started),
            dual=(),
            normalizer=score_normalizer.nothing() if momentum is not None else (),
            rollout=(),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            hyper={k: jnp.asarray(v, jnp.float32) for k, v in traced.items()},
            frozen=host_rows.loaded(frozen, key) if frozen else (),
        )

    def batch_at(key: jax.Array, iteration: jax.Array) -> Any:
        """The rows of an update, `[parts, B / parts, ...]`; a new order in every epoch."""
        order = jax.random.permutation(jax.random.fold_in(key, iteration // each), rows)
        chosen = jax.lax.dynamic_slice(order, (iteration % each * options.batch_size,), (options.batch_size,))
        return host_rows.rows(data, chosen.reshape(parts, -1))

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        batch = batch_at(state.key, state.iteration)
        model = state.params["model"]

        def judged(params: Any, part: Any, number: jax.Array) -> tuple[jax.Array, Judgement]:
            if options.lora_dropout:
                drawn = jax.random.fold_in(jax.random.fold_in(state.key, _OF_DROPOUT), state.iteration * parts + number)
                params = lora.dropped_out(params, drawn, options.lora_dropout)
            found = loss(lora.joined(state.frozen, params), part)
            return found.loss, found

        def add(total: Any, inputs: Any) -> tuple[Any, Judgement]:
            part, number = inputs
            if augment is not None:
                # Keys of the batch's order are folded with epochs from 0 on, these with negative numbers.
                part = augment(jax.random.fold_in(state.key, -1 - state.iteration * parts - number), part)
            (_, found), gradient = jax.value_and_grad(judged, has_aux=True)(model, part, number)
            return jax.tree.map(lambda t, g: t + g / parts, total, gradient), found

        gradient, found = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, model), (batch, jnp.arange(parts)))
        size, mean = optax.tree.norm(gradient), jnp.mean(found.loss)
        rate = state.hyper["learning_rate"] * factor(state.iteration)
        moved, moments, finite = descent.step(gradient, state.optimizer, model, rate, jnp.isfinite(mean))
        normalizer = state.normalizer
        if momentum is not None and found.scores is not None:
            seen = found.scores.reshape(-1, found.scores.shape[-1])
            normalizer = score_normalizer.moving(state.normalizer, seen, momentum)

        skipped = state.skipped + (~finite).astype(jnp.int32)
        metrics = {name: jnp.mean(value, axis=0) for name, value in found.metrics.items()}
        metrics |= {"loss": mean, "gradient_norm": size, "learning_rate": rate, "skipped": skipped}
        metrics["epoch"] = (state.iteration + 1) / each
        metrics["env_steps"] = (state.iteration + 1) * options.batch_size
        state = dataclasses.replace(
            state,
            params={"model": moved},
            optimizer=moments,
            normalizer=where(finite, normalizer, state.normalizer),
            iteration=state.iteration + 1,
            skipped=skipped,
        )
        return state, metrics

    info = TrainerInfo(
        algorithm=name,
        env_id="-",
        config={**options.config(), "rows": rows, "updates": total, **(config or {})},
        traced={"learning_rate": options.learning_rate},
        env_steps_per_iteration=options.batch_size,
        shown=("loss", *shown),
        unit="rows",
    )
    return Trainer(init=init, step=step, info=info)
