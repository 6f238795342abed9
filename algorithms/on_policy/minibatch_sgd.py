"""Gradient steps on shuffled minibatches of one batch: losses, shuffling, the bound on gradients, Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from algorithms.on_policy.config import MinibatchConfig
from algorithms.on_policy.interfaces import Batch, Networks, Params
from algorithms.spec import RunStatus
from jsafe.config import Traced
from jsafe.distributions import Distribution

PolicyLoss = Callable[[Distribution, Batch, jax.Array, RunStatus, Traced], jax.Array]
"""`(new policy at the samples, batch, weights [B], status, hyper) -> []`; weights sum to 1 and are 0 for padding."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Constants of Adam as published (Kingma and Ba 2015)."""

ADAM = optax.scale_by_adam(BETA1, BETA2, EPSILON)


class Objective(NamedTuple):
    """Objective of one update: a loss of the policy and regressions of the value functions.

    Attributes:
        policy_loss: `(new policy at the samples, minibatch, weights [B]) -> []`; unused where only value functions are
            trained.
        hyper: `value_l2`, `max_grad_norm` and the rest of the traced hyper-parameters.
        rates: step size of each trained network, by name.
        joint_grad_norm: bound the norm of all gradients together.
    """

    policy_loss: Callable[[Distribution, Batch, jax.Array], jax.Array]
    hyper: Traced
    rates: dict[str, jax.Array]
    joint_grad_norm: bool


class Stepper(NamedTuple):
    """Implementation of gradient steps, with its own representation of parameters and moments.

    Attributes:
        networks: policy and value functions.
        start: `(params, optimizer) -> inner`.
        prepare: `Batch -> Batch`, once per update.
        step: `(inner, minibatch, weights, objective) -> (inner, finite [])`; a step that is not finite changes nothing.
        finish: `inner -> (params, optimizer)`.
    """

    networks: Networks
    start: Callable[[Params, dict[str, Any]], Any]
    prepare: Callable[[Batch], Batch]
    step: Callable[[Any, Batch, jax.Array, Objective], tuple[Any, jax.Array]]
    finish: Callable[[Any], tuple[Params, dict[str, Any]]]


def output_loss(
    policy: Distribution | None,
    values: dict[str, jax.Array],
    minibatch: Batch,
    weights: jax.Array,
    objective: Objective,
) -> jax.Array:
    """Policy loss plus mean squared errors of the value functions, as a function of the outputs of the networks.

    Args:
        policy: at the samples; None to train value functions only.
        values: name of a value network to `[B]`.
        minibatch: samples.
        weights: `[B]`, sum to 1.
        objective: the losses.
    """
    total = jnp.zeros((), jnp.float32)
    if policy is not None:
        total += objective.policy_loss(policy, minibatch, weights)
    for name, value in values.items():
        error = value - minibatch.targets[name]
        total += jnp.sum(weights * error * error)
    return total


def sgd_epochs(
    key: jax.Array,
    params: Params,
    optimizer: dict[str, Any],
    batch: Batch,
    objective: Objective,
    stepper: Stepper,
    config: MinibatchConfig,
    *,
    target_kl: jax.Array | None = None,
) -> tuple[Params, dict[str, Any], dict[str, jax.Array]]:
    """Pass over the batch in shuffled minibatches, until the policy has moved by `target_kl`.

    Args:
        key: typed PRNG key.
        params: parameters of all networks.
        optimizer: states of Adam, of the networks that `stepper` trains at least.
        batch: samples.
        objective: losses and step sizes.
        stepper: takes the steps.
        config: number of passes and size of a minibatch.
        target_kl: `[]`, or None to make all passes.

    Returns:
        Parameters, optimiser states, and the metrics `passes` (made), `kl` (mean divergence of the new policy from
        `batch.acting`, after the last pass) and `skipped` (steps dropped because a gradient was not finite).
    """
    samples, size = batch.log_prob.shape[0], config.minibatch_size
    row_weights = weights(samples, size)
    prepared = stepper.prepare(batch)
    bounded = target_kl is not None

    def step(carry: Any, rows: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        inner, skipped = carry
        inner, finite = stepper.step(inner, *rows, objective)
        return (inner, skipped + ~finite), None

    def one_pass(carry: Any) -> Any:
        number, _, key, inner = carry
        key, shuffle_key = jax.random.split(key)
        rows = take(prepared, shuffled(shuffle_key, samples, size))
        inner, _ = jax.lax.scan(step, inner, (rows, row_weights))
        kl = divergence(stepper.finish(inner[0])[0], params, batch, stepper.networks) if bounded else jnp.zeros(())
        return number + 1, kl.astype(jnp.float32), key, inner

    def unfinished(carry: Any) -> jax.Array:
        number, kl, *_ = carry
        return (number < config.passes) & (~(kl > target_kl) if bounded else True)

    zero = jnp.zeros((), jnp.int32)
    start = (zero, jnp.zeros((), jnp.float32), key, (stepper.start(params, optimizer), zero))
    passes, kl, _, (inner, skipped) = jax.lax.while_loop(unfinished, one_pass, start)
    new, moments = stepper.finish(inner)
    if not bounded:
        kl = divergence(new, params, batch, stepper.networks)
    return {**params, **new}, {**optimizer, **moments}, {"passes": passes, "kl": kl, "skipped": skipped}


def divergence(new: Params, old: Params, batch: Batch, networks: Networks) -> jax.Array:
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
