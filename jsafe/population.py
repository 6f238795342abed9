"""Seeds and hyper-parameters as one more axis: a population trains in one compiled program.

The leading axis of every array is the member of the population. It is spread over the devices with `jax.shard_map`,
one `vmap` on each: members never talk to each other, and a host callback inside a member sees its own device only
(under automatic partitioning, a callback would gather the whole population).
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jsafe import multihost, runtime
from jsafe.suggestions import did_you_mean
from jsafe.trainer import Metrics, Trainer, TrainState

AXIS = "seeds"
COMPARED_ELEMENTS = 1 << 16
"""Size of the largest parameter array compared to detect an update: every update moves the biases too, and
comparing the large matrices of a language model would keep a second copy of them alive."""


class Health(NamedTuple):
    """Health of the last iteration, one entry for each member.

    Attributes:
        skipped: `[seeds]` int32, updates that were dropped in this iteration because they were not finite.
        moved: `[seeds]` bool, whether any parameter changed.
    """

    skipped: jax.Array
    moved: jax.Array


class Layout(NamedTuple):
    """Sharding of every member over all devices of a mesh, for models that are too large for one.

    While a step is traced, the mesh is what `jax.sharding.get_abstract_mesh` gives, so that parts of the program may
    constrain layouts and call back to the host for their own part.

    Attributes:
        mesh: the devices; of all processes, if there are several.
        specs: `state of one member -> PartitionSpec of each array`; the state's leaves have a shape and a type only.
    """

    mesh: Any
    specs: Callable[[Any], Any]


class Population(NamedTuple):
    """A trainer for `num_seeds` members at once.

    Attributes:
        init: `(keys [num_seeds], hyper=None) -> TrainState`, jitted; `hyper` maps a name to `[num_seeds]` values.
        step: `TrainState -> (TrainState, Metrics, Health)`, jitted; the state that goes in is consumed (donated).
        steps: `count -> jitted step of that many iterations`; metrics and health get a leading axis `[count]` if
            `count` is above 1, the step of one iteration is `step` itself.
        place: puts a state from the host (NumPy leaves) on the devices.
        frozen: like `init`, but only `TrainState.frozen`.
        num_seeds: members.
        num_devices: devices they are spread over; it divides `num_seeds`, or is that of a layout's mesh.
    """

    init: Callable[..., TrainState]
    step: Callable[[TrainState], tuple[TrainState, Metrics, Health]]
    steps: Callable[[int], Any]
    place: Callable[[Any], Any]
    frozen: Callable[..., Any]
    num_seeds: int
    num_devices: int


def keys_for(root_seed: int, num_seeds: int) -> jax.Array:
    """One typed key for each member, shape `[num_seeds]`; member `i` gets the same key in a population of any size.

    Raises:
        ValueError: fewer than one seed, or a root seed outside 64 bits.
    """
    if num_seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {num_seeds}")
    if not -(2**63) <= root_seed < 2**63:
        raise ValueError(f"seed must fit in 64 bits, got {root_seed}")
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(root_seed), jnp.arange(num_seeds))


def check_hyper(trainer: Trainer, num_seeds: int, hyper: Mapping[str, Any] | None) -> dict[str, np.ndarray] | None:
    """Traced hyper-parameters as `[num_seeds, ...]` arrays; the value of one member is given to every other.

    Raises:
        ValueError: unknown or static name, wrong shape, or a value that is not finite.
    """
    if not hyper:
        return None
    known = sorted(trainer.info.traced)
    checked = {}
    for name, value in hyper.items():
        if name not in trainer.info.traced:
            hint = did_you_mean(name, known)
            fixed = " (it shapes the program, so it is the same for all seeds)" if name in trainer.info.config else ""
            raise ValueError(f"hyper {name!r} cannot differ between seeds{fixed}, expected one of {known}{hint}")
        array = np.asarray(value, np.float32)
        one = np.shape(trainer.info.traced[name])  # () for a number, (C,) for a list of limits
        if array.shape not in (one, (num_seeds, *one)):
            requirement = "be a number" if one == () else f"have shape {one}"
            raise ValueError(
                f"hyper {name!r} must {requirement} or have shape {(num_seeds, *one)}, got shape {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"hyper {name!r} must be finite, got {array}")
        checked[name] = np.broadcast_to(array, (num_seeds, *one)).copy()
    return checked


def make_population(
    trainer: Trainer, num_seeds: int, devices: Sequence[Any] | None = None, layout: Layout | None = None
) -> Population:
    """Bind a trainer to a number of members and to devices.

    The largest number of devices that divides `num_seeds` is used, or all of a layout. What a member learns does not
    depend on it, up to the rounding of sums.

    Args:
        trainer: trainer of each member.
        num_seeds: members, at least 1.
        devices: candidates; by default the local ones, or a single one on a CPU whose thread pool is too small to run
            several safely (see `jsafe.runtime.safe_thread_count`).
        layout: spread each member over a mesh instead of members over devices.

    Raises:
        ValueError: fewer than one seed, or both devices and a layout.
    """
    if num_seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {num_seeds}")
    if layout is not None:
        if devices is not None:
            raise ValueError("give devices or a layout, not both: a layout has its own")
        return _laid_out(trainer, num_seeds, layout)
    candidates = list(devices) if devices is not None else _safe_devices()
    count = max(d for d in range(1, len(candidates) + 1) if num_seeds % d == 0)
    chosen = candidates[:count]
    init, step = _members(trainer)
    target: Any = chosen[0]
    spread_init, spread_steps, out = init, lambda number: _repeated(step, number), None
    if count > 1:
        mesh = Mesh(np.array(chosen), (AXIS,))
        spec = PartitionSpec(AXIS)
        target = out = NamedSharding(mesh, spec)
        # check_vma is off because trainers start scans from constants, which belong to no device.
        spread_init = jax.shard_map(init, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)

        def spread_steps(number: int) -> Callable[..., Any]:
            rows = spec if number == 1 else PartitionSpec(None, AXIS)
            specs = {"in_specs": spec, "out_specs": (spec, rows, rows), "check_vma": False}
            return jax.shard_map(_repeated(step, number), mesh=mesh, **specs)

    # Named, because arrays without elements would come back unsharded, and the next step would compile again.
    jit_init = jax.jit(spread_init, out_shardings=out)
    jit_frozen = jax.jit(lambda keys, hyper: spread_init(keys, hyper).frozen, out_shardings=out)

    @functools.cache
    def jit_steps(number: int) -> Any:
        stacked = out if out is None or number == 1 else NamedSharding(out.mesh, PartitionSpec(None, AXIS))
        shardings = None if out is None else (out, stacked, stacked)
        return jax.jit(spread_steps(number), donate_argnums=0, out_shardings=shardings)

    def place(tree: Any) -> Any:
        return jax.device_put(tree, target)

    def checked(jitted: Callable[..., Any]) -> Callable[..., Any]:
        return _checked(trainer, num_seeds, lambda keys, hyper: place(jitted(place(keys), place(hyper))))

    return Population(checked(jit_init), jit_steps(1), jit_steps, place, checked(jit_frozen), num_seeds, count)


def _members(trainer: Trainer) -> tuple[Callable[..., TrainState], Callable[..., tuple[TrainState, Metrics, Health]]]:
    """`init` and `step` of all members, as pure functions."""

    def init(keys: jax.Array, hyper: Mapping[str, Any] | None) -> TrainState:
        return strong(jax.vmap(lambda k, h: trainer.init(k, h or None))(keys, hyper))

    def step(state: TrainState) -> tuple[TrainState, Metrics, Health]:
        after, metrics = jax.vmap(trainer.step)(state)
        after = strong(after)
        return after, metrics, _health(state, after)

    return init, step


def _repeated(step: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Return a step of several iterations, whose metrics and health have a leading axis; one iteration has none."""
    if number == 1:
        return step

    def body(state: TrainState, _: None) -> tuple[TrainState, tuple[Metrics, Health]]:
        state, metrics, health = step(state)
        return state, (metrics, health)

    def steps(state: TrainState) -> tuple[TrainState, Metrics, Health]:
        state, (metrics, health) = jax.lax.scan(body, state, length=number)
        return state, metrics, health

    return steps


