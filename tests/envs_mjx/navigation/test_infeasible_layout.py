"""A layout without room for every thing is refused, and never learned from."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import envs_mjx
from envs_mjx.navigation import Navigation, override


@pytest.mark.parametrize(
    "overrides",
    [
        {"Hazards": {"num": 60, "keepout": 0.4}},
        {"Vases": {"num": 40, "keepout": 0.5}},
        {"placements_conf.extents": (-0.75, -0.75, 0.75, 0.75)},
    ],
)
def test_an_environment_whose_layouts_never_fit_is_refused_with_counts_and_extents(overrides):
    with pytest.raises(ValueError, match=r"SafetyPointGoal1-v0: the layout must have room.*hazards.*extents"):
        envs_mjx.make("SafetyPointGoal1-v0", overrides=overrides)


def test_a_crowded_layout_that_fits_is_accepted():
    envs_mjx.make("SafetyPointGoal1-v0", overrides={"Hazards": {"num": 20}})


def test_a_failed_layout_stays_terminated_and_gives_nothing_finite_to_learn_from():
    config = dataclasses.replace(envs_mjx.make("SafetyPointGoal1-v0").config)
    config = override(config, "Hazards", {"num": 60, "keepout": 0.4})
    env = Navigation(config)
    state = jax.jit(env.reset)(jax.random.key(0))
    assert bool(state.terminated) and np.isnan(state.obs).all()
    after = jax.jit(env.step)(state, np.zeros(2, np.float32))
    assert bool(after.terminated) and np.isnan(after.obs).all() and np.isnan(after.reward)
