"""Layouts: rejection sampling with the reference's law, as array arithmetic.

Things are placed one after the other. Each draws up to 100 points from its own rectangle (shrunk by its keepout) and
takes the first that keeps the sum of both keepouts from everything already placed; if there is none, the whole layout
starts again. (Safety-Gymnasium 1.2, `utils/random_generator.py`; the law is equal, the random numbers are not.)
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from envs_mjx.navigation.config import Config

TRIES_PER_THING = 100
TRIES_PER_LAYOUT = 10_000
TRIES_PER_GOAL = 10_000
# Keepout discs over the arena's area above which several attempts run at once: 98 % fail in the Button tasks, at 0.41
# and 0.43; none elsewhere, at 0.26 and less.
CROWDED = 0.35
ATTEMPTS_IF_CROWDED = 32
# Candidates drawn at once: most things fit at one of the first few, so small batches waste the fewest numbers.
CANDIDATES = 20


@dataclasses.dataclass(frozen=True)
class LayoutPlan:
    """The sampling problem of one environment as constant arrays.

    Attributes:
        names: thing names in drawing order; the first is the agent.
        start: class name to the index of its first thing.
        keepout: `[things]` clearance radii.
        low: `[things, rectangles, 2]` lower corners, already shrunk by the keepout.
        extent: `[things, rectangles, 2]` side lengths.
        area: `[things, rectangles]` cumulative probability of each rectangle.
        crowding: area of all keepout discs over the area of the extents.
    """

    names: tuple[str, ...]
    start: dict[str, int]
    keepout: np.ndarray
    low: np.ndarray
    extent: np.ndarray
    area: np.ndarray
    crowding: float


@functools.cache
def plan(config: Config) -> LayoutPlan:
    """Build the sampling problem of `config`.

    Raises:
        ValueError: if a thing has no room at all.
    """
    names, start, keepout, rectangles = ["agent"], {"agent": 0}, [config.agent_keepout], []
    if config.agent_locations:
        rectangles.append([(*config.agent_locations[0], *config.agent_locations[0])])
    else:
        rectangles.append(_shrink("agent", config.agent_placements or (config.extents,), config.agent_keepout))
    for things in config.objects:
        start[things.name] = len(names)
        for i in range(things.num):
            names.append(things.body_name(i))
            keepout.append(things.keepout)
            if i < len(things.locations):
                x, y = things.locations[i]
                rectangles.append([(x, y, x, y)])
            else:
                rectangles.append(_shrink(names[-1], things.placements or (config.extents,), things.keepout))
    width = max(len(r) for r in rectangles)
    low, extent, area = np.zeros((len(names), width, 2)), np.zeros((len(names), width, 2)), np.ones((len(names), width))
    for i, rects in enumerate(rectangles):
        r = np.array(rects, dtype=np.float64)
        low[i, : len(r)], extent[i, : len(r)] = r[:, :2], r[:, 2:] - r[:, :2]
        a = np.prod(r[:, 2:] - r[:, :2], axis=1)
        area[i, : len(r)] = np.cumsum(a / a.sum()) if a.sum() > 0 else 1.0
    x0, y0, x1, y1 = config.extents
    crowding = float(np.sum(np.pi * np.array(keepout) ** 2) / ((x1 - x0) * (y1 - y0)))
    return LayoutPlan(tuple(names), start, np.array(keepout), low, extent, area, crowding)


def _shrink(name, rectangles, keepout):
    shrunk = [(x0 + keepout, y0 + keepout, x1 - keepout, y1 - keepout) for x0, y0, x1, y1 in rectangles]
    roomy = [r for r in shrunk if r[0] <= r[2] and r[1] <= r[3]]
    if not roomy:
        raise ValueError(f"{name} has no room: keepout {keepout} m leaves nothing of {tuple(rectangles)}")
    return roomy


def _candidates(key: jax.Array, low: jax.Array, extent: jax.Array, area: jax.Array, count: int) -> jax.Array:
    """`[count, 2]` uniform points from one thing's rectangles, `low [rectangles, 2]`."""
    if low.shape[0] == 1:
        return low[0] + extent[0] * jax.random.uniform(key, (count, 2), low.dtype)
    u = jax.random.uniform(key, (count, 3), low.dtype)
    which = jnp.sum(u[:, :1] >= area[None, :], axis=1).clip(0, low.shape[0] - 1)
    return low[which] + extent[which] * u[:, 1:]


def _first_free(points, others, clearance):
    """First of `points [count, 2]` that keeps `clearance [n]` from all `others [n, 2]`, and whether there is one."""
    dx, dy = points[:, :1] - others[None, :, 0], points[:, 1:] - others[None, :, 1]
    free = jnp.all(dx * dx + dy * dy >= clearance[None, :] ** 2, axis=1)
    return points[jnp.argmax(free)], jnp.any(free)


