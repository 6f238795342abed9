"""Trained policies, loaded from the folder of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import spaces
from jsafe.policy_spec import PolicySpec
from jsafe.runs import record as run_record
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.record import RunError

Apply = Callable[[Any, Any, Any, jax.Array | None], jax.Array]


class StackedPolicies(NamedTuple):
    """The policies of all seeds of a run.

    Attributes:
        spec: description of the networks and spaces.
        params: network parameters; every leaf has a leading axis `[seeds]`.
        normalizer: statistics of the observations, with the same leading axis; `()` if there are none.
        apply: `(params, normalizer, obs, key) -> action` for one seed, see `make_apply`.
        iteration: finished iterations of the checkpoint.
        seeds: number of policies.
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
    `spec.history` above 1 acts on the observations of `jsafe.frame_stack.FrameStack(env, spec.history)`.

    Attributes:
        spec: spaces and network, `jsafe.PolicySpec`.
        params: network parameters.
        normalizer: statistics of the observations, `()` if there are none.
        apply: the pure function `(params, normalizer, obs, key) -> action`, see `make_apply`.
        iteration: finished iterations of the checkpoint.
        source: how to get the observations it acts on, for messages; empty if they are those of the environment.
    """

    def __init__(self, spec: PolicySpec, params: Any, normalizer: Any, iteration: int = 0, source: str = "") -> None:
        self.spec, self.params, self.normalizer, self.iteration = spec, params, normalizer, iteration
        self.source = source
        self.apply = make_apply(spec)
        self._jitted = jax.jit(self.apply)

    def __call__(self, obs: Any, key: jax.Array | None = None) -> Any:
        """Act on one observation or a batch with any leading axes.

        Args:
            obs: raw observations of `spec.observation`, NumPy or JAX, a dict of arrays for a tree of spaces.
                Normalisation happens here.
            key: typed PRNG key for a sampled action; None for the deterministic one (the mode).

        Returns:
            Actions `[..., A]`, float32, or int32 `[...]` for discrete ones; NumPy for NumPy observations.

        Raises:
            ValueError: the observations do not belong to the space.
        """
        obs = spaces.as_arrays(self.spec.observation, obs)
        try:
            spaces.check_batch(self.spec.observation, obs, "the policy's observations")
        except ValueError as error:
            history = self.spec.history
            window = f". The observations of this policy are those of FrameStack(env, {history})" if history > 1 else ""
            raise ValueError(f"{error}{window}{'. ' * bool(self.source)}{self.source}") from None
        action = self._jitted(self.params, self.normalizer, jax.tree.map(jnp.asarray, obs), key)
        return action if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(obs)) else np.asarray(action)


def make_apply(spec: PolicySpec) -> Apply:
    """Build the acting part of a policy as one pure function, for jit, vmap and scan.

    Returns:
        `apply(params, normalizer, obs, key) -> action [..., A]`, or `[...]` for discrete actions; the mode if `key` is
        None, else a sample.
    """
    from jsafe import running_statistics  # imports brax: only when a policy is used

    network = spec.build()

    def apply(params: Any, normalizer: Any, obs: Any, key: jax.Array | None = None) -> jax.Array:
        acting = network.apply(
            params, running_statistics.apply(normalizer, obs, spec.observation_clip, spec.observation)
        )
        return acting.execute(acting.mode() if key is None else acting.sample(key))

    return apply


def load_policies(
    run_dir: Path | str, iteration: int | None = None, policy: PolicySpec | None = None
) -> StackedPolicies:
    """Read the policies of all seeds of a run, stacked.

    Args:
        run_dir: folder of the run.
        iteration: checkpoint to read; None for the newest good one.
        policy: description of networks of your own, for a run that records none.

    Raises:
        RunError: there is no run, or its trainer has no policy.
        CheckpointError: no good checkpoint, or not that one.
    """
    from jsafe import running_statistics

    record = run_record.read_run(run_dir)
    spec = run_record.policy_spec(record) or policy
    if spec is None:
        raise RunError(
            f"{run_dir}: {record['trainer'].get('algorithm')} trains no policy, or one of networks of your own. "
            "Describe those: load_policy(run_dir, policy=PolicySpec(network=NAME, ...)), with their builder under NAME "
            "in jsafe.networks.actor_critic.BUILDERS"
        )
    seeds, network = record["seeds"], spec.build()

    def stacked(make: Callable[[], Any]) -> Any:
        one = jax.eval_shape(make)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype), one)

    normalizer = running_statistics.init(spec.observation) if spec.normalize_observations else ()
    template = {
        "params": {"policy": stacked(lambda: network.init(jax.random.key(0)))},
        "algo": {"normalizer": stacked(lambda: normalizer)},
    }
    parts = ("params.policy", "algo.normalizer") if jax.tree.leaves(normalizer) else ("params.policy",)
    restored = Checkpoints(run_dir).restore(template, iteration, parts)
    state = jax.tree.map(jnp.asarray, restored.state)
    params, normalizer = state["params"]["policy"], state["algo"]["normalizer"]
    return StackedPolicies(spec, params, normalizer, make_apply(spec), restored.iteration, seeds)


def load_policy(
    run_dir: Path | str, seed: int = 0, iteration: int | None = None, policy: PolicySpec | None = None
) -> Policy:
    """Read the trained policy of one seed of a run.

    Args:
        run_dir: folder of the run.
        seed: index of the member, from 0.
        iteration: checkpoint to read; None for the newest good one.
        policy: description of networks of your own, for a run that records none.

    Raises:
        ValueError: the run has no such seed.
        RunError, CheckpointError: see `load_policies`.
    """
    policies = load_policies(run_dir, iteration, policy)
    if not 0 <= seed < policies.seeds:
        raise ValueError(f"{run_dir} has seeds 0 to {policies.seeds - 1}, got seed {seed}")
    params, normalizer = jax.tree.map(lambda x: x[seed], (policies.params, policies.normalizer))
    return Policy(policies.spec, params, normalizer, policies.iteration, _source(run_dir, policies.spec))


def _source(run_dir: Path | str, spec: PolicySpec) -> str:
    """Return how to get the observations of a policy that sees more than its environment shows."""
    names = [path.rpartition(".")[2] for path, _ in spaces.leaves(spec.observation)]
    names += [name for _, leaf in spaces.leaves(spec.observation) for name, _ in getattr(leaf, "blocks", ())]
    if "budget" not in names:
        return ""
    algorithm = run_record.read_run(run_dir)["trainer"].get("algorithm")
    return (
        f"The policies of {algorithm} also see the remaining budget: act in algorithms.rewrite({algorithm!r}, env, "
        "config), with the config under 'trainer' in run.json"
    )
