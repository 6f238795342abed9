"""PPO, PPO-Lag and group-relative updates on language models: draw answers, judge them, weigh rewards against costs.

One iteration draws answers to a batch of prompts and takes `update_iterations` passes over them in small batches. Each
small batch moves the multipliers first, then the actor, then the critics, as published (Dai et al. 2024). Frozen models
are part of the state, so that they are not copied into the program; each array is there once. With adapters the actor
stands on the weights of the reference, and a critic on those of its judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jsafe import Metrics, Trainer, TrainerInfo, TrainState, host_data, multipliers
from jsafe.supervised import select
from rlhf.adapters import lora
from rlhf.data.encoding import Prompts, Supervised
from rlhf.generation.generate import Answers, SamplingConfig, generate
from rlhf.losses import policy as losses
from rlhf.losses.language_model import language_model_loss, log_probs
from rlhf.losses.masked import masked_mean
from rlhf.models.heads import LanguageModel, ScoreModel, Scores
from rlhf.parallel import sharding
from rlhf.reinforcement.cost_window import CostWindow, mean_costs, remember
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training.adamw import adamw
from rlhf.training.schedules import schedule


class Judge(NamedTuple):
    """What scores an answer.

    Attributes:
        apply: `(params, ids [B, L], mask [B, L]) -> [B]` float32; the ids are padded on both sides.
        params: frozen.
    """

    apply: Callable[[Any, jax.Array, jax.Array], jax.Array]
    params: Any = ()


def score_judge(model: ScoreModel, params: Any) -> Judge:
    """A reward or cost model as a judge: its score at the last token."""

    def apply(params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
        return cast(Scores, model.apply({"params": params}, ids, mask)).end_scores[:, 0]

    return Judge(apply, params)


class Experience(NamedTuple):
    """Answers and all that is learned from them; `T = L - 1 - start` generated columns.

    Attributes:
        ids: `[B, L]`.
        mask: `[B, L]`.
        old: `[B, T]`, log-probabilities of the acting policy.
        mask_new: `[B, T]`, tokens of the answer.
        advantages: `[1 + C, B, T]`, of the reward and of each cost.
        returns: `[1 + C, B, T]`, targets of the critics.
        values: `[1 + C, B, T]`, what they said.
        costs: `[C, B]`, of the whole answers.
    """

    ids: jax.Array
    mask: jax.Array
    old: jax.Array
    mask_new: jax.Array
    advantages: jax.Array
    returns: jax.Array
    values: jax.Array
    costs: jax.Array


def reinforcement_trainer(
    name: str,
    actor: LanguageModel,
    actor_params: Any,
    critic: ScoreModel | tuple[ScoreModel, ...],
    critic_params: tuple[Any, ...],
    prompts: Prompts,
    reward: Judge,
    costs: tuple[Judge, ...],
    sampling: SamplingConfig,
    options: ReinforcementConfig,
    *,
    pad: int,
    ptx: Supervised | None = None,
    watched: Mapping[str, Judge] | None = None,
) -> Trainer:
    """A trainer that lets a language model answer prompts and learn from judges.

    Without costs it is PPO; with costs it is PPO-Lag, each cost under its own limit and multiplier. `group` in place of
    critics makes it a constrained group-relative method. With a `lora_rank`, adapters and the critics' heads are
    trained, and critics that begin from the arrays of a judge share them.

    Args:
        name: of the stage.
        actor: the language model.
        actor_params: what it begins with, and the frozen reference.
        critic: of values, one for all or one of each; unused with `estimator="group"`.
        critic_params: what the critics of the reward and of each cost begin with.
        prompts: of the host, padded on the left.
        reward: judges how good an answer is.
        costs: judge how harmful it is, one for each limit.
        sampling: how answers are drawn.
        options: hyper-parameters.
        pad: id of padding.
        ptx: texts that people wrote, of the host, to be learned beside.
        watched: judges whose scores are reported and not learned from, by metric: `return` takes the place of what is
            learned from, which is then called `shaped`, and `cost` is for a method without costs.

    Raises:
        ValueError: limits, critics, prompts or texts that do not fit; the message says what was expected.
    """
    number = len(costs)
    if number and len(options.limits) != number:
        raise ValueError(f"cost_limit must have one entry for each of the {number} costs, got {options.cost_limit}")
    with_critics = options.estimator == "critic"
    if with_critics and len(critic_params) != 1 + number:
        raise ValueError(f"expected {1 + number} critics, of the reward and of each cost, got {len(critic_params)}")
    value_models = critic if isinstance(critic, tuple) else (critic,) * len(critic_params)
    if with_critics and len(value_models) != len(critic_params):
        raise ValueError(f"expected one critic model or {len(critic_params)}, one of each, got {len(value_models)}")
    rows, start = len(prompts.ids), prompts.ids.shape[1] - 1
    if rows < options.prompts_per_iteration:
        raise ValueError(f"{options.prompts_per_iteration} prompts are answered at once, and there are {rows}")
    if options.ptx_coefficient and (ptx is None or len(ptx.ids) < options.batch_size):
        there = 0 if ptx is None else len(ptx.ids)
        raise ValueError(f"ptx_coefficient needs at least {options.batch_size} texts to learn beside, got {there}")
    if ptx is not None and not options.ptx_coefficient:
        raise ValueError("ptx_coefficient must be above 0 where there are texts to learn beside, got 0")
    each = rows // options.prompts_per_iteration
    parts = options.prompts_per_iteration * options.answers_per_prompt // options.batch_size
    factor = schedule(options.schedule, options.iterations * parts * options.update_iterations, options.warmup_ratio)
    multiplier = multipliers.exponentiated()
    limits = jnp.asarray(options.limits[:number], jnp.float32)
    dual_hyper = {
        "cost_limit": limits,
        "multiplier_init": options.multiplier_init,
        "multiplier_learning_rate": options.multiplier_learning_rate,
        "multiplier_max": options.multiplier_max,
    }
    begun = tuple(critic_params) if with_critics else ()
    watched = dict(watched or {})
    frozen = {"reference": actor_params, "reward": reward.params, "costs": tuple(c.params for c in costs)}
    frozen |= {"watched": {name: judge.params for name, judge in watched.items()}}
    frozen |= {"actor": lora.split(actor_params, options)[0]}
    frozen |= {"critics": tuple(lora.split(params, options)[0] for params in begun)}
    arrays, named = host_data.deduplicate(frozen)
    descent = adamw(weight_decay=options.actor_weight_decay, max_grad_norm=options.max_grad_norm)
    critic_descent = adamw(weight_decay=0.0, max_grad_norm=options.max_grad_norm)

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        acting, *judging = (lora.begin(key, p, options, i) for i, p in enumerate((actor_params, *begun)))
        params = {"actor": acting, "critics": tuple(judging)}
        traced = {"actor_learning_rate": options.actor_learning_rate} | dict(hyper or {})
        return TrainState(
            params=params,
            optimizer={
                "actor": descent.init(params["actor"]),
                "critics": [critic_descent.init(p) for p in params["critics"]],
            },
            dual={
                "multiplier": multiplier.init(dual_hyper),
                "window": CostWindow(jnp.zeros((number, options.cost_window)), jnp.zeros((), jnp.int32)),
            },
            normalizer=(),
            rollout=(),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            hyper={k: jnp.asarray(v, jnp.float32) for k, v in traced.items()},
            frozen=sharding.loaded(arrays, key),
        )

    def kl_coefficient(iteration: jax.Array) -> jax.Array | float:
        if not options.last_kl_coefficient:
            return options.kl_coefficient
        acted, whole = iteration - options.actor_delay, options.iterations - 1 - options.actor_delay
        done = jnp.clip(acted / max(whole, 1), 0.0, 1.0)
        return options.kl_coefficient * (options.last_kl_coefficient / options.kl_coefficient) ** done

    def values_of(i: int, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """`[B, L - 1]`, value that critic `i` gives the state before each token but the first."""
        return cast(Scores, value_models[i].apply({"params": params}, ids, mask)).scores[:, :-1, 0]

    def experience(state: TrainState, answers: Answers) -> tuple[Experience, Metrics]:
        ids, mask = answers.ids, answers.mask
        held = named(state.frozen)
        seen = mask[:, 1:]
        old = log_probs(actor, lora.joined(held["actor"], state.params["actor"]), ids, mask)
        ratio = jnp.where(seen, old - log_probs(actor, held["reference"], ids, mask), 0.0)
        scores = [reward.apply(held["reward"], ids, mask)]
        scores += [c.apply(p, ids, mask) for c, p in zip(costs, held["costs"], strict=True)]
        signs = [1.0, *[-1.0] * number]
        new = seen[:, start:]
        advantages, returns, values = [], [], []
        for i, (score, sign) in enumerate(zip(scores, signs, strict=True)):
            if with_critics:
                said = values_of(i, lora.joined(held["critics"][i], state.params["critics"][i]), ids, mask)
                paid = losses.kl_penalized_rewards(
                    score, ratio, seen, kl_coefficient=sign * kl_coefficient(state.iteration), clip=options.clip_score
                )
                advantage, target = losses.answer_advantages(said, paid, seen, start, gae_lambda=options.gae_lambda)
                values.append(said[:, start:])
                returns.append(target)
            else:
                # One advantage for a whole answer; the divergence enters the loss instead.
                bounded = jnp.clip(score, -options.clip_score, options.clip_score)
                whole = losses.group_advantages(bounded, options.answers_per_prompt)
                advantage = jnp.where(new, whole[:, None], 0.0)
            advantages.append(advantage)
        blank = jnp.zeros((len(scores), *new.shape))
        length = jnp.sum(new, axis=1)
        metrics = {
            "return": jnp.mean(scores[0]),
            "kl": jnp.mean(jnp.sum(jnp.where(new, ratio[:, start:], 0.0), axis=1)),
            "length": jnp.mean(length.astype(jnp.float32)),
            "longest": jnp.max(length),
            "cut": jnp.mean(jnp.all(new, axis=1) & ~jnp.isin(ids[:, -1], jnp.asarray(actor.config.ends))),
            "episodes": jnp.asarray(len(ids), jnp.int32),
            "cost": jnp.mean(scores[1]) if number else jnp.zeros(()),
        }
        metrics |= {"shaped": metrics["return"]} if "return" in watched else {}
        metrics |= {k: jnp.mean(w.apply(held["watched"][k], ids, mask)) for k, w in watched.items()}
        metrics |= {f"cost_{i}": jnp.mean(score) for i, score in enumerate(scores[1:])} if number > 1 else {}
        made = Experience(
            ids=ids,
            mask=mask,
            old=old[:, start:],
            mask_new=new,
            advantages=jnp.stack(advantages),
            returns=jnp.stack(returns) if with_critics else blank,
            values=jnp.stack(values) if with_critics else blank,
            costs=jnp.stack(scores[1:]) if number else jnp.zeros((0, len(ids))),
        )
        return made, metrics

    def actor_loss(
        trained: Any, held: Any, part: Experience, weights: jax.Array, texts: Any, kl: jax.Array | float
    ) -> tuple[jax.Array, Metrics]:
        params = lora.joined(held["actor"], trained)
        mixed = losses.mix_advantages(part.advantages[0], part.advantages[1:], weights)
        new = log_probs(actor, params, part.ids, part.mask)[:, start:]
        loss = losses.actor_loss(new, part.old, mixed, part.mask_new, clip_ratio=options.clip_ratio)
        metrics: Metrics = {"actor_loss": loss}
        if not with_critics:
            reference = jax.lax.stop_gradient(log_probs(actor, held["reference"], part.ids, part.mask)[:, start:])
            gap = jnp.where(part.mask_new, reference - new, 0.0)
            divergence = masked_mean(jnp.exp(gap) - gap - 1.0, part.mask_new)
            loss = loss + kl * divergence
        if texts is not None:
            metrics["ptx_loss"] = language_model_loss(actor, params, texts)
            # Published as two backward passes into one update, each scaled by one half.
            loss = 0.5 * (loss + options.ptx_coefficient * metrics["ptx_loss"])
        return loss, metrics

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        k_draw, k_order = jax.random.split(jax.random.fold_in(state.key, state.iteration))
        order = jax.random.permutation(jax.random.fold_in(state.key, -1 - state.iteration // each), rows)
        at = state.iteration % each * options.prompts_per_iteration
        asked = sharding.rows(prompts, jax.lax.dynamic_slice(order, (at,), (options.prompts_per_iteration,)))
        ids, mask = (jnp.repeat(x, options.answers_per_prompt, axis=0) for x in asked)
        ids, mask = sharding.constrain_rows((ids, mask))
        held = named(state.frozen)
        acting = lora.joined(held["actor"], state.params["actor"])
        answers = generate(actor, {"params": acting}, k_draw, ids, mask, sampling, pad=pad)
        made, metrics = experience(state, answers)
        window = remember(state.dual["window"], made.costs)
        known = jnp.where(state.iteration >= options.multiplier_delay, mean_costs(window), jnp.nan)

        def update(carry: Any, inputs: Any) -> tuple[Any, Metrics]:
            params, moments, dual, number_of_update = carry
            rows_of_part, k_text = inputs
            part = Experience(
                *sharding.constrain_rows([x[rows_of_part] for x in made[:4]]), *(x[:, rows_of_part] for x in made[4:])
            )
            dual = multiplier.update(dual, known, dual_hyper) if number else dual
            weights = multiplier.value(dual)
            texts = None
            if ptx is not None:
                texts = sharding.rows(ptx, jax.random.randint(k_text, (options.batch_size,), 0, len(ptx.ids)))
            (_, found), gradient = jax.value_and_grad(actor_loss, has_aux=True)(
                params["actor"], held, part, weights, texts, kl_coefficient(state.iteration)
            )
            rate = state.hyper["actor_learning_rate"] * factor(number_of_update)
            new_actor, new_moments, finite = descent.update(gradient, moments["actor"], params["actor"], rate, True)
            skipped = (~finite).astype(jnp.int32)
            if options.actor_delay:
                acts = state.iteration >= options.actor_delay
                new_actor = select(acts, new_actor, params["actor"])
                new_moments = select(acts, new_moments, moments["actor"])
            new_critics, critic_moments = [], []
            for i, (critic_params, own) in enumerate(zip(params["critics"], moments["critics"], strict=True)):

                def critic_loss(p: Any, i: int = i) -> jax.Array:
                    said = values_of(i, lora.joined(held["critics"][i], p), part.ids, part.mask)[:, start:]
                    return losses.critic_loss(
                        said, part.values[i], part.returns[i], part.mask_new, clip_value=options.clip_value
                    )

                value, gradient = jax.value_and_grad(critic_loss)(critic_params)
                moved, own, finite = critic_descent.update(
                    gradient, own, critic_params, options.critic_learning_rate, True
                )
                new_critics.append(moved)
                critic_moments.append(own)
                found[f"critic_loss_{i}"] = value
                skipped = skipped + (~finite).astype(jnp.int32)
            found |= {"actor_learning_rate": rate, "skipped_now": skipped}
            carry = (
                {"actor": new_actor, "critics": tuple(new_critics)},
                {"actor": new_moments, "critics": critic_moments},
                dual,
                number_of_update + 1,
            )
            return carry, found

        total = parts * options.update_iterations
        orders = jax.vmap(lambda k: jax.random.permutation(k, len(made.ids)))(
            jax.random.split(k_order, options.update_iterations)
        )
        pieces = orders.reshape(total, options.batch_size)
        carry = (state.params, state.optimizer, state.dual["multiplier"], state.iteration * total)
        (params, moments, dual, _), found = jax.lax.scan(
            update, carry, (pieces, jax.random.split(jax.random.fold_in(k_order, 1), total))
        )
        skipped = state.skipped + jnp.sum(found.pop("skipped_now"))
        weights = multiplier.value(dual)
        metrics |= {k: jnp.mean(v) for k, v in found.items()}
        if options.last_kl_coefficient:
            metrics["kl_coefficient"] = jnp.asarray(kl_coefficient(state.iteration))
        metrics |= {"skipped": skipped, "multiplier": jnp.sum(weights) if number else jnp.zeros(())}
        if number:
            metrics["episode_cost"] = mean_costs(window)[0]
        metrics["env_steps"] = (state.iteration + 1) * len(made.ids)
        state = dataclasses.replace(
            state,
            params=params,
            optimizer=moments,
            dual={"multiplier": dual, "window": window},
            iteration=state.iteration + 1,
            skipped=skipped,
        )
        return state, metrics

    info = TrainerInfo(
        algorithm=name,
        env_id="-",
        config={**options.config(), "sampling": sampling.config(), "prompts": rows},
        traced={"actor_learning_rate": options.actor_learning_rate},
        env_steps_per_iteration=options.prompts_per_iteration * options.answers_per_prompt,
        shown=("return", *(("cost", "multiplier") if number else ("cost",) if "cost" in watched else ()), "kl"),
        unit="answers",
    )
    return Trainer(init=init, step=step, info=info)
