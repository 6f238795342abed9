"""Small CMDPs whose constrained optimum is known exactly: oracles for constrained algorithms.

Every problem terminates after a fixed number of steps and has the time in its observation, so that undiscounted sums
over an episode are the exact objective. `CASES` lists the problems and their limits, and `optimum` solves them.
Methods that solve a modified problem have their own optima: `early_termination_optimum`,
`saute_optimum`, `penalty_optimum` and `barrier_optimum`.
"""

from envs_mjx.analytic.lqr import (
    LinearPolicy,
    LinearQuadratic,
    evaluate_linear,
    lagrangian_policy,
    linear_quadratic_optimum,
)
from envs_mjx.analytic.modified_objectives import (
    MemoryOptimum,
    MemoryPolicy,
    barrier_optimum,
    early_termination_optimum,
    penalty_optimum,
    saute_optimum,
)
from envs_mjx.analytic.problems import CART, CASES, STRESS, STRESS_AND_FUEL, optimum
from envs_mjx.analytic.tabular import FiniteCMDP, Optimum, Tables, evaluate, finite_optimum, least_cost, tables

__all__ = [
    "CART",
    "CASES",
    "STRESS",
    "STRESS_AND_FUEL",
    "FiniteCMDP",
    "LinearPolicy",
    "LinearQuadratic",
    "MemoryOptimum",
    "MemoryPolicy",
    "Optimum",
    "Tables",
    "barrier_optimum",
    "early_termination_optimum",
    "evaluate",
    "evaluate_linear",
    "finite_optimum",
    "lagrangian_policy",
    "least_cost",
    "linear_quadratic_optimum",
    "optimum",
    "penalty_optimum",
    "saute_optimum",
    "tables",
]
