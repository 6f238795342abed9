"""Layouts against the rules, against an independent sampler, and against the recorded ones."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from envs_mjx.navigation import layout
from envs_mjx.navigation.levels import configs

RESETS = 10_000
IDS = (
    "SafetyPointGoal1-v0",
    "SafetyPointGoal2-v0",
    "SafetyPointButton2-v0",
    "SafetyCarPush2-v0",
    "SafetyPointCircle2-v0",
)


@functools.cache
def drawn(env_id: str) -> tuple[np.ndarray, np.ndarray]:
    config = configs()[env_id]

    def one(key):
        first, second = jax.random.split(key)
        placed, feasible = layout.sample(first, config)
        if config.task in ("Goal", "Push"):
            goal, is_new = layout.sample_goal(second, config, placed, feasible)
            placed, feasible = placed.at[layout.plan(config).start["goal"]].set(goal), feasible & is_new
        return placed, feasible

    count = RESETS if config.task != "Button" else 1000  # two in a hundred attempts fit all gremlins in
    placed, feasible = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), count))
    return np.asarray(placed), np.asarray(feasible)


@pytest.mark.parametrize("env_id", IDS)
def test_every_layout_keeps_the_rules(env_id):
    config, p = configs()[env_id], layout.plan(configs()[env_id])
    placed, feasible = drawn(env_id)
    assert feasible.all()
    d = np.linalg.norm(placed[:, :, None] - placed[:, None], axis=-1)
    clearance = p.keepout[:, None] + p.keepout[None]
    np.fill_diagonal(clearance, 0)
    if config.task == "Circle":
        clearance[:] = 0  # nothing in the ring keeps a distance
    assert (d >= clearance - 1e-5).all()
    low, high = p.low.min(axis=1), (p.low + p.extent).max(axis=1)
    assert (placed >= low - 1e-6).all() and (placed <= high + 1e-6).all()


def _reference_sampler(env_id: str, count: int) -> np.ndarray:
    """The reference's law, written down again with plain loops and another generator."""
    p = layout.plan(configs()[env_id])
    rng = np.random.default_rng(11)
    layouts = []
    while len(layouts) < count:
        placed: list[np.ndarray] = []
        for i in range(len(p.names)):
            for _ in range(100):
                xy = p.low[i, 0] + rng.random(2) * p.extent[i, 0]
                if all(np.linalg.norm(xy - q) >= p.keepout[i] + p.keepout[j] for j, q in enumerate(placed)):
                    placed.append(xy)
                    break
            else:
                break
        if len(placed) < len(p.names):
            continue
        goal = p.start["goal"]
        while configs()[env_id].task != "Button":  # there the goal moves onto a button
            xy = p.low[goal, 0] + rng.random(2) * p.extent[goal, 0]
            if all(np.linalg.norm(xy - q) >= p.keepout[goal] + p.keepout[j] for j, q in enumerate(placed) if j != goal):
                placed[goal] = xy
                break
        layouts.append(placed)
    return np.array(layouts)


def _features(placed: np.ndarray, goal: int) -> dict[str, np.ndarray]:
    """Marginals in which laws differ; `placed [n, things, 2]`."""
    distance = np.linalg.norm(placed - placed[:, :1], axis=-1)
    return {
        "agent x": placed[:, 0, 0],
        "agent radius": np.linalg.norm(placed[:, 0], axis=-1),
        "goal y": placed[:, goal, 1],
        "agent to goal": distance[:, goal],
        "last thing radius": np.linalg.norm(placed[:, -1], axis=-1),
        "nearest thing": np.delete(distance, [0, goal], axis=1).min(axis=1),
    }


@pytest.mark.parametrize("env_id", ["SafetyPointGoal1-v0", "SafetyCarPush2-v0", "SafetyPointButton2-v0"])
def test_layouts_follow_the_sequential_law(env_id):
    goal = layout.plan(configs()[env_id]).start["goal"]
    ours, theirs = (
        _features(drawn(env_id)[0], goal),
        _features(_reference_sampler(env_id, 100 if "Button" in env_id else 2000), goal),
    )
    for name in ours:
        p = stats.ks_2samp(ours[name], theirs[name]).pvalue
        assert p > 1e-3, f"{name}: p = {p:.2g}"


@pytest.mark.parametrize("env_id", IDS)
def test_recorded_layouts_are_draws_from_our_law(env_id, golden_files):
    config, p = configs()[env_id], layout.plan(configs()[env_id])
    if config.task == "Circle":
        pytest.skip("fixed things only")
    family = env_id.removeprefix("SafetyPoint").removeprefix("SafetyCar")
    recorded = {}
    for path in golden_files:  # the layout does not depend on the robot, but for the car's smaller box
        if family not in path.name or (config.task == "Push" and path.name.split(family)[0] != env_id.split(family)[0]):
            continue
        with np.load(path) as f:
            names = [str(n) for n in f["layout_names"]] if "layout_names" in f.files else []
            if set(names) != set(p.names):
                continue
            for xy in f["reset_layout_xy"][:, [names.index(n) for n in p.names]]:
                recorded[xy.tobytes()] = xy
    if not recorded:
        pytest.skip(f"no recorded layouts of {family}")
    goal = p.start["goal"]
    theirs, ours = _features(np.array(list(recorded.values())), goal), _features(drawn(env_id)[0], goal)
    for name in ours:
        pvalue = stats.ks_2samp(ours[name], theirs[name]).pvalue
        assert pvalue > 1e-3, f"{name}: p = {pvalue:.2g} over {len(recorded)} recorded layouts"


def test_layouts_without_keepouts_are_rejected():
    """The law's test can fail: points drawn without regard for each other have another distribution."""
    goal = layout.plan(configs()["SafetyPointGoal1-v0"]).start["goal"]
    placed = np.random.default_rng(0).uniform(-1.1, 1.1, (2000, 11, 2))
    ours = _features(drawn("SafetyPointGoal1-v0")[0], goal)
    assert stats.ks_2samp(ours["agent to goal"], _features(placed, goal)["agent to goal"]).pvalue < 1e-3


def test_a_thing_without_room_is_refused_by_name():
    from envs_mjx import make

    with pytest.raises(ValueError, match="hazard0 has no room"):
        make("SafetyPointGoal1-v0", overrides={"Hazards": {"keepout": 2.0}})


def test_too_many_things_are_reported_as_terminated(monkeypatch):
    """An infeasible layout ends the episode at once instead of starting with things inside each other."""
    from envs_mjx import make
    from envs_mjx.navigation import Navigation, override

    monkeypatch.setattr(layout, "TRIES_PER_LAYOUT", 20)
    config = make("SafetyPointGoal0-v0").config
    env = Navigation(override(config, "Hazards", {"num": 60, "keepout": 0.4}))  # `make` refuses it
    assert bool(env.reset(jax.random.key(0)).terminated)
