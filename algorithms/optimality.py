"""Distance of an algorithm from the exact optimum of the problem that it claims to solve.

An algorithm with limits claims the constrained optimum, one that ignores costs the unconstrained optimum, and one that
transforms the process the optimum of the transformed process. A `Case` provides these optima, as `envs_mjx.analytic`
does for its problems.

Figures are means over the second half of training, with the exploring policy: primal-dual methods circle around their
solution, and theory promises the average. A claim holds if every seed's return is within 5 % of the optimal one and
every cost within 5 % of its limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jsafe
from algorithms import registry
from jsafe import Env

SEEDS = 5
NEAR = 0.05
"""Largest relative error of a claim that holds."""
ENVS = 256
BASE: dict[str, Any] = {
    "num_envs": ENVS,
    "discount": 1.0,
    "cost_discount": 1.0,
    "hidden_sizes": (32, 32),
    "normalize_observations": False,
    "value_learning_rate": 3e-3,
    "value_l2": 0.0,
    "passes": 10,
    "minibatch_size": 256,
    "learning_rate": 1e-3,
    "learning_rate_decay": False,
    "entropy_coefficient": 0.003,
    "initial_log_std": -0.5,
    "switch_tolerance": 0.0,
    "cg_damping": 0.01,
}
"""Settings for all: true finite horizons, so no discount; one episode of each environment in an iteration."""

ITERATIONS = 400
"""Length of training that the settings are meant for."""
WHOLE = 0
"""Size of a minibatch that stands for all samples."""


SETTINGS: dict[str, dict[str, Any]] = {
    "linear_quadratic": {"learning_rate": 3e-4, "entropy_coefficient": 0.0},
    "lagrange": {"multiplier_optimizer": "sgd", "multiplier_learning_rate": 0.1, "multiplier_max": 1e8},
    "barrier@linear_quadratic": {"barrier_max": 20.0},
    "pid": {"pid_kp": 0.1, "pid_ki": 0.01, "pid_kd": 0.0},
    "pid@linear_quadratic": {"pid_kp": 0.3, "pid_ki": 0.2},
    "trust_region": {"trust_region_radius": 0.004},
    "trust_region@finite_two_costs": {"trust_region_radius": 0.001, "multiplier_learning_rate": 0.03},
    "trust_region@linear_quadratic": {"trust_region_radius": 0.02, "multiplier_learning_rate": 0.3},
    "policy_gradient@finite": {"entropy_coefficient": 0.01},
    "natural_gradient": {"trust_region_radius": 0.002},
    "natural_gradient@finite_two_costs": {"trust_region_radius": 0.001, "multiplier_learning_rate": 0.03},
    "natural_gradient@linear_quadratic": {"trust_region_radius": 0.02, "multiplier_learning_rate": 0.3},
    "saute": {"saute_discount": 1.0},
    "simmer": {"saute_discount": 1.0, "initial_budget": 0.9, "budget_levels": 2, "budget_kp": 0.3},
    "cup": {"learning_rate": 3e-4, "target_kl": 0.0005, "multiplier_learning_rate": 0.4},
    "cup@linear_quadratic": {"learning_rate": 1e-3, "target_kl": 0.01, "multiplier_learning_rate": 0.4},
    "p3o": {"penalty_coefficient": 5.0, "passes": 40, "minibatch_size": WHOLE},
    "p3o@finite_two_costs": {"penalty_coefficient": 3.0},
    "cpo@finite_two_costs": {"trust_region_radius": 0.0005},
}
"""Settings by case, by the name of a part, or both; the latter win, and the rest is that of the `paper` preset.

