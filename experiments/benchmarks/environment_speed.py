"""Environment steps per second of the whole environment, next to the bare simulator.

The clock covers one call of a compiled program that takes T control steps in N environments (`jsafe.rollout`)
with uniformly random actions, including observations, rewards, costs, time limits and the resets that fall due, until
the device has finished (`block_until_ready`). Episodes start at staggered steps, so resets come at their natural rate.
It does not cover compilation, which is reported separately. Nothing is transferred to the host.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_mjx.physics.state_transfer import physics_states
from experiments.benchmarks.bare_mujoco import BareLoop
from experiments.cli.devices import make_env
from experiments.cli.stdout import note
from jsafe import rollout, runtime

CLOCK = (
    "one compiled call of `steps` control steps in `num_envs` auto-resetting environments with random actions: "
    "physics, observations, rewards, costs, time limits, resets; until the device has finished; without compilation"
)
FLOOR = (
    "bare mujoco.mj_step on the same model from settled states of the same run with random controls, one thread per "
    "core, no sensors read, no observations, rewards, costs or resets; pieces interleaved with the measured ones"
)


def measure(
    env: Any, num_envs: int, steps: int = 100, repeats: int = 7, seed: int = 0, floor: bool = True
) -> dict[str, Any]:
    """Measure one environment at one size.

    Args:
        env: from `envs_mjx.make`.
        num_envs: environments side by side.
        steps: control steps of each in one timed piece.
        repeats: timed pieces; the medians are reported and all of them listed.
        seed: root seed of layouts and actions.
        floor: True to measure the bare loop in between.

    Returns:
        The figures by the names that `jsafe throughput --json` prints.
    """
    init_key, stagger_key, key = jax.random.split(jax.random.key(seed), 3)
    start, piece = _programs(env, num_envs, steps)
    clock = time.perf_counter()
    state = jax.block_until_ready(start(init_key, stagger_key))
    program = jax.jit(piece, donate_argnums=0).lower(state, key).compile()
    compile_seconds = time.perf_counter() - clock

    keys = jax.random.split(key, repeats + 1)
    clock = time.perf_counter()
    state, _ = jax.block_until_ready(program(state, keys[0]))
    first_seconds = time.perf_counter() - clock
    loop = None
    if floor:
        states = physics_states(env, state.env.data).first(4096)
        loop = BareLoop(env.mj_model, env.substeps, states, min(runtime.usable_cores(), num_envs), seed)
        loop.rate(0.2)
    times = _timed_pieces(program, state, keys[1:], loop)
    return {
        "env": env.spec.id,
        "physics": getattr(env, "backend", None),
        "num_envs": num_envs,
        "steps": steps,
        "repeats": repeats,
        **_rates(times, num_envs * steps, env.substeps),
        "compile_seconds": compile_seconds,
        "first_run_seconds": first_seconds,
        "clock": CLOCK,
        "floor": FLOOR if floor else None,
        "hardware": runtime.describe_hardware(),
        "versions": runtime.versions(),
    }


def _programs(env: Any, num_envs: int, steps: int) -> tuple[Any, Any]:
    """Return the compiled start with staggered episodes and the piece of `steps` control steps that is timed."""
    low, high = jnp.asarray(env.spec.action_low, jnp.float32), jnp.asarray(env.spec.action_high, jnp.float32)
    act = random_actions(low, high)

    @jax.jit
    def start(init_key: jax.Array, stagger_key: jax.Array) -> rollout.RolloutState:
        state = rollout.init(env, init_key, num_envs)
        steps = jax.random.randint(stagger_key, (num_envs,), 0, env.spec.episode_length, jnp.int32)
        return dataclasses.replace(state, steps=steps)

    def piece(state: rollout.RolloutState, piece_key: jax.Array) -> tuple[rollout.RolloutState, dict[str, jax.Array]]:
        state, seen, _ = rollout.unroll(env, act, state, piece_key, steps)
        # Summaries of everything an agent would see, so that the compiler cannot leave any of it out.
        sums = {"obs": seen.obs, "reward": seen.reward, "cost": seen.cost, "resets": seen.done}
        return state, jax.tree.map(lambda leaf: jnp.sum(leaf.astype(jnp.float32)), sums)

    return start, piece


class _Times(NamedTuple):
    """Seconds of each piece, rates of the bare loop in between (empty without one) and the number of resets."""

    spans: list[float]
    floors: list[float]
    resets: int


def _timed_pieces(program: Any, state: Any, keys: jax.Array, loop: BareLoop | None) -> _Times:
    """Time one piece for each key, and the bare loop for about the same time after each."""
    spans, floors, resets = [], [], 0.0
    for piece_key in keys:
        clock = time.perf_counter()
        state, sums = jax.block_until_ready(program(state, piece_key))
        spans.append(time.perf_counter() - clock)
        resets += float(sums["resets"])
        if loop is not None:
            floors.append(loop.rate(min(max(spans[-1], 0.3), 3.0)))
    return _Times(spans, floors, int(resets))


def _rates(times: _Times, steps_per_piece: int, substeps: int) -> dict[str, Any]:
    """Medians over the pieces, and every piece."""
    rates = [steps_per_piece / span for span in times.spans]
    rate = float(np.median(rates))
    bare = float(np.median(times.floors)) if times.floors else None
    return {
        "env_steps_per_second": rate,
        "floor_env_steps_per_second": bare,
        "floor_ratio": rate / bare if bare else None,
        "physics_steps_per_second": rate * substeps,
        "run_seconds": float(sum(times.spans)),
        "resets": times.resets,
        "all_env_steps_per_second": rates,
        "all_floor_env_steps_per_second": times.floors,
    }


def bare_loop(env: Any, num_states: int = 256, settle_steps: int = 50, seed: int = 0) -> BareLoop:
    """The bare loop over states of `env` after `settle_steps` random control steps, one thread per core."""
    low, high = jnp.asarray(env.spec.action_low, jnp.float32), jnp.asarray(env.spec.action_high, jnp.float32)

    @jax.jit
    def settle(key: jax.Array) -> rollout.RolloutState:
        init_key, act_key = jax.random.split(key)
        state = rollout.init(env, init_key, num_states)
        return rollout.unroll(env, random_actions(low, high), state, act_key, settle_steps)[0]

    states = physics_states(env, settle(jax.random.key(seed)).env.data)
    loop = BareLoop(env.mj_model, env.substeps, states, runtime.usable_cores(), seed)
    loop.rate(0.2)
    return loop


def random_actions(low: jax.Array, high: jax.Array) -> rollout.Act:
    """Uniformly random actions between `low` and `high`, each `[action_size]`.

    One number is drawn for each step and shifts a fixed table of uniform numbers around the unit interval, so that the
    clock measures environments and not the random generator.
    """

    def act(obs: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[()]]:
        table = np.random.default_rng(0).random((obs.shape[0], low.shape[0]), np.float32)
        shifted = jnp.asarray(table) + jax.random.uniform(key, (), jnp.float32)
        return low + (high - low) * (shifted - jnp.floor(shifted)), ()

    return act


def quiet_measure(env: Any, **options: Any) -> dict[str, Any] | None:
    """`measure`, but a failure is noted on stderr and gives None, so that one backend cannot end a whole benchmark."""
    try:
        return measure(env, **options)
    except Exception as error:
        note(f"{env.spec.id}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return None


CPU_CASES = (
    ("SafetyPointGoal1-v0", "mujoco", (256, 2048)),
    ("SafetyPointGoal2-v0", "mujoco", (256,)),
    ("SafetyPointButton1-v0", "mujoco", (256,)),
    ("SafetyCarGoal1-v0", "mujoco", (256,)),
    ("SafetyPointGoal1-v0", "mjx", (64, 256, 1024, 4096)),
)
ACCELERATOR_CASES = (
    ("SafetyPointGoal1-v0", "mjx", (256, 1024, 4096, 16384)),
    ("SafetyPointGoal2-v0", "mjx", (4096,)),
    ("SafetyPointButton1-v0", "mjx", (4096,)),
    ("SafetyCarGoal1-v0", "mjx", (4096,)),
)
QUICK_CASES = (("SafetyPointGoal1-v0", "mujoco", (16,)),)


def measure_throughput(quick: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The throughput of every case for this platform, and the cases that failed, in words."""
    cases = QUICK_CASES if quick else CPU_CASES if jax.default_backend() == "cpu" else ACCELERATOR_CASES
    rows, failed = [], []
    for env_id, physics, sizes in cases:
        env = make_env(env_id, physics)
        for num_envs in sizes:
            # About the same work in each piece: enough to time, and short enough to interleave with the floor.
            budget = 20_000 if physics == "mujoco" else 5_000 if jax.default_backend() == "cpu" else 400_000
            steps = max(2, min(200, budget // num_envs))
            note(f"{env_id}, {physics}, {num_envs} environments ...")
            row = quiet_measure(env, num_envs=num_envs, steps=steps, repeats=3 if quick else 7)
            if row is None:
                failed.append(f"{env_id}, {physics}, {num_envs} environments")
            else:
                rows.append(
                    {key: value for key, value in row.items() if key not in ("hardware", "versions", "clock", "floor")}
                )
    return rows, failed
