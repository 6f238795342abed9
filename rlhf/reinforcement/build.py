"""Reinforcement stages from models and samples: PPO, PPO-Lagrangian and group-relative methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jsafe import TrainState, multihost
from jsafe.runs import resume
from rlhf.checkpoints.model_folder import Model
from rlhf.config import SamplingConfig
from rlhf.data import encoding
from rlhf.data.schemas import Example
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.reinforcement import judge as judges
from rlhf.reinforcement.judge import Judge, score_judge
from rlhf.reinforcement.policy_trainer import reinforcement_trainer
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.tokenizer.tokenizer import difference
from rlhf.training.supervised_stages import Stage, trained_model


class ReinforcementModels(NamedTuple):
    """Models of a reinforcement stage.

    Attributes:
        actor: the language model; also the reference that it must stay close to.
        reward: scores how good an answer is.
        costs: score how harmful an answer is, each with its own limit.
        critics: initial value functions, the reward's first; None for the reward and cost models.
        watched: models whose scores are only reported, as `return` or `cost`.
    """

    actor: Model
    reward: Model | Judge
    costs: Sequence[Model | Judge] = ()
    critics: Sequence[Model] | None = None
    watched: Mapping[str, Model] = {}  # noqa: RUF012

    @property
    def judges(self) -> tuple[Model | Judge, ...]:
        """The reward, then the costs."""
        return (self.reward, *self.costs)

    def initial_critics(self) -> list[Model]:
        """Models that critics start from."""
        if self.critics is not None:
            return list(self.critics)
        return [judge for judge in self.judges if isinstance(judge, Model)]


class PromptData(NamedTuple):
    """Samples of a reinforcement stage.

    Attributes:
        prompts: samples whose prompts are answered.
        ptx: human-written answers for the pretraining (PTX) loss, weighted by `ptx_coefficient`; None without one.
        prompt_length: longest prompt.
        skip: leave out longer prompts and unusable answers instead of refusing them.
    """

    prompts: Sequence[Example]
    ptx: Sequence[Example] | None = None
    prompt_length: int = 128
    skip: bool = False


def reinforcement_stage(
    name: str,
    models: ReinforcementModels,
    data: PromptData,
    config: ReinforcementConfig,
    sampling: SamplingConfig,
    *,
    remat: bool = False,
) -> Stage:
    """Return a stage: PPO without costs, PPO-Lag with costs, a group-relative method with estimator "group".

    Args:
        name: name of the stage.
        models: actor, judges and critics.
        data: prompts, and texts for the PTX loss.
        config: hyper-parameters.
        sampling: settings for sampling answers.
        remat: recompute activations in the backward pass to save memory.

    Raises:
        ValueError: a judge or critic has other tokens than the actor or more than one score; a judge is a function and
            has no critic; or PTX texts and `ptx_coefficient` do not come together.
    """
    actor = models.actor
    check_judges(models)
    critics = models.initial_critics() if config.estimator == "critic" else []
    if config.estimator == "critic" and len(critics) != len(models.judges):
        raise ValueError("a judge that is a function needs a critic model to start from")
    encoded = encoding.prompts(data.prompts, actor.tokenizer, data.prompt_length, skip=data.skip)
    prompts, ptx, left_out = encoded.batch, None, encoded.left_out
    if data.ptx is not None:
        length = data.prompt_length + sampling.max_new_tokens
        texts = encoding.supervised(data.ptx, actor.tokenizer, length, skip=data.skip)
        ptx = texts.batch
        left_out = left_out | {f"{reason} (PTX texts)": count for reason, count in texts.left_out.items()}
    reward, *costs = (_as_judge(judge, config) for judge in models.judges)
    problem = ReinforcementProblem(
        actor=LanguageModel(actor.config, config.dtype, remat=remat, loss_chunk=config.loss_chunk),
        actor_params=actor.params,
        prompts=prompts,
        reward=reward,
        costs=tuple(costs),
        critics=tuple(ScoreModel(critic.config, dtype=config.dtype, remat=remat) for critic in critics),
        critic_params=tuple(critic.params for critic in critics),
        pad=actor.tokenizer.pad,
        ptx=ptx,
        watched={metric: _as_judge(model, config) for metric, model in models.watched.items()},
    )

    def finish(state: TrainState) -> Model:
        return trained_model(actor, state.params["actor"])

    def adapters(state: TrainState) -> Any:
        return multihost.on_host(state.params["actor"])

    return Stage(
        trainer=reinforcement_trainer(name, problem, config, sampling),
        iterations=config.iterations,
        finish=finish,
        left_out=left_out,
        adapters=adapters if config.lora_rank else None,
        digest=resume.digest((prompts, ptx)) or "",
    )


def shaped_judge(reward: Model, cost: Model, weight: float, dtype: str = "float32") -> Judge:
    """Reward minus `weight` times cost as one judge (reward shaping in Safe RLHF)."""
    first, second = (score_judge(ScoreModel(model.config, dtype=dtype), model.params) for model in (reward, cost))
    return judges.shaped_judge(first, second, weight)


def _as_judge(judge: Model | Judge, config: ReinforcementConfig) -> Judge:
    if isinstance(judge, Judge):
        return judge
    return score_judge(ScoreModel(judge.config, dtype=config.dtype), judge.params)


def check_judges(models: ReinforcementModels) -> None:
    """Check that judges and critics give one score and read the actor's tokens; other tokens score at random.

    Raises:
        ValueError: one of them does not.
    """
    actor = models.actor
    for model in (*models.judges, *(models.critics or ()), *models.watched.values()):
        if not isinstance(model, Model):
            continue
        if model.score_size != 1:
            raise ValueError(f"a judge or critic must give 1 score, got {model.score_size} from {model.tokenizer.path}")
        names = f"{model.tokenizer.path} and the actor's {actor.tokenizer.path}"
        if how := difference(model.tokenizer, actor.tokenizer):
            raise ValueError(f"judges and critics must have the actor's tokenizer, got {names}: {how}")
        if actor.tokenizer.pad >= model.config.vocab_size:
            raise ValueError(f"{names} do not fit: the model has no embedding of the padding id {actor.tokenizer.pad}")
