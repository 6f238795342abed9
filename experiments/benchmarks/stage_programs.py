"""Programs of the training stages on random tokens, for benchmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import Trainer, population
from rlhf.config import TrainingConfig
from rlhf.data.beavertails import CATEGORIES
from rlhf.data.encoding import Labelled, Prompts, Supervised
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.generation.generate import SamplingConfig, generate
from rlhf.models import LanguageModel, ModelConfig, ScoreModel
from rlhf.parallel import flops
from rlhf.reinforcement.judge import score_judge, shaped_judge
from rlhf.reinforcement.method_presets import reinforcement_config
from rlhf.reinforcement.policy_trainer import reinforcement_trainer
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.training import objectives, supervised_stages
from rlhf.training.supervised_trainer import supervised_trainer

FIRST_ID = 3
"""First random token, after the special ones."""


class TimedProgram(NamedTuple):
    """A program to time.

    Attributes:
        program: `state -> (state, ...)`, jitted, with a donated state.
        state: its initial state.
        tokens: number of tokens of one call.
        counted: description of these tokens.
        flops: model FLOPs of one call.
    """

    program: Any
    state: Any
    tokens: int
    counted: str
    flops: int


class Case(NamedTuple):
    """Sizes of a benchmark.

    Attributes:
        config: configuration of every model.
        rows: number of texts, pairs or prompts of one call.
        length: tokens of a text, or of a prompt with its answer, half each.
        training: settings of supervised stages.
        seed: seed of weights and tokens.
    """

    config: ModelConfig
    rows: int
    length: int
    training: TrainingConfig
    seed: int

    @property
    def language_model(self) -> LanguageModel:
        """The language model with the settings of the training."""
        return LanguageModel(self.config, remat=self.training.remat, loss_chunk=self.training.loss_chunk)

    def ids(self, number: int, length: int) -> np.ndarray:
        """Return random tokens `[number, length]`."""
        rng = np.random.default_rng(self.seed)
        return rng.integers(FIRST_ID, self.config.vocab_size, (number, length)).astype(np.int32)

    def params(self, size: int = 0) -> Any:
        """Return random weights of a language model, or of a model with `size` scores."""
        ids = jnp.zeros((1, 2), jnp.int32)
        model = ScoreModel(self.config, size) if size else LanguageModel(self.config)
        inputs = (ids, jnp.ones((1, 2), bool)) if size else (ids,)
        return jax.tree.map(np.asarray, jax.jit(model.init)(jax.random.key(self.seed), *inputs)["params"])


def _of_trainer(trainer: Trainer, seed: int, tokens: int, counted: str, count: int) -> TimedProgram:
    members = population.make_population(trainer, 1)
    return TimedProgram(members.step, members.init(population.keys_for(seed, 1)), tokens, counted, count)


def _texts(case: Case, name: str) -> TimedProgram:
    ids = case.ids(2 * case.rows, case.length)
    data = Supervised(ids, ids, np.ones(ids.shape, bool))
    loss = objectives.supervised(case.language_model)
    trainer = supervised_trainer(name, case.params(), data, loss, case.training)
    count = flops.LEARNING * flops.language(case.config, case.rows, case.length)
    return _of_trainer(trainer, case.seed, case.rows * case.length, "texts", count)


def _pairs(case: Case, name: str) -> TimedProgram:
    chosen, rejected = np.split(case.ids(4 * case.rows, case.length), 2)
    mask, sign = np.ones(chosen.shape, bool), np.ones(len(chosen), np.float32)
    data: Any = PreferenceBatch(chosen, rejected, mask, mask, sign, -sign)
    momentum, count = None, flops.LEARNING * flops.scores(case.config, 2 * case.rows, case.length)
    if name == "dpo":
        model, params = case.language_model, case.params()
        data = objectives.with_reference(model, params, data, case.rows)
        loss = objectives.dpo(model)
        count = flops.LEARNING * flops.language(case.config, 2 * case.rows, case.length)
    else:
        make = {"reward": objectives.reward, "cost": objectives.cost}[name]
        loss, params = make(ScoreModel(case.config, remat=case.training.remat)), case.params(1)
        momentum = supervised_stages.MOMENTUM
    trainer = supervised_trainer(name, params, data, loss, case.training, momentum=momentum)
    return _of_trainer(trainer, case.seed, 2 * case.rows * case.length, "texts of both answers", count)


def _labelled(case: Case, name: str) -> TimedProgram:
    ids, size = case.ids(2 * case.rows, case.length), len(CATEGORIES)
    data = Labelled(ids, np.ones(ids.shape, bool), np.zeros((len(ids), size), np.float32))
    loss = objectives.moderation(ScoreModel(case.config, size, remat=case.training.remat))
    trainer = supervised_trainer(name, case.params(size), data, loss, case.training)
    count = flops.LEARNING * flops.scores(case.config, case.rows, case.length, size)
    return _of_trainer(trainer, case.seed, case.rows * case.length, "texts", count)


def _endless(config: ModelConfig) -> ModelConfig:
    """Return the model with an end-of-text token that is never sampled, so that every answer has full length."""
    return dataclasses.replace(config, eos_id=-1, other_eos_ids=())


def _prompts(case: Case) -> tuple[Prompts, SamplingConfig]:
    ids = case.ids(case.rows, case.length // 2)
    return Prompts(ids, np.ones(ids.shape, bool)), SamplingConfig(max_new_tokens=case.length - case.length // 2)


def _reinforced(case: Case, name: str) -> TimedProgram:
    prompts, sampling = _prompts(case)
    config = _endless(case.config)
    published = reinforcement_config(name)
    options = dataclasses.replace(published, prompts_per_iteration=case.rows, batch_size=case.rows)
    scorer, params = ScoreModel(config, remat=case.training.remat), case.params(1)
    reward, costs = score_judge(scorer, params), ()
    watched = {}
    if name == "ppo-lag":
        costs = (score_judge(scorer, params),)
    elif name == "reward-shaping":
        watched = {"return": reward, "cost": score_judge(scorer, params)}
        reward = shaped_judge(reward, score_judge(scorer, params), 1.0)
    problem = ReinforcementProblem(
        case._replace(config=config).language_model,
        case.params(),
        prompts,
        reward,
        costs,
        critics=(scorer,) * (1 + len(costs)),
        critic_params=(params,) * (1 + len(costs)),
        watched=watched,
    )
    trainer = reinforcement_trainer(name, problem, options, sampling)
    # The watched scores are those of the shaped judge, so the method needs them once.
    judges, start = (1 if name == "ppo" else 2), prompts.ids.shape[1]
    count = flops.reinforcement(config, judges, options, start, sampling, len(costs))
    return _of_trainer(trainer, case.seed, case.rows * case.length, "prompts and answers", count)


def _answers(case: Case, name: str) -> TimedProgram:
    prompts, sampling = _prompts(case)
    model = LanguageModel(_endless(case.config))

    def step(state: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        params, key = state
        key, now = jax.random.split(key)
        drawn = generate(model, {"params": params}, now, prompts.ids, prompts.mask, sampling, pad=0)
        return (params, key), drawn.ids

    state = jax.device_put((case.params(), jax.random.key(case.seed)))
    new, start = sampling.max_new_tokens, prompts.ids.shape[1]
    count = flops.generation(case.config, case.rows, start, new)
    return TimedProgram(jax.jit(step, donate_argnums=0), state, case.rows * new, "drawn", count)


STAGE_PROGRAMS: dict[str, Callable[[Case, str], TimedProgram]] = {
    "sft": _texts,
    "pretrain": _texts,
    "reward": _pairs,
    "cost": _pairs,
    "dpo": _pairs,
    "moderation": _labelled,
    "ppo": _reinforced,
    "ppo-lag": _reinforced,
    "reward-shaping": _reinforced,
    "generate": _answers,
}
