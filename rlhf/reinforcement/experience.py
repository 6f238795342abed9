"""From sampled answers to experience: scores, log-ratios, advantages and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe import Metrics
from rlhf.adapters import lora
from rlhf.generation.generate import Answers
from rlhf.losses import policy
from rlhf.losses.language_model import log_probs
from rlhf.models.heads import ScoreModel, score_tokens
from rlhf.parallel import sharding
from rlhf.reinforcement.judge import Judge
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig


class FrozenWeights(NamedTuple):
    """Weights that a run never changes; several models may share arrays.

    Attributes:
        actor: weights under the actor's adapters, empty without adapters.
        costs: parameters of the cost judges.
        critics: weights under the adapters of each critic.
        reference: parameters of the reference.
        reward: parameters of the reward judge.
        watched: parameters of the judges that are only reported, by metric.
    """

    actor: Any
    costs: tuple[Any, ...]
    critics: tuple[Any, ...]
    reference: Any
    reward: Any
    watched: dict[str, Any]


class ScoredAnswers(NamedTuple):
    """Answers with the scores of the judges and their probability.

    Attributes:
        ids: `[B, L]`, prompts and answers.
        mask: `[B, L]`, False for padding.
        start: column of the first generated token among tokens 1 to L - 1.
        scores: `[1 + C, B]`, of the reward and of each cost.
        log_probs: `[B, L - 1]`, log-probabilities of tokens 1 to L - 1 under the acting policy.
        log_ratio: `[B, L - 1]`, acting policy over reference, zero at padding.
    """

    ids: jax.Array
    mask: jax.Array
    start: int
    scores: jax.Array
    log_probs: jax.Array
    log_ratio: jax.Array

    @property
    def answer_mask(self) -> jax.Array:
        """`[B, T]`, True for tokens of the answer; T = L - 1 - start generated columns."""
        return self.mask[:, 1:][:, self.start :]


class Estimates(NamedTuple):
    """Advantages of the answers' tokens, and what critics learn from.

    Attributes:
        advantages: `[1 + C, B, T]`, of the reward and of each cost.
        returns: `[1 + C, B, T]`, targets of the critics; zeros without critics.
        values: `[1 + C, B, T]`, values of the critics; zeros without critics.
    """

    advantages: jax.Array
    returns: jax.Array
    values: jax.Array


class Experience(NamedTuple):
    """Answers with everything that actor and critics learn from; T generated columns.

    Attributes:
        ids: `[B, L]`.
        mask: `[B, L]`.
        log_probs: `[B, T]`, log-probabilities of the acting policy.
        answer_mask: `[B, T]`, True for tokens of the answer.
        advantages: see `Estimates`.
        returns: see `Estimates`.
        values: see `Estimates`.
        costs: `[C, B]`, of whole answers.
    """

    ids: jax.Array
    mask: jax.Array
    log_probs: jax.Array
    answer_mask: jax.Array
    advantages: jax.Array
    returns: jax.Array
    values: jax.Array
    costs: jax.Array

    def minibatch(self, rows: jax.Array) -> Experience:
        """The answers at some rows, spread over the devices of a mesh."""
        texts = [x[rows] for x in (self.ids, self.mask, self.log_probs, self.answer_mask)]
        ids, mask, log_probs, answer_mask = sharding.constrain_rows(texts)
        return Experience(
            ids=ids,
            mask=mask,
            log_probs=log_probs,
            answer_mask=answer_mask,
            advantages=self.advantages[:, rows],
            returns=self.returns[:, rows],
            values=self.values[:, rows],
            costs=self.costs[:, rows],
        )


def kl_coefficient(config: ReinforcementConfig, iteration: jax.Array) -> jax.Array | float:
    """Weight of the divergence from the reference; constant, or falling geometrically over the actor's iterations."""
    if not config.last_kl_coefficient:
        return config.kl_coefficient
    elapsed, last = iteration - config.actor_delay, config.iterations - 1 - config.actor_delay
    progress = jnp.clip(elapsed / max(last, 1), 0.0, 1.0)
    return config.kl_coefficient * (config.last_kl_coefficient / config.kl_coefficient) ** progress


