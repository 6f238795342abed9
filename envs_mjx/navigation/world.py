"""MuJoCo's side of a navigation environment: the model, its coordinates, mocap poses and contact flags."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from envs_mjx.agents import AGENTS, Agent
from envs_mjx.agents.rotations import quaternion_about_z
from envs_mjx.navigation import layout, mjcf
from envs_mjx.navigation.config import Config
from envs_mjx.navigation.mjcf import SUBSTEPS
from envs_mjx.navigation.objects import Objects
from envs_mjx.navigation.state import Data, View
from envs_mjx.physics.backend import PhysicsModel


@dataclasses.dataclass(frozen=True)
class World:
    """Translation between the arrays of an environment and those of its MuJoCo model.

    Attributes:
        config: the environment.
    """

    config: Config

    @property
    def agent(self) -> Agent:
        """The robot."""
        return AGENTS[self.config.agent]

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled MuJoCo model, one for all layouts."""
        return self.build().model

    def build(self, profile: str = "exact", *, contact_sensors: bool = True) -> PhysicsModel:
        """The model for a physics backend (`envs_mjx.physics.backend.ModelSource`)."""
        return mjcf.build(self.config, profile, contact_sensors=contact_sensors)

    # -- coordinates ---------------------------------------------------------------------------------------------------

    def index(self, name: str) -> int:
        """Index of the first thing of a class in `Data.layout`."""
        return layout.plan(self.config).start[name]

    def rest(self, placed: jax.Array, yaw: jax.Array) -> jax.Array:
        """`[nq]` coordinates of a world at rest with positions `placed [things, 2]` and headings `yaw [things]`."""
        parts = [self.agent.place(placed[0], yaw[0])]
        for body in mjcf.bodies_of(self.config, "free", "driven"):
            i = self.index(body.things.name) + body.number
            height = jnp.array([body.things.height], placed.dtype)
            parts.append(jnp.concatenate([placed[i], height, quaternion_about_z(yaw[i])]))
        return jnp.concatenate(parts)

    def free_poses(self, qpos: jax.Array) -> dict[str, jax.Array]:
        """Poses `[num, 7]` (position, quaternion) of each class of free and driven bodies."""
        poses, first = {}, self.agent.nq
        for things in self.config.of_kind("free", "driven"):
            poses[things.name] = qpos[first : first + 7 * things.num].reshape(things.num, 7)
            first += 7 * things.num
        return poses

    def current(self, data: Data) -> jax.Array:
        """`[things, 2]` positions now, except driven bodies, which keep the place they circle around."""
        view = self.view(data)
        current = data.layout.at[0].set(view.position[:2])
        for things in self.config.of_kind("free"):
            first = self.index(things.name)
            current = current.at[first : first + things.num].set(view.points[things.name])
        return current

    # -- mocap poses ---------------------------------------------------------------------------------------------------

    def mocap_rest(self, data: Data) -> tuple[jax.Array, jax.Array]:
        """Mocap poses `[nmocap, 3]`, `[nmocap, 4]` of a reset: everything at its place."""
        bodies = mjcf.mocap_of(self.config)
        if not bodies:
            return jnp.zeros((0, 3), data.qpos.dtype), jnp.zeros((0, 4), data.qpos.dtype)
        index = np.array([self.index(b.things.name) + b.number for b in bodies])
        z = jnp.asarray([b.things.height for b in bodies], data.qpos.dtype)
        pos = jnp.concatenate([data.layout[index], z[:, None]], axis=1)
        zero = jnp.zeros((len(index), 1), pos.dtype)
        return pos, jnp.concatenate([data.turn[index, :1], zero, zero, data.turn[index, 1:]], axis=1)

    def mocap_path(self, data: Data) -> tuple[jax.Array, jax.Array]:
        """Mocap poses `[SUBSTEPS, nmocap, 3]`, `[nmocap, 4]` of the next control step.

        Before physics step k of control step n, a driven body is offset by `Objects.path` at
        `t = (SUBSTEPS n + k) * timestep`.
        """
        pos, quat = self.mocap_rest(data)
        path = jnp.broadcast_to(pos, (SUBSTEPS, *pos.shape))
        driven = self.config.of_kind("driven")
        if driven:
            dtype = data.qpos.dtype
            ticks = (data.steps * SUBSTEPS + jnp.arange(SUBSTEPS)).astype(dtype)
            t = ticks * jnp.asarray(self.agent.timestep, dtype)
            offsets = [jnp.repeat(things.path(t)[:, None], things.num, axis=1) for things in driven]
            offset = jnp.concatenate(offsets, axis=1)
            path = path.at[:, : offset.shape[1]].add(offset)
        return path, quat

    # -- reading -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def touchable(self) -> tuple[tuple[str, int], ...]:
        """Classes of things with contact flags and the number of flags of each, in the order of `Data.touched`."""
        counts: dict[str, int] = {}
        for body in mjcf.touchable_of(self.config):
            counts[body.things.name] = counts.get(body.things.name, 0) + 1
        return tuple(counts.items())

    def view(self, data: Data) -> View:
        """The world as tasks, objects and the lidar read it."""
        config, agent = self.config, self.agent
        position, rotation = agent.pose(data.qpos[: agent.nq])
        points, heights, speeds = {}, {}, {}
        for things in config.of_kind("ghost", "fixture"):
            first = self.index(things.name)
            points[things.name] = data.layout[first : first + things.num]
            heights[things.name] = jnp.full(things.num, things.height, data.qpos.dtype)
        for name, pose in self.free_poses(data.qpos).items():
            points[name], heights[name] = pose[:, :2], pose[:, 2]
        first = agent.nv
        for things in config.of_kind("free", "driven"):
            velocity = data.qvel[first : first + 6 * things.num].reshape(things.num, 6)
            speeds[things.name] = jnp.sqrt(jnp.sum(velocity[:, :3] ** 2, axis=-1))
            first += 6 * things.num
        velocity = agent.velocity(data.qpos[: agent.nq], data.qvel[: agent.nv])
        touched = _split(data.touched, self.touchable)
        return View(position, rotation, velocity, points, heights, speeds, touched, data.objects)

    def sensors(self, data: Data) -> dict[str, jax.Array]:
        """Raw values of the observed sensors by name."""
        return _split(data.sensors, self.build().sensor_sizes)

    def yaws(self, data: Data, things: Objects) -> list[float]:
        """Headings of a class of things in one unbatched state, radians."""
        if things.kind in ("free", "driven"):
            w, x, y, z = np.asarray(self.free_poses(data.qpos)[things.name])[:, 3:].T
            return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)).tolist()
        first = self.index(things.name)
        turn = np.asarray(data.turn)[first : first + things.num]
        return (2 * np.arctan2(turn[:, 1], turn[:, 0])).tolist()


def _split(values: jax.Array, sizes: tuple[tuple[str, int], ...]) -> dict[str, jax.Array]:
    blocks, first = {}, 0
    for name, size in sizes:
        blocks[name] = values[first : first + size]
        first += size
    return blocks
