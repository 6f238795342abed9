"""One large step of the policy inside a trust region: the engine of natural gradients, TRPO, CPO and PCPO.

An algorithm brings a rule that proposes a step and a test that accepts it. The engine computes surrogates and their
gradients on the whole batch, multiplies by the Fisher matrix, searches along the step, and afterwards regresses the
value functions in small minibatches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from algorithms.on_policy import first_order
from algorithms.on_policy.config import MinibatchConfig
from algorithms.on_policy.interfaces import Batch, Networks, Params, Update
from algorithms.on_policy.minibatch_sgd import ADAM, Objective, sgd_epochs
from algorithms.spec import RunStatus
from jsafe import trust_region
from jsafe.config import Traced, hyperparameters, option
from jsafe.distributions import Distribution


@hyperparameters
class TrustRegionConfig(MinibatchConfig):
    """Options of algorithms whose policy takes one step in a trust region."""

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
class LineSearchConfig(TrustRegionConfig):
    """Options of a step that is shortened until it holds its constraints."""

    line_search_tries: int = option("number of times the step may be shortened", default=15, low=1)
    line_search_shrink: float = option("factor from one try to the next", default=0.8, above=0, high=0.999)


class SurrogateValues(NamedTuple):
    """Estimates for a policy from the batch of the acting one.

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
        start: estimates for the acting policy itself.
        gradient: `[n]`, of the surrogate.
        cost_gradients: `() -> [C, n]`.
        product: multiplies by the damped Fisher matrix.
        radius: `[]`, largest divergence.
    """

    start: SurrogateValues
    gradient: jax.Array
    cost_gradients: Callable[[], jax.Array]
    product: Callable[[jax.Array], jax.Array]
    radius: jax.Array


class ProposedStep(NamedTuple):
    """Step that a rule proposes.

    Attributes:
        step: `[n]`.
        accept: True for a shortened step that is good enough; None takes the step as it is.
        metrics: to report.
    """

    step: jax.Array
    accept: Callable[[SurrogateValues], jax.Array] | None
    metrics: dict[str, jax.Array]


Rule = Callable[[Region, RunStatus, Traced, Any], ProposedStep]
"""`(region, status, hyper, config) -> ProposedStep`."""


def make(rule: Rule, networks: Networks, values: tuple[str, ...], config: TrustRegionConfig) -> Update:
    """Build the update of a second-order algorithm.

    Args:
        rule: proposes the step.
        networks: policy and value functions.
        values: names of the value networks to train, in `Networks` and in `Batch.targets`.
        config: static hyper-parameters; the traced ones come with each call.
    """
    stepper = first_order.stepper_for(networks, values)

    def init(params: Params) -> dict[str, Any]:
        return {name: ADAM.init(params[name]) for name in values}

    def apply(
        key: jax.Array,
        params: dict[str, Any],
        optimizer: dict[str, Any],
        batch: Batch,
        status: RunStatus,
        hyper: Traced,
    ) -> tuple[Params, dict[str, Any], dict[str, jax.Array]]:
        policy, policy_metrics = policy_step(rule, params["policy"], batch, status, hyper, networks, config)
        rates = {name: jnp.asarray(hyper["value_learning_rate"], jnp.float32) for name in values}
        objective = Objective(_no_loss, hyper, rates, config.joint_grad_norm)
        params, optimizer, metrics = sgd_epochs(
            key, {**params, "policy": policy}, optimizer, batch, objective, stepper, config
        )
        skipped = metrics["skipped"] + policy_metrics.pop("skipped")
        losses = first_order.value_losses(params, batch, networks, values)
        return params, optimizer, {**metrics, **policy_metrics, **losses, "skipped": skipped}

    return Update(init, apply)


class Surrogates(NamedTuple):
    """Estimates for policies near the acting one, from its batch; parameters are flat vectors `[n]`.

    Attributes:
        policy: parameters to distribution at the samples.
        gains: parameters to the surrogate `[]` and the costs `[C]`, see `SurrogateValues`.
        divergence: mean divergence of two distributions.
        values: parameters to all estimates.
    """

    policy: Callable[[jax.Array], Distribution]
    gains: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    divergence: Callable[[Distribution, Distribution], jax.Array]
    values: Callable[[jax.Array], SurrogateValues]


def surrogates(
    batch: Batch, networks: Networks, unravel: Callable[[jax.Array], Any], config: TrustRegionConfig
) -> Surrogates:
    """Make the estimates of a batch."""

    def policy(vector: jax.Array) -> Distribution:
        return networks.policy.apply(unravel(vector), batch.obs)

    def divergence(old: Distribution, new: Distribution) -> jax.Array:
        dimensions = batch.action[0].size if config.kl_per_dimension else 1
        return jnp.mean(old.kl(new)) / dimensions

    def gains(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        ratio = jnp.exp(policy(vector).log_prob(batch.action) - batch.log_prob)
        return jnp.mean(ratio * batch.advantage), jnp.mean(ratio[:, None] * batch.cost_advantages, axis=0)

    def values(vector: jax.Array) -> SurrogateValues:
        return SurrogateValues(*gains(vector), divergence(batch.acting, policy(vector)))

    return Surrogates(policy, gains, divergence, values)


def region_around(start: jax.Array, estimates: Surrogates, hyper: Traced) -> Region:
    """Make the trust region around the parameters `[n]` of the acting policy."""
    (surrogate, costs), pull = jax.vjp(estimates.gains, start)
    (gradient,) = pull((jnp.ones_like(surrogate), jnp.zeros_like(costs)))

    def cost_gradients() -> jax.Array:
        rows = jnp.eye(costs.shape[0], dtype=costs.dtype)
        return jax.vmap(lambda row: pull((jnp.zeros_like(surrogate), row))[0])(rows)

    return Region(
        start=SurrogateValues(surrogate, costs, jnp.zeros_like(surrogate)),
        gradient=gradient,
        cost_gradients=cost_gradients,
        product=trust_region.fisher_product(estimates.policy, estimates.divergence, start, hyper["cg_damping"]),
        radius=hyper["trust_region_radius"],
    )


def policy_step(
    rule: Rule,
    params: Any,
    batch: Batch,
    status: RunStatus,
    hyper: Traced,
    networks: Networks,
    config: TrustRegionConfig,
) -> tuple[Any, dict[str, jax.Array]]:
    """The policy's parameters after its step, and metrics."""
    flat, unravel = ravel_pytree(params)
    estimates = surrogates(batch, networks, unravel, config)
    region = region_around(flat, estimates, hyper)
    proposal = rule(region, status, hyper, config)
    finite = jnp.all(jnp.isfinite(region.gradient)) & jnp.all(jnp.isfinite(proposal.step))
    step = jnp.where(finite, proposal.step, 0.0)
    if proposal.accept is None:
        new, factor = flat + step, finite.astype(jnp.float32)
        reached = estimates.values(new)
    else:
        assert isinstance(config, LineSearchConfig)
        tries, shrink = config.line_search_tries, config.line_search_shrink
        search = trust_region.line_search(estimates.values, flat, step, proposal.accept, tries=tries, shrink=shrink)
        new, factor, reached = search.params, search.factor, search.measured
    metrics = {
        **proposal.metrics,
        "skipped": (~finite).astype(jnp.int32),
        "step_factor": factor,
        "policy_loss": -reached.surrogate,
        "entropy": jnp.mean(estimates.policy(new).entropy()),
    }
    return unravel(new), metrics


def natural_step(region: Region, config: TrustRegionConfig) -> jax.Array:
    """The step `[n]` along the natural gradient to the boundary of the trust region; 0 where the gradient is.

    x = sqrt(2 radius / g^T F^-1 g) F^-1 g
    """
    direction = trust_region.conjugate_gradient(region.product, region.gradient, config.cg_iterations)
    length = jnp.vdot(direction, region.product(direction))
    return (
        jnp.where(length > 0.0, jnp.sqrt(2.0 * region.radius / jnp.where(length > 0.0, length, 1.0)), 0.0) * direction
    )


def _no_loss(*_: Any) -> jax.Array:
    raise AssertionError("value functions are trained without the policy")