def _only_member(trainer: Trainer) -> tuple[Callable[..., TrainState], Callable[..., Any]]:
    """The same for one member, without `vmap`.

    Where layers are scanned, an axis of size 1 in front of theirs would cost a copy of all weights in every pass.
    """

    def alone(tree: Any) -> Any:
        return jax.tree.map(lambda x: x[0], tree)

    def among(tree: Any) -> Any:
        return strong(jax.tree.map(lambda x: jnp.asarray(x)[None], tree))

    def init(keys: jax.Array, hyper: Mapping[str, Any] | None) -> TrainState:
        return among(trainer.init(keys[0], alone(hyper) or None))

    def step(state: TrainState) -> tuple[TrainState, Metrics, Health]:
        after, metrics = among(trainer.step(alone(state)))
        return after, metrics, _health(state, after)

    return init, step


def _checked(trainer: Trainer, num_seeds: int, begin: Callable[..., Any]) -> Callable[..., Any]:
    def init(keys: jax.Array, hyper: Mapping[str, Any] | None = None) -> Any:
        if keys.shape != (num_seeds,):
            raise ValueError(f"expected {num_seeds} keys, got shape {keys.shape}")
        return begin(keys, check_hyper(trainer, num_seeds, hyper) or {})

    return init


def _laid_out(trainer: Trainer, num_seeds: int, layout: Layout) -> Population:
    """Bind members to a mesh: all of them on every device, each sharded by the layout."""
    mesh = layout.mesh

    def under_mesh(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*args)

        return call

    init, step = map(under_mesh, _only_member(trainer) if num_seeds == 1 else _members(trainer))
    one = jax.eval_shape(under_mesh(trainer.init), jax.random.key(0))
    whole = NamedSharding(mesh, PartitionSpec())
    cut = jax.tree.map(lambda _, spec: NamedSharding(mesh, PartitionSpec(None, *spec)), one, layout.specs(one))
    jit_init = jax.jit(init, out_shardings=cut)

    @functools.cache
    def jit_steps(number: int) -> Any:
        shardings = {"in_shardings": (cut,), "out_shardings": (cut, whole, whole)}
        return jax.jit(_repeated(step, number), donate_argnums=0, **shardings)

    jit_frozen = jax.jit(lambda keys, hyper: init(keys, hyper).frozen, out_shardings=cut.frozen)

    def checked(jitted: Callable[..., Any]) -> Callable[..., Any]:
        def begin(keys: jax.Array, hyper: Mapping[str, Any]) -> Any:
            if not isinstance(keys, Tracer):  # a tracer asks for shapes only
                keys = multihost.place(keys, whole)
            return jitted(keys, hyper)

        return _checked(trainer, num_seeds, begin)

    def place(state: Any) -> Any:
        """Put a state on the devices; frozen parameters may be missing, as in a checkpoint."""
        return jax.tree.map(multihost.place, state, cut if jax.tree.leaves(state.frozen) else cut.replace(frozen=()))

    return Population(checked(jit_init), jit_steps(1), jit_steps, place, checked(jit_frozen), num_seeds, mesh.size)


def strong(tree: Any) -> Any:
    """The same values without weak types, which would make the second call of a jitted step compile again."""

    def leaf(x: Any) -> Any:
        x = jnp.asarray(x) if not isinstance(x, jax.Array) else x
        return x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended) else jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(leaf, tree)


def _health(before: TrainState, after: TrainState) -> Health:
    seeds = after.skipped.shape[0]

    def changed(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.any((old != new).reshape(seeds, -1), axis=1)

    pairs = zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True)
    small = [changed(o, n) for o, n in pairs if math.prod(n.shape[1:]) <= COMPARED_ELEMENTS]
    moved = jnp.any(jnp.stack(small), axis=0) if small else jnp.ones(seeds, bool)
    return Health(skipped=after.skipped - before.skipped, moved=moved)


def _safe_devices() -> list[Any]:
    devices = jax.local_devices()
    if len(devices) > 1 and devices[0].platform == "cpu" and not runtime.has_safe_threads():
        warnings.warn(
            "seeds run on one CPU device: with several, JAX may hang unless the environment variable NPROC exceeds "
            "the number of cores before JAX starts (jsafe.runtime.configure() sets it)",
            stacklevel=3,
        )
        return devices[:1]
    return devices
