"""`jsafe optimum`: train every on-policy algorithm where the optimum is known exactly, and say how near it comes.

Three small problems (`envs_mjx.analytic`), five seeds each. What an algorithm reports is compared with the optimum of
what it claims to solve: the constrained optimum for those that take a limit, the unconstrained one for those that do
not look at costs, and the optimum of the rewritten process for early termination and Saute.

Figures are means over the second half of training, the policy still exploring: primal-dual methods circle around their
solution, and what the theory promises is the average. A row holds where every seed's return is within 5 % of the
optimal one and every cost within 5 % of its limit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.cli.algorithm_names import resolve
from experiments.cli.argument_types import Count, File, Whole
from experiments.cli.devices import configure
from experiments.cli.errors import CommandError, unknown
from experiments.cli.format import seconds_text
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note

SEEDS = 5
NEAR = 0.05
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
WHOLE = 0
"""A minibatch of all samples."""


class Claim(NamedTuple):
    """What an algorithm claims to reach.

    Attributes:
        objective: what it maximises.
        costs: lowest and highest cost, for each constraint, that fit the claim.
        what: the problem it is the optimum of.
    """

    objective: float
    costs: tuple[tuple[float, float], ...]
    what: str


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

Multipliers follow the plain gradient, which settles where Adam's steps of equal length go on circling. Steps are
small where nothing but the size of the step keeps a policy random: one that has become deterministic at a wrong place
tells trust-region methods of nothing better, and plain policy gradients get more entropy. For the same reason the
Fisher matrix is damped less than published: where an action has become rare its curvature is small, and damping
decides whether it can come back. The penalty of P3O is paid on whole batches, because the mean over a small minibatch
violates a limit by chance, and pays for it.
"""


@flags
class OptimumRequest:
    """Settings of `jsafe optimum`.

    Attributes:
        names: Algorithms to measure (default: all).
        case: Problem to measure on; may be repeated (default: all).
        iterations: Training iterations.
        seed: Root seed.
        out: File for the table, as Markdown.
    """

    names: tuple[str, ...] = positional(default=())
    case: tuple[str, ...] = ()
    iterations: Count = 400
    seed: Whole = 0
    out: File | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: OptimumRequest) -> Result:
    """Run `jsafe optimum [NAME ...]`."""
    configure(request.machine.platform, request.machine.devices)
    import algorithms
    from envs_mjx import analytic

    names = [resolve(name) for name in request.names] or list(algorithms.names())
    cases = list(request.case) or list(analytic.CASES)
    for case in cases:
        if case not in analytic.CASES:
            raise unknown("case", case, list(analytic.CASES))
    if request.iterations < 2:
        raise CommandError("iterations must be at least 2: figures are means over the second half")
    if request.out and not request.out.parent.is_dir():
        raise CommandError(f"cannot write {request.out}: there is no folder {request.out.parent}")
    rows: list[dict[str, Any]] = []
    for name in names:
        for case in cases:
            rows.append(row := measure(name, case, request.iterations, request.seed))
            note(f"{name} on {case}: {row['verdict']}" + (f", {row['seconds']:.0f} s" if "seconds" in row else ""))
            if request.out:
                request.out.write_text(as_table(rows) + "\n")
    counts = ", ".join(f"{sum(r['verdict'] == v for r in rows)} {v}" for v in ("holds", "misses", "not claimed"))
    took = seconds_text(sum(row.get("seconds", 0.0) for row in rows))
    text = f"{as_table(rows)}\n\n{counts}; {SEEDS} seeds of {request.iterations} iterations each, {took}"
    text += f"; written to {request.out}" if request.out else ""
    return Result({"rows": rows, "seeds": SEEDS, "iterations": request.iterations, "settings": _plain(BASE)}, text)


def _case(name: str) -> tuple[Any, Sequence[float]]:
    from envs_mjx import analytic

    env, limits = analytic.CASES[name]
    return env, list(limits)


def settings_for(name: str, case: str) -> dict[str, Any]:
    """The hyper-parameters of an algorithm on a case, beside those of its `paper` preset."""
    import algorithms

    env, limits = _case(case)
    facts = algorithms.describe(name)
    known = {option["name"] for option in facts["options"]}
    chosen = dict(BASE)
    parts = [part for axis in ("transform", "constraint", "update") if (part := facts["parts"][axis])]
    for key in (case, *parts, *(f"{part}@{case}" for part in parts)):
        chosen |= SETTINGS.get(key, {})
    horizon = env.spec.episode_length
    chosen |= {"steps_per_iteration": ENVS * horizon, "total_steps": ENVS * horizon * ITERATIONS}
    several = len(limits) > 1 and facts["parts"]["constraint"] and name != "pcpo"
    budget = BUDGETS.get(case, limits[0])
    chosen |= {"cost_limit": tuple(limits) if several else limits[0], "safety_budget": budget}
    if facts["parts"]["transform"]:
        chosen["cost_limit"] = budget
    chosen["minibatch_size"] = chosen["minibatch_size"] or chosen["steps_per_iteration"]
    if env.spec.num_actions is not None:
        del chosen["initial_log_std"]
    return {key: value for key, value in chosen.items() if key in known}


