"""The trained policies of a run as one pure function over stacked parameters, and the environment they learned in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

import algorithms
from experiments.cli.devices import configure, make_env, read_overrides
from experiments.cli.result import CommandError
from experiments.report.run_reader import Run
from jsafe import policy
from jsafe.frame_stack import FrameStack


class Policies(NamedTuple):
    """Policies of S seeds.

    Attributes:
        params: pytree with leading axis `[S]`, whatever `act` needs.
        act: `(params of one seed, obs [..., observation_size], key, explore) -> action [..., action_size]`; `explore`
            is 0 for the deterministic action, 1 for a sample.
        seeds: their names, in order.
        history: observations that they see at once, see `jsafe.frame_stack`.
    """

    params: Any
    act: Callable[[Any, jax.Array, jax.Array, Any], jax.Array]
    seeds: list[int]
    history: int = 1

    def view(self, env: Any) -> Any:
        """The environment as these policies see it; `inner` of its states gives those of `env`."""
        return FrameStack(env, self.history) if self.history > 1 else env


def load_policies(run: Run, seeds: Sequence[int] | None = None) -> Policies:
    """The policies of a run's newest good checkpoint.

    Args:
        run: the run.
        seeds: which of them, None for all.

    Raises:
        CommandError: a seed that the run does not have.
        jsafe.runs.record.RunError, jsafe.runs.checkpoint.CheckpointError: no policy, or no good checkpoint.
    """
    stored = policy.load_policies(run.path)
    chosen = list(range(stored.seeds)) if seeds is None else list(seeds)
    for seed in chosen:
        if not 0 <= seed < stored.seeds:
            raise CommandError(f"the run at {run.path} has seeds 0 to {stored.seeds - 1}, got seed {seed}")
    params = jax.tree.map(lambda leaf: leaf[jax.numpy.asarray(chosen)], (stored.params, stored.normalizer))

    def act(params: Any, obs: jax.Array, key: jax.Array, explore: Any) -> jax.Array:
        weights, normalizer = params
        drawn, best = (stored.apply(weights, normalizer, obs, k) for k in (key, None))
        return jax.numpy.where(explore > 0, drawn, best)

    return Policies(params, act, chosen, stored.spec.history)


def prepare_for(platform: str | None, devices: int | None) -> None:
    """Set JAX up for this process (see `experiments.cli.devices.configure`)."""
    configure(platform, devices)


def env_of(run: Run, physics: str | None = None, overrides: Any = ()) -> Any:
    """The environment of a run, with the settings it was trained with, or another simulator or other settings.

    It is rewritten as the algorithm of the run does it.
    """
    kept = run.facts.get("environment", {})
    changes = read_overrides(overrides) if not isinstance(overrides, dict) else overrides
    merged = dict(kept.get("overrides") or {})
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **value} if both else value
    env = make_env(run.env_id, physics or kept.get("physics"), merged)
    return algorithms.rewrite(run.algorithm, env, run.info.get("config", {}))
