"""`jsafe.check_env`: each way to break the contract is refused by the name of its leaf."""

from __future__ import annotations

import dataclasses
import itertools

import jax.numpy as jnp
import pytest

import envs_mjx
import jsafe
from tests.support.toy_envs import Lever, PointMass

calls = itertools.count()


@dataclasses.dataclass(frozen=True)
class Broken(PointMass):
    """Replaces one field of every state after the third step, or of every result."""

    field: str = ""

    def step(self, state, action):
        after = super().step(state, action)
        old = after.reward if self.field == "reward" else after.obs
        value = {
            "reward": jnp.where(after.data["age"] > 3, jnp.nan, old),
            "obs": jnp.where(after.data["age"] > 3, jnp.inf, old),
            "data": {**after.data, "age": after.data["age"] + next(calls)},
            "cost": jnp.zeros(2),
            "metrics": {},
        }[self.field]
        return dataclasses.replace(after, **{self.field: value})


@pytest.mark.parametrize("env", [PointMass(), Lever(), envs_mjx.make("SafetyPointGoal1-v0")], ids=lambda e: e.spec.id)
def test_environments_of_the_project_pass(env: jsafe.Env):
    jsafe.check_env(env, steps=3)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("reward", "reward in step 4 of ToyPointMass-v0 must be finite, got nan"),
        ("obs", "obs in step 4 of ToyPointMass-v0 must be finite"),
        ("data", r"state.data\['age'\] in step of ToyPointMass-v0 must depend on the arguments alone"),
        ("cost", "cost in step of ToyPointMass-v0"),
        ("metrics", r"state.metrics\['bad_action'\] in step of ToyPointMass-v0 must be in every state"),
    ],
)
def test_a_broken_step_is_named(field: str, message: str):
    with pytest.raises(ValueError, match=message):
        jsafe.check_env(Broken(field=field))


def test_observations_outside_their_space_are_named():
    class Narrow(PointMass):
        @property
        def spec(self):
            return dataclasses.replace(super().spec, observation=jsafe.spaces.Box(5, low=-10.0, high=2.0))

    with pytest.raises(ValueError, match="obs in step 3 of .* must be within the bounds of its space"):
        jsafe.check_env(Narrow())


def test_an_environment_without_a_hash_is_refused():
    class Listed(PointMass):
        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(TypeError, match="Listed must be hashable, for example a frozen dataclass"):
        jsafe.check_env(Listed())
