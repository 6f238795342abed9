"""What the models of drawings share while they learn: batches, optimiser, validation, a `jsafe.Trainer` around a loss.

An iteration is a fixed number of updates and one look at the validation set; the parameters that did best there are
kept beside the newest. Data stay on the host: the compiled program asks for the rows it needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsafe import Metrics, Trainer, TrainerInfo, TrainState, host_data
from jsafe.config import Hyper, hyperparameters, merged_traced, option
from jsafe.trainer import shown_metrics
from sketch.models.sketch_rnn import annealed


@hyperparameters
class TrainingOptions(Hyper):
    """Hyper-parameters of the supervised stages; the defaults are Sketch-RNN's published ones."""

    iterations: int = option("of a whole run", default=200, low=1)
    updates: int = option("of the optimiser in one iteration, before a look at the validation set", default=100, low=1)
    batch_size: int = option("drawings of one gradient, drawn without replacement", default=100, low=1)
    learning_rate: float = option("step size of Adam at first", default=1e-3, traced=True, above=0)
    last_learning_rate: float = option("step size that it falls to", default=1e-5, low=0)
    learning_rate_decay: float = option(
        "share of the way that is left after an update", default=0.9999, above=0, high=1
    )
    gradient_clip: float = option("bound on each entry of the gradient", default=1.0, above=0)


class Judgement(NamedTuple):
    """What a loss says of a batch.

    Attributes:
        loss: `[]`.
        metrics: scalars to report.
    """

    loss: jax.Array
    metrics: dict[str, jax.Array] = {}  # noqa: RUF012


class Problem(NamedTuple):
    """What is to be learned.

    Attributes:
        init: `key -> parameters`.
        loss: `(parameters, batch, key, update [], hyper) -> Judgement`; the batch is a tree of the data's rows, `hyper`
            the traced hyper-parameters.
        validate: `(parameters, data, key) -> Judgement`, on all of the validation set at once; the best
            parameters are those with the least of its losses.
        data: tree of arrays of the host, `[N, ...]` each.
        validation: the same for the validation set, None where there is none.
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any, jax.Array, jax.Array, dict[str, jax.Array]], Judgement]
    validate: Callable[[Any, Any, jax.Array], Judgement]
    data: Any
    validation: Any = None


class Best(NamedTuple):
    """How well the best parameters did.

    Attributes:
        loss: `[]` on the validation set.
        iteration: `[]` int32, after which they were found.
    """

    loss: jax.Array
    iteration: jax.Array


def descent_trainer(
    name: str,
    problem: Problem,
    options: TrainingOptions,
    *,
    shown: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Trainer:
    """A trainer that follows a gradient with Adam, bounded entry by entry.

    `TrainState.params` has `model`, the newest parameters, and `best`, those with the least loss on the validation set;
    without one these are the newest too.

    Args:
        name: of the stage.
        problem: what is to be learned.
        options: hyper-parameters.
        shown: metrics to show beside the loss while it trains.
        config: further entries of the recorded configuration.

    Raises:
        ValueError: arrays of unlike length, or fewer rows than a batch has.
    """
    rows = _rows(problem.data, "data")
    if options.batch_size > rows:
        raise ValueError(f"batch_size {options.batch_size} is more than the {rows} drawings there are")
    if problem.validation is not None:
        _rows(problem.validation, "validation")
    optimizer = optax.chain(optax.clip(options.gradient_clip), optax.scale_by_adam())

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        start, key = jax.random.split(key)
        model = problem.init(start)
        traced = merged_traced(options.traced(), hyper, name)
        return TrainState(
            params={"model": model, "best": model},
            optimizer=optimizer.init(model),
            memory=(),
            algo=Best(jnp.float32(jnp.inf), jnp.int32(0)),
            key=key,
            iteration=jnp.int32(0),
            skipped=jnp.int32(0),
            hyper={k: jnp.asarray(v, jnp.float32) for k, v in traced.items()},
        )

    def update(state: TrainState, number: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        choice, inner = jax.random.split(jax.random.fold_in(state.key, number))
        batch = host_data.rows(problem.data, jax.random.choice(choice, rows, (options.batch_size,), replace=False))
        model = state.params["model"]

        def judged(params: Any) -> tuple[jax.Array, Judgement]:
            found = problem.loss(params, batch, inner, number, state.hyper)
            return found.loss, found

        (_, found), gradient = jax.value_and_grad(judged, has_aux=True)(model)
        rate = annealed(state.hyper["learning_rate"], options.last_learning_rate, options.learning_rate_decay, number)
        size = optax.tree.norm(gradient)
        finite = jnp.isfinite(size) & jnp.isfinite(found.loss)
        direction, moments = optimizer.update(gradient, state.optimizer, model)
        moved = jax.tree.map(lambda p, d: p - rate * d, model, direction)
        keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)  # noqa: E731
        state = dataclasses.replace(
            state,
            params=state.params | {"model": keep(moved, model)},
            optimizer=keep(moments, state.optimizer),
            skipped=state.skipped + (~finite).astype(jnp.int32),
        )
        return state, {**found.metrics, "loss": found.loss, "gradient_norm": size, "learning_rate": rate}

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        numbers = state.iteration * options.updates + jnp.arange(options.updates)
        state, each = jax.lax.scan(update, state, numbers)
        # Of the last iteration only: averages over updates that a few lost ones do not turn to NaN.
        metrics = {k: jnp.nanmean(v) for k, v in each.items()}
        metrics["learning_rate"] = each["learning_rate"][-1]
        model, best, done = state.params["model"], state.algo, state.iteration + 1
        if problem.validation is None:
            kept = model
        else:
            every = host_data.rows(problem.validation, jnp.arange(_rows(problem.validation, "validation")))
            found = problem.validate(model, every, jax.random.fold_in(state.key, -done))
            better = found.loss < best.loss
            kept = jax.tree.map(lambda n, o: jnp.where(better, n, o), model, state.params["best"])
            best = Best(jnp.where(better, found.loss, best.loss), jnp.where(better, done, best.iteration))
            metrics |= {f"valid_{k}": v for k, v in {**found.metrics, "loss": found.loss}.items()}
            metrics["best_iteration"] = best.iteration
        state = dataclasses.replace(state, params={"model": model, "best": kept}, algo=best, iteration=done)
        metrics |= {"skipped": state.skipped, "env_steps": done * options.updates * options.batch_size}
        return state, metrics

    info = TrainerInfo(
        algorithm=name,
        config={**options.config(), "rows": rows, **(config or {})},
        traced=options.traced(),
        units_per_step=options.updates * options.batch_size,
        metrics=shown_metrics("loss", *shown),
        unit="drawings",
    )
    return Trainer(init=init, step=step, info=info)


def _rows(data: Any, name: str) -> int:
    lengths = {len(np.asarray(leaf)) for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1:
        raise ValueError(f"{name} must have arrays of one length, got {sorted(lengths)}")
    return lengths.pop()
