"""Hyper-parameters of reinforcement from judges."""

from __future__ import annotations

import dataclasses

ESTIMATORS = ("critic", "group")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReinforcementOptions:
    """Hyper-parameters of reinforcement from judges.

    Attributes:
        prompts_per_iteration: prompts answered at once.
        answers_per_prompt: answers to each; at least 2 for `estimator="group"`.
        batch_size: answers in one update.
        update_iterations: passes over the answers.
        iterations: of the run; the actor's step size falls over them.
        estimator: `"critic"`, generalised advantages with a value function for the reward and for each cost, or
            `"group"`, answers compared with the others to the same prompt (Shao et al. 2024, arXiv 2402.03300).
        kl_coefficient: what a token pays for the log-ratio to the reference.
        clip_ratio: bound on the change of a token's probability in one iteration.
        clip_score: bound on the reward and on the cost of a token.
        clip_value: bound on the change of a value.
        gae_lambda: weight of longer sums.
        cost_limit: largest allowed mean cost of an answer, one for each cost.
        multiplier_init: multiplier at the start.
        multiplier_learning_rate: step size of its logarithm; 0 keeps it (reward shaping).
        multiplier_max: its upper bound.
        multiplier_delay: iterations before it moves.
        cost_window: answers over which the mean cost is taken.
        actor_learning_rate: largest step size of the actor.
        actor_weight_decay: of the actor.
        critic_learning_rate: step size of the critics.
        schedule: of the actor's step size; that of the critics is constant.
        warmup_ratio: of the actor's.
        max_grad_norm: largest norm of a gradient.
        ptx_coefficient: weight of the language model's loss on texts that people wrote, 0 for none.
    """

    prompts_per_iteration: int = 16
    answers_per_prompt: int = 1
    batch_size: int = 16
    update_iterations: int = 1
    iterations: int = 100
    estimator: str = "critic"
    kl_coefficient: float = 0.01
    clip_ratio: float = 0.2
    clip_score: float = 50.0
    clip_value: float = 5.0
    gae_lambda: float = 0.95
    cost_limit: tuple[float, ...] = (0.0,)
    multiplier_init: float = 1.0
    multiplier_learning_rate: float = 0.1
    multiplier_max: float = 5.0
    multiplier_delay: int = 0
    cost_window: int = 128
    actor_learning_rate: float = 1e-5
    actor_weight_decay: float = 0.01
    critic_learning_rate: float = 5e-6
    schedule: str = "cosine"
    warmup_ratio: float = 0.03
    max_grad_norm: float = 1.0
    ptx_coefficient: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ValueError: the message names the option, its value and what was expected.
        """
        for name in ("prompts_per_iteration", "answers_per_prompt", "batch_size", "update_iterations", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        answers = self.prompts_per_iteration * self.answers_per_prompt
        if answers % self.batch_size:
            raise ValueError(f"batch_size must divide the {answers} answers of an iteration, got {self.batch_size}")
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {self.estimator!r}")
        if self.estimator == "group" and self.answers_per_prompt < 2:
            raise ValueError("answers_per_prompt must be at least 2 to compare answers to one prompt, got 1")
        if not self.multiplier_init > 0.0:
            raise ValueError(f"multiplier_init must be above 0, got {self.multiplier_init}")
        if self.cost_window < 1:
            raise ValueError(f"cost_window must be at least 1, got {self.cost_window}")
