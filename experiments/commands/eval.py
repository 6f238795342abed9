"""`jsafe eval`: test episodes of a trained run, all seeds, modes and episodes side by side in one compiled program."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli.argument_types import Count, Folder, Whole
from experiments.cli.format import seconds_text, table, to_json
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, Physics
from experiments.cli.stdout import note
from experiments.report.policies import Policies, env_of, load_policies, prepare_for
from experiments.report.run_reader import load_run
from experiments.report.svg_charts import mean_and_interval
from jsafe import runtime
from jsafe.constrained import combine

CHUNK = 50
"""Control steps in one call of the compiled program; between calls the progress is shown."""

QUANTITIES = ("return", "cost", "length")


class Episodes(NamedTuple):
    """Sums over test episodes; `[modes, seeds, episodes]` each.

    Attributes:
        returns: undiscounted sums of rewards.
        costs: undiscounted sums of the total cost.
        lengths: steps.
        finite: whether everything in the episode was finite.
    """

    returns: np.ndarray
    costs: np.ndarray
    lengths: np.ndarray
    finite: np.ndarray


@flags
class EvalRequest:
    """Settings of `jsafe eval`.

    Attributes:
        run: Folder of a run.
        episodes: Number of episodes of each seed.
        seed: Root seed of the test episodes.
        policy: Action of the policy: its mean, a sample, or a report on each.
    """

    run: Folder = positional()
    episodes: Count = 100
    seed: Whole = 0
    policy: Literal["both", "deterministic", "stochastic"] = "both"
    physics: Physics = Physics()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: EvalRequest) -> Result:
    """Run `jsafe eval`; the result is also written to `RUN/eval.json`, where `jsafe report` finds it."""
    data = evaluate_run(
        request.run,
        request.episodes,
        root=request.seed,
        modes=("deterministic", "stochastic") if request.policy == "both" else (request.policy,),
        physics=request.physics.physics,
        overrides=request.physics.override,
        platform=request.machine.platform,
        devices=request.machine.devices,
        progress=not request.output.json and sys.stderr.isatty(),
    )
    return Result(data, describe(data))


def evaluate_run(
    path: Path,
    episodes: int,
    *,
    root: int = 0,
    modes: Sequence[str] = ("deterministic", "stochastic"),
    physics: str | None = None,
    overrides: Any = (),
    platform: str | None = None,
    devices: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluate every seed of a run and write `eval.json` into its folder.

    Args:
        path: folder of the run.
        episodes: test episodes of each seed and mode; all of them start from the same layouts.
        root: seed of the test episodes.
        modes: `deterministic` (mean action), `stochastic` (sampled action) or both.
        physics: simulator, None for the one of the run.
        overrides: changes to the environment.
        platform: where JAX computes.
        devices: number of JAX devices.
        progress: whether to count steps on stderr.

    Returns:
        What `jsafe eval --json` prints.
    """
    run = load_run(path)
    prepare_for(platform, devices)
    env = env_of(run, physics, overrides)
    policies = load_policies(run)
    found, seconds = run_episodes(env, policies, jax.random.key(root), episodes, modes, progress)
    if not found.finite.all():
        note(f"warning: {int((~found.finite).sum())} episodes had values that are not finite; they are left out")
    data: dict[str, Any] = {
        "run": str(path),
        "algorithm": run.algorithm,
        "env": run.env_id,
        "physics": getattr(env, "backend", None),
        "episodes": episodes,
        "cost_limit": run.cost_limit,
    }
    for place, mode in enumerate(modes):
        data[mode] = summarise(Episodes(*(leaf[place] for leaf in found)), policies.seeds)
    data |= {key: data[modes[0]]["overall"][key] for key in QUANTITIES}
    data |= {"seconds": seconds, "hardware": runtime.describe_hardware(), "versions": runtime.versions()}
    try:
        (path / "eval.json").write_text(to_json(data))
    except OSError as error:
        note(f"could not write {path / 'eval.json'}: {error.strerror or error}")
    return data


