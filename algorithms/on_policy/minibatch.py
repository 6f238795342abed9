"""What every way of stepping through minibatches shares: the loss, the shuffle, the bound on gradients, Adam."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from algorithms.on_policy.parts import Batch, Hyper, Signal

PolicyLoss = Callable[[jax.Array, jax.Array, Batch, jax.Array, Signal, Hyper], jax.Array]
"""`(mean [B, A], log_std [A], batch, weights [B], signal, hyper) -> []`; the weights sum to 1 and are 0 for padding."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Constants of Adam as published (Kingma and Ba 2015)."""

ADAM = optax.scale_by_adam(BETA1, BETA2, EPSILON)


class Problem(NamedTuple):
    """What is minimised in one update.

    Attributes:
        loss: of the policy.
        signal: state of the run.
        hyper: traced hyper-parameters.
        rates: step size of each trained network, by name.
        joint_grad_norm: bound the norm of all gradients together.
    """

    loss: PolicyLoss
    signal: Signal
    hyper: Hyper
    rates: dict[str, jax.Array]
    joint_grad_norm: bool


class Stepper(NamedTuple):
    """A way to take gradient steps, with its own representation of parameters and moments.

    Attributes:
        start: `(params, optimizer) -> inner`.
        prepare: `Batch -> Batch`, once per update.
        step: `(inner, minibatch, weights, problem) -> (inner, finite [])`; a step that is not finite changes nothing.
        finish: `inner -> (params, optimizer)`.
    """

    start: Callable[[dict[str, Any], dict[str, Any]], Any]
    prepare: Callable[[Batch], Batch]
    step: Callable[[Any, Batch, jax.Array, Problem], tuple[Any, jax.Array]]
    finish: Callable[[Any], tuple[dict[str, Any], dict[str, Any]]]


def output_loss(
    mean: jax.Array,
    log_std: jax.Array,
    values: dict[str, jax.Array],
    minibatch: Batch,
    weights: jax.Array,
    problem: Problem,
) -> jax.Array:
    """Policy loss plus mean squared errors of the value functions, as a function of what the networks return.

    Args:
        mean: `[B, A]`.
        log_std: `[A]`.
        values: name of a value network to `[B]`.
        minibatch: samples.
        weights: `[B]`, sum to 1.
        problem: the losses.
    """
    total = problem.loss(mean, log_std, minibatch, weights, problem.signal, problem.hyper)
    for name, value in values.items():
        error = value - minibatch.targets[name]
        total += jnp.sum(weights * error * error)
    return total


def grad_scales(
    norms: dict[str, jax.Array], max_norm: jax.Array | float, joint: bool
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Factors that bound gradient norms, and whether all of the norms are finite."""
    together = jnp.sqrt(sum((n * n for n in norms.values()), jnp.zeros((), jnp.float32)))
    scales = {k: jnp.minimum(1.0, max_norm / (together if joint else n)) for k, n in norms.items()}
    return scales, jnp.isfinite(together)


def count(samples: int, size: int) -> int:
    """Minibatches in one pass; the last may be smaller."""
    return -(-samples // size)


def weights(samples: int, size: int) -> jax.Array:
    """Weights `[minibatches, size]`: each row is uniform over its samples, sums to 1 and is 0 on the padding."""
    real = jnp.arange(count(samples, size) * size).reshape(-1, size) < samples
    return (real / jnp.sum(real, axis=1, keepdims=True)).astype(jnp.float32)


def shuffled(key: jax.Array, samples: int, size: int) -> jax.Array:
    """A random order of the samples, as indices `[minibatches, size]`; the padding repeats the first ones."""
    order = permutation(key, samples)
    return jnp.concatenate([order, order[: count(samples, size) * size - samples]]).reshape(-1, size)


def permutation(key: jax.Array, samples: int) -> jax.Array:
    """A random order of `samples` indices, several times cheaper on a CPU than `jax.random.permutation`.

    Random high bits and the index as low bits are sorted as one integer, instead of pairs of both. Two of 20,000
    samples share their 17 random bits, and then keep their order, with a probability of 1 in 131,072.
    """
    index_bits = max(samples - 1, 1).bit_length()
    if index_bits > 16:
        return jax.random.permutation(key, samples)
    low = jnp.uint32((1 << index_bits) - 1)
    random = jax.random.bits(key, (samples,), jnp.uint32)
    return (jnp.sort((random & ~low) | jnp.arange(samples, dtype=jnp.uint32)) & low).astype(jnp.int32)


def take(batch: Batch, index: jax.Array) -> Batch:
    """Select samples by indices of any shape; `log_std` belongs to all samples and is left out."""
    return jax.tree.map(lambda x: x[index], dataclasses.replace(batch, log_std=None))
