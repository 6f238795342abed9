"""PPO, PPO-Lagrangian and group-relative updates on language models, as a `jsafe.Trainer`.

One iteration samples answers to a batch of prompts, turns them into experience (`rlhf.reinforcement.experience`), and
updates multipliers, actor and critics on minibatches of it (`rlhf.reinforcement.actor_critic`). Frozen models are part
of the state, so that they are not compiled into the program; each array is there once. With adapters the actor shares
the weights of the reference, and a critic those of its judge.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jsafe import Metrics, Trainer, TrainerInfo, TrainState, host_data, multipliers
from jsafe.supervised import initial_hyper
from jsafe.trainer import count_units, shown_metrics
from rlhf.adapters import lora
from rlhf.generation.generate import Answers, SamplingConfig, generate
from rlhf.parallel import sharding
from rlhf.reinforcement import cost_window
from rlhf.reinforcement.actor_critic import Iteration, Learned, Learner, update
from rlhf.reinforcement.cost_window import CostWindow
from rlhf.reinforcement.experience import FrozenWeights, kl_coefficient, make_experience
from rlhf.reinforcement.problem import ReinforcementProblem, check_problem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training.adamw import adamw
from rlhf.training.schedules import schedule


def reinforcement_trainer(
    name: str, problem: ReinforcementProblem, config: ReinforcementConfig, sampling: SamplingConfig
) -> Trainer:
    """Return a trainer that samples answers to prompts and learns from the scores of judges.

    Without costs it is PPO; with costs it is PPO-Lag, each cost under its own limit and multiplier. Estimator `group`
    replaces the critics and makes it a constrained group-relative method. With a `lora_rank`, adapters and the critics'
    heads are trained, and critics that start from the arrays of a judge share them.

    Args:
        name: name of the stage.
        problem: models, judges and data.
        config: hyper-parameters.
        sampling: settings for sampling answers.

    Raises:
        ValueError: models, judges or data do not fit the configuration.
    """
    check_problem(problem, config)
    arrays, rebuild = host_data.deduplicate(frozen_weights(problem, config))
    learner = make_learner(problem, config)
    traced = config.traced_for(len(problem.costs))

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        values = initial_hyper(traced, hyper, name, config)
        return initial_state(learner, key, values, sharding.loaded(arrays, key))

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        sample_key, order_key = jax.random.split(jax.random.fold_in(state.key, state.iteration))
        weights = rebuild(state.frozen)
        answers = sample_answers(problem, config, sampling, weights, state, sample_key)
        kl = kl_coefficient(config, state.iteration)
        experience, metrics = make_experience(problem, config, weights, state.params, answers, kl)
        window = cost_window.remember(state.algo["window"], experience.costs)
        episode_costs = known_costs(config, window, state.iteration)
        actor_learns = state.iteration >= config.actor_delay if config.actor_delay else None
        iteration = Iteration(experience, weights, state.hyper, episode_costs, kl, actor_learns)
        learned, updates = jax.lax.scan(
            functools.partial(update, learner, iteration),
            Learned(
                params=state.params,
                optimizer=state.optimizer,
                multiplier=state.algo["multiplier"],
                update=state.iteration * config.updates_per_iteration,
            ),
            minibatches(order_key, config),
        )
        return finish(learner, state, learned, window, kl, metrics, updates)

    info = TrainerInfo(
        algorithm=name,
        config={**config.config(), "sampling": sampling.config(), "prompts": len(problem.prompts.ids)},
        traced=traced,
        units_per_step=config.answers_per_iteration,
        metrics=shown_metrics("return", *_shown_costs(problem), "kl"),
        unit="answers",
    )
    return Trainer(init=init, step=step, info=info)


def _shown_costs(problem: ReinforcementProblem) -> tuple[str, ...]:
    if problem.costs:
        return ("cost", "multiplier")
    return ("cost",) if "cost" in problem.watched else ()


def frozen_weights(problem: ReinforcementProblem, config: ReinforcementConfig) -> FrozenWeights:
    """Weights that are never trained, on the host."""
    return FrozenWeights(
        actor=lora.split(problem.actor_params, config)[0],
        costs=tuple(judge.params for judge in problem.costs),
        critics=tuple(lora.split(params, config)[0] for params in problem.critic_params),
        reference=problem.actor_params,
        reward=problem.reward.params,
        watched={name: judge.params for name, judge in problem.watched.items()},
    )


def make_learner(problem: ReinforcementProblem, config: ReinforcementConfig) -> Learner:
    """Optimisers, multipliers and learning-rate schedule of a problem."""
    total = config.iterations * config.updates_per_iteration
    return Learner(
        problem=problem,
        config=config,
        multiplier=multipliers.exponentiated(),
        actor_optimizer=adamw(weight_decay=config.actor_weight_decay, max_grad_norm=config.max_grad_norm),
        critic_optimizer=adamw(weight_decay=0.0, max_grad_norm=config.max_grad_norm),
        schedule=schedule(config.schedule, total, config.warmup_ratio),
    )


def initial_state(learner: Learner, key: jax.Array, hyper: dict[str, jax.Array], frozen: Any) -> TrainState:
    """State before the first iteration."""
    problem, config = learner.problem, learner.config
    actor, *critics = (
        lora.begin(key, params, config, index)
        for index, params in enumerate((problem.actor_params, *problem.critic_params))
    )
    return TrainState(
        params={"actor": actor, "critics": tuple(critics)},
        optimizer={
            "actor": learner.actor_optimizer.init(actor),
            "critics": [learner.critic_optimizer.init(critic) for critic in critics],
        },
        algo={
            "multiplier": learner.multiplier.init(hyper) if problem.costs else jnp.zeros(0),
            "window": cost_window.empty(len(problem.costs), config.cost_window),
        },
        memory=(),
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        hyper=hyper,
        frozen=frozen,
    )


def sample_answers(
    problem: ReinforcementProblem,
    config: ReinforcementConfig,
    sampling: SamplingConfig,
    weights: FrozenWeights,
    state: TrainState,
    key: jax.Array,
) -> Answers:
    """Answers of the acting policy to the next prompts; each pass over the prompts has a new order."""
    rows, count = len(problem.prompts.ids), config.prompts_per_iteration
    batches = rows // count
    order = jax.random.permutation(jax.random.fold_in(state.key, -1 - state.iteration // batches), rows)
    chosen = jax.lax.dynamic_slice(order, (state.iteration % batches * count,), (count,))
    prompts = sharding.rows(problem.prompts, chosen)
    ids, mask = sharding.constrain_rows([jnp.repeat(x, config.answers_per_prompt, axis=0) for x in prompts])
    acting = lora.joined(weights.actor, state.params["actor"])
    return generate(problem.actor, {"params": acting}, key, ids, mask, sampling, pad=problem.pad)


def known_costs(config: ReinforcementConfig, window: CostWindow, iteration: jax.Array) -> jax.Array:
    """Mean cost `[C]` of recent answers; NaN, which keeps the multipliers, during their delay."""
    return jnp.where(iteration >= config.multiplier_delay, cost_window.mean_costs(window), jnp.nan)


def minibatches(key: jax.Array, config: ReinforcementConfig) -> tuple[jax.Array, jax.Array]:
    """Rows `[updates, batch_size]` of the minibatches of all passes, and a key for each."""
    keys = jax.random.split(key, config.update_iterations)
    orders = jax.vmap(lambda k: jax.random.permutation(k, config.answers_per_iteration))(keys)
    rows = orders.reshape(config.updates_per_iteration, config.batch_size)
    return rows, jax.random.split(jax.random.fold_in(key, 1), config.updates_per_iteration)


def finish(
    learner: Learner,
    state: TrainState,
    learned: Learned,
    window: CostWindow,
    kl: jax.Array | float,
    metrics: Metrics,
    updates: Metrics,
) -> tuple[TrainState, Metrics]:
    """State and metrics of a finished iteration.

    Args:
        learner: models and hyper-parameters.
        state: state before the iteration.
        learned: result of the updates.
        window: costs of recent answers.
        kl: weight of the divergence from the reference.
        metrics: metrics of the answers.
        updates: metrics of each update, `[updates]`.
    """
    config, constrained, done = learner.config, bool(learner.problem.costs), state.iteration + 1
    skipped = state.skipped + jnp.sum(updates["skipped_now"])
    metrics |= {name: jnp.mean(value) for name, value in updates.items() if name != "skipped_now"}
    if config.last_kl_coefficient:
        metrics["kl_coefficient"] = jnp.asarray(kl)
    total = jnp.sum(learner.multiplier.value(learned.multiplier)) if constrained else jnp.zeros(())
    metrics |= {"skipped": skipped, "multiplier": total}
    if constrained:
        metrics["episode_cost"] = cost_window.mean_costs(window)[0]
    metrics["env_steps"] = count_units(done, config.answers_per_iteration)
    state = dataclasses.replace(
        state,
        params=learned.params,
        optimizer=learned.optimizer,
        algo={"multiplier": learned.multiplier, "window": window},
        iteration=done,
        skipped=skipped,
    )
    return state, metrics
