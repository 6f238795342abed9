"""MuJoCo XLA against recordings of the reference and against MuJoCo C. Each world takes long to compile."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_mjx import make
from tests.parity import replay


def _check(paths, reward=1e-5):
    longest = max(len(replay.load(p).action) for p in paths)
    steps = wrong = 0
    for path in paths:
        env = replay.environment(path, "mjx")
        errors = replay.compare(path, env, replay.replay(path, env, x64=False, pad_to=longest))
        settled = errors.settled
        steps, wrong = steps + settled.sum(), wrong + errors.cost[settled].sum()
        assert np.mean(errors.reward[settled] <= reward) >= 0.995, path.name
        assert np.mean(errors.lidar[settled] <= 1e-3) >= 0.995, path.name
    assert wrong <= 0.001 * steps


def test_mjx_steps_equal_the_reference(golden_files):
    paths = [p for p in golden_files if replay.env_id(p) == "SafetyPointGoal1-v0"]
    if not paths:
        pytest.skip("no recordings of SafetyPointGoal1-v0")
    _check(paths)


# Run pays 60 for a metre, so the promised 1e-5 is below one rounding of a float32 position: a strict xfail.
_RUN = "SafetyPointRun0-v0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "reward"),
    [(f"SafetyPoint{t}-v0", 1e-5) for t in ("Goal0", "Goal2", "Button1", "Button2", "Push1", "Circle1", "Circle2")]
    + [(f"SafetyCar{t}-v0", 1e-5) for t in ("Goal1", "Goal2", "Button1", "Push1")]
    + [(_RUN, 5e-4), pytest.param(_RUN, 1e-5, marks=pytest.mark.xfail(strict=True))],
)
def test_mjx_steps_of_every_kind_equal_the_reference(env_id, reward, golden_files):
    paths = [p for p in golden_files if replay.env_id(p) == env_id]
    if not paths:
        pytest.skip(f"no recordings of {env_id}")
    _check(paths, reward)


def test_large_batches_are_computed_in_slices_with_the_same_result():
    """A batch beyond the slice size gives what its members give alone, and the program is compiled once."""
    env = make("SafetyPointCircle1-v0", physics="mjx")
    states = jax.vmap(make("SafetyPointCircle1-v0").reset)(jax.random.split(jax.random.key(0), 300))
    actions = jax.random.uniform(jax.random.key(1), (300, 2), minval=-1.0, maxval=1.0)
    step = jax.jit(jax.vmap(env.step))
    together = step(states, actions)
    step(together, actions)
    assert step._cache_size() == 1  # pyright: ignore[reportFunctionMemberAccess]
    last = jax.tree.map(lambda x: x[-1:], (states, actions))
    alone = jax.jit(jax.vmap(env.step))(*last)
    np.testing.assert_allclose(together.obs[-1], alone.obs[0], atol=1e-5)
    assert bool(jnp.all(jnp.isfinite(together.obs)))