Multipliers follow the plain gradient. It settles where Adam's steps of equal length keep circling. Steps are small
where only the size of the step keeps a policy random: once a policy is deterministic at a wrong place, trust-region
methods get no gradient. Plain policy gradients get more entropy for the same reason, and the Fisher matrix is
damped less than published: where an action has become rare its curvature is small, and damping decides whether it can
come back. The penalty of P3O is computed on whole batches, because the mean over a small minibatch violates a limit by
chance.
"""


BUDGETS = {"finite_two_costs": 4.5}
"""Budgets of methods with one constraint only, on the sum of two costs, by case."""


class Claim(NamedTuple):
    """Optimum that an algorithm claims to reach.

    Attributes:
        objective: maximum of its objective.
        costs: lowest and highest cost, for each constraint, that agree with the claim.
        problem: short description of the problem.
    """

    objective: float
    costs: tuple[tuple[float, float], ...]
    problem: str


class Optima(NamedTuple):
    """Exact optima of a problem.

    Attributes:
        constrained: `limits -> return` of the best policy within the limits; infinite limits bound nothing.
        early_termination: `limit -> (objective, (lowest, highest cost))` of the process that ends at the limit; None if
            it is not known.
        budget: `(budget, unsafe reward) -> (objective, (lowest, highest cost))` of the process with a budget; None if
            it is not known.
    """

    constrained: Callable[[tuple[float, ...]], float]
    early_termination: Callable[[float], tuple[float, tuple[float, float]]] | None = None
    budget: Callable[[float, float], tuple[float, tuple[float, float]]] | None = None


class Case(NamedTuple):
    """A problem with a known optimum.

    Attributes:
        name: key of `SETTINGS` and `BUDGETS`.
        env: the CMDP, of finite horizon.
        limits: one for each cost.
        optima: its exact optima.
    """

    name: str
    env: Env
    limits: tuple[float, ...]
    optima: Optima


def settings_for(name: str, case: Case) -> dict[str, Any]:
    """Hyper-parameters of an algorithm on a case, to replace those of its `paper` preset."""
    parts = registry.describe(name)["parts"]
    settings = dict(BASE)
    used = [part for axis in ("transform", "constraint", "update") if (part := parts.get(axis))]
    for key in (case.name, *used, *(f"{part}@{case.name}" for part in used)):
        settings |= SETTINGS.get(key, {})
    horizon = case.env.spec.episode_length
    settings |= {"steps_per_iteration": ENVS * horizon, "total_steps": ENVS * horizon * ITERATIONS}
    single = case.limits[0]
    several = len(case.limits) > 1 and parts.get("constraint") and name != "pcpo"
    budget = BUDGETS.get(case.name, single)
    settings |= {"cost_limit": case.limits if several else single, "safety_budget": budget}
    if parts.get("transform"):
        settings["cost_limit"] = budget
    settings["minibatch_size"] = settings["minibatch_size"] or settings["steps_per_iteration"]
    if case.env.spec.num_actions is not None:
        del settings["initial_log_std"]
    known = registry.config_class(name).names()
    return {key: value for key, value in settings.items() if key in known}


def claim_of(name: str, case: Case) -> Claim | None:
    """Optimum that an algorithm claims to reach on a case; None without a claim or without a known optimum."""
    parts = registry.describe(name)["parts"]
    settings = settings_for(name, case)
    if parts.get("transform") == "early_termination":
        if case.optima.early_termination is None:
            return None
        objective, cost_range = case.optima.early_termination(settings["cost_limit"])
        return Claim(objective, (cost_range,), "process that ends at the limit")
    if parts.get("transform"):
        if case.optima.budget is None:
            return None
        unsafe_reward = settings.get("unsafe_reward", -1.0)
        objective, cost_range = case.optima.budget(settings["safety_budget"], unsafe_reward)
        return Claim(objective, (cost_range,), "process with a budget")
    if not parts.get("constraint"):
        return Claim(case.optima.constrained((float("inf"),) * len(case.limits)), (), "unconstrained problem")
    if name == "pcpo" and len(case.limits) > 1:
        return None
    best = case.optima.constrained(case.limits)
    return Claim(best, tuple((limit, limit) for limit in case.limits), "constrained problem")


def measure(name: str, case: Case, iterations: int, seed: int) -> dict[str, Any]:
    """Train five seeds and compare them with the claim.

    Returns:
        `algorithm`, `case` and `verdict` (`holds`, `misses` or `not claimed`); for a claim also its figures, those of
        each seed and their relative errors.
    """
    row: dict[str, Any] = {"algorithm": name, "case": case.name}
    claim = claim_of(name, case)
    if claim is None:
        return {**row, "verdict": "not claimed"}
    start = time.perf_counter()
    trainer = registry.make(name, case.env, **settings_for(name, case))
    keys = jax.random.split(jax.random.key(seed), SEEDS)
    curves = jax.device_get(jax.jit(jax.vmap(lambda key: jsafe.run(trainer, key, iterations)[1]))(keys))
    late = {key: np.asarray(values)[:, iterations // 2 :].mean(axis=1) for key, values in curves.items()}
    objective = late["return"]
    if "step_reward" in curves:  # of a transformed process: it maximises other rewards than the environment reports
        rewards, episodes = (curves[key][:, iterations // 2 :].sum(axis=1) for key in ("step_reward", "episodes"))
        objective = rewards * trainer.info.units_per_step / episodes
    single_costs = [late[f"cost_{cost}"] for cost in case.env.spec.cost_names if f"cost_{cost}" in late]
    costs = (single_costs or [late["cost"]]) if claim.costs else []
    return_error = objective / claim.objective - 1.0
    cost_errors = [relative_excess(cost, *bounds) for cost, bounds in zip(costs, claim.costs, strict=True)]
    worst = max(float(np.max(np.abs(x))) for x in (return_error, *cost_errors))
    return {
        **row,
        "claim": claim.problem,
        "optimum": claim.objective,
        "limits": [list(bounds) for bounds in claim.costs],
        "return": objective.tolist(),
        "cost": [cost.tolist() for cost in costs],
        "return_error": return_error.tolist(),
        "cost_error": [x.tolist() for x in cost_errors],
        "worst": worst,
        "verdict": "holds" if worst <= NEAR else "misses",
        "env_steps": int(curves["env_steps"][0, -1]),
        "skipped": int(curves["skipped"][:, -1].sum()),
        "seconds": time.perf_counter() - start,
    }


def relative_excess(cost: np.ndarray, low: float, high: float) -> np.ndarray:
    """Relative distance of costs above `high` (positive) or below `low` (negative); 0 in between."""
    return np.where(cost > high, cost / high - 1.0, np.where(cost < low, cost / low - 1.0, 0.0))
