"""Trained policies, read back from the folder of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.runs import record as run_record
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.record import RunError
from jsafe.trainer import PolicySpec

Apply = Callable[[Any, Any, jax.Array, jax.Array | None], jax.Array]


class Policies(NamedTuple):
    """The policies of all seeds of a run.

    Attributes:
        spec: how they are built.
        params: network parameters; every leaf has a leading axis `[seeds]`.
        normalizer: statistics of the observations, with the same axis; `()` if there are none.
        apply: `(params, normalizer, obs, key) -> action` for one seed, see `make_apply`.
        iteration: finished iterations of the checkpoint.
        seeds: how many.
    """

    spec: PolicySpec
    params: Any
    normalizer: Any
    apply: Apply
    iteration: int
    seeds: int


class Policy:
    """A trained policy: `policy(obs)` is its deterministic action, `policy(obs, key)` a sampled one.

    Actions of a plain Gaussian are unclipped: the environment clips to its bounds, as in training. A policy with
    `spec.history` above 1 acts on what `jsafe.frame_stack.History(env, spec.history)` shows.

    Attributes:
        spec: sizes and bounds, `jsafe.trainer.PolicySpec`.
        params: network parameters.
        normalizer: statistics of the observations, `()` if there are none.
        apply: the pure function `(params, normalizer, obs, key) -> action`, see `make_apply`.
        iteration: finished iterations of the checkpoint it comes from.
    """

    def __init__(self, spec: PolicySpec, params: Any, normalizer: Any, iteration: int = 0) -> None:
        self.spec, self.params, self.normalizer, self.iteration = spec, params, normalizer, iteration
        self.apply = make_apply(spec)
        self._jitted = jax.jit(self.apply)

    def __call__(self, obs: Any, key: jax.Array | None = None) -> Any:
        """Act on one observation `[O]` or a batch `[..., O]`.

        Args:
            obs: raw observations as the environment gives them, NumPy or JAX; normalisation happens here.
            key: typed PRNG key for a sampled action; None for the deterministic one (the mode).

        Returns:
            Actions `[A]` or `[..., A]`, float32, or int32 `[]` or `[...]` for discrete ones; NumPy for NumPy
            observations.

        Raises:
            ValueError: the last axis is not the observation size.
        """
        shape = np.shape(obs)
        if not shape or shape[-1] != self.spec.observation_size:
            window = (
                f" (a window: jsafe.frame_stack.History(env, {self.spec.history}))" if self.spec.history > 1 else ""
            )
            raise ValueError(
                f"the policy takes observations of size {self.spec.observation_size} in the last axis, "
                f"got shape {shape}{window}"
            )
        action = self._jitted(self.params, self.normalizer, jnp.asarray(obs), key)
        return action if isinstance(obs, jax.Array) else np.asarray(action)


def make_apply(spec: PolicySpec) -> Apply:
    """The acting part of a policy as one pure function, for jit, vmap and scan.

    Returns:
        `apply(params, normalizer, obs [..., O], key) -> action [..., A]`, or `[...]` for discrete actions; the mode if
        `key` is None, else a sample.
    """
    from jsafe import running_statistics  # they bring flax and brax: only when a policy is used
    from jsafe.networks import mlp

    network = mlp.make_policy(spec)

    def apply(params: Any, normalizer: Any, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        acting = network.apply(params, running_statistics.apply(normalizer, obs, spec.observation_clip))
        return acting.execute(acting.mode() if key is None else acting.sample(key))

    return apply


def load_policies(run_dir: Path | str, iteration: int | None = None) -> Policies:
    """Read the policies of all seeds of a run, stacked.

    Args:
        run_dir: folder of the run.
        iteration: which checkpoint; None for the newest good one.

    Raises:
        RunError: there is no run, or its trainer has no policy.
        CheckpointError: no good checkpoint, or not that one.
    """
    from jsafe import running_statistics
    from jsafe.networks import mlp

    record = run_record.read_run(run_dir)
    spec = run_record.policy_spec(record)
    if spec is None:
        raise RunError(f"{run_dir}: {record['trainer'].get('algorithm')} trains no policy")
    seeds = record["seeds"]

    def stacked(make: Callable[[], Any]) -> Any:
        one = jax.eval_shape(make)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype), one)

    template = {
        "params": {"policy": stacked(lambda: mlp.make_policy(spec).init(jax.random.key(0)))},
        "algo": {
            "normalizer": stacked(lambda: running_statistics.init(spec.observation_size - spec.fixed_scale))
            if spec.normalize_observations
            else ()
        },
    }
    parts = ("params.policy", "algo.normalizer") if spec.normalize_observations else ("params.policy",)
    restored = Checkpoints(run_dir).restore(template, iteration, parts)
    state = jax.tree.map(jnp.asarray, restored.state)
    params, normalizer = state["params"]["policy"], state["algo"]["normalizer"]
    return Policies(spec, params, normalizer, make_apply(spec), restored.iteration, seeds)


def load_policy(run_dir: Path | str, seed: int = 0, iteration: int | None = None) -> Policy:
    """Read the trained policy of one seed of a run.

    Args:
        run_dir: folder of the run.
        seed: which member, from 0.
        iteration: which checkpoint; None for the newest good one.

    Raises:
        ValueError: the run has no such seed.
        RunError, CheckpointError: see `load_policies`.
    """
    policies = load_policies(run_dir, iteration)
    if not 0 <= seed < policies.seeds:
        raise ValueError(f"{run_dir} has seeds 0 to {policies.seeds - 1}, got seed {seed}")
    params, normalizer = jax.tree.map(lambda x: x[seed], (policies.params, policies.normalizer))
    return Policy(policies.spec, params, normalizer, policies.iteration)
