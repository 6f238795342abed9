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

from envs_mjx import physics
from envs_mjx.agents import AGENTS
from envs_mjx.agents.agent import quaternion_about_z
from envs_mjx.mjcf import SUBSTEPS, World, bodies_of, build, touchable_of
from envs_mjx.navigation import layout
from envs_mjx.navigation.config import Config
from envs_mjx.navigation.costs import cost_names, raw_costs
from envs_mjx.navigation.lidar import lidars
from envs_mjx.navigation.objects import Buttons, Gremlins
from envs_mjx.navigation.tasks import TASKS, Data, View
from envs_mjx.navigation.top_view import scene
from jsafe.cmdp import Spec, State


@dataclasses.dataclass(frozen=True)
class Navigation:
    """A navigation environment; make one with `envs_mjx.make`.

    Attributes:
        config: what is in it.
        backend: the simulator, one of `envs_mjx.BACKENDS`.
        profile: `exact` or `fast` (see `envs_mjx.physics`).
    """

    config: Config
    backend: str = "mujoco"
    profile: str = "exact"

    # -- what a learner sees -------------------------------------------------------------------------------------------

    @functools.cached_property
    def spec(self) -> Spec:
        low, high = np.array(self.mj_model.actuator_ctrlrange).T
        blocks = self._blocks
        return Spec(
            id=self.config.id,
            observation_size=sum(size for _, size in blocks),
            observation_layout=blocks,
            action_low=tuple(map(float, low)),
            action_high=tuple(map(float, high)),
            cost_names=cost_names(self.config),
            episode_length=self.config.num_steps,
            control_dt=AGENTS[self.config.agent].timestep * SUBSTEPS,
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
        if self._task.relocates == "goal":  # the reference draws the goal twice: this is the second draw
            goal, _ = layout.sample_goal(keys[2], self.config, placed, feasible)
            placed = placed.at[self.index("goal")].set(goal)
        button = jax.random.randint(keys[3], (), 0, self._buttons, jnp.int32)
        data = self.place(placed, yaw, button, keys[4])
        return self._state(data, terminated=~feasible)

    def step(self, state: State, action: jax.Array) -> State:
        """Advance by one control step of ten physics steps.

        Args:
            state: where from.
            action: `[action_size]`; clipped to the actuators' range. An action with an entry that is not finite counts
                as zero, as in MuJoCo, and is reported in `metrics["bad_action"]`.

        Returns:
            The next state.

        Raises:
            ValueError: for an action of another shape or, outside of `jit`, one that is not finite.
        """
        size = self.spec.action_size
        if jnp.shape(action) != (size,):
            raise ValueError(f"{self.config.id}: action must have shape ({size},), got {jnp.shape(action)}")
        if not isinstance(action, jax.core.Tracer) and not np.all(np.isfinite(np.asarray(action))):
            raise ValueError(f"{self.config.id}: action must be finite, got {np.asarray(action)}")
        data: Data = state.data
        low, high = (jnp.asarray(b, data.qpos.dtype) for b in (self.spec.action_low, self.spec.action_high))
        finite = jnp.all(jnp.isfinite(action))
        ctrl = jnp.where(finite, jnp.clip(jnp.asarray(action, data.qpos.dtype), low, high), 0.0)
        mocap_pos, mocap_quat = self.mocap_path(data)
        qpos, qvel, sensed = self._physics.step(data.qpos, data.qvel, ctrl, mocap_pos, mocap_quat)
        data = data.replace(qpos=qpos, qvel=qvel, sensors=sensed.sensors, touched=sensed.touched, steps=data.steps + 1)

        view = self.view(data)
        outcome = self._task.outcome(view, data.memory, self.config)
        bonus = jnp.where(outcome.success, jnp.asarray(self._task.bonus, qpos.dtype), 0.0)
        reward = outcome.progress + bonus
        if self.config.reward_clip is not None:
            reward = jnp.clip(reward, -self.config.reward_clip, self.config.reward_clip)
        costs = raw_costs(view, data.timer, self.config)
        data = data.replace(memory=outcome.memory, timer=jnp.maximum(data.timer - 1, 0))
        data, found = self._relocate(data, outcome.success)
        return self._state(
            data,
            reward=reward,
            costs=costs,
            terminated=outcome.success & ~found,
            metrics={
                "goal_met": outcome.success.astype(qpos.dtype),
                "reward_progress": outcome.progress,
                "bad_action": (~finite).astype(qpos.dtype),
            },
        )

    # -- what tools and tests see --------------------------------------------------------------------------------------

    @property
    def mj_model(self) -> mujoco.MjModel:
        """The compiled MuJoCo model, one for all layouts."""
        return self.world.model

    @property
    def world(self) -> World:
        return build(self.config)

    @property
    def substeps(self) -> int:
        """Physics steps in one control step."""
        return SUBSTEPS

    @property
    def extents(self) -> tuple[float, float, float, float]:
        """The arena, `(x_min, y_min, x_max, y_max)` in metres."""
        return self.config.extents

    def place(self, placed: jax.Array, yaw: jax.Array, goal_button: jax.Array, key: jax.Array) -> Data:
        """Build the state at rest for a layout.

        Args:
            placed: `[things, 2]` positions in the order of `layout.plan(config).names`.
            yaw: `[things]` headings.
            goal_button: `[]` int32, ignored without buttons.
            key: typed PRNG key for what follows.

        Returns:
            The state's data, sensors included.
        """
        dtype = placed.dtype
        parts = [AGENTS[self.config.agent].place(placed[0], yaw[0])]
        for body in self.world.free:
            i = self.index(body.things.name) + body.number
            z = body.things.size if body.things.kind == "driven" else body.things.height
            parts.append(jnp.concatenate([placed[i], jnp.array([z], dtype), quaternion_about_z(yaw[i])]))
        qpos = jnp.concatenate(parts)
        model = self.mj_model
        buttons = self.config.find("buttons")
        data = Data(
            qpos=qpos,
            qvel=jnp.zeros(model.nv, dtype),
            layout=placed,
            turn=jnp.stack([jnp.cos(yaw / 2), jnp.sin(yaw / 2)], axis=-1),
            memory=jnp.zeros(0, dtype),
            goal_button=jnp.asarray(goal_button, jnp.int32),
            timer=jnp.int32(buttons.resampling_delay if isinstance(buttons, Buttons) else 0),
            steps=jnp.int32(0),
            sensors=jnp.zeros(0, dtype),
            touched=jnp.zeros(0, bool),
            key=key,
        )
        data = self._goal_onto_button(data)
        mocap_pos, mocap_quat = self._mocap_rest(data)
        sensed = self._physics.sense(qpos, data.qvel, jnp.zeros(model.nu, dtype), mocap_pos, mocap_quat)
        data = data.replace(sensors=sensed.sensors, touched=sensed.touched)
        return data.replace(memory=self._task.memory(self.view(data), self.config))

    def view(self, data: Data) -> View:
        """The world as tasks, costs and the lidar read it."""
        config, agent = self.config, AGENTS[self.config.agent]
        position, rotation = agent.pose(data.qpos[: agent.nq])
        points, heights, speeds, touched = {}, {}, {}, {}
        for things in config.of_kind("ghost", "fixture"):
            first = self.index(things.name)
            points[things.name] = data.layout[first : first + things.num]
            heights[things.name] = jnp.full(things.num, things.height, data.qpos.dtype)
        adr, dof = agent.nq, agent.nv
        for things in config.of_kind("free", "driven"):
            pos = data.qpos[adr : adr + 7 * things.num].reshape(things.num, 7)
            vel = data.qvel[dof : dof + 6 * things.num].reshape(things.num, 6)
            points[things.name], heights[things.name] = pos[:, :2], pos[:, 2]
            speeds[things.name] = jnp.sqrt(jnp.sum(vel[:, :3] ** 2, axis=-1))
            adr, dof = adr + 7 * things.num, dof + 6 * things.num
        first = 0
        for name, count in self._touchable:
            touched[name] = data.touched[first : first + count]
            first += count
        if "buttons" in touched:
            touched["is_goal_button"] = jnp.arange(self._buttons) == data.goal_button
            touched["goal_button"] = jnp.any(touched["buttons"] & touched["is_goal_button"])[None]
        velocity = agent.velocity(data.qpos[: agent.nq], data.qvel[: agent.nv])
        return View(position, rotation, velocity, points, heights, speeds, touched)

    def observe(self, data: Data) -> jax.Array:
        """`[observation_size]`: the robot's sensors, then one lidar block for each class of things."""
        agent = AGENTS[self.config.agent]
        sensors, first = {}, 0
        for name, size in self._sensor_sizes:
            sensors[name] = data.sensors[first : first + size]
            first += size
        seen = agent.observe(sensors)
        view = self.view(data)
        classes = [o.name for o in self.config.objects if o.is_lidar_observed]
        readings = lidars([view.points[c] for c in classes], view.position, view.rotation, self.config.lidar)
        blocks = [seen[name] for name, _ in agent.observed]
        for name, reading in zip(classes, readings, strict=True):
            blocks.append(jnp.where(data.timer == 0, reading, 0.0) if name == "buttons" else reading)
        return jnp.concatenate(blocks)

    def scene(self, state: State) -> list[dict[str, Any]]:
        """What stands where in one unbatched state, for drawing from above; positions in metres, angles in radians."""
        return scene(self, state)

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _task(self):
        return TASKS[self.config.task]

    @property
    def _physics(self) -> physics.Physics:
        return physics.make(self.config, self.backend, self.profile)

    @property
    def _buttons(self) -> int:
        buttons = self.config.find("buttons")
        return buttons.num if buttons else 1

    @property
    def _sensor_sizes(self) -> tuple[tuple[str, int], ...]:
        """Raw sizes of the observed sensors in the order of `Data.sensors`."""
        sensors = self.world.sensors
        return tuple((name, sensors[name].stop - sensors[name].start) for name, _ in AGENTS[self.config.agent].observed)

    @property
    def _touchable(self) -> tuple[tuple[str, int], ...]:
        names: dict[str, int] = {}
        for body in touchable_of(self.config):
            names[body.things.name] = names.get(body.things.name, 0) + 1
        return tuple(names.items())

    @property
    def _blocks(self) -> tuple[tuple[str, int], ...]:
        lidars = tuple(
            (f"{o.name}_lidar", self.config.lidar.num_bins) for o in self.config.objects if o.is_lidar_observed
        )
        return AGENTS[self.config.agent].observed + lidars

    def index(self, name: str) -> int:
        return layout.plan(self.config).start[name]

    def free_number(self, name: str, i: int) -> int:
        return next(k for k, b in enumerate(self.world.free) if b.things.name == name and b.number == i)

    def _mocap_rest(self, data: Data) -> tuple[jax.Array, jax.Array]:
        """Mocap poses `[nmocap, 3]`, `[nmocap, 4]` of a reset: everything at its place."""
        bodies = bodies_of(self.config, "driven") + bodies_of(self.config, "fixture")
        if not bodies:
            return jnp.zeros((0, 3), data.qpos.dtype), jnp.zeros((0, 4), data.qpos.dtype)
        index = np.array([self.index(b.things.name) + b.number for b in bodies])
        z = [b.things.size if b.things.kind == "driven" else b.things.height for b in bodies]
        pos = jnp.concatenate([data.layout[index], jnp.asarray(z, data.qpos.dtype)[:, None]], axis=1)
        zero = jnp.zeros((len(index), 1), pos.dtype)
        return pos, jnp.concatenate([data.turn[index, :1], zero, zero, data.turn[index, 1:]], axis=1)

    def mocap_path(self, data: Data) -> tuple[jax.Array, jax.Array]:
        """Mocap poses `[SUBSTEPS, nmocap, 3]`, `[nmocap, 4]` of the next control step.

        Driven bodies circle around their place: before physics step k of control step n the target is
        `travel * (sin t, cos t)` with `t = (10 n + k) * timestep`, at twice the body's half-height.
        """
        pos, quat = self._mocap_rest(data)
        path = jnp.broadcast_to(pos, (SUBSTEPS, *pos.shape))
        driven = bodies_of(self.config, "driven")
        if driven:
            dtype = data.qpos.dtype
            ticks = (data.steps * SUBSTEPS + jnp.arange(SUBSTEPS)).astype(dtype)
            t = ticks * jnp.asarray(AGENTS[self.config.agent].timestep, dtype)
            travel = jnp.asarray([b.things.travel for b in driven if isinstance(b.things, Gremlins)], dtype)
            size = jnp.asarray([b.things.size for b in driven], dtype)
            circle = jnp.stack([jnp.sin(t), jnp.cos(t), jnp.zeros_like(t)], axis=-1)
            offset = circle[:, None, :] * travel[None, :, None] + size[:, None] * jnp.array([0.0, 0.0, 1.0], dtype)
            path = path.at[:, : len(driven)].add(offset)
        return path, quat

    def _goal_onto_button(self, data: Data) -> Data:
        if self._task.relocates != "button":
            return data
        button = data.layout[self.index("buttons") + data.goal_button]
        return data.replace(layout=data.layout.at[self.index("goal")].set(button))

    def _relocate(self, data: Data, success: jax.Array) -> tuple[Data, jax.Array]:
        """Put the goal elsewhere after a success; also whether there was room.

        Loops of at most one pass stand for `if`: under `vmap` a loop whose condition holds nowhere in the batch runs
        not at all, while a `cond` would compute its branches for every environment at every step.
        """
        task, always = self._task, jnp.bool_(True)
        if task.relocates is None:
            return data, always
        if task.relocates == "goal":
            key = jax.lax.while_loop(
                lambda c: c[1], lambda c: (jax.random.split(c[0])[0], jnp.bool_(False)), (data.key, success)
            )[0]
            goal, found = layout.sample_goal(key, self.config, self._current(data), success)
            data = data.replace(key=key, layout=data.layout.at[self.index("goal")].set(goal))
            found = found | ~success
        else:

            def choose(carry):
                key, _, _ = carry
                key, sub = jax.random.split(key)
                return key, jax.random.randint(sub, (), 0, self._buttons, jnp.int32), jnp.bool_(False)

            key, button, _ = jax.lax.while_loop(lambda c: c[2], choose, (data.key, data.goal_button, success))
            buttons = self.config.find("buttons")
            delay = buttons.resampling_delay if isinstance(buttons, Buttons) else 0
            data = data.replace(key=key, goal_button=button, timer=jnp.where(success, jnp.int32(delay), data.timer))
            data, found = self._goal_onto_button(data), always
        memory = jnp.where(success, task.memory(self.view(data), self.config), data.memory)
        return data.replace(memory=memory), found

    def _current(self, data: Data) -> jax.Array:
        """`[things, 2]` where everything is now, except driven bodies, which keep the place they circle around."""
        view = self.view(data)
        current = data.layout.at[0].set(view.position[:2])
        for things in self.config.of_kind("free"):
            first = self.index(things.name)
            current = current.at[first : first + things.num].set(view.points[things.name])
        return current

    def _state(self, data: Data, *, terminated, reward=None, costs=None, metrics=None) -> State:
        dtype = data.qpos.dtype
        zero = jnp.zeros((), dtype)
        names = cost_names(self.config)
        raw = costs if costs is not None else dict.fromkeys(names, zero)
        cost = jnp.stack([raw[n] > 0 for n in names]).astype(dtype) if names else jnp.zeros(0, dtype)
        return State(
            data=data,
            obs=self.observe(data),
            reward=zero if reward is None else reward,
            cost=cost,
            terminated=terminated,
            metrics=metrics or {"goal_met": zero, "reward_progress": zero, "bad_action": zero},
            info={},
        )
