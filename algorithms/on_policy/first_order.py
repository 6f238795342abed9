"""Updates by many small gradient steps on one batch: the engine of PPO and every other first-order update.

An algorithm brings only the loss of its policy. The engine regresses the value functions next to it, shuffles, steps,
and stops once the policy has moved far enough. `any_networks` steps networks of any kind. The built-in perceptrons are
evaluated together by `algorithms.on_policy.stacked_mlp`, with the same losses.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from algorithms.on_policy import minibatch_sgd, stacked_mlp
from algorithms.on_policy.config import FirstOrderConfig
from algorithms.on_policy.interfaces import Batch, Networks, Params, Update
from algorithms.on_policy.minibatch_sgd import ADAM, Objective, PolicyLoss, Stepper, sgd_epochs
from algorithms.spec import RunStatus
from jsafe.config import Traced


def make(loss: PolicyLoss, networks: Networks, values: tuple[str, ...], config: FirstOrderConfig) -> Update:
    """Build the update of a first-order algorithm.

    Args:
        loss: loss of the policy.
        networks: policy and value functions.
        values: names of the value networks to train, in `Networks` and in `Batch.targets`.
        config: static hyper-parameters; the traced ones come with each call.
    """
    trained = ("policy", *values)
    stepper = stepper_for(networks, trained)

    def init(params: Params) -> dict[str, Any]:
        return {name: ADAM.init(params[name]) for name in trained}

    def apply(
        key: jax.Array, params: Params, optimizer: dict[str, Any], batch: Batch, status: RunStatus, hyper: Traced
    ) -> tuple[Params, dict[str, Any], dict[str, jax.Array]]:
        if config.entropy_per_dimension:
            hyper = {**hyper, "entropy_coefficient": hyper["entropy_coefficient"] / batch.action[0].size}
        objective = policy_objective(loss, trained, config, status, hyper)
        params, optimizer, metrics = sgd_epochs(
            key, params, optimizer, batch, objective, stepper, config, target_kl=kl_bound(config, hyper)
        )
        return params, optimizer, {**metrics, **evaluate(params, batch, objective, networks, values)}

    return Update(init, apply)


def policy_objective(
    loss: PolicyLoss, trained: tuple[str, ...], config: FirstOrderConfig, status: RunStatus, hyper: Traced
) -> Objective:
    """Objective of an iteration with a loss of the policy."""
    return Objective(
        policy_loss=lambda policy, rows, weights: loss(policy, rows, weights, status, hyper),
        hyper=hyper,
        rates=learning_rates(trained, config, status, hyper),
        joint_grad_norm=config.joint_grad_norm,
    )


def kl_bound(config: FirstOrderConfig, hyper: Traced) -> jax.Array | None:
    """Divergence that ends the passes, None if all of them are made."""
    return hyper["target_kl"] if math.isfinite(config.target_kl) else None


def learning_rates(
    trained: tuple[str, ...], config: FirstOrderConfig, status: RunStatus, hyper: Traced
) -> dict[str, jax.Array]:
    """Step size of each network in this iteration."""
    decay = 1.0 - status.progress if config.learning_rate_decay else jnp.ones((), jnp.float32)
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

    def total_loss(params: Params, rows: Batch, weights: jax.Array, objective: Objective) -> jax.Array:
        policy = networks.policy.apply(params["policy"], rows.obs) if "policy" in trained else None
        outputs = {name: networks.named(name).apply(params[name], rows.obs) for name in values}
        squares = sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves([params[name] for name in values]))
        penalty = objective.hyper["value_l2"] * squares
        return minibatch_sgd.output_loss(policy, outputs, rows, weights, objective) + penalty

    def step(inner: Any, rows: Batch, weights: jax.Array, objective: Objective) -> tuple[Any, jax.Array]:
        params, optimizer = inner
        grads = jax.grad(total_loss)(params, rows, weights, objective)
        norms = {name: optax.tree.norm(grads[name]) for name in trained}
        scales, finite = minibatch_sgd.grad_scales(norms, objective.hyper["max_grad_norm"], objective.joint_grad_norm)
        new_params, new_optimizer = {}, {}
        for name in trained:
            bounded = jax.tree.map(lambda g, s=scales[name]: g * s, grads[name])
            direction, new_optimizer[name] = ADAM.update(bounded, optimizer[name])
            rate = objective.rates[name]
            new_params[name] = jax.tree.map(lambda p, d, r=rate: p - r * d, params[name], direction)
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), (new_params, new_optimizer), inner), finite

    return Stepper(
        networks=networks,
        start=lambda params, optimizer: tuple({name: x[name] for name in trained} for x in (params, optimizer)),
        prepare=lambda batch: batch,
        step=step,
        finish=lambda inner: inner,
    )


def evaluate(
    params: Params, batch: Batch, objective: Objective, networks: Networks, values: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Losses, entropy and clipping over the whole batch after the update."""
    policy = networks.policy.apply(params["policy"], batch.obs)
    samples = batch.log_prob.shape[0]
    uniform = jnp.full(samples, 1.0 / samples, jnp.float32)
    metrics = {
        "policy_loss": objective.policy_loss(policy, batch, uniform),
        "entropy": jnp.mean(policy.entropy()),
    }
    if "clip_ratio" in objective.hyper:
        ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)
        metrics["clip_fraction"] = jnp.mean(jnp.abs(ratio - 1.0) > objective.hyper["clip_ratio"])
    return metrics | value_losses(params, batch, networks, values)


def value_losses(params: Params, batch: Batch, networks: Networks, values: tuple[str, ...]) -> dict[str, jax.Array]:
    """Mean squared error of each value function over the whole batch, as metrics."""
    metrics = {}
    for name in values:
        error = networks.named(name).apply(params[name], batch.obs) - batch.targets[name]
        metrics[f"{name}_loss"] = jnp.mean(error * error)
    return metrics
