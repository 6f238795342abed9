"""The navigation environments of Safety-Gymnasium as pure functions: `reset` and `step` over one pytree."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import mujoco
import numpy as np

from envs_mjx.navigation import layout, top_view
from envs_mjx.navigation.config import Config
from envs_mjx.navigation.lidar import lidars
from envs_mjx.navigation.mjcf import SUBSTEPS
from envs_mjx.navigation.state import Data, View
from envs_mjx.navigation.tasks import TASKS, Task
from envs_mjx.navigation.world import World
from envs_mjx.physics import Physics
from envs_mjx.physics import make as make_physics
from jsafe import spaces
from jsafe.cmdp import Spec, State


@dataclasses.dataclass(frozen=True)
class Navigation:
    """A navigation environment; make one with `envs_mjx.make`.

    Attributes:
        config: its description.
        backend: the simulator, one of `envs_mjx.BACKENDS`.
        profile: `exact` or `fast` (see `envs_mjx.physics`).
    """

    config: Config
    backend: str = "mujoco"
    profile: str = "exact"

    def __post_init__(self) -> None:
        for name in self.task.required:
            if self.config.find(name) is None:
                raise ValueError(f"{self.config.id}: the task needs {name}")

    @functools.cached_property
    def spec(self) -> Spec:
        low, high = np.array(self.mj_model.actuator_ctrlrange).T
        lidar_blocks = ((f"{o.name}_lidar", self.config.lidar.num_bins) for o in self._lidar_observed)
        blocks = (*self.world.agent.observed, *lidar_blocks)
        return Spec(
            id=self.config.id,
            observation=spaces.flat_box(dict(blocks)),
            action=spaces.Box(len(low), low=low, high=high),
            cost_names=tuple(name for things in self.config.objects for name in things.cost_names),
            episode_length=self.config.num_steps,
            control_dt=self.world.agent.timestep * SUBSTEPS,
            total_cost="any",
        )

    def reset(self, key: jax.Array) -> State:
        """Draw a fresh layout and return its first state.

        Args:
            key: typed PRNG key.

        Returns:
            The state at rest, with a complete first observation.
        """
        keys = jax.random.split(key, 5)
        placed, feasible = layout.sample(keys[0], self.config)
        yaw = jax.random.uniform(keys[1], (placed.shape[0],), placed.dtype, 0.0, 2 * jnp.pi)
        if self.config.agent_rot is not None:
            yaw = yaw.at[0].set(self.config.agent_rot)
        placed = self.task.draw_goal(keys[2], placed, feasible, self.config)
        data = self.place(placed, yaw, self.config.start_objects(keys[3]), keys[4])
        return _voided(self.state(data, terminated=~feasible), ~feasible)

    def step(self, state: State, action: jax.Array) -> State:
        """Advance by one control step of ten physics steps.

        Args:
            state: the current state.
            action: `[action_size]`; clipped to the actuators' range. An action with an entry that is not finite counts
                as zero, as in MuJoCo, and is reported in `metrics["bad_action"]`.

        Returns:
            The next state.

        Raises:
            ValueError: for an action of another shape or, outside of `jit`, one that is not finite.
        """
        self._check(action)
        data: Data = state.data
        dtype = data.qpos.dtype
        low, high = (jnp.asarray(b, dtype) for b in (self.spec.action_low, self.spec.action_high))
        finite = jnp.all(jnp.isfinite(action))
        ctrl = jnp.where(finite, jnp.clip(jnp.asarray(action, dtype), low, high), 0.0)
        qpos, qvel, sensed = self.physics.step(data.qpos, data.qvel, ctrl, *self.world.mocap_path(data))
        data = data.replace(qpos=qpos, qvel=qvel, sensors=sensed.sensors, touched=sensed.touched, steps=data.steps + 1)

        view = self.view(data)
        outcome = self.task.outcome(view, data.task, self.config)
        reward = outcome.progress + jnp.where(outcome.success, jnp.asarray(self.task.bonus, dtype), 0.0)
        if self.config.reward_clip is not None:
            reward = jnp.clip(reward, -self.config.reward_clip, self.config.reward_clip)
        data = data.replace(task=outcome.state, objects=self.config.advance_objects(data.objects))
        data, has_goal = self._move_goal(data, outcome.success)
        after = self.state(
            data,
            reward=reward,
            cost=self._cost(view),
            terminated=outcome.success & ~has_goal,
            metrics={
                "goal_met": outcome.success.astype(dtype),
                "reward_progress": outcome.progress,
                "bad_action": (~finite).astype(dtype),
            },
        )
        # A reset is terminated only if no layout was feasible; its observation is not finite.
        return _voided(after, state.terminated & ~jnp.all(jnp.isfinite(state.obs)))

    def observe(self, data: Data) -> jax.Array:
        """`[observation_size]`: the robot's sensors, then one lidar block for each class of things."""
        agent, view, observed = self.world.agent, self.view(data), self._lidar_observed
        sensors = agent.observe(self.world.sensors(data))
        blocks = [sensors[name] for name, _ in agent.observed]
        readings = lidars([view.points[o.name] for o in observed], view.position, view.rotation, self.config.lidar)
        for things, reading in zip(observed, readings, strict=True):
            visible = things.is_visible(data.objects.get(things.name))
            blocks.append(reading if visible is None else jnp.where(visible, reading, 0.0))
        return jnp.concatenate(blocks)

    # -- parts, for tools and tests ------------------------------------------------------------------------------------

    @property
    def world(self) -> World:
        """MuJoCo's side of the environment."""
        return World(self.config)

    @property
    def task(self) -> Task:
        """The task."""
        return TASKS[self.config.task]

    @property
    def physics(self) -> Physics:
        """The simulator."""
        return make_physics(self.world, self.backend, self.profile)

    @property
    def mj_model(self) -> mujoco.MjModel:
        """The compiled MuJoCo model, one for all layouts."""
        return self.world.model

    @property
    def substeps(self) -> int:
        """Physics steps in one control step."""
        return SUBSTEPS

    @property
    def extents(self) -> tuple[float, float, float, float]:
        """The arena, `(x_min, y_min, x_max, y_max)` in metres."""
        return self.config.extents

    def view(self, data: Data) -> View:
        """The world as tasks, objects and the lidar read it."""
        return self.world.view(data)

    def scene(self, state: State) -> list[dict[str, Any]]:
        """Things of one unbatched state, for drawing from above (`envs_mjx.navigation.top_view.scene`)."""
        return top_view.scene(self.world, state.data)

    def place(self, placed: jax.Array, yaw: jax.Array, objects: dict[str, Any], key: jax.Array) -> Data:
        """Build the state at rest for a layout.

        Args:
            placed: `[things, 2]` positions in the order of `layout.plan(config).names`.
            yaw: `[things]` headings.
            objects: persistent state of the classes that have one.
            key: typed PRNG key for later draws.

        Returns:
            The state's data, sensors included.
        """
        dtype, model = placed.dtype, self.mj_model
        data = Data(
            qpos=self.world.rest(placed, yaw),
            qvel=jnp.zeros(model.nv, dtype),
            layout=placed,
            turn=jnp.stack([jnp.cos(yaw / 2), jnp.sin(yaw / 2)], axis=-1),
            task=(),
            objects=objects,
            steps=jnp.int32(0),
            sensors=jnp.zeros(0, dtype),
            touched=jnp.zeros(0, bool),
            key=key,
        )
        data = self.task.arrange(data, self.config)
        ctrl = jnp.zeros(model.nu, dtype)
        sensed = self.physics.sense(data.qpos, data.qvel, ctrl, *self.world.mocap_rest(data))
        data = data.replace(sensors=sensed.sensors, touched=sensed.touched)
        return data.replace(task=self.task.state(self.view(data), self.config))

    def state(self, data: Data, *, terminated, reward=None, cost=None, metrics=None) -> State:
        """The state with these data; reward, cost and metrics default to those of a reset."""
        dtype = data.qpos.dtype
        zero = jnp.zeros((), dtype)
        cost = jnp.zeros(self.spec.num_costs, dtype) if cost is None else cost
        return State(
            data=data,
            obs=self.observe(data),
            reward=zero if reward is None else reward,
            cost=cost,
            terminated=terminated,
            metrics=metrics or {"goal_met": zero, "reward_progress": zero, "bad_action": zero},
            info={},
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _lidar_observed(self) -> tuple[Any, ...]:
        return tuple(o for o in self.config.objects if o.is_lidar_observed)

    def _check(self, action: jax.Array) -> None:
        size = self.spec.action_size
        if jnp.shape(action) != (size,):
            raise ValueError(f"{self.config.id}: action must have shape ({size},), got {jnp.shape(action)}")
        if not isinstance(action, jax.core.Tracer) and not np.all(np.isfinite(np.asarray(action))):
            raise ValueError(f"{self.config.id}: action must be finite, got {np.asarray(action)}")

    def _cost(self, view: View) -> jax.Array:
        """`[num_costs]` indicators of the raw costs, in the order of `spec.cost_names`."""
        raw: dict[str, jax.Array] = {}
        for things in self.config.objects:
            if things.is_constrained:
                raw |= things.cost(view)
        dtype = view.position.dtype
        names = self.spec.cost_names
        return jnp.stack([raw[n] > 0 for n in names]).astype(dtype) if names else jnp.zeros(0, dtype)

    def _move_goal(self, data: Data, success: jax.Array) -> tuple[Data, jax.Array]:
        """Move the goal after a success; also whether there is a goal."""
        if not self.task.moves_goal:
            return data, jnp.bool_(True)
        data, has_goal = self.task.move_goal(data, self.world.current(data), success, self.config)
        fresh = self.task.state(self.view(data), self.config)
        task = jax.tree.map(lambda new, old: jnp.where(success, new, old), fresh, data.task)
        return data.replace(task=task), has_goal


def _voided(state: State, failed: jax.Array) -> State:
    """Mark a state whose layout failed: terminated, and NaN in what is learned from, so that no update uses it."""
    nan = jnp.where(failed, jnp.nan, 0.0)
    return state.replace(
        obs=jnp.where(failed, nan.astype(state.obs.dtype), state.obs),
        reward=jnp.where(failed, nan.astype(state.reward.dtype), state.reward),
        terminated=state.terminated | failed,
    )
