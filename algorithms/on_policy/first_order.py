"""Many small gradient steps on one batch: the engine under PPO and every other first-order update.

An algorithm brings only the loss of its policy. The engine regresses the value functions beside it, shuffles, steps,
and stops once the policy has moved far enough. Networks of any kind are stepped by `any_networks`; the built-in
perceptrons are evaluated together by `algorithms.on_policy.fused`, with the same losses.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from algorithms.on_policy import fused, minibatch
from algorithms.on_policy.minibatch import ADAM, PolicyLoss, Problem, Stepper
from algorithms.on_policy.options import FirstOrder
from algorithms.on_policy.parts import Batch, Hyper, Networks, Signal, Update
from jsafe import distributions


def make(loss: PolicyLoss, networks: Networks, values: tuple[str, ...], options: FirstOrder) -> Update:
    """Build the update of a first-order algorithm.

    Args:
        loss: what the policy minimises.
        networks: policy and value functions.
        values: names of the value networks to train, in `Networks` and in `Batch.targets`.
        options: static hyper-parameters; the traced ones come with each call.
    """
    trained = ("policy", *values)
    stepper = fused.stepper(networks, values) if fused.fits(networks, values) else any_networks(networks, values)

    def init(params: dict[str, Any]) -> dict[str, Any]:
        return {name: ADAM.init(params[name]) for name in trained}

    def apply(
        key: jax.Array, params: dict[str, Any], optimizer: dict[str, Any], batch: Batch, signal: Signal, hyper: Hyper
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, jax.Array]]:
        rates = learning_rates(trained, options, signal, hyper)
        problem = Problem(loss, signal, hyper, rates, options.joint_grad_norm)
        params, optimizer, metrics = run_passes(key, params, optimizer, batch, problem, stepper, networks, options)
        return params, optimizer, {**metrics, **evaluate(params, batch, problem, networks, values)}

    return Update(init, apply)


def learning_rates(trained: tuple[str, ...], options: FirstOrder, signal: Signal, hyper: Hyper) -> dict[str, jax.Array]:
    """Step size of each network in this iteration."""
    decay = 1.0 - signal.progress if options.learning_rate_decay else jnp.ones((), jnp.float32)
    rates = {name: jnp.asarray(hyper["value_learning_rate"], jnp.float32) for name in trained}
    return {**rates, "policy": jnp.asarray(hyper["learning_rate"] * decay, jnp.float32)}


def run_passes(
    key: jax.Array,
    params: dict[str, Any],
    optimizer: dict[str, Any],
    batch: Batch,
    problem: Problem,
    stepper: Stepper,
    networks: Networks,
    options: FirstOrder,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, jax.Array]]:
    """Pass over the batch in shuffled minibatches until the policy has moved by `target_kl`.

    Returns:
        Parameters, optimiser states, and the metrics `passes` (made), `kl` (mean divergence of the new policy from the
        acting one, after the last pass) and `skipped` (steps dropped because a gradient was not finite).
    """
    samples, size = batch.log_prob.shape[0], options.minibatch_size
    weights = minibatch.weights(samples, size)
    prepared = stepper.prepare(batch)

    def step(carry: Any, rows: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        inner, skipped = carry
        inner, finite = stepper.step(inner, dataclasses.replace(rows[0], log_std=batch.log_std), rows[1], problem)
        return (inner, skipped + ~finite), None

    def one_pass(carry: Any) -> Any:
        number, _, key, inner = carry
        key, shuffle_key = jax.random.split(key)
        rows = minibatch.take(prepared, minibatch.shuffled(shuffle_key, samples, size))
        inner, _ = jax.lax.scan(step, inner, (rows, weights))
        mean, log_std = networks.policy.apply(stepper.finish(inner[0])[0]["policy"], batch.obs)
        kl = jnp.mean(distributions.kl(batch.mean, batch.log_std, mean, log_std))
        return number + 1, kl, key, inner

    def unfinished(carry: Any) -> jax.Array:
        number, kl, *_ = carry
        moved = kl > problem.hyper["target_kl"] if options.kl_stop else jnp.zeros((), bool)
        return (number < options.passes) & ~moved

    zero = jnp.zeros((), jnp.int32)
    start = (zero, jnp.zeros((), jnp.float32), key, (stepper.start(params, optimizer), zero))
    passes, kl, _, (inner, skipped) = jax.lax.while_loop(unfinished, one_pass, start)
    new, optimizer = stepper.finish(inner)
    return {**params, **new}, optimizer, {"passes": passes, "kl": kl, "skipped": skipped}


def any_networks(networks: Networks, values: tuple[str, ...]) -> Stepper:
    """Step networks of any kind by automatic differentiation.

    The networks share no parameter, so the gradient of the summed losses holds each network's own gradient.
    """
    trained = ("policy", *values)

    def total_loss(params: dict[str, Any], rows: Batch, weights: jax.Array, problem: Problem) -> jax.Array:
        mean, log_std = networks.policy.apply(params["policy"], rows.obs)
        outputs = {name: getattr(networks, name).apply(params[name], rows.obs) for name in values}
        squares = sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves([params[name] for name in values]))
        penalty = problem.hyper["value_l2"] * squares
        return minibatch.output_loss(mean, log_std, outputs, rows, weights, problem) + penalty

    def step(inner: Any, rows: Batch, weights: jax.Array, problem: Problem) -> tuple[Any, jax.Array]:
        params, optimizer = inner
        grads = jax.grad(total_loss)(params, rows, weights, problem)
        norms = {name: optax.tree.norm(grads[name]) for name in trained}
        scales, finite = minibatch.grad_scales(norms, problem.hyper["max_grad_norm"], problem.joint_grad_norm)
        new_params, new_optimizer = {}, {}
        for name in trained:
            bounded = jax.tree.map(lambda g, s=scales[name]: g * s, grads[name])
            direction, new_optimizer[name] = ADAM.update(bounded, optimizer[name])
            rate = problem.rates[name]
            new_params[name] = jax.tree.map(lambda p, d, r=rate: p - r * d, params[name], direction)
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), (new_params, new_optimizer), inner), finite

    return Stepper(
        start=lambda params, optimizer: ({name: params[name] for name in trained}, optimizer),
        prepare=lambda batch: batch,
        step=step,
        finish=lambda inner: inner,
    )


def evaluate(
    params: dict[str, Any], batch: Batch, problem: Problem, networks: Networks, values: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Losses, entropy and clipping over the whole batch after the update."""
    mean, log_std = networks.policy.apply(params["policy"], batch.obs)
    samples = batch.log_prob.shape[0]
    uniform = jnp.full(samples, 1.0 / samples, jnp.float32)
    metrics = {
        "policy_loss": problem.loss(mean, log_std, batch, uniform, problem.signal, problem.hyper),
        "entropy": jnp.mean(distributions.entropy(log_std)),
    }
    if "clip_ratio" in problem.hyper:
        ratio = jnp.exp(distributions.log_prob(batch.action, mean, log_std) - batch.log_prob)
        metrics["clip_fraction"] = jnp.mean(jnp.abs(ratio - 1.0) > problem.hyper["clip_ratio"])
    for name in values:
        error = getattr(networks, name).apply(params[name], batch.obs) - batch.targets[name]
        metrics[f"{name}_loss"] = jnp.mean(error * error)
    return metrics
