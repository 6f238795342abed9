"""Many small gradient steps on one batch: the engine under PPO and every other first-order update.

An algorithm brings only the loss of its policy. The engine regresses the value functions beside it, shuffles, steps,
and stops once the policy has moved far enough. Networks of any kind are stepped by `any_networks`; the built-in
perceptrons are evaluated together by `algorithms.on_policy.stacked_mlp`, with the same losses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from algorithms.on_policy import minibatch_sgd, stacked_mlp
from algorithms.on_policy.config import FirstOrder
from algorithms.on_policy.interfaces import Batch, Hyper, Networks, Signal, Update
from algorithms.on_policy.minibatch_sgd import ADAM, PolicyLoss, Problem, Stepper


def maker(loss: PolicyLoss) -> Callable[[Networks, tuple[str, ...], Any], Update]:
    """What an `UpdatePart` with this loss needs as `make`."""
    return lambda networks, values, options: make(loss, networks, values, options)


def make(loss: PolicyLoss, networks: Networks, values: tuple[str, ...], options: FirstOrder) -> Update:
    """Build the update of a first-order algorithm.

    Args:
        loss: what the policy minimises.
        networks: policy and value functions.
        values: names of the value networks to train, in `Networks` and in `Batch.targets`.
        options: static hyper-parameters; the traced ones come with each call.
    """
    trained = ("policy", *values)
    stepper = stepper_for(networks, trained)

    def init(params: dict[str, Any]) -> dict[str, Any]:
        return {name: ADAM.init(params[name]) for name in trained}

    def apply(
        key: jax.Array, params: dict[str, Any], optimizer: dict[str, Any], batch: Batch, signal: Signal, hyper: Hyper
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, jax.Array]]:
        rates = learning_rates(trained, options, signal, hyper)
        if options.entropy_per_dimension:
            hyper = {**hyper, "entropy_coefficient": hyper["entropy_coefficient"] / batch.action[0].size}
        problem = Problem(loss, signal, hyper, rates, options.joint_grad_norm)
        params, optimizer, metrics = descend(key, params, optimizer, batch, problem, stepper, networks, options)
        return params, optimizer, {**metrics, **evaluate(params, batch, problem, networks, values)}

    return Update(init, apply)


def descend(
    key: jax.Array,
    params: dict[str, Any],
    optimizer: dict[str, Any],
    batch: Batch,
    problem: Problem,
    stepper: Stepper,
    networks: Networks,
    options: FirstOrder,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, jax.Array]]:
    """Pass over the batch as the options of a first-order algorithm say; see `minibatch.run_passes`."""
    return minibatch_sgd.run_passes(
        key,
        params,
        optimizer,
        batch,
        problem,
        stepper,
        networks,
        passes=options.passes,
        size=options.minibatch_size,
        kl_limit=problem.hyper["target_kl"] if options.kl_stop else None,
    )


def learning_rates(trained: tuple[str, ...], options: FirstOrder, signal: Signal, hyper: Hyper) -> dict[str, jax.Array]:
    """Step size of each network in this iteration."""
    decay = 1.0 - signal.progress if options.learning_rate_decay else jnp.ones((), jnp.float32)
    rates = {name: jnp.asarray(hyper["value_learning_rate"], jnp.float32) for name in trained}
    return {**rates, "policy": jnp.asarray(hyper["learning_rate"] * decay, jnp.float32)}


def stepper_for(networks: Networks, trained: tuple[str, ...]) -> Stepper:
    """The fastest way to step these networks; the policy, if it is among them, comes first."""
    return (
        stacked_mlp.stepper(networks, trained)
        if stacked_mlp.fits(networks, trained)
        else any_networks(networks, trained)
    )


def any_networks(networks: Networks, trained: tuple[str, ...]) -> Stepper:
    """Step networks of any kind by automatic differentiation.

    The networks share no parameter, so the gradient of the summed losses holds each network's own gradient.
    """
    values = [name for name in trained if name != "policy"]

    def total_loss(params: dict[str, Any], rows: Batch, weights: jax.Array, problem: Problem) -> jax.Array:
        policy = networks.policy.apply(params["policy"], rows.obs) if "policy" in trained else None
        outputs = {name: networks.named(name).apply(params[name], rows.obs) for name in values}
        squares = sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves([params[name] for name in values]))
        penalty = problem.hyper["value_l2"] * squares
        return minibatch_sgd.output_loss(policy, outputs, rows, weights, problem) + penalty

    def step(inner: Any, rows: Batch, weights: jax.Array, problem: Problem) -> tuple[Any, jax.Array]:
        params, optimizer = inner
        grads = jax.grad(total_loss)(params, rows, weights, problem)
        norms = {name: optax.tree.norm(grads[name]) for name in trained}
        scales, finite = minibatch_sgd.grad_scales(norms, problem.hyper["max_grad_norm"], problem.joint_grad_norm)
        new_params, new_optimizer = {}, {}
        for name in trained:
            bounded = jax.tree.map(lambda g, s=scales[name]: g * s, grads[name])
            direction, new_optimizer[name] = ADAM.update(bounded, optimizer[name])
            rate = problem.rates[name]
            new_params[name] = jax.tree.map(lambda p, d, r=rate: p - r * d, params[name], direction)
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), (new_params, new_optimizer), inner), finite

    return Stepper(
        start=lambda params, optimizer: tuple({name: x[name] for name in trained} for x in (params, optimizer)),
        prepare=lambda batch: batch,
        step=step,
        finish=lambda inner: inner,
    )


def evaluate(
    params: dict[str, Any], batch: Batch, problem: Problem, networks: Networks, values: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Losses, entropy and clipping over the whole batch after the update."""
    policy = networks.policy.apply(params["policy"], batch.obs)
    samples = batch.log_prob.shape[0]
    uniform = jnp.full(samples, 1.0 / samples, jnp.float32)
    metrics = {
        "policy_loss": problem.loss(policy, batch, uniform, problem.signal, problem.hyper),
        "entropy": jnp.mean(policy.entropy()),
    }
    if "clip_ratio" in problem.hyper:
        ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)
        metrics["clip_fraction"] = jnp.mean(jnp.abs(ratio - 1.0) > problem.hyper["clip_ratio"])
    return metrics | value_losses(params, batch, networks, values)


def value_losses(
    params: dict[str, Any], batch: Batch, networks: Networks, values: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Mean squared error of each value function over the whole batch, as metrics."""
    metrics = {}
    for name in values:
        error = networks.named(name).apply(params[name], batch.obs) - batch.targets[name]
        metrics[f"{name}_loss"] = jnp.mean(error * error)
    return metrics