def run_episodes(
    env: Any, policies: Policies, key: jax.Array, episodes: int, modes: Sequence[str], progress: bool = False
) -> tuple[Episodes, dict[str, float]]:
    """Play `episodes` of every seed in every mode at once.

    An episode ends at its termination or at the time limit; an environment whose episode is over is stepped on until
    all are, without counting, which is cheaper than stopping it.

    Args:
        env: the CMDP, without the window of policies that see a history.
        policies: S trained policies.
        key: typed PRNG key; layouts depend on it and the number of the episode alone.
        episodes: E.
        modes: M names out of `deterministic`, `stochastic`.
        progress: whether to count steps on stderr.

    Returns:
        The sums `[M, S, E]`, and `compile` and `run` seconds.
    """
    env = policies.view(env)
    explore = jnp.asarray([float(mode == "stochastic") for mode in modes], jnp.float32)
    reset_key, act_key = jax.random.split(key)

    def begin(reset_key: jax.Array) -> Any:
        start = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))
        wide = (len(modes), len(policies.seeds))
        start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*wide, *leaf.shape)), start)
        zeros = jnp.zeros((*wide, episodes), jnp.float32)
        return start, ~start.terminated, (zeros, zeros, zeros, jnp.ones((*wide, episodes), bool))

    def advance(params: Any, carry: Any, keys: jax.Array) -> Any:
        def one_policy(params: Any, obs: jax.Array, step_key: jax.Array, explore: jax.Array) -> jax.Array:
            return policies.act(params, obs, step_key, explore)

        every_seed = jax.vmap(one_policy, in_axes=(0, 0, 0, None))
        every_mode = jax.vmap(every_seed, in_axes=(None, 0, 0, 0))
        one_step = jax.vmap(jax.vmap(jax.vmap(env.step)))

        def step(carry: Any, step_key: jax.Array) -> tuple[Any, None]:
            state, alive, (returns, costs, lengths, finite) = carry
            step_keys = jax.random.split(step_key, alive.shape[:2])
            state = one_step(state, every_mode(params, state.obs, step_keys, explore))
            reward, cost = state.original_reward, combine(env.spec, state.cost)
            good = jnp.isfinite(reward) & jnp.isfinite(cost)
            sums = (
                returns + jnp.where(alive & good, reward, 0.0).astype(jnp.float32),
                costs + jnp.where(alive & good, cost, 0.0).astype(jnp.float32),
                lengths + alive,
                finite & (good | ~alive),
            )
            return (state, alive & ~state.terminated, sums), None

        return jax.lax.scan(step, carry, keys)[0]

    clock = time.perf_counter()
    carry = jax.block_until_ready(jax.jit(begin)(reset_key))
    limit = env.spec.episode_length
    chunk = next(size for size in range(min(CHUNK, limit), 0, -1) if limit % size == 0)
    keys = jax.random.split(act_key, limit).reshape(limit // chunk, chunk)
    program = jax.jit(advance, donate_argnums=1).lower(policies.params, carry, keys[0]).compile()
    compile_seconds = time.perf_counter() - clock
    clock = time.perf_counter()
    for number, chunk_keys in enumerate(keys):
        carry = program(policies.params, carry, chunk_keys)
        if progress:
            print(f"\rstep {(number + 1) * chunk} of {limit}", end="", file=sys.stderr, flush=True)
        if not np.asarray(carry[1]).any():
            break
    if progress:
        print(file=sys.stderr)
    returns, costs, lengths, finite = (np.asarray(leaf) for leaf in carry[2])
    seconds = {"compile": compile_seconds, "run": time.perf_counter() - clock}
    return Episodes(returns, costs, lengths, finite), seconds


def summarise(found: Episodes, seeds: Sequence[int]) -> dict[str, Any]:
    """Per-seed and overall means of `[seeds, episodes]` sums.

    Overall, `*_interval` is the 95 % interval of the mean over seeds (Student's t), since seeds, not episodes, are the
    independent experiments; with one seed it is the interval over its episodes.
    """
    per_seed, overall = [], {}
    columns = dict(zip(QUANTITIES, (found.returns, found.costs, found.lengths), strict=True))
    columns = {name: np.where(found.finite, values, np.nan).astype(float) for name, values in columns.items()}
    for place, seed in enumerate(seeds):
        row: dict[str, Any] = {"seed": int(seed), "episodes": int(found.finite[place].sum())}
        for name, values in columns.items():
            row |= _statistics(name, values[place])
        per_seed.append(row)
    for name, values in columns.items():
        means = np.array([row[name] for row in per_seed])
        overall |= _statistics(name, values.reshape(-1))
        if len(seeds) > 1:
            mean, low, high = (float(value) for value in mean_and_interval(means))
            overall |= {name: mean, f"{name}_interval": [low, high]}
    return {"overall": overall, "seeds": per_seed}


def _statistics(name: str, values: np.ndarray) -> dict[str, Any]:
    mean, low, high = (float(value) for value in mean_and_interval(values))
    known = values[np.isfinite(values)]
    deviation = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return {name: mean, f"{name}_std": deviation, f"{name}_interval": [low, high]}


def describe(data: dict[str, Any]) -> str:
    """The result of `evaluate_run` as tables."""
    lines = [f"{data['algorithm']} on {data['env']} ({data['physics']}), {data['episodes']} episodes of each seed"]
    for mode in ("deterministic", "stochastic"):
        if mode not in data:
            continue
        rows = [[str(row["seed"]), *_cells(row)] for row in data[mode]["seeds"]]
        rows.append(["all", *_cells(data[mode]["overall"])])
        lines += ["", f"{mode} policy", table(["seed", "return", "cost", "length"], rows)]
    if data["cost_limit"] is not None:
        lines += ["", f"cost limit {data['cost_limit']:g}; ± is half the 95 % interval of the mean"]
    else:
        lines += ["", "± is half the 95 % interval of the mean"]
    seconds = data["seconds"]
    lines.append(f"compiled in {seconds_text(seconds['compile'])}, ran for {seconds_text(seconds['run'])}")
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    cells = []
    for name in QUANTITIES:
        low, high = row[f"{name}_interval"]
        cells.append(f"{row[name]:.2f} ± {(high - low) / 2:.2f}" if name != "length" else f"{row[name]:.1f}")
    return cells
