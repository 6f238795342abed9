"""Building blocks of supervised trainers: losses, rows of data, gradients and guarded updates.

A trainer combines them in its `step`: select the rows of a batch (`jsafe.host_data.rows`), compute a gradient
(`gradient`, or `accumulated_gradient` to save memory), update the parameters unless a number is not finite (`update`),
and report (`update_metrics`). `rlhf.training.supervised_trainer` and `sketch.training` are built this way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsafe.config import Config, merged_traced


class LossOutput(NamedTuple):
    """Loss, metrics and scores of one batch.

    Attributes:
        loss: `[]`.
        metrics: scalars to report.
        scores: `[R, S]`, scores for running statistics; None for a loss without scores.
    """

    loss: jax.Array
    metrics: Mapping[str, jax.Array] = {}  # noqa: RUF012
    scores: jax.Array | None = None


Loss = Callable[[Any, Any], LossOutput]
"""`(parameters, batch) -> LossOutput`; the batch is a tree of rows `[B, ...]`."""

Augment = Callable[[jax.Array, Any], Any]
"""`(key, batch) -> batch`."""


def count_rows(data: Any, name: str = "data") -> int:
    """Length shared by all arrays of a tree.

    Raises:
        ValueError: the arrays have different lengths.
    """
    lengths = {len(leaf) for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1:
        raise ValueError(f"{name} must have arrays of one length, got {sorted(lengths)}")
    return lengths.pop()


def epoch_rows(key: jax.Array, update: jax.Array, rows: int, batch_size: int) -> jax.Array:
    """Indices `[batch_size]` of the rows of an update; each epoch has a new order and drops its incomplete batch.

    Args:
        key: typed key of the run.
        update: `[]` int32, updates so far.
        rows: number of rows, at least `batch_size`.
        batch_size: rows of an update.
    """
    updates = rows // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, update // updates), rows)
    return jax.lax.dynamic_slice(order, (update % updates * batch_size,), (batch_size,))


def initial_hyper(
    defaults: Mapping[str, Any], replaced: Mapping[str, Any] | None, owner: str, config: Config | None = None
) -> dict[str, jax.Array]:
    """Traced hyper-parameters of a run as float32 arrays, some of them replaced by name.

    Args:
        defaults: traced hyper-parameters by name.
        replaced: values that replace them; they may be tracers.
        owner: name of the trainer, for messages.
        config: options that check the range of plain numbers; None to check none.

    Raises:
        TypeError: a replaced name is not among the defaults.
        ValueError: a value has another shape than its default, or is out of range.
    """
    merged = merged_traced(defaults, replaced, owner)
    for name, value in merged.items():
        if np.shape(value) != np.shape(defaults[name]):
            raise ValueError(f"{name} must have shape {np.shape(defaults[name])}, got {np.shape(value)}")
    if config is not None and replaced:
        numbers = {name: merged[name] for name in replaced if isinstance(merged[name], int | float | tuple)}
        dataclasses.replace(config, **numbers)  # type: ignore[type-var]
    return {name: jnp.asarray(value, jnp.float32) for name, value in merged.items()}


def gradient(loss: Callable[[Any], LossOutput], params: Any) -> tuple[Any, LossOutput]:
    """Gradient of a loss with respect to the parameters, and its output."""

    def value(params: Any) -> tuple[jax.Array, LossOutput]:
        output = loss(params)
        return output.loss, output

    (_, output), slope = jax.value_and_grad(value, has_aux=True)(params)
    return slope, output


def accumulated_gradient(
    loss: Callable[[Any, Any, jax.Array], LossOutput], params: Any, batches: Any
) -> tuple[Any, LossOutput]:
    """Mean gradient over the parts of a batch, computed one part at a time to save memory.

    Args:
        loss: `(parameters, part, index of the part []) -> LossOutput`.
        params: parameters.
        batches: tree of arrays `[parts, ...]`.

    Returns:
        The gradient, and the outputs with a leading axis `[parts]`.
    """
    parts = len(jax.tree.leaves(batches)[0])

    def add(total: Any, inputs: Any) -> tuple[Any, LossOutput]:
        batch, index = inputs
        slope, output = gradient(lambda params: loss(params, batch, index), params)
        return jax.tree.map(lambda t, g: t + g / parts, total, slope), output

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (batches, jnp.arange(parts)))


class Updated(NamedTuple):
    """Result of an update.

    Attributes:
        params: parameters.
        optimizer: state of the optimiser.
        finite: `[]` bool, False for an update that was dropped.
    """

    params: Any
    optimizer: Any
    finite: jax.Array


def update(
    transform: optax.GradientTransformation,
    slope: Any,
    optimizer: Any,
    params: Any,
    learning_rate: Any,
    ok: Any = True,
) -> Updated:
    """Move the parameters against a gradient; an update that is not finite changes nothing.

    Args:
        transform: gradient to direction, without the learning rate.
        slope: the gradient.
        optimizer: state of `transform`.
        params: parameters.
        learning_rate: `[]`.
        ok: `[]` bool, False to drop the update.
    """
    finite = jnp.isfinite(optax.tree.norm(slope)) & ok
    direction, new = transform.update(slope, optimizer, params)
    moved = jax.tree.map(lambda p, d: (p - learning_rate * d).astype(p.dtype), params, direction)
    return Updated(select(finite, moved, params), select(finite, new, optimizer), finite)


def select(condition: jax.Array, new: Any, old: Any) -> Any:
    """One of two trees of the same structure: `new` if the condition holds, else `old`."""
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def update_metrics(output: LossOutput, slope: Any, learning_rate: Any) -> dict[str, jax.Array]:
    """Metrics of an update: those of the loss, `loss`, `gradient_norm` and `learning_rate`."""
    size = optax.tree.norm(slope)
    return {**output.metrics, "loss": output.loss, "gradient_norm": size, "learning_rate": jnp.asarray(learning_rate)}
