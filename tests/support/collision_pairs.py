"""Two bodies of simple shape in MuJoCo C, and the colliders for MJX on many such pairs at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from envs_mjx.physics import collider_table
from envs_mjx.physics.mjx.collision.contact_points import Geom
from tests.parity.replay import precision

MODEL = """
<mujoco>
  <option ccd_iterations="50"><flag nativeccd="disable"/></option>
  {}
  <worldbody>
    {}
    <body><freejoint/><geom type="{}" size="1 1 1"/></body>
    <body><freejoint/><geom type="{}" size="1 1 1"/></body>
  </worldbody>
</mujoco>"""


def two_bodies(first: str, second: str, floor: str = "") -> mujoco.MjModel:
    """A model of two free geoms of the given types, with the recorded box collider; set their sizes before use."""
    collider_table.install()
    return mujoco.MjModel.from_xml_string(MODEL.format(collider_table.MARK, floor, first, second))


def turn(rng: np.random.Generator, tilt: float) -> np.ndarray:
    """Quaternion `[4]`: inclined by about `tilt` radians, any heading."""
    quat = np.empty(4)
    mujoco.mju_euler2Quat(quat, np.append(rng.normal(size=2) * tilt, rng.uniform(-np.pi, np.pi)), "xyz")
    return quat


def collide(collider, pairs, x64: bool) -> list[np.ndarray]:
    """Distances `[n, slots]`, positions and frames of `n` pairs, given as pos, mat, size, each `[n, 2, ...]`."""
    with precision(x64):
        first, second = (Geom(*(jnp.asarray(x[:, i]) for x in pairs)) for i in range(2))
        return [np.asarray(x) for x in jax.jit(jax.vmap(collider))(first, second)]