def score_answers(judges: Sequence[Judge], params: Sequence[Any], ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Scores `[J, B]` of the answers under each judge."""
    return jnp.stack([judge.apply(own, ids, mask) for judge, own in zip(judges, params, strict=True)])


def critic_values(model: ScoreModel, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Values `[B, L - 1]` of the states before tokens 1 to L - 1."""
    return score_tokens(model, params, ids, mask).scores[:, :-1, 0]


Estimator = Callable[[ScoredAnswers, Sequence[jax.Array], Any, ReinforcementConfig], Estimates]
"""`(answers, values [B, L - 1] of each critic, KL coefficient, config) -> Estimates`."""


def critic_advantages(
    answers: ScoredAnswers, values: Sequence[jax.Array], kl: jax.Array | float, config: ReinforcementConfig
) -> Estimates:
    """Generalised advantages under critics; leaving the reference lowers rewards and raises costs."""
    mask, start = answers.mask[:, 1:], answers.start
    signs = [1.0] + [-1.0] * (len(values) - 1)
    pairs = []
    for score, value, sign in zip(answers.scores, values, signs, strict=True):
        rewards = policy.kl_penalized_rewards(
            score, answers.log_ratio, mask, kl_coefficient=sign * kl, clip=config.clip_score
        )
        pairs.append(policy.answer_advantages(value, rewards, mask, start, gae_lambda=config.gae_lambda))
    advantages, returns = (jnp.stack(column) for column in zip(*pairs, strict=True))
    return Estimates(advantages, returns, jnp.stack([value[:, start:] for value in values]))


def group_advantages(
    answers: ScoredAnswers, values: Sequence[jax.Array], kl: jax.Array | float, config: ReinforcementConfig
) -> Estimates:
    """One advantage for a whole answer, relative to the other answers to its prompt; the loss has the KL penalty."""
    del values, kl
    mask = answers.answer_mask
    bounded = jnp.clip(answers.scores, -config.clip_score, config.clip_score)
    relative = [policy.group_advantages(scores, config.answers_per_prompt) for scores in bounded]
    blank = jnp.zeros((len(relative), *mask.shape))
    return Estimates(jnp.stack([jnp.where(mask, whole[:, None], 0.0) for whole in relative]), blank, blank)


ESTIMATORS: dict[str, Estimator] = {"critic": critic_advantages, "group": group_advantages}


def make_experience(
    problem: ReinforcementProblem,
    config: ReinforcementConfig,
    weights: FrozenWeights,
    params: Any,
    answers: Answers,
    kl: jax.Array | float,
) -> tuple[Experience, Metrics]:
    """Score answers, estimate advantages, and report.

    Args:
        problem: models and judges.
        config: hyper-parameters.
        weights: weights that are frozen.
        params: `TrainState.params`, what is trained of actor and critics.
        answers: sampled answers.
        kl: weight of the divergence from the reference.
    """
    scored = _score(problem, weights, params, answers)
    values = [
        critic_values(model, lora.joined(frozen, trained), answers.ids, answers.mask)
        for model, frozen, trained in zip(problem.critics, weights.critics, params["critics"], strict=True)
    ]
    estimates = ESTIMATORS[config.estimator](scored, values, kl, config)
    experience = Experience(
        ids=answers.ids,
        mask=answers.mask,
        log_probs=scored.log_probs[:, scored.start :],
        answer_mask=scored.answer_mask,
        advantages=estimates.advantages,
        returns=estimates.returns,
        values=estimates.values,
        costs=scored.scores[1:],
    )
    watched = {
        name: jnp.mean(judge.apply(weights.watched[name], answers.ids, answers.mask))
        for name, judge in problem.watched.items()
    }
    return experience, answer_metrics(scored, problem.actor.config.ends) | _shaped(scored, watched)


def _score(problem: ReinforcementProblem, weights: FrozenWeights, params: Any, answers: Answers) -> ScoredAnswers:
    ids, mask = answers.ids, answers.mask
    acting = log_probs(problem.actor, lora.joined(weights.actor, params["actor"]), ids, mask)
    reference = log_probs(problem.actor, weights.reference, ids, mask)
    return ScoredAnswers(
        ids=ids,
        mask=mask,
        start=problem.answer_start,
        scores=score_answers(problem.judges, (weights.reward, *weights.costs), ids, mask),
        log_probs=acting,
        log_ratio=jnp.where(mask[:, 1:], acting - reference, 0.0),
    )


def _shaped(answers: ScoredAnswers, watched: Metrics) -> Metrics:
    """Scores that are only reported; the reward that is learned from is then `shaped`."""
    return ({"shaped": jnp.mean(answers.scores[0])} if "return" in watched else {}) | watched


def answer_metrics(answers: ScoredAnswers, ends: Sequence[int]) -> Metrics:
    """Mean scores, divergence and length of answers.

    Args:
        answers: scored answers.
        ends: ids that end a text.
    """
    mask, costs = answers.answer_mask, answers.scores[1:]
    length = jnp.sum(mask, axis=1)
    metrics = {
        "return": jnp.mean(answers.scores[0]),
        "kl": jnp.mean(jnp.sum(jnp.where(mask, answers.log_ratio[:, answers.start :], 0.0), axis=1)),
        "length": jnp.mean(length.astype(jnp.float32)),
        "longest": jnp.max(length),
        "cut": jnp.mean(jnp.all(mask, axis=1) & ~jnp.isin(answers.ids[:, -1], jnp.asarray(ends))),
        "episodes": jnp.asarray(len(answers.ids), jnp.int32),
        "cost": jnp.mean(costs[0]) if len(costs) else jnp.zeros(()),
    }
    return metrics | ({f"cost_{i}": jnp.mean(cost) for i, cost in enumerate(costs)} if len(costs) > 1 else {})
