"""Interface between environments and simulators."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import jax
import mujoco
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class PhysicsModel:
    """A compiled model and the entries of it that a backend reads.

    Attributes:
        model: compiled model; its robot is the body `agent`.
        observed: indices of the observed entries of `sensordata`.
        sensor_sizes: names and sizes of the sensors in `observed`, in order.
        flags: slice of `sensordata` that counts the contacts of `touchable`; empty without contact sensors.
        touchable: bodies whose contacts with the robot are reported.
        moving: number of mocap bodies that move within a control step; they come first in `mocap_pos`.
        solver: Newton and line-search iterations of MJX.
    """

    model: mujoco.MjModel
    observed: np.ndarray
    sensor_sizes: tuple[tuple[str, int], ...]
    flags: slice
    touchable: tuple[str, ...]
    moving: int
    solver: tuple[int, int]


class ModelSource(Protocol):
    """A hashable description of a world. Equal sources share one simulator."""

    def build(self, profile: str = "exact", *, contact_sensors: bool = True) -> PhysicsModel:
        """Compile the model.

        Args:
            profile: `exact`, or `fast` for simpler collision shapes.
            contact_sensors: True to count contacts with sensors.
        """
        ...


class Sensed(NamedTuple):
    """Sensor values of one moment.

    Attributes:
        sensors: `[observed sensor values]`, the robot's observed sensors one after the other.
        touched: `[touchable]` bool, whether the robot touches each body of `PhysicsModel.touchable`.
    """

    sensors: jax.Array
    touched: jax.Array


class Physics(Protocol):
    """A simulator of one world. Pure; every function may be jitted and vmapped."""

    def step(
        self, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array, mocap_pos: jax.Array, mocap_quat: jax.Array
    ) -> tuple[jax.Array, jax.Array, Sensed]:
        """Advance by one physics step for each row of `mocap_pos` and sense the final state.

        Args:
            qpos: `[nq]` generalised positions.
            qvel: `[nv]` generalised velocities.
            ctrl: `[nu]`, held for the whole control step.
            mocap_pos: `[steps, nmocap, 3]` poses at the start of every physics step; the last hold while sensing.
            mocap_quat: `[nmocap, 4]`.

        Returns:
            `qpos`, `qvel` after the last physics step, and the sensor values of that state.
        """
        ...

    def sense(
        self, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array, mocap_pos: jax.Array, mocap_quat: jax.Array
    ) -> Sensed:
        """Sense a state without moving; `mocap_pos` is `[nmocap, 3]`."""
        ...
