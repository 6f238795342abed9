"""What every way of stepping through minibatches shares: the loss, the shuffle, the bound on gradients, Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from algorithms.on_policy.interfaces import Batch, Hyper, Networks, Signal
from jsafe.distributions import Distribution

PolicyLoss = Callable[[Distribution, Batch, jax.Array, Signal, Hyper], jax.Array]
"""`(new policy at the samples, batch, weights [B], signal, hyper) -> []`; weights sum to 1 and are 0 for padding."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Constants of Adam as published (Kingma and Ba 2015)."""

ADAM = optax.scale_by_adam(BETA1, BETA2, EPSILON)


class Problem(NamedTuple):
    """What is minimised in one update.

    Attributes:
        loss: of the policy; not read where only value functions are trained.
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
    policy: Distribution | None,
    values: dict[str, jax.Array],
    minibatch: Batch,
    weights: jax.Array,
    problem: Problem,
) -> jax.Array:
    """Policy loss plus mean squared errors of the value functions, as a function of what the networks return.

    Args:
        policy: at the samples; None to train value functions only.
        values: name of a value network to `[B]`.
        minibatch: samples.
        weights: `[B]`, sum to 1.
        problem: the losses.
    """
    total = jnp.zeros((), jnp.float32)
    if policy is not None:
        total += problem.loss(policy, minibatch, weights, problem.signal, problem.hyper)
    for name, value in values.items():
        error = value - minibatch.targets[name]
        total += jnp.sum(weights * error * error)
    return total


def run_passes(
    key: jax.Array,
    params: dict[str, Any],
    optimizer: dict[str, Any],
    batch: Batch,
    problem: Problem,
    stepper: Stepper,
    networks: Networks,
    *,
    passes: int,
    size: int,
    kl_limit: jax.Array | None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, jax.Array]]:
    """Pass over the batch in shuffled minibatches, until the policy has moved by `kl_limit` if one is given.

    Args:
        key: typed PRNG key.
        params: of all networks.
        optimizer: states of Adam, of the networks that `stepper` trains at least.
        batch: samples.
        problem: the losses.
        stepper: takes the steps.
        networks: policy and value functions.
        passes: largest number of passes, static.
        size: samples in a minibatch, static.
        kl_limit: `[]`, or None to make all passes.

    Returns:
        Parameters, optimiser states, and the metrics `passes` (made), `kl` (mean divergence of the new policy from
        `batch.acting`, after the last pass) and `skipped` (steps dropped because a gradient was not finite).
    """
    samples = batch.log_prob.shape[0]
    row_weights = weights(samples, size)
    prepared = stepper.prepare(batch)

    def step(carry: Any, rows: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        inner, skipped = carry
        inner, finite = stepper.step(inner, *rows, problem)
        return (inner, skipped + ~finite), None

    def one_pass(carry: Any) -> Any:
        number, _, key, inner = carry
        key, shuffle_key = jax.random.split(key)
        rows = take(prepared, shuffled(shuffle_key, samples, size))
        inner, _ = jax.lax.scan(step, inner, (rows, row_weights))
        kl = jnp.zeros((), jnp.float32)
        if kl_limit is not None:
            kl = divergence(stepper.finish(inner[0])[0], params, batch, networks)
        return number + 1, kl, key, inner

    def unfinished(carry: Any) -> jax.Array:
        number, kl, *_ = carry
        return (number < passes) & (True if kl_limit is None else ~(kl > kl_limit))

    zero = jnp.zeros((), jnp.int32)
    start = (zero, jnp.zeros((), jnp.float32), key, (stepper.start(params, optimizer), zero))
    made, kl, _, (inner, skipped) = jax.lax.while_loop(unfinished, one_pass, start)
    new, moments = stepper.finish(inner)
    if kl_limit is None:
        kl = divergence(new, params, batch, networks)
    return {**params, **new}, {**optimizer, **moments}, {"passes": made, "kl": kl, "skipped": skipped}


def divergence(new: dict[str, Any], old: dict[str, Any], batch: Batch, networks: Networks) -> jax.Array:
    """Mean divergence of a policy from `batch.acting`; the policy is that of `new`, or of `old` if `new` has none."""
    policy = networks.policy.apply({**old, **new}["policy"], batch.obs)
    return jnp.mean(batch.acting.kl(policy))


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
    """Select samples by indices of any shape."""
    return jax.tree.map(lambda x: x[index], batch)