BUDGETS = {"finite_two_costs": 4.5}
"""Budgets of methods that know one constraint only, on the sum of two costs."""


def claim_of(name: str, case: str) -> Claim | None:
    """What an algorithm claims to reach on a case; None where it claims nothing or the answer is not known."""
    import algorithms
    from envs_mjx import analytic

    env, limits = _case(case)
    parts = algorithms.describe(name)["parts"]
    settings = settings_for(name, case)
    if parts["transform"]:
        if not isinstance(env, analytic.FiniteCMDP):
            return None
        if parts["transform"] == "early_termination":
            found = analytic.early_termination_optimum(env, settings["cost_limit"])
            return Claim(found.objective, (found.cost_range,), "process that ends at the limit")
        found = analytic.saute_optimum(env, settings["safety_budget"], settings.get("unsafe_reward", -1.0), 1.0)
        return Claim(found.objective, (found.cost_range,), "process with a budget")
    if not parts["constraint"]:
        free = analytic.optimum(env, (float("inf"),) * len(limits))
        return Claim(free.return_, (), "unconstrained problem")
    if name == "pcpo" and len(limits) > 1:
        return None
    best = analytic.optimum(env, tuple(limits))
    return Claim(best.return_, tuple((limit, limit) for limit in limits), "constrained problem")


def measure(name: str, case: str, iterations: int, seed: int) -> dict[str, Any]:
    """Train five seeds and compare with the claim."""
    import jax

    import algorithms
    import jsafe

    row: dict[str, Any] = {"algorithm": name, "case": case}
    claim = claim_of(name, case)
    if claim is None:
        return {**row, "verdict": "not claimed"}
    env, limits = _case(case)
    start = time.perf_counter()
    trainer = algorithms.make(name, env, **settings_for(name, case))
    keys = jax.random.split(jax.random.key(seed), SEEDS)
    curves = jax.device_get(jax.jit(jax.vmap(lambda key: jsafe.run(trainer, key, iterations)[1]))(keys))
    late = {key: np.asarray(values)[:, iterations // 2 :].mean(axis=1) for key, values in curves.items()}
    objective = late["return"]
    if "step_reward" in curves:  # of a rewritten process: what it maximises is not what the environment pays
        steps = trainer.info.units_per_step
        rewards, episodes = (curves[key][:, iterations // 2 :].sum(axis=1) for key in ("step_reward", "episodes"))
        objective = rewards * steps / episodes
    several = [late[f"cost_{c}"] for c in env.spec.cost_names if f"cost_{c}" in late]
    costs = (several or [late["cost"]]) if claim.costs else []
    off = objective / claim.objective - 1.0
    cost_off = [_outside(cost, *bounds) for cost, bounds in zip(costs, claim.costs, strict=True)]
    worst = max(float(np.max(np.abs(x))) for x in (off, *cost_off))
    return {
        **row,
        "claim": claim.what,
        "optimum": claim.objective,
        "limits": [list(bounds) for bounds in claim.costs],
        "return": objective.tolist(),
        "cost": [cost.tolist() for cost in costs],
        "return_error": off.tolist(),
        "cost_error": [x.tolist() for x in cost_off],
        "worst": worst,
        "verdict": "holds" if worst <= NEAR else "misses",
        "env_steps": int(curves["env_steps"][0, -1]),
        "skipped": int(curves["skipped"][:, -1].sum()),
        "seconds": time.perf_counter() - start,
    }


def _outside(cost: np.ndarray, low: float, high: float) -> np.ndarray:
    """How far costs lie above `high` (positive) or below `low` (negative), as a share of it; 0 in between."""
    return np.where(cost > high, cost / high - 1.0, np.where(cost < low, cost / low - 1.0, 0.0))


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    header = ["algorithm", "case", "optimum", "return", "off by", "cost", "allowed", "off by", "verdict"]
    lines = []
    for row in rows:
        if "optimum" not in row:
            lines.append([row["algorithm"], row["case"], *["-"] * 6, row["verdict"]])
            continue
        costs = [np.mean(cost) for cost in row["cost"]]
        allowed = [f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}" for low, high in row["limits"]]
        lines.append(
            [
                row["algorithm"],
                row["case"],
                f"{row['optimum']:.3f}",
                f"{np.mean(row['return']):.3f}",
                _range(row["return_error"]),
                ", ".join(f"{cost:.2f}" for cost in costs) or "-",
                ", ".join(allowed) or "any",
                ", ".join(_range(error) for error in row["cost_error"]) or "-",
                row["verdict"],
            ]
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines))


def _range(errors: Sequence[float]) -> str:
    return f"{100 * min(errors):+.1f} to {100 * max(errors):+.1f} %"


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
