"""One large step of the policy inside a trust region: the engine under natural gradients, TRPO, CPO and PCPO.

An algorithm brings a rule that proposes a step and says when it is acceptable. The engine computes surrogates and
their gradients on the whole batch, knows the Fisher matrix by its products, searches along the step, and afterwards
regresses the value functions in small minibatches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from algorithms.on_policy import first_order, minibatch_sgd
from algorithms.on_policy.config import Minibatched
from algorithms.on_policy.interfaces import Batch, Hyper, Networks, Signal, Update
from algorithms.on_policy.minibatch_sgd import ADAM, Problem
from jsafe import trust_region
from jsafe.config import hyperparameters, option
from jsafe.distributions import Distribution


@hyperparameters
class SecondOrder(Minibatched):
    """What algorithms share whose policy takes one step in a trust region."""

    passes: int = option("passes over the batch of the value functions", default=10, low=1)
    minibatch_size: int = option(
        "samples in one gradient step of the value functions; the last of a pass may be smaller", default=128, low=1
    )
    value_learning_rate: float = option("Adam's step size for the value functions", default=1e-3, traced=True, low=0)
    trust_region_radius: float = option(
        "largest mean KL divergence from the acting policy", default=0.01, traced=True, above=0
    )
    cg_iterations: int = option("iterations of conjugate gradients", default=15, low=1)
    cg_damping: float = option("multiple of the identity added to the Fisher matrix", default=0.1, traced=True, low=0)
    kl_per_dimension: bool = option(
        "average the divergence over action dimensions too, as the libraries do: the radius is that much larger",
        default=False,
    )


@hyperparameters
class Searched(SecondOrder):
    """A step that is shortened until it keeps its promises."""

    line_search_tries: int = option("how often the step may be shortened", default=15, low=1)
    line_search_shrink: float = option("factor from one try to the next", default=0.8, above=0, high=0.999)


class Measured(NamedTuple):
    """What is known of a policy from the batch of another.

    Attributes:
        surrogate: `[]`, mean of ratio times `Batch.advantage`.
        costs: `[C]`, mean of ratio times cost advantage.
        kl: `[]`, mean divergence from the acting policy.
    """

    surrogate: jax.Array
    costs: jax.Array
    kl: jax.Array


class Region(NamedTuple):
    """The neighbourhood of the acting policy, for a rule; parameters are flat vectors `[n]`.

    Attributes:
        start: what is known of the acting policy itself.
        gradient: `[n]`, of the surrogate.
        cost_gradients: `() -> [C, n]`.
        product: multiplies by the damped Fisher matrix.
        radius: `[]`, largest divergence.
    """

    start: Measured
    gradient: jax.Array
    cost_gradients: Callable[[], jax.Array]
    product: Callable[[jax.Array], jax.Array]
    radius: jax.Array


class Proposal(NamedTuple):
    """What a rule proposes.

    Attributes:
        step: `[n]`.
        accept: when a shortened step is good enough; None takes the step as it is.
        metrics: to report.
    """

    step: jax.Array
    accept: Callable[[Measured], jax.Array] | None
    metrics: dict[str, jax.Array]


Rule = Callable[[Region, Signal, Hyper, Any], Proposal]
"""`(region, signal, hyper, options) -> Proposal`."""


def maker(rule: Rule) -> Callable[[Networks, tuple[str, ...], Any], Update]:
    """What an `UpdatePart` with this rule needs as `make`."""
    return lambda networks, values, options: make(rule, networks, values, options)


def make(rule: Rule, networks: Networks, values: tuple[str, ...], options: SecondOrder) -> Update:
    """Build the update of a second-order algorithm.

    Args:
        rule: proposes the step.
        networks: policy and value functions.
        values: names of the value networks to train, in `Networks` and in `Batch.targets`.
        options: static hyper-parameters; the traced ones come with each call.
    """
    stepper = first_order.stepper_for(networks, values)

    def init(params: dict[str, Any]) -> dict[str, Any]:
        return {name: ADAM.init(params[name]) for name in values}

    def apply(
        key: jax.Array, params: dict[str, Any], optimizer: dict[str, Any], batch: Batch, signal: Signal, hyper: Hyper
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, jax.Array]]:
        policy, policy_metrics = _move(rule, params["policy"], batch, signal, hyper, networks, options)
        rates = {name: jnp.asarray(hyper["value_learning_rate"], jnp.float32) for name in values}
        params, optimizer, metrics = minibatch_sgd.run_passes(
            key,
            {**params, "policy": policy},
            optimizer,
            batch,
            Problem(_no_loss, signal, hyper, rates, options.joint_grad_norm),
            stepper,
            networks,
            passes=options.passes,
            size=options.minibatch_size,
            kl_limit=None,
        )
        skipped = metrics["skipped"] + policy_metrics.pop("skipped")
        losses = first_order.value_losses(params, batch, networks, values)
        return params, optimizer, {**metrics, **policy_metrics, **losses, "skipped": skipped}

    return Update(init, apply)


def _move(
    rule: Rule, params: Any, batch: Batch, signal: Signal, hyper: Hyper, networks: Networks, options: SecondOrder
) -> tuple[Any, dict[str, jax.Array]]:
    """The policy's parameters after its step, and metrics."""
    flat, unravel = ravel_pytree(params)

    def policy_at(vector: jax.Array) -> Distribution:
        return networks.policy.apply(unravel(vector), batch.obs)

    def divergence(old: Distribution, new: Distribution) -> jax.Array:
        dimensions = batch.action[0].size if options.kl_per_dimension else 1
        return jnp.mean(old.kl(new)) / dimensions

    def gains(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        ratio = jnp.exp(policy_at(vector).log_prob(batch.action) - batch.log_prob)
        return jnp.mean(ratio * batch.advantage), jnp.mean(ratio[:, None] * batch.cost_advantages, axis=0)

    def evaluate(vector: jax.Array) -> Measured:
        return Measured(*gains(vector), divergence(batch.acting, policy_at(vector)))

    (surrogate, costs), pull = jax.vjp(gains, flat)
    (gradient,) = pull((jnp.ones_like(surrogate), jnp.zeros_like(costs)))

    def cost_gradients() -> jax.Array:
        rows = jnp.eye(costs.shape[0], dtype=costs.dtype)
        return jax.vmap(lambda row: pull((jnp.zeros_like(surrogate), row))[0])(rows)

    region = Region(
        start=Measured(surrogate, costs, jnp.zeros_like(surrogate)),
        gradient=gradient,
        cost_gradients=cost_gradients,
        product=trust_region.fisher_product(policy_at, divergence, flat, hyper["cg_damping"]),
        radius=hyper["trust_region_radius"],
    )
    proposal = rule(region, signal, hyper, options)
    finite = jnp.all(jnp.isfinite(gradient)) & jnp.all(jnp.isfinite(proposal.step))
    step = jnp.where(finite, proposal.step, 0.0)
    if proposal.accept is None:
        new, factor = flat + step, finite.astype(jnp.float32)
        reached = evaluate(new)
    else:
        assert isinstance(options, Searched)
        found = trust_region.line_search(
            evaluate,
            flat,
            step,
            proposal.accept,
            tries=options.line_search_tries,
            shrink=options.line_search_shrink,
        )
        new, factor, reached = found.params, found.factor, found.measured
    metrics = {
        **proposal.metrics,
        "skipped": (~finite).astype(jnp.int32),
        "step_factor": factor,
        "policy_loss": -reached.surrogate,
        "entropy": jnp.mean(policy_at(new).entropy()),
    }
    return unravel(new), metrics


def natural_step(region: Region, options: SecondOrder) -> jax.Array:
    """The step `[n]` along the natural gradient to the boundary of the trust region; 0 where the gradient is.

    x = sqrt(2 radius / g^T F^-1 g) F^-1 g
    """
    direction = trust_region.conjugate_gradient(region.product, region.gradient, options.cg_iterations)
    length = jnp.vdot(direction, region.product(direction))
    return (
        jnp.where(length > 0.0, jnp.sqrt(2.0 * region.radius / jnp.where(length > 0.0, length, 1.0)), 0.0) * direction
    )


def _no_loss(*_: Any) -> jax.Array:
    raise AssertionError("value functions are trained without the policy")
