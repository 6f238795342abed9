"""The finite problems with their limits, and limits that never bind."""

from __future__ import annotations

import math

from envs_mjx.analytic import CASES, FiniteCMDP

FINITE = [(env, limits) for env, limits in CASES.values() if isinstance(env, FiniteCMDP)]
(LIMIT,) = CASES["finite"][1]


def unlimited(env):
    return (math.inf,) * env.spec.num_costs
