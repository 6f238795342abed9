"""Losses of actor and critics, and the update of one minibatch.

A minibatch first moves the multipliers, then the actor, then the critics, as published (Dai et al. 2024).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe import Metrics
from jsafe.multipliers import Multiplier
from jsafe.supervised import LossOutput, gradient, select
from rlhf.adapters import lora
from rlhf.data.encoding import Supervised
from rlhf.losses import policy
from rlhf.losses.language_model import language_model_loss, log_probs
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.parallel import sharding
from rlhf.reinforcement.experience import Experience, FrozenWeights, critic_values
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training.adamw import AdamW


def actor_loss(
    actor: LanguageModel,
    params: Any,
    minibatch: Experience,
    multipliers: jax.Array,
    config: ReinforcementConfig,
    *,
    kl: jax.Array | float = 0.0,
    reference: Any = None,
    texts: Supervised | None = None,
) -> LossOutput:
    """PPO's clipped loss on the advantage of the Lagrangian, plus the penalties of the method.

    Args:
        actor: the language model.
        params: its parameters, adapters included.
        minibatch: answers.
        multipliers: `[C]`.
        config: hyper-parameters.
        kl: weight of the divergence from the reference in the loss.
        reference: parameters of the reference if the loss includes the divergence (estimator "group"), else None.
        texts: texts of the pretraining (PTX) loss, None without one.
    """
    start = minibatch.ids.shape[1] - 1 - minibatch.log_probs.shape[1]
    advantages = policy.mix_advantages(minibatch.advantages[0], minibatch.advantages[1:], multipliers)
    new = log_probs(actor, params, minibatch.ids, minibatch.mask)[:, start:]
    mask = minibatch.answer_mask
    loss = policy.actor_loss(new, minibatch.log_probs, advantages, mask, clip_ratio=config.clip_ratio)
    metrics: Metrics = {"actor_loss": loss}
    if reference is not None:
        frozen = jax.lax.stop_gradient(log_probs(actor, reference, minibatch.ids, minibatch.mask)[:, start:])
        loss = loss + kl * policy.reference_divergence(new, frozen, mask)
    if texts is not None:
        metrics["ptx_loss"] = language_model_loss(actor, params, texts)
        # Published as two backward passes into one update, each scaled by one half.
        loss = 0.5 * (loss + config.ptx_coefficient * metrics["ptx_loss"])
    return LossOutput(loss, metrics)


def critic_loss(
    critic: ScoreModel, params: Any, minibatch: Experience, index: int, config: ReinforcementConfig
) -> LossOutput:
    """Clipped squared error of a critic.

    Args:
        critic: the value model.
        params: its parameters, adapters included.
        minibatch: answers.
        index: 0 for the critic of the reward, 1 + i for the critic of cost i.
        config: hyper-parameters.
    """
    start = minibatch.ids.shape[1] - 1 - minibatch.log_probs.shape[1]
    values = critic_values(critic, params, minibatch.ids, minibatch.mask)[:, start:]
    old, returns = minibatch.values[index], minibatch.returns[index]
    loss = policy.critic_loss(values, old, returns, minibatch.answer_mask, clip_value=config.clip_value)
    return LossOutput(loss, {f"critic_loss_{index}": loss})


@dataclasses.dataclass(frozen=True)
class Learner:
    """Models, optimisers and settings that updates share.

    Attributes:
        problem: models and data.
        config: hyper-parameters.
        multiplier: rule by which the multipliers follow the costs.
        actor_optimizer: optimiser of the actor.
        critic_optimizer: optimiser of each critic.
        schedule: factor on the actor's learning rate, by update.
    """

    problem: ReinforcementProblem
    config: ReinforcementConfig
    multiplier: Multiplier
    actor_optimizer: AdamW
    critic_optimizer: AdamW
    schedule: Callable[[jax.Array], jax.Array]


class Iteration(NamedTuple):
    """Inputs of every update of an iteration.

    Attributes:
        experience: answers of the iteration.
        weights: weights that are frozen.
        hyper: traced hyper-parameters.
        episode_costs: `[C]`, mean cost of an answer; NaN while the multipliers wait.
        kl: weight of the divergence from the reference.
        actor_learns: `[]` bool, False during the actor's delay; None without a delay.
    """

    experience: Experience
    weights: FrozenWeights
    hyper: dict[str, jax.Array]
    episode_costs: jax.Array
    kl: jax.Array | float
    actor_learns: jax.Array | None = None


class Learned(NamedTuple):
    """State that updates change.

    Attributes:
        params: `actor`, and `critics`, a tuple.
        optimizer: moments of the same.
        multiplier: state of the multipliers.
        update: `[]` int32, updates so far.
    """

    params: dict[str, Any]
    optimizer: dict[str, Any]
    multiplier: Any
    update: jax.Array


def update(
    learner: Learner, iteration: Iteration, learned: Learned, inputs: tuple[jax.Array, jax.Array]
) -> tuple[Learned, Metrics]:
    """Update multipliers, actor and critics on one minibatch.

    Args:
        learner: models, optimisers and hyper-parameters.
        iteration: experience and inputs of this iteration.
        learned: state to update.
        inputs: rows `[batch_size]` of the minibatch, and a typed key.
    """
    rows, key = inputs
    minibatch = iteration.experience.minibatch(rows)
    multiplier = learned.multiplier
    if learner.problem.costs:
        multiplier = learner.multiplier.update(multiplier, iteration.episode_costs, iteration.hyper)
    weights = learner.multiplier.value(multiplier)
    actor, actor_moments, metrics = update_actor(learner, iteration, learned, minibatch, weights, key)
    skipped = metrics.pop("skipped_now")
    critics, critic_moments = [], []
    for index in range(len(learned.params["critics"])):
        params, moments, own_metrics = update_critic(learner, iteration, learned, minibatch, index)
        critics.append(params)
        critic_moments.append(moments)
        skipped = skipped + own_metrics.pop("skipped_now")
        metrics |= own_metrics
    learned = Learned(
        params={"actor": actor, "critics": tuple(critics)},
        optimizer={"actor": actor_moments, "critics": critic_moments},
        multiplier=multiplier,
        update=learned.update + 1,
    )
    return learned, metrics | {"skipped_now": skipped}


def update_actor(
    learner: Learner,
    iteration: Iteration,
    learned: Learned,
    minibatch: Experience,
    multipliers: jax.Array,
    key: jax.Array,
) -> tuple[Any, Any, Metrics]:
    """New parameters and moments of the actor, and metrics."""
    problem, config, weights = learner.problem, learner.config, iteration.weights
    params, moments = learned.params["actor"], learned.optimizer["actor"]
    texts = None
    if problem.ptx is not None:
        chosen = jax.random.randint(key, (config.batch_size,), 0, len(problem.ptx.ids))
        texts = sharding.rows(problem.ptx, chosen)
    reference = weights.reference if config.estimator == "group" else None

    def loss(params: Any) -> LossOutput:
        joined = lora.joined(weights.actor, params)
        return actor_loss(
            problem.actor, joined, minibatch, multipliers, config, kl=iteration.kl, reference=reference, texts=texts
        )

    slope, output = gradient(loss, params)
    rate = iteration.hyper["actor_learning_rate"] * learner.schedule(learned.update)
    updated = learner.actor_optimizer.update(slope, moments, params, rate)
    new, new_moments = updated.params, updated.optimizer
    if iteration.actor_learns is not None:
        new = select(iteration.actor_learns, new, params)
        new_moments = select(iteration.actor_learns, new_moments, moments)
    skipped = (~updated.finite).astype(jnp.int32)
    return new, new_moments, {**output.metrics, "actor_learning_rate": rate, "skipped_now": skipped}


def update_critic(
    learner: Learner, iteration: Iteration, learned: Learned, minibatch: Experience, index: int
) -> tuple[Any, Any, Metrics]:
    """New parameters and moments of a critic, and metrics."""
    model, frozen = learner.problem.critics[index], iteration.weights.critics[index]
    params, moments = learned.params["critics"][index], learned.optimizer["critics"][index]
    slope, output = gradient(
        lambda params: critic_loss(model, lora.joined(frozen, params), minibatch, index, learner.config), params
    )
    rate = iteration.hyper["critic_learning_rate"]
    updated = learner.critic_optimizer.update(slope, moments, params, rate)
    skipped = (~updated.finite).astype(jnp.int32)
    return updated.params, updated.optimizer, {**output.metrics, "skipped_now": skipped}
