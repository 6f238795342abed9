"""Many small gradient steps on one batch: the engine under PPO and every other first-order update.

An algorithm brings only the loss of its policy. The engine regresses the value functions beside it, shuffles, steps,
and stops once the policy has moved far enough. Networks of any kind go through `_passes_of_any_networks`; the
built-in perceptrons are evaluated together by `algorithms.on_policy.fused`, with the same mathematics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from algorithms.on_policy import fused
from algorithms.on_policy.options import FirstOrder
from algorithms.on_policy.parts import Batch, Hyper, Networks, Signal, Update
from jsafe import distributions

PolicyLoss = Callable[[jax.Array, jax.Array, Batch, jax.Array, Signal, Hyper], jax.Array]
"""`(mean [B, A], log_std [A], batch, weights [B], signal, hyper) -> []`; the weights sum to 1 and are 0 for padding."""

ADAM = optax.scale_by_adam()
"""Kingma and Ba 2015, with the published constants (0.9, 0.999, 1e-8)."""


class Steps(NamedTuple):
    """Result of the passes over a batch.

    Attributes:
        params: parameters by network.
        optimizer: Adam moments by network.
        passes: `[]` int32, passes made.
        kl: `[]`, mean KL divergence of the new policy from the acting one, after the last pass.
        skipped: `[]` int32, steps dropped because a gradient was not finite.
    """

    params: dict[str, Any]
    optimizer: dict[str, Any]
    passes: jax.Array
    kl: jax.Array
    skipped: jax.Array


def make(loss: PolicyLoss, networks: Networks, values: tuple[str, ...], options: FirstOrder) -> Update:
    """Build the update of a first-order algorithm.

    Args:
        loss: what the policy minimises.
        networks: policy and value functions.
        values: names of the value networks to train, in `Networks` and in `Batch.targets`.
        options: static hyper-parameters; the traced ones come with each call.
    """
    trained = ("policy", *values)
    run_passes = fused.passes if fused.fits(networks, trained) else passes_of_any_networks

    def init(params: dict[str, Any]) -> dict[str, Any]:
        return {name: ADAM.init(params[name]) for name in trained}

    def apply(
        key: jax.Array, params: dict[str, Any], optimizer: dict[str, Any], batch: Batch, signal: Signal, hyper: Hyper
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, jax.Array]]:
        rates = learning_rates(trained, options, signal, hyper)
        steps = run_passes(key, params, optimizer, batch, signal, hyper, rates, loss, networks, values, options)
        return steps.params, steps.optimizer, {
            "kl": steps.kl,
            "passes": steps.passes,
            "skipped": steps.skipped,
            **evaluate(steps.params, batch, signal, hyper, loss, networks, values),
        }

    return Update(init, apply)


def learning_rates(
    trained: tuple[str, ...], options: FirstOrder, signal: Signal, hyper: Hyper
) -> dict[str, jax.Array]:
    """Step size of each network in this iteration."""
    decay = 1.0 - signal.progress if options.learning_rate_decay else jnp.ones(())
    rates = {name: jnp.asarray(hyper["value_learning_rate"], jnp.float32) for name in trained}
    return {**rates, "policy": jnp.asarray(hyper["learning_rate"] * decay, jnp.float32)}


def evaluate(
    params: dict[str, Any],
    batch: Batch,
    signal: Signal,
    hyper: Hyper,
    loss: PolicyLoss,
    networks: Networks,
    values: tuple[str, ...],
) -> dict[str, jax.Array]:
    """Losses and entropy over the whole batch after the update."""
    mean, log_std = networks.policy.apply(params["policy"], batch.obs)
    count = batch.log_prob.shape[0]
    ratio = jnp.exp(distributions.log_prob(batch.action, mean, log_std) - batch.log_prob)
    metrics = {
        "policy_loss": loss(mean, log_std, batch, jnp.full(count, 1.0 / count), signal, hyper),
        "entropy": jnp.mean(distributions.entropy(log_std)),
        "ratio_deviation": jnp.mean(jnp.abs(ratio - 1.0)),
    }
    if "clip_ratio" in hyper:
        metrics["clip_fraction"] = jnp.mean(jnp.abs(ratio - 1.0) > hyper["clip_ratio"])
    for name in values:
        error = getattr(networks, name).apply(params[name], batch.obs) - batch.targets[name]
        metrics[f"{name}_loss"] = jnp.mean(error * error)
    return metrics


# --- minibatches ------------------------------------------------------------------------------------------------


def minibatch_count(samples: int, size: int) -> int:
    """Minibatches in one pass; the last may be smaller."""
    return -(-samples // size)


def minibatch_weights(samples: int, size: int) -> jax.Array:
    """Weights `[minibatches, size]`: each row is uniform over its samples, sums to 1 and is 0 on the padding."""
    count = minibatch_count(samples, size)
    real = jnp.arange(count * size).reshape(count, size) < samples
    return real / jnp.sum(real, axis=1, keepdims=True)


def shuffled(key: jax.Array, samples: int, size: int) -> jax.Array:
    """A random order of the samples, as indices `[minibatches, size]`; the padding repeats the first ones."""
    count = minibatch_count(samples, size)
    order = jax.random.permutation(key, samples)
    return jnp.concatenate([order, order[: count * size - samples]]).reshape(count, size)


def take(batch: Batch, index: jax.Array) -> Batch:
    """Select samples by index; `log_std` belongs to all of them."""
    rows = jax.tree.map(lambda x: x[index], batch.replace(log_std=None))
    return rows.replace(log_std=batch.log_std)


# --- the generic path -------------------------------------------------------------------------------------------


def total_loss(
    params: dict[str, Any],
    batch: Batch,
    weights: jax.Array,
    signal: Signal,
    hyper: Hyper,
    loss: PolicyLoss,
    networks: Networks,
    values: tuple[str, ...],
) -> jax.Array:
    """Policy loss plus, for each value network, mean squared error and `value_l2` times its squared parameters.

    The networks share no parameter, so the gradient of the sum holds each network's own gradient.
    """
    total = loss(*networks.policy.apply(params["policy"], batch.obs), batch, weights, signal, hyper)
    for name in values:
        error = getattr(networks, name).apply(params[name], batch.obs) - batch.targets[name]
        total += jnp.sum(weights * error * error)
        total += hyper["value_l2"] * sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(params[name]))
    return total


def grad_scales(
    norms: dict[str, jax.Array], max_norm: jax.Array | float, joint: bool
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Factors that bound gradient norms, and whether all of them are finite."""
    together = jnp.sqrt(sum((n * n for n in norms.values()), jnp.zeros(())))
    scales = {k: jnp.minimum(1.0, max_norm / (together if joint else n) ) for k, n in norms.items()}
    return scales, jnp.isfinite(together)


