"""Models, judges and data of a reinforcement stage, and checks that they fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rlhf.data.encoding import Prompts, Supervised
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.reinforcement.judge import Judge
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig


class ReinforcementProblem(NamedTuple):
    """A language model, the prompts it answers, and the judges it learns from.

    Attributes:
        actor: the language model.
        actor_params: its initial parameters, also the frozen reference.
        prompts: prompts on the host, padded on the left.
        reward: scores how good an answer is.
        costs: score how harmful an answer is, one for each limit.
        critics: value models of the reward and of each cost, in this order; empty for estimator "group".
        critic_params: initial parameters of the critics.
        pad: id of padding.
        ptx: human-written texts on the host for the pretraining (PTX) loss, None without them.
        watched: judges whose scores are only reported, by metric. `return` replaces the reward that is learned from,
            which is then reported as `shaped`; `cost` is for a method without costs.
    """

    actor: LanguageModel
    actor_params: Any
    prompts: Prompts
    reward: Judge
    costs: tuple[Judge, ...] = ()
    critics: tuple[ScoreModel, ...] = ()
    critic_params: tuple[Any, ...] = ()
    pad: int = 0
    ptx: Supervised | None = None
    watched: Mapping[str, Judge] = {}  # noqa: RUF012

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The judge of the reward, then those of the costs."""
        return (self.reward, *self.costs)

    @property
    def answer_start(self) -> int:
        """Column of the first generated token among tokens 1 to L - 1."""
        return self.prompts.ids.shape[1] - 1


def check_problem(problem: ReinforcementProblem, config: ReinforcementConfig) -> None:
    """Check that models, judges and data fit the configuration.

    Raises:
        ValueError: limits, critics, prompts or texts do not fit; the message names the expected number.
    """
    costs, rows = len(problem.costs), len(problem.prompts.ids)
    if costs and len(config.limits) != costs:
        raise ValueError(f"cost_limit must have one entry for each of the {costs} costs, got {config.cost_limit}")
    expected = 1 + costs if config.estimator == "critic" else 0
    for name, entries in (("critics", problem.critics), ("critic_params", problem.critic_params)):
        if len(entries) != expected:
            raise ValueError(f"{name} must have {expected} entries (the reward's, each cost's), got {len(entries)}")
    if rows < config.prompts_per_iteration:
        raise ValueError(
            f"prompts_per_iteration must be at most the number of prompts, {rows}, got {config.prompts_per_iteration}"
        )
    texts = 0 if problem.ptx is None else len(problem.ptx.ids)
    if config.ptx_coefficient and texts < config.batch_size:
        raise ValueError(f"ptx_coefficient needs at least {config.batch_size} texts for the PTX loss, got {texts}")
    if problem.ptx is not None and not config.ptx_coefficient:
        raise ValueError("ptx_coefficient must be above 0 if there are texts for the PTX loss, got 0")
