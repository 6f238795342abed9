"""Supervised trainer of the drawing models: batches, optimiser and validation around a loss.

An iteration is a fixed number of updates and one validation; the state holds the newest parameters and the best ones.
Data stay on the host: the compiled program fetches the rows of each batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jsafe import Metrics, Trainer, TrainerInfo, TrainState, host_data, supervised
from jsafe.supervised import LossOutput
from jsafe.trainer import count_units, shown_metrics
from sketch.models.sketch_rnn import annealed
from sketch.training.training_configs import TrainingConfig


class Stage(NamedTuple):
    """A training stage, ready to run.

    Attributes:
        trainer: trainer for `jsafe.fit`.
        iterations: iterations of a complete run.
        finish: function from the final state of one member to the trained model, on the host.
    """

    trainer: Trainer
    iterations: int
    finish: Callable[[TrainState], Any]


class LearningProblem(NamedTuple):
    """Initial parameters, loss and data of a supervised problem.

    Attributes:
        init: `key -> parameters`.
        loss: `(parameters, batch, key, update [], hyper) -> LossOutput`; `batch` holds rows of the data, `hyper` the
            traced hyper-parameters.
        validate: `(parameters, data, key) -> LossOutput` on the whole validation set; the best parameters have the
            smallest validation loss.
        data: tree of host arrays `[N, ...]`.
        validation: tree of host arrays of the validation set, or None.
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any, jax.Array, jax.Array, dict[str, jax.Array]], LossOutput]
    validate: Callable[[Any, Any, jax.Array], LossOutput]
    data: Any
    validation: Any = None


class Best(NamedTuple):
    """Validation record of the best parameters.

    Attributes:
        loss: `[]` validation loss.
        iteration: `[]` int32, iteration after which they were stored.
    """

    loss: jax.Array
    iteration: jax.Array


def descent_trainer(
    name: str,
    problem: LearningProblem,
    options: TrainingConfig,
    *,
    shown: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Trainer:
    """Build a trainer that uses Adam on gradients clipped entry by entry.

    `TrainState.params` has `model`, the newest parameters, and `best`, the parameters with the smallest validation
    loss. Without a validation set both are the newest.

    Args:
        name: name of the stage.
        problem: initial parameters, loss and data.
        options: hyper-parameters.
        shown: metrics of the progress line, in addition to the loss.
        config: further entries of the recorded configuration.

    Raises:
        ValueError: if arrays differ in length, or there are fewer rows than a batch.
    """
    rows = supervised.count_rows(problem.data)
    if options.batch_size > rows:
        raise ValueError(f"batch_size must be at most the number of drawings, {rows}, got {options.batch_size}")
    if problem.validation is not None:
        supervised.count_rows(problem.validation, "validation")
    optimizer = optax.chain(optax.clip(options.gradient_clip), optax.scale_by_adam())
    descent = _Descent(problem, options, optimizer, rows)

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        start, key = jax.random.split(key)
        model = problem.init(start)
        return TrainState(
            params={"model": model, "best": model},
            optimizer=optimizer.init(model),
            memory=(),
            algo=Best(jnp.float32(jnp.inf), jnp.int32(0)),
            key=key,
            iteration=jnp.int32(0),
            skipped=jnp.int32(0),
            hyper=supervised.initial_hyper(options.traced(), hyper, name),
        )

    info = TrainerInfo(
        algorithm=name,
        config={**options.config(), "rows": rows, **(config or {})},
        traced=options.traced(),
        units_per_step=options.updates * options.batch_size,
        metrics=shown_metrics("loss", *shown),
        unit="drawings",
    )
    return Trainer(init=init, step=partial(_step, descent), info=info)


class _Descent(NamedTuple):
    """Constants of a trainer.

    Attributes:
        problem: initial parameters, loss and data.
        options: hyper-parameters.
        optimizer: gradient to direction.
        rows: number of training drawings.
    """

    problem: LearningProblem
    options: TrainingConfig
    optimizer: optax.GradientTransformation
    rows: int


def _step(descent: _Descent, state: TrainState) -> tuple[TrainState, Metrics]:
    """Run one iteration: updates, then a validation."""
    options = descent.options
    numbers = state.iteration * options.updates + jnp.arange(options.updates)
    state, of_updates = jax.lax.scan(partial(_update, descent), state, numbers)
    # Averages over the updates of this iteration, without skipped updates.
    metrics = {k: jnp.nanmean(v) for k, v in of_updates.items()}
    metrics["learning_rate"] = of_updates["learning_rate"][-1]
    iteration = state.iteration + 1
    state, validation = _validate(descent.problem, state, iteration)
    state = dataclasses.replace(state, iteration=iteration)
    metrics |= {**validation, "skipped": state.skipped}
    metrics["env_steps"] = count_units(iteration, options.updates * options.batch_size)
    return state, metrics


def _update(descent: _Descent, state: TrainState, number: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    """Update the parameters on one random batch; an update that is not finite is skipped and counted."""
    problem, options, optimizer, rows = descent
    choice, inner = jax.random.split(jax.random.fold_in(state.key, number))
    batch = host_data.rows(problem.data, jax.random.choice(choice, rows, (options.batch_size,), replace=False))
    model = state.params["model"]

    def loss(params: Any) -> LossOutput:
        return problem.loss(params, batch, inner, number, state.hyper)

    slope, output = supervised.gradient(loss, model)
    rate = annealed(state.hyper["learning_rate"], options.last_learning_rate, options.learning_rate_decay, number)
    updated = supervised.update(optimizer, slope, state.optimizer, model, rate, jnp.isfinite(output.loss))
    state = dataclasses.replace(
        state,
        params=state.params | {"model": updated.params},
        optimizer=updated.optimizer,
        skipped=state.skipped + (~updated.finite).astype(jnp.int32),
    )
    return state, supervised.update_metrics(output, slope, rate)


def _validate(
    problem: LearningProblem, state: TrainState, iteration: jax.Array
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Store the parameters as the best ones if their validation loss is the smallest so far."""
    model, best = state.params["model"], state.algo
    if problem.validation is None:
        return dataclasses.replace(state, params={"model": model, "best": model}), {}
    data = host_data.rows(problem.validation, jnp.arange(supervised.count_rows(problem.validation)))
    output = problem.validate(model, data, jax.random.fold_in(state.key, -iteration))
    better = output.loss < best.loss
    best_params = supervised.select(better, model, state.params["best"])
    best = Best(jnp.where(better, output.loss, best.loss), jnp.where(better, iteration, best.iteration))
    metrics = {f"valid_{k}": v for k, v in {**output.metrics, "loss": output.loss}.items()}
    metrics["best_iteration"] = best.iteration
    return dataclasses.replace(state, params={"model": model, "best": best_params}, algo=best), metrics
