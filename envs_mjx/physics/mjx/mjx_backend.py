"""MuJoCo XLA: the simulator as a JAX program (`impl="jax"`), or as kernels of MuJoCo Warp (`impl="warp"`).

Differences from MuJoCo C (`make parity ARGS="--backend mjx"` measures them; see docs/measurements.md):

- The model is the same except for the contact sensors. Contacts of boxes and cylinders with each other and with the
  floor, and of cylinders with the car's ball, are those of MuJoCo C, and the solver is finished in float32
  (`envs_mjx.physics.mjx.solver`). The remaining gap comes from single precision: the search for a cylinder's contact
  ends within 1e-6 m of the depth, at a point that depends on rounding.
- `impl="warp"` has its own colliders for every pair, and contact sensors. It needs an NVIDIA GPU (MuJoCo 3.3.7 refuses
  others) and reserves contacts for `WARP_WORLDS` environments.
- Profile `fast`: boxes meet wheels as prisms of 8 sides, pillars are capsules whose straight part covers the cylinder's
  height (the same from the side), balls and cylinders meet by MJX's own collider, and free boxes do not touch each
  other. Ten vases then cost eleven pairs, not 66.

On CPU a batch is advanced in slices of at most `SLICE` environments: two batched Cholesky factorisations of more can
deadlock on XLA's thread pool (jaxlib 0.10).
"""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from envs_mjx.physics.backend import ModelSource, Sensed
from envs_mjx.physics.mjx import solver
from envs_mjx.physics.mjx.internals import mjx

SLICE = 256
# Reserved by the Warp backend: environments, contacts of each on average, constraint rows of each.
WARP_WORLDS, WARP_CONTACTS, WARP_ROWS = 8192, 64, 640


def reserved_by_warp() -> dict[str, int]:
    """Arguments of `mjx.make_data` for the contacts of all environments together and the constraint rows of each."""
    # `nconmax` became `naconmax` in 3.4 and was removed in 3.9.
    contacts = "naconmax" if "naconmax" in inspect.signature(mjx.make_data).parameters else "nconmax"
    return {contacts: WARP_WORLDS * WARP_CONTACTS, "njmax": WARP_ROWS}


