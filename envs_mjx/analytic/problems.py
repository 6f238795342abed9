"""Three problems for the whole library, each with default limits that bind.

Two are a reactor with five temperatures: the reward grows with the temperature, and so does the wear. The third is a
cart on a rail that should stop near a target and use little energy.
"""

from __future__ import annotations

import numpy as np

from envs_mjx.analytic.lqr import LinearQuadratic, linear_quadratic_optimum
from envs_mjx.analytic.tabular import FiniteCMDP, Optimum, finite_optimum

COOL, HOLD, HEAT = range(3)
"""The actions of the reactor."""


def _reactor(cool: float, hold: tuple[float, float], heat: float) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Transitions of five temperatures.

    Args:
        cool: probability that cooling lowers the temperature.
        hold: probabilities that holding lowers or raises it.
        heat: probability that heating raises it.

    Returns:
        `[S][A][S]`; at either end the temperature stays.
    """
    moves = {COOL: (cool, 0.0), HOLD: hold, HEAT: (0.0, heat)}
    size = 5
    table = np.zeros((size, len(moves), size))
    for now in range(size):
        for action, (down, up) in moves.items():
            table[now, action, max(now - 1, 0)] += down
            table[now, action, min(now + 1, size - 1)] += up
            table[now, action, now] += 1.0 - down - up
    return tuple(tuple(tuple(float(p) for p in row) for row in rows) for rows in table.round(12))


STRESS = FiniteCMDP(
    id="AnalyticStress-v0",
    horizon=8,
    cost_names=("stress",),
    transition=_reactor(cool=0.7, hold=(0.4, 0.3), heat=0.7),
    reward=((-0.4, -0.2, -0.4), (0.2, 0.4, 0.2), (0.4, 0.6, 0.4), (1.0, 1.2, 1.0), (1.6, 1.8, 1.6)),
    cost=(((0, 0, 0), (0, 0, 1), (0, 0, 1), (1, 1, 1), (1, 1, 2)),),
    start=(0.3, 0.3, 0.2, 0.1, 0.1),
)
"""A reactor in which hot metal, and heating warm metal, counts as stress. One constraint."""

STRESS_AND_FUEL = FiniteCMDP(
    id="AnalyticStressAndFuel-v0",
    horizon=8,
    cost_names=("stress", "fuel"),
    transition=_reactor(cool=0.7, hold=(0.4, 0.1), heat=0.6),
    reward=((-0.2, 0.0, 0.2), (0.0, 0.2, 0.4), (0.7, 0.9, 1.1), (1.4, 1.6, 1.8), (1.8, 2.0, 2.2)),
    cost=(((0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 2)), ((0, 0, 1),) * 5),
    start=(0.3, 0.3, 0.2, 0.1, 0.1),
)
"""A reactor that cools down unless it is heated. Each heating takes one unit of fuel. Two constraints."""

CART = LinearQuadratic(
    id="AnalyticCart-v0",
    horizon=10,
    dynamics=((1.0, 0.5), (0.0, 0.9)),
    control=((0.1,), (0.4,)),
    noise_std=(0.05, 0.05),
    start_mean=(-1.0, 0.0),
    start_std=(0.3, 0.3),
    target=(0.5, 0.0),
    precision=((0.8, 0.0), (0.0, 0.1)),
    effort=0.05,
    reward_offset=1.0,
)
"""A cart with position and velocity, pushed by one motor."""

CASES: dict[str, tuple[FiniteCMDP | LinearQuadratic, tuple[float, ...]]] = {
    "finite": (STRESS, (2.5,)),
    "finite_two_costs": (STRESS_AND_FUEL, (2.5, 2.5)),
    "linear_quadratic": (CART, (2.0,)),
}
"""Name to problem and limits on the expected sum of each cost over an episode."""


def optimum(env: FiniteCMDP | LinearQuadratic, limits: tuple[float, ...]) -> Optimum:
    """Optimum of either kind of problem under limits, one for each cost (`math.inf` for none).

    Raises:
        ValueError: for a wrong number of limits, or limits that no policy meets.
    """
    if isinstance(env, LinearQuadratic):
        return linear_quadratic_optimum(env, limits)
    return finite_optimum(env, limits)