def sample(key: jax.Array, config: Config) -> tuple[jax.Array, jax.Array]:
    """Draw a layout.

    Args:
        key: typed PRNG key.
        config: the environment.

    Returns:
        `[things, 2]` positions in the order of `plan(config).names`, and whether the layout is feasible.
    """
    p = plan(config)
    dtype = jnp.zeros(()).dtype
    arrays = tuple(jnp.asarray(a, dtype) for a in (p.low, p.extent, p.area, p.keepout))
    # If hardly any attempt succeeds, many run side by side to their ends and the first success counts: the same law as
    # one after the other, with loops of a hundredth of the length.
    together = ATTEMPTS_IF_CROWDED if p.crowding > CROWDED else 1

    def attempts(loop):
        key, _, _, tried = loop
        key, sub = jax.random.split(key)
        placed, feasible = jax.vmap(lambda k: _attempt(k, *arrays))(jax.random.split(sub, together))
        return key, placed[jnp.argmax(feasible)], jnp.any(feasible), tried + together

    def unfinished(loop):
        _, _, feasible, tried = loop
        return ~feasible & (tried < TRIES_PER_LAYOUT)

    start = (key, jnp.zeros((len(p.names), 2), dtype), jnp.bool_(False), jnp.int32(0))
    _, placed, feasible, _ = jax.lax.while_loop(unfinished, attempts, start)
    return placed, feasible


PROBES = 4


def check_feasible(config: Config) -> None:
    """Draw a few layouts, and refuse an environment for which none of them fits.

    Raises:
        ValueError: with the counts, sizes and extents.
    """
    keys = jax.random.split(jax.random.key(0), PROBES)
    draw = jax.jit(lambda key: sample(key, config)[1])
    if any(bool(draw(key)) for key in keys):
        return
    things = [f"agent (keepout {config.agent_keepout:g} m)"]
    things += [f"{o.num} {o.name} (keepout {o.keepout:g} m)" for o in config.objects if o.num]
    raise ValueError(
        f"{config.id}: the layout must have room for every thing, got {', '.join(things)} within extents "
        f"{tuple(config.extents)} in m, of which the keepout discs cover {plan(config).crowding:.0%}. "
        f"No layout fits in {PROBES} draws of {TRIES_PER_LAYOUT:,} attempts. Use fewer or smaller things, smaller "
        "keepouts, or larger extents (placements_conf.extents)"
    )


def _attempt(key, low, extent, area, keepout):
    """Place thing after thing; the positions `[things, 2]`, and whether every thing has one.

    One loop draws for whichever thing is next, instead of a loop over things around a loop over tries. Each entry of a
    batch then continues at its own pace, and the batch takes as long as its slowest entry instead of the sum over
    things of the slowest try.
    """
    count = keepout.shape[0]
    things = jnp.arange(count)

    def draw(loop):
        key, placed, i, tries, _ = loop
        key, sub = jax.random.split(key)
        # Things that are not placed yet reject nothing: no squared distance is below zero.
        clearance = jnp.where(things < i, keepout[i] + keepout, 0.0)
        point, is_free = _first_free(_candidates(sub, low[i], extent[i], area[i], CANDIDATES), placed, clearance)
        tries = tries + CANDIDATES
        placed = jnp.where(is_free & (things == i)[:, None], point, placed)
        failed = ~is_free & (tries >= TRIES_PER_THING)
        return key, placed, i + is_free, jnp.where(is_free, 0, tries), failed

    def unfinished(loop):
        _, _, i, _, failed = loop
        return (i < count) & ~failed

    start = (key, jnp.zeros((count, 2), low.dtype), jnp.int32(0), jnp.int32(0), jnp.bool_(False))
    _, placed, _, _, failed = jax.lax.while_loop(unfinished, draw, start)
    return placed, ~failed


def sample_goal(key: jax.Array, config: Config, current: jax.Array, enabled: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw a new goal against everything else in the arena, the agent included.

    Args:
        key: typed PRNG key.
        config: the environment; it has a goal.
        current: `[things, 2]` positions now.
        enabled: `[]` bool; False draws nothing (under `vmap`, nothing is computed unless some entry is True).

    Returns:
        `[2]` the new goal (the old one if none was drawn or none fits), and whether there is a new one.
    """
    p = plan(config)
    dtype = current.dtype
    goal = p.start["goal"]
    low, extent, area = (jnp.asarray(a[goal], dtype) for a in (p.low, p.extent, p.area))
    others = np.arange(len(p.names)) != goal
    clearance = jnp.asarray(np.where(others, p.keepout + p.keepout[goal], 0.0), dtype)

    def draw(loop):
        key, tries, _, _ = loop
        key, sub = jax.random.split(key)
        point, is_free = _first_free(_candidates(sub, low, extent, area, CANDIDATES), current, clearance)
        return key, tries + CANDIDATES, point, is_free

    def searching(loop):
        _, tries, _, is_free = loop
        return enabled & ~is_free & (tries < TRIES_PER_GOAL)

    _, _, point, is_free = jax.lax.while_loop(searching, draw, (key, jnp.int32(0), current[goal], jnp.bool_(False)))
    return jnp.where(is_free, point, current[goal]), is_free