def passes_of_any_networks(
    key: jax.Array,
    params: dict[str, Any],
    optimizer: dict[str, Any],
    batch: Batch,
    signal: Signal,
    hyper: Hyper,
    rates: dict[str, jax.Array],
    loss: PolicyLoss,
    networks: Networks,
    values: tuple[str, ...],
    options: FirstOrder,
) -> Steps:
    """Pass over the batch in shuffled minibatches until the policy has moved by `target_kl`, for any networks."""
    samples, size = batch.log_prob.shape[0], options.minibatch_size
    weights = minibatch_weights(samples, size)
    trained = tuple(rates)
    untouched = {name: p for name, p in params.items() if name not in trained}

    def step(carry: Any, minibatch: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        old_params, old_optimizer, skipped = carry
        index, weight = minibatch
        grads = jax.grad(total_loss)(
            old_params, take(batch, index), weight, signal, hyper, loss, networks, values
        )
        norms = {name: optax.tree.norm(grads[name]) for name in trained}
        scales, finite = grad_scales(norms, hyper["max_grad_norm"], options.joint_grad_norm)
        new_params, new_optimizer = {}, {}
        for name in trained:
            clipped = jax.tree.map(lambda g, s=scales[name]: g * s, grads[name])
            direction, new_optimizer[name] = ADAM.update(clipped, old_optimizer[name])
            new_params[name] = jax.tree.map(lambda p, d, r=rates[name]: p - r * d, old_params[name], direction)
        kept = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (new_params, new_optimizer), (old_params, old_optimizer)
        )
        return (*kept, skipped + ~finite), None

    def one_pass(carry: Any) -> Any:
        number, _, key, inner = carry
        key, shuffle_key = jax.random.split(key)
        inner, _ = jax.lax.scan(step, inner, (shuffled(shuffle_key, samples, size), weights))
        mean, log_std = networks.policy.apply(inner[0]["policy"], batch.obs)
        kl = jnp.mean(distributions.kl(batch.mean, batch.log_std, mean, log_std))
        return number + 1, kl, key, inner

    def unfinished(carry: Any) -> jax.Array:
        number, kl, *_ = carry
        moved = kl > hyper["target_kl"] if options.kl_stop else jnp.zeros((), bool)
        return (number < options.passes) & ~moved

    inner = ({name: params[name] for name in trained}, optimizer, jnp.zeros((), jnp.int32))
    start = (jnp.zeros((), jnp.int32), jnp.zeros(()), key, inner)
    number, kl, _, (new, optimizer, skipped) = jax.lax.while_loop(unfinished, one_pass, start)
    return Steps({**untouched, **new}, optimizer, number, kl, skipped)
