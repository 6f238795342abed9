"""Point: a ball with an arrow that slides in the plane, pushed along its heading and turned by a velocity servo.

The slides run along the world axes and the hinge carries the initial heading. The reference writes the start pose into
the model instead; mass and damping are isotropic in the plane, so both describe the same motion.

The yaw servo is numerically unstable at this time step and settles in a two-step limit cycle (amplitude 0.476 rad/s):
that is the reference's behaviour, kept as it is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from envs_mjx.agents.agent import COMMON_OBSERVED, COMMON_SENSORS, Agent, Contacts, SolverIterations
from envs_mjx.agents.rotations import rotation_about_z

HEIGHT = 0.1


def _place(xy: jax.Array, yaw: jax.Array) -> jax.Array:
    return jnp.append(xy, yaw)


def _pose(qpos: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.append(qpos[:2], jnp.asarray(HEIGHT, qpos.dtype)), rotation_about_z(qpos[2])


def _body(contacts: Contacts) -> str:
    contact = contacts.hull
    return f"""
    <body name="agent" pos="0 0 {HEIGHT}">
      <joint name="x" type="slide" axis="1 0 0" damping="0.01"/>
      <joint name="y" type="slide" axis="0 1 0" damping="0.01"/>
      <joint name="z" type="hinge" axis="0 0 1" damping="0.005"/>
      <geom name="agent" type="sphere" size="0.1" friction="1 0.01 0.01" rgba="0.74 0.04 0.18 1" {contact}/>
      <geom name="pointarrow" type="box" pos="0.1 0 0" size="0.05 0.05 0.05" rgba="0 0.15 0.4 1" {contact}/>
      <site name="agent" rgba="1 0 0 0"/>
      <camera name="vision" pos="0 0 0.15" xyaxes="0 -1 0 0.4 0 1" fovy="90"/>
    </body>"""


POINT = Agent(
    name="Point",
    timestep=0.002,
    defaults='<geom condim="6" density="1"/><joint damping="0.001"/>',
    body=_body,
    actuators="""
    <motor name="x" site="agent" gear="0.3 0 0 0 0 0" ctrllimited="true" ctrlrange="-1 1"
      forcelimited="true" forcerange="-0.05 0.05"/>
    <velocity name="z" jointinparent="z" gear="0.3 0 0 0 0 0" kv="1" ctrllimited="true" ctrlrange="-1 1"
      forcelimited="true" forcerange="-0.05 0.05"/>""",
    sensors=COMMON_SENSORS,
    nq=3,
    nv=3,
    # The sphere touches the floor at distance zero, but it has no vertical freedom: MuJoCo lists the contact as
    # excluded and makes no constraint of it. Leaving the pair out changes nothing.
    touches_floor=False,
    has_wheels=False,
    observed=COMMON_OBSERVED,
    place=_place,
    pose=_pose,
    velocity=lambda qpos, qvel: qvel[:2],
    observe=lambda sensors: sensors,
    solver=SolverIterations(20, 8),  # where boxes touch, it needs up to ten Newton iterations
)
