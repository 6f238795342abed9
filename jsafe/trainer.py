"""The contract of everything that learns: two pure functions over one pytree.

`lax.scan(trainer.step)` is a whole run, `vmap` over `trainer.init` and `trainer.step` is a population, and saving the
pytree is exact resume. `jsafe.fit` (module `jsafe.training.fit`) is the host loop around it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import struct

Metrics = dict[str, jax.Array]
"""Scalars of one iteration. Always there: `env_steps`, `return`, `cost`, `length`, `multiplier`, `episodes`.
`return`, `cost` and `length` are NaN while no episode has ended yet; whoever prints them says so instead."""


class TrainState(struct.PyTreeNode):
    """All that is needed to go on exactly.

    Attributes:
        params: name of the network to its parameters; `params["policy"]` is what acts.
        optimizer: optimiser states.
        dual: state of the constraint part (Lagrange multiplier, PID terms), `()` when there is none.
        normalizer: running statistics of the observations (`jsafe.running_statistics`), `()` when there are none.
        rollout: environment states, running episode sums and counters (`jsafe.rollout`).
        key: typed PRNG key.
        iteration: `[]` int32, finished iterations.
        skipped: `[]` int32, updates that were dropped because they were not finite.
        hyper: traced hyper-parameters by name; they may differ across a population.
        scales: running statistics of rewards and costs, for algorithms that normalise them, else `()`.
        frozen: what `step` never changes and `init` makes again from the same key and hyper-parameters, such as the
            weights of a reference model. Checkpoints leave it out, and a resume takes it from `init`.
    """

    params: dict[str, Any]
    optimizer: Any
    dual: Any
    normalizer: Any
    rollout: Any
    key: jax.Array
    iteration: jax.Array
    skipped: jax.Array
    hyper: dict[str, jax.Array]
    scales: Any = ()
    frozen: Any = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """How to rebuild the acting part of a trained state without the code that trained it.

    Attributes:
        observation_size: length of the flat observation.
        action_low: smallest allowed action, by entry.
        action_high: largest allowed action, by entry.
        hidden_sizes: widths of the hidden layers.
        activation: name of the nonlinearity in `jsafe.networks.mlp.ACTIVATIONS`.
        normalize_observations: whether `TrainState.normalizer` holds statistics to apply first.
        observation_clip: bound on the absolute value of a normalised observation.
        num_actions: number of discrete actions, None for continuous ones.
        squash: whether a continuous action is squashed to its bounds by tanh instead of left to be clipped.
        initial_log_std: log standard deviation of a continuous policy before training.
        fixed_scale: entries at the end of the observation that are not normalised.
        torso: what reads the observation before the perceptron, a name in `jsafe.networks.encoders.TORSOS`.
        history: length of the window that the observation is (`jsafe.frame_stack`), 1 for an observation that is none.
        recurrent_size: width of a recurrent torso.
        image_shape: height, width and channels of the image at the start of each observation, for torso `cnn`.
    """

    observation_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    normalize_observations: bool = True
    observation_clip: float = 5.0
    num_actions: int | None = None
    squash: bool = False
    initial_log_std: float = 0.0
    fixed_scale: int = 0
    torso: str = "mlp"
    history: int = 1
    recurrent_size: int = 64
    image_shape: tuple[int, ...] = ()

    @property
    def action_size(self) -> int:
        return len(self.action_low)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerInfo:
    """What a host loop may know about a trainer; everything in it can be written as JSON.

    Attributes:
        algorithm: registered name, for example `ppo_lag`.
        env_id: registered name of the environment.
        config: every hyper-parameter by name, static and traced.
        traced: the traced ones and their values; `TrainState.hyper` starts from these.
        env_steps_per_iteration: environment steps that one call of `step` takes.
        policy: how to rebuild the policy, or None for a trainer without one.
        shown: metrics that a progress line shows.
        unit: what `env_steps` counts, in the plural.
    """

    algorithm: str
    env_id: str
    config: Mapping[str, Any]
    traced: Mapping[str, float | tuple[float, ...]]
    env_steps_per_iteration: int
    policy: PolicySpec | None = None
    shown: tuple[str, ...] = ("return", "cost", "multiplier")
    unit: str = "steps"


class Trainer(NamedTuple):
    """A learning method bound to its problem, as pure functions.

    Attributes:
        init: `(key, hyper=None) -> TrainState`; `hyper` replaces traced hyper-parameters by name.
        step: `TrainState -> (TrainState, Metrics)`, one iteration.
        info: static description.
    """

    init: Callable[..., TrainState]
    step: Callable[[TrainState], tuple[TrainState, Metrics]]
    info: TrainerInfo


def run(
    trainer: Trainer, key: jax.Array, iterations: int, hyper: Mapping[str, Any] | None = None
) -> tuple[TrainState, Metrics]:
    """Train for a number of iterations inside one compiled program.

    Pure: `jax.jit(jax.vmap(lambda k: run(trainer, k, 50)))(keys)` trains one agent per key.

    Args:
        trainer: what to run.
        key: typed PRNG key, shape `[]`.
        iterations: number of calls of `trainer.step`, static, at least 1.
        hyper: traced hyper-parameters to replace, by name.

    Returns:
        The final state, and the metrics with a leading axis `[iterations]`.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    return jax.lax.scan(lambda s, _: trainer.step(s), trainer.init(key, hyper), length=iterations)
