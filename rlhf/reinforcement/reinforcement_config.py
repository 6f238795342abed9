"""Hyper-parameters of reinforcement from judges."""

from __future__ import annotations

from jsafe.config import hyperparameters, option
from rlhf.adapters.lora import LoraConfig
from rlhf.models.architecture import DTYPES
from rlhf.training.schedules import SCHEDULES

ESTIMATORS = ("critic", "group")

PTX_COEFFICIENT = 16.0
"""Weight of texts that people wrote where there are any, as in the published scripts (Dai et al. 2024)."""


@hyperparameters
class ReinforcementConfig(LoraConfig):
    """Hyper-parameters of reinforcement from judges."""

    prompts_per_iteration: int = option("prompts answered at once", default=16, low=1)
    answers_per_prompt: int = option("answers to each; at least 2 for estimator 'group'", default=1, low=1)
    batch_size: int = option("answers in one update", default=16, low=1)
    update_iterations: int = option("passes over the answers", default=1, low=1)
    iterations: int = option("of the run; the actor's step size falls over them", default=100, low=1)
    estimator: str = option(
        "'critic', generalised advantages with a value function for the reward and for each cost, or 'group', answers "
        "compared with the others to the same prompt (Shao et al. 2024, arXiv 2402.03300)",
        default="critic",
        choices=ESTIMATORS,
    )
    kl_coefficient: float = option("what a token pays for the log-ratio to the reference", default=0.01, low=0)
    last_kl_coefficient: float = option(
        "what that falls to by the last iteration, by the same factor in each from the actor's first; 0 keeps it",
        default=0.0,
        low=0,
    )
    clip_ratio: float = option("bound on the change of a token's probability in one iteration", default=0.2, above=0)
    clip_score: float = option("bound on the reward and on the cost of a token", default=50.0, above=0)
    clip_value: float = option("bound on the change of a value", default=5.0, above=0)
    gae_lambda: float = option("weight of longer sums", default=0.95, low=0, high=1)
    cost_limit: float | tuple[float, ...] = option(
        "largest allowed mean cost of an answer, one for each cost", default=0.0, vector=True
    )
    multiplier_init: float = option("multiplier at the start", default=1.0, above=0)
    multiplier_learning_rate: float = option(
        "step size of its logarithm; 0 keeps it (reward shaping)", default=0.1, low=0
    )
    multiplier_max: float = option("its upper bound", default=5.0, above=0)
    multiplier_delay: int = option("iterations before it moves", default=0, low=0)
    cost_window: int = option("answers over which the mean cost is taken", default=128, low=1)
    actor_learning_rate: float = option("largest step size of the actor", default=1e-5, traced=True, low=0)
    actor_delay: int = option("iterations in which the critics alone learn", default=0, low=0)
    actor_weight_decay: float = option("of the actor", default=0.01, low=0)
    critic_learning_rate: float = option("step size of the critics", default=5e-6, low=0)
    schedule: str = option(
        "of the actor's step size; that of the critics is constant", default="cosine", choices=SCHEDULES
    )
    warmup_ratio: float = option("of the actor's", default=0.03, low=0, high=1)
    max_grad_norm: float = option("largest norm of a gradient", default=1.0, above=0)
    ptx_coefficient: float = option(
        f"weight of the language model's loss on texts that people wrote, 0 for none; {PTX_COEFFICIENT:g}, as "
        "published, where --ptx-data names some",
        default=0.0,
        low=0,
    )
    loss_chunk: int = option(
        "tokens whose logits a loss holds at once, to save memory; 0 for the whole batch", default=1024, low=0
    )
    dtype: str = option(
        "of activations and matrix products; parameters, losses and moments are float32 in either",
        default="float32",
        choices=tuple(DTYPES),
    )

    def __post_init__(self) -> None:
        """Check each option, that updates share the answers evenly, and that a group has members to compare."""
        super().__post_init__()
        answers = self.prompts_per_iteration * self.answers_per_prompt
        if answers % self.batch_size:
            raise ValueError(f"batch_size must divide the {answers} answers of an iteration, got {self.batch_size}")
        if self.estimator == "group" and self.answers_per_prompt < 2:
            raise ValueError("answers_per_prompt must be at least 2 to compare answers to one prompt, got 1")
        if self.last_kl_coefficient > self.kl_coefficient:
            most, got = self.kl_coefficient, self.last_kl_coefficient
            raise ValueError(f"last_kl_coefficient must be at most the kl_coefficient {most:g}, got {got:g}")
        if self.actor_delay and self.actor_delay >= self.iterations:
            raise ValueError(
                f"actor_delay {self.actor_delay} leaves the actor none of the {self.iterations} iterations"
            )
        if self.estimator == "group" and self.actor_delay:
            raise ValueError("actor_delay lets critics learn first, and estimator 'group' has none")

    @property
    def limits(self) -> tuple[float, ...]:
        """The limits, one for each cost."""
        return self.cost_limit if isinstance(self.cost_limit, tuple) else (self.cost_limit,)
