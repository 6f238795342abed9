"""Hyper-parameters of PPO, PPO-Lagrangian and group-relative updates on language models."""

from __future__ import annotations

from jsafe.config import hyperparameters, option
from rlhf.config import DTYPES, SCHEDULES, LoraConfig

ESTIMATORS = ("critic", "group")

PTX_COEFFICIENT = 16.0
"""Weight of the pretraining (PTX) loss if there are texts for it, as in the published scripts (Dai et al. 2024)."""


@hyperparameters
class ReinforcementConfig(LoraConfig):
    """Hyper-parameters of PPO, PPO-Lagrangian and group-relative updates on language models."""

    prompts_per_iteration: int = option("prompts answered in one iteration", default=16, low=1)
    answers_per_prompt: int = option("answers to each prompt; at least 2 for estimator 'group'", default=1, low=1)
    batch_size: int = option("answers in one minibatch", default=16, low=1)
    update_iterations: int = option("passes over the answers of an iteration", default=1, low=1)
    iterations: int = option("iterations of the run, over which the actor's learning rate falls", default=100, low=1)
    estimator: str = option(
        "advantage estimator: 'critic' (generalised advantages with a value function for the reward and for each cost) "
        "or 'group' (answers relative to the others to the same prompt; Shao et al. 2024, arXiv 2402.03300)",
        default="critic",
        choices=ESTIMATORS,
    )
    kl_coefficient: float = option("penalty of a token for its log-ratio to the reference", default=0.01, low=0)
    last_kl_coefficient: float = option(
        "kl_coefficient in the last iteration, reached geometrically from the actor's first; 0 keeps it constant",
        default=0.0,
        low=0,
    )
    clip_ratio: float = option("bound on the change of a token's probability in one iteration", default=0.2, above=0)
    clip_score: float = option("bound on the reward and on the cost of a token", default=50.0, above=0)
    clip_value: float = option("bound on the change of a value in one iteration", default=5.0, above=0)
    gae_lambda: float = option("lambda of generalised advantage estimation", default=0.95, low=0, high=1)
    cost_limit: float | tuple[float, ...] = option(
        "largest allowed mean cost of an answer, one for each cost", default=0.0, traced=True, vector=True
    )
    multiplier_init: float = option("initial Lagrange multiplier", default=1.0, traced=True, above=0)
    multiplier_learning_rate: float = option(
        "learning rate of the multiplier's logarithm; 0 keeps it constant", default=0.1, traced=True, low=0
    )
    multiplier_max: float = option("upper bound on the multiplier", default=5.0, traced=True, above=0)
    multiplier_delay: int = option("iterations before the multiplier moves", default=0, low=0)
    cost_window: int = option("most recent answers whose mean cost drives the multiplier", default=128, low=1)
    actor_learning_rate: float = option("largest learning rate of the actor", default=1e-5, traced=True, low=0)
    actor_delay: int = option("iterations in which only the critics learn", default=0, low=0)
    actor_weight_decay: float = option("decoupled weight decay of the actor", default=0.01, low=0)
    critic_learning_rate: float = option("learning rate of the critics", default=5e-6, traced=True, low=0)
    schedule: str = option(
        "schedule of the actor's learning rate; that of the critics is constant", default="cosine", choices=SCHEDULES
    )
    warmup_ratio: float = option(
        "fraction of the updates in which the actor's learning rate rises", default=0.03, low=0, high=1
    )
    max_grad_norm: float = option("largest norm of a gradient", default=1.0, above=0)
    ptx_coefficient: float = option(
        f"weight of the pretraining (PTX) loss on human-written answers; {PTX_COEFFICIENT:g}, as published, with "
        "--ptx-data",
        default=0.0,
        low=0,
    )
    loss_chunk: int = option(
        "tokens whose logits a loss keeps in memory at once; 0 for the whole batch", default=1024, low=0
    )
    dtype: str = option(
        "type of activations and matrix products; parameters, losses and moments are float32 for either type",
        default="float32",
        choices=tuple(DTYPES),
    )

    def __post_init__(self) -> None:
        """Check each option, and the options that depend on one another."""
        super().__post_init__()
        answers = self.prompts_per_iteration * self.answers_per_prompt
        if answers % self.batch_size:
            raise ValueError(f"batch_size must divide the {answers} answers of an iteration, got {self.batch_size}")
        if self.estimator == "group" and self.answers_per_prompt < 2:
            raise ValueError("answers_per_prompt must be at least 2 for estimator 'group', got 1")
        if self.last_kl_coefficient > self.kl_coefficient:
            most, got = self.kl_coefficient, self.last_kl_coefficient
            raise ValueError(f"last_kl_coefficient must be at most the kl_coefficient {most:g}, got {got:g}")
        if self.actor_delay and self.actor_delay >= self.iterations:
            raise ValueError(f"actor_delay must be below iterations, {self.iterations}, got {self.actor_delay}")
        if self.estimator == "group" and self.actor_delay:
            raise ValueError(
                f"actor_delay must be 0 for estimator 'group', which has no critics, got {self.actor_delay}"
            )

    @property
    def limits(self) -> tuple[float, ...]:
        """The limits, one for each cost."""
        return self.cost_limit if isinstance(self.cost_limit, tuple) else (self.cost_limit,)

    @property
    def answers_per_iteration(self) -> int:
        """Answers sampled in one iteration."""
        return self.prompts_per_iteration * self.answers_per_prompt

    @property
    def updates_per_iteration(self) -> int:
        """Minibatches of one iteration, all passes included."""
        return self.answers_per_iteration // self.batch_size * self.update_iterations

    def traced_for(self, num_costs: int) -> dict[str, float | tuple[float, ...]]:
        """Traced options that a method with this number of costs uses; `cost_limit` has one entry for each cost."""
        traced = self.traced()
        unused = {"critic_learning_rate"} if self.estimator == "group" else set()
        if not num_costs:
            unused |= {"cost_limit", *(name for name in traced if name.startswith("multiplier_"))}
        used = {name: value for name, value in traced.items() if name not in unused}
        return used | ({"cost_limit": self.limits} if num_costs else {})
