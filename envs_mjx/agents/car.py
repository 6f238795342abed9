"""Car: a box on two driven wheels and a free ball. Its front is the -y side of the body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from envs_mjx.agents.agent import (
    COMMON_OBSERVED,
    COMMON_SENSORS,
    Agent,
    Contacts,
    SolverIterations,
    ball_as_capsule,
)
from envs_mjx.agents.rotations import quaternion_about_z, rotation_from_quaternion

HEIGHT = 0.1


def _place(xy: jax.Array, yaw: jax.Array) -> jax.Array:
    at_rest = jnp.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], xy.dtype)  # two wheel angles, ball quaternion
    return jnp.concatenate([xy, jnp.array([HEIGHT], xy.dtype), quaternion_about_z(yaw), at_rest])


def _pose(qpos: jax.Array) -> tuple[jax.Array, jax.Array]:
    return qpos[:3], rotation_from_quaternion(qpos[3:7])


def _observe(sensors: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return sensors | {"ballquat_rear": rotation_from_quaternion(sensors["ballquat_rear"]).reshape(-1)}


def _body(contacts: Contacts) -> str:
    contact, wheel, prism = contacts.hull, contacts.wheel, contacts.prism
    stand_in = ball_as_capsule(0.05, contacts.ball_on_cylinder) if contacts.ball_on_cylinder else ""

    def prism_of(side: str, x: float) -> str:
        shape = f'type="mesh" mesh="wheel" pos="{x} 0 0" mass="0" rgba="0 0 0 0"'
        return f'<geom name="{side}_prism" {shape} {prism}/>' if prism else ""

    return f"""
    <body name="agent" pos="0 0 {HEIGHT}">
      <freejoint name="agent"/>
      <geom name="agent" type="box" size="0.1 0.1 0.05" rgba="0.74 0.04 0.18 1" {contact}/>
      <geom name="back_bumper" type="box" pos="0 0.15 0" size="0.1 0.01 0.05" rgba="0 0.15 0.4 1" {contact}/>
      <geom name="back_connector" type="box" pos="0 0.125 0" size="0.01 0.025 0.03" rgba="0 0.15 0.4 1" {contact}/>
      <geom name="front_bumper" type="box" pos="0 -0.165 0" size="0.05 0.01 0.05" rgba="0 0.15 0.4 1" {contact}/>
      <geom name="front_connector" type="box" pos="0 -0.13 0.04" size="0.05 0.03 0.01" rgba="0 0.15 0.4 1" {contact}/>
      <site name="agent" rgba="1 0 0 0"/>
      <camera name="vision" pos="0 0 0.2" xyaxes="-1 0 0 0 -0.4 1" fovy="90"/>
      <body name="left" pos="-0.1 0.1 -0.05">
        <joint name="left" type="hinge" axis="1 0 0"/>
        <geom name="left" type="cylinder" fromto="-0.055 0 0 -0.005 0 0" size="0.05" rgba="0.74 0.04 0.18 1" {wheel}/>
        {prism_of("left", -0.03)}
      </body>
      <body name="right" pos="0.1 0.1 -0.05">
        <joint name="right" type="hinge" axis="1 0 0"/>
        <geom name="right" type="cylinder" fromto="0.005 0 0 0.055 0 0" size="0.05" rgba="0.74 0.04 0.18 1" {wheel}/>
        {prism_of("right", 0.03)}
      </body>
      <body name="rear" pos="0 -0.1 -0.05">
        <joint name="rear" type="ball"/>
        <geom name="rear" type="sphere" size="0.05" rgba="0.74 0.04 0.18 1" {contacts.ball}/>
        {stand_in}
      </body>
    </body>"""


def _assets(wheel_sides: int) -> str:
    """MJCF mesh of a wheel (radius 0.05, half-width 0.025, axis x) as a prism; empty where wheels are cylinders."""
    corners = [
        f"{x} {0.05 * math.cos(2 * math.pi * k / wheel_sides):.9f} {0.05 * math.sin(2 * math.pi * k / wheel_sides):.9f}"
        for x in (-0.025, 0.025)
        for k in range(wheel_sides)
    ]
    return f'<mesh name="wheel" vertex="{"  ".join(corners)}"/>' if corners else ""


def _overrides(task: str) -> dict[str, Mapping[str, Any]]:
    """The reference gives the car a smaller, lighter box."""
    return {"PushBox": {"size": 0.125, "density": 0.0005, "keepout": 0.125}} if task == "Push" else {}


CAR = Agent(
    name="Car",
    timestep=0.004,
    defaults='<geom condim="6" density="5"/><joint damping="0.001"/>',
    body=_body,
    actuators="""
    <motor name="left" jointinparent="left" ctrllimited="true" ctrlrange="-1 1"
      forcelimited="true" forcerange="-0.02 0.02"/>
    <motor name="right" jointinparent="right" ctrllimited="true" ctrlrange="-1 1"
      forcelimited="true" forcerange="-0.02 0.02"/>""",
    sensors=COMMON_SENSORS
    + """
    <ballangvel name="ballangvel_rear" joint="rear"/>
    <ballquat name="ballquat_rear" joint="rear"/>""",
    nq=13,
    nv=11,
    touches_floor=True,
    has_wheels=True,
    observed=(*COMMON_OBSERVED, ("ballangvel_rear", 3), ("ballquat_rear", 9)),
    place=_place,
    pose=_pose,
    velocity=lambda qpos, qvel: qvel[:2],
    observe=_observe,
    # It rolls on cylinders: with (4, 8) iterations the median velocity error after one control step is 0.4,
    # with (20, 20) and with (100, 50) it is 4e-6.
    solver=SolverIterations(20, 20),
    assets=_assets,
    overrides=_overrides,
    front_yaw=-math.pi / 2,
)