class Mjx:
    """`Physics` by MJX."""

    def __init__(self, source: ModelSource, impl: str, profile: str):
        self.impl = impl
        if impl == "warp":
            self.world = source.build()
            m = copy.copy(self.world.model)
            m.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
        else:
            self.world = source.build(profile, contact_sensors=False)
            m = self.world.model
            m.opt.iterations, m.opt.ls_iterations = self.world.solver
        self.compiled = m
        self.columns = self.world.observed
        agent = m.body("agent").id
        touchable = {m.body(name).id: i for i, name in enumerate(self.world.touchable)}
        self.is_agent = np.array([m.body_rootid[b] == agent for b in m.geom_bodyid])
        self.touch_index = np.array([touchable.get(int(b), -1) for b in m.geom_bodyid])

    @functools.cached_property
    def model(self) -> mjx.Model:
        # Built outside of any trace, so that its arrays are constants of every program that uses them.
        with jax.ensure_compile_time_eval(), solver.tracing():
            try:
                return mjx.put_model(self.compiled, impl=self.impl)
            except (AssertionError, RuntimeError) as error:
                if self.impl != "warp":
                    raise
                raise RuntimeError(f"physics 'warp' needs an NVIDIA GPU that JAX can use: {error}") from error

    def _data(self, qpos, qvel, ctrl, mocap_pos, mocap_quat) -> mjx.Data:
        room: dict[str, Any] = reserved_by_warp() if self.impl == "warp" else {}
        source = self.compiled if self.impl == "warp" else self.model
        data: Any = mjx.make_data(source, impl=self.impl, **room)
        mass = getattr(data._impl, "qM", None)  # releases up to 3.9 have it
        if mass is not None and self.impl != "warp":
            # These factor a sparse mass matrix into more entries than they allocate.
            data = data.tree_replace({"_impl.qLD": jnp.zeros_like(mass)})
        return data.replace(qpos=qpos, qvel=qvel, ctrl=ctrl, mocap_pos=mocap_pos, mocap_quat=mocap_quat)

    def _sensed(self, data: mjx.Data) -> Sensed:
        if self.impl == "warp":  # contacts of all environments share one list; the sensors separate them
            return Sensed(data.sensordata[self.columns], data.sensordata[self.world.flags] > 0)
        internal: Any = data._impl
        contact = internal.contact
        geom = jnp.asarray(contact.geom)
        first, second = geom[:, 0], geom[:, 1]
        is_agent, index = jnp.asarray(self.is_agent), jnp.asarray(self.touch_index)
        other = jnp.where(is_agent[first], index[second], jnp.where(is_agent[second], index[first], -1))
        count = len(self.world.touchable)
        hit = (contact.dist < 0)[:, None] & (other[:, None] == jnp.arange(count))
        return Sensed(data.sensordata[self.columns], jnp.any(hit, axis=0))

    def _step(self, qpos, qvel, ctrl, mocap_pos, mocap_quat):
        def substep(data, pos):
            return mjx.step(self.model, data.replace(mocap_pos=pos)), None

        with solver.tracing():
            data, _ = jax.lax.scan(substep, self._data(qpos, qvel, ctrl, mocap_pos[0], mocap_quat), mocap_pos)
            return data.qpos, data.qvel, self._sensed(mjx.forward(self.model, data))

    def _sense(self, qpos, qvel, ctrl, mocap_pos, mocap_quat):
        with solver.tracing():
            return self._sensed(mjx.forward(self.model, self._data(qpos, qvel, ctrl, mocap_pos, mocap_quat)))

    def step(self, qpos, qvel, ctrl, mocap_pos, mocap_quat):
        return _in_slices(self._step)(qpos, qvel, ctrl, mocap_pos, mocap_quat)

    def sense(self, qpos, qvel, ctrl, mocap_pos, mocap_quat):
        return _in_slices(self._sense)(qpos, qvel, ctrl, mocap_pos, mocap_quat)


def _in_slices(function):
    """`function`, but a batch larger than `SLICE` is computed in slices, one after the other (on CPU only)."""
    if jax.default_backend() != "cpu":
        return function

    @jax.custom_batching.custom_vmap
    def batched(args):
        size = jax.tree.leaves(args)[0].shape[0]
        each = jax.vmap(lambda a: function(*a))
        if size <= SLICE:
            return each(args)
        slices = -(-size // SLICE)

        def cut(a):
            filled = jnp.concatenate([a, jnp.broadcast_to(a[:1], (slices * SLICE - size, *a.shape[1:]))])
            return filled.reshape(slices, SLICE, *a.shape[1:])

        _, out = jax.lax.scan(lambda _, a: (None, each(a)), None, jax.tree.map(cut, args))
        return jax.tree.map(lambda a: a.reshape(slices * SLICE, *a.shape[2:])[:size], out)

    @batched.def_vmap
    def _(axis_size, in_batched, args):
        args = _broadcast(axis_size, in_batched[0], args)
        flat = jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), args)
        out = batched(flat)
        out = jax.tree.map(lambda a: a.reshape(axis_size, a.shape[0] // axis_size, *a.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    @jax.custom_batching.custom_vmap
    def single(args):
        return function(*args)

    @single.def_vmap
    def _(axis_size, in_batched, args):
        out = batched(_broadcast(axis_size, in_batched[0], args))
        return out, jax.tree.map(lambda _: True, out)

    return lambda *args: single(args)


def _broadcast(axis_size, is_batched, args):
    return jax.tree.map(lambda b, a: a if b else jnp.broadcast_to(a, (axis_size, *jnp.shape(a))), is_batched, args)


@functools.cache
def make(source: ModelSource, impl: str, profile: str) -> Mjx:
    """The simulator of a world; one for each source."""
    return Mjx(source, impl, profile)
