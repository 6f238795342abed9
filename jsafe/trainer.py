"""The contract of everything that learns: two pure functions over one pytree.

`lax.scan(trainer.step)` is a whole run, `vmap` over `trainer.init` and `trainer.step` is a population, and saving the
pytree is exact resume. `jsafe.fit` (module `jsafe.training.fit`) is the host loop around it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jsafe.policy_spec import PolicySpec

Metrics = dict[str, jax.Array]
"""Scalars of one iteration by name; `TrainerInfo.metrics` describes them."""


class TrainState(struct.PyTreeNode):
    """Everything needed to resume training bit for bit.

    Attributes:
        params: trained parameters. `params["policy"]` acts, for trainers with a `TrainerInfo.policy`.
        optimizer: optimiser states.
        algo: state of the method itself: multipliers, schedules, running statistics, best parameters. `algo.normalizer`
            holds running statistics of a policy's observations (`jsafe.running_statistics`), `()` without any.
        memory: environments in progress (`jsafe.rollout`), replay buffers, cursors of data sets.
        key: typed PRNG key.
        iteration: `[]` int32, finished iterations.
        skipped: `[]` int32, updates that were dropped because they were not finite.
        hyper: traced hyper-parameters by name; they may differ across a population.
        frozen: state that `step` never changes and `init` rebuilds from the same key and hyper-parameters, such as the
            weights of a reference model. Checkpoints leave it out, and a resumed run takes it from `init`.
    """

    params: Any
    optimizer: Any
    algo: Any
    memory: Any
    key: jax.Array
    iteration: jax.Array
    skipped: jax.Array
    hyper: dict[str, jax.Array]
    frozen: Any = ()


@dataclasses.dataclass(frozen=True)
class MetricSpec:
    """Description of one metric, for progress lines and reports.

    Attributes:
        name: its name in `Metrics`.
        unit: unit of its values, empty for plain numbers.
        help: short noun phrase.
        reduce: reduction of several iterations to one number.
        may_be_nan: True if NaN is no error while no episode has ended: the value is not known yet.
        shown: True if a progress line shows it.
    """

    name: str
    unit: str = ""
    help: str = ""
    reduce: Literal["mean", "last", "sum"] = "mean"
    may_be_nan: bool = False
    shown: bool = False


def count_units(iteration: jax.Array, units_per_step: int) -> jax.Array:
    """Count the units of all finished iterations, `[]` uint32; it stays at the largest value instead of wrapping.

    `jsafe.fit` counts on in 64 bits on the host (`exact_units`), which a program without 64-bit types cannot.
    """
    largest = np.iinfo(np.uint32).max
    exact = iteration.astype(jnp.uint32) * jnp.uint32(min(units_per_step, largest))
    return jnp.where(iteration > largest // units_per_step, jnp.uint32(largest), exact)


def exact_units(counted: np.ndarray, iterations: np.ndarray, units_per_step: int) -> np.ndarray:
    """Return counts of units in 64 bits.

    Args:
        counted: `[iterations, seeds]`, counts of the program in 32 bits, which wrap or stay at their largest value.
        iterations: `[iterations]`, finished iterations.
        units_per_step: units of one iteration.

    Returns:
        `[iterations, seeds]` int64; counts that are no multiple of the finished iterations are unchanged.
    """
    exact = np.broadcast_to((iterations.astype(np.int64) * units_per_step)[:, None], counted.shape)
    words = counted.astype(np.int64) & 0xFFFFFFFF
    same = (words == exact & 0xFFFFFFFF) | ((words == 0xFFFFFFFF) & (exact > 0xFFFFFFFF))
    return np.where(same, exact, counted.astype(np.int64))


def shown_metrics(*names: str) -> tuple[MetricSpec, ...]:
    """Metrics for a progress line that need no further description."""
    return tuple(MetricSpec(name, shown=True) for name in names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerInfo:
    """Static description of a trainer for the host loop; JSON can hold everything in it.

    Attributes:
        algorithm: registered name, for example `ppo_lag`.
        config: every hyper-parameter by name, static and traced.
        traced: the traced ones and their values; `TrainState.hyper` starts from these.
        units_per_step: number of units that one call of `step` consumes.
        unit: unit of the progress of a run, in the plural.
        problem: registered name of the environment or the data, None for a problem without a name.
        metrics: descriptions of the metrics, those that a progress line shows first.
        policy: description from which to rebuild the policy; None for a trainer without one.
    """

    algorithm: str
    config: Mapping[str, Any]
    traced: Mapping[str, float | tuple[float, ...]]
    units_per_step: int
    unit: str = "steps"
    problem: str | None = None
    metrics: tuple[MetricSpec, ...] = ()
    policy: PolicySpec | None = None

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the metrics that a progress line shows."""
        return tuple(spec.name for spec in self.metrics if spec.shown)


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
        trainer: trainer to run.
        key: typed PRNG key, shape `[]`.
        iterations: number of calls of `trainer.step`, static, at least 1.
        hyper: traced hyper-parameters to replace, by name.

    Returns:
        The final state, and the metrics with a leading axis `[iterations]`.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    return jax.lax.scan(lambda s, _: trainer.step(s), trainer.init(key, hyper), length=iterations)
