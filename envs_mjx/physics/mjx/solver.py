"""MJX made to follow MuJoCo C more closely: colliders for boxes and cylinders, and a solver that finishes in float32.

In float64 MJX with these colliders gives the velocities of MuJoCo C to 1e-14. In float32 its Newton solver stops early:
its criterion is the cost, whose remaining differences are below rounding while the acceleration is still off by about
the square root of the machine precision (0.04 was measured in a velocity after one step of 4 ms). The gradient still
distinguishes such points. So a few full Newton steps follow, and the point with the least Newton decrement is the
result.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from envs_mjx.physics.mjx.collision import box, floor, mpr
from envs_mjx.physics.mjx.internals import check_release, collision_driver, mjx, solver

COLLIDERS = box.COLLIDERS | floor.COLLIDERS | mpr.COLLIDERS
"""Entries of MJX's table of colliders."""

FINISHING_STEPS = 2
"""Newton steps after the solver. One is nearly always enough; a contact that opens or closes needs the second."""

_solve = solver.solve
_lock = threading.RLock()


def solve(m: mjx.Model, d: mjx.Data) -> Any:
    """Constraint forces and accelerations: MJX's solver, then the finishing steps (in float32)."""
    d = _solve(m, d)
    data: Any = d._impl
    if d.qacc.dtype == jnp.float64:
        return d

    def step(carry, _):
        qacc, best = carry
        at = solver.Context.create(m, d.replace(qacc=qacc))
        left = jnp.abs(jnp.dot(at.grad, at.Mgrad))  # twice the gain predicted by the quadratic model
        here = (left, qacc, at.qfrc_constraint, at.efc_force)
        best = jax.tree.map(lambda new, old: jnp.where(left < best[0], new, old), here, best)
        return (qacc - at.Mgrad, best), None

    start = (jnp.full((), jnp.inf, d.qacc.dtype), d.qacc, d.qfrc_constraint, jnp.zeros_like(data.efc_D))
    (_, (_, qacc, qfrc, force)), _ = jax.lax.scan(step, (d.qacc, start), None, length=1 + FINISHING_STEPS)
    return d.tree_replace({"qacc": qacc, "qfrc_constraint": qfrc, "_impl.efc_force": force})


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Install these colliders and this solver in MJX while models are put and programs are traced.

    MJX looks both up in its modules, which are restored at the end of the block. The block may be nested, and one
    thread at a time is inside.

    Raises:
        RuntimeError: if the installed release of MJX lacks the parts that are replaced.
    """
    check_release()
    table = collision_driver._COLLISION_FUNC
    with _lock:
        was, solved = dict(table), solver.solve
        table.update(COLLIDERS)
        solver.solve = solve
        try:
            yield
        finally:
            table.clear()
            table.update(was)
            solver.solve = solved
