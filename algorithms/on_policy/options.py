"""Hyper-parameters of the on-policy family; each algorithm's class is a union of the parts it is made of."""

from __future__ import annotations

from algorithms.hyper import Hyper, hyperparameters, option
from jsafe.multipliers import NO_LIMIT
from jsafe.networks import ACTIVATIONS, INITIALIZERS


@hyperparameters
class OnPolicy(Hyper):
    """What every on-policy algorithm shares."""

    total_steps: int = option(10_000_000, "environment steps of the whole run; learning rates decay over it", low=1)
    num_envs: int = option(20, "environments side by side", low=1)
    steps_per_iteration: int = option(20_000, "environment steps collected before each update, over all of them", low=1)
    reset_at_iteration_start: bool = option(False, "abandon running episodes when an iteration starts")
    episode_window: int = option(100, "finished episodes over which return and cost are averaged", low=1)
    normalize_observations: bool = option(True, "scale observations by their running mean and deviation")
    observation_clip: float = option(5.0, "bound on the absolute value of a normalised observation", above=0)
    discount: float = option(0.99, "discount of rewards", traced=True, low=0, high=1)
    cost_discount: float = option(0.99, "discount of costs", traced=True, low=0, high=1)
    gae_lambda: float = option(0.95, "weight of long-term estimates in reward advantages", traced=True, low=0, high=1)
    cost_gae_lambda: float = option(
        0.95, "weight of long-term estimates in cost advantages", traced=True, low=0, high=1
    )
    hidden_sizes: tuple[int, ...] = option((64, 64), "widths of the hidden layers of policy and values", low=1)
    activation: str = option("tanh", "nonlinearity between layers", choices=tuple(ACTIVATIONS))
    initializer: str = option("kaiming_uniform", "how weights are drawn", choices=tuple(INITIALIZERS))

    def __post_init__(self) -> None:
        """Check each option, and that the environments share an iteration evenly."""
        super().__post_init__()
        if self.steps_per_iteration % self.num_envs:
            raise ValueError(
                f"steps_per_iteration must be a multiple of num_envs ({self.num_envs}), got {self.steps_per_iteration}"
            )

    @property
    def steps_per_env(self) -> int:
        """Length of one rollout."""
        return self.steps_per_iteration // self.num_envs

    @property
    def iterations(self) -> int:
        """Iterations in `total_steps`, the last one perhaps cut short."""
        return -(-self.total_steps // self.steps_per_iteration)


@hyperparameters
class FirstOrder(OnPolicy):
    """What algorithms share that take many small gradient steps on one batch."""

    passes: int = option(40, "passes over the batch, at most", low=1)
    minibatch_size: int = option(64, "samples in one gradient step; the last of a pass may be smaller", low=1)
    kl_stop: bool = option(True, "end the passes once the policy has moved by target_kl")
    target_kl: float = option(
        0.02, "mean KL divergence from the acting policy that ends the passes", traced=True, above=0
    )
    learning_rate: float = option(3e-4, "Adam's step size for the policy", traced=True, low=0)
    value_learning_rate: float = option(3e-4, "Adam's step size for the value functions", traced=True, low=0)
    learning_rate_decay: bool = option(True, "let the policy's step size fall linearly to 0 over total_steps")
    max_grad_norm: float = option(40.0, "largest norm of a gradient", traced=True, above=0)
    joint_grad_norm: bool = option(False, "bound the norm of all networks together instead of each one's")
    value_l2: float = option(1e-3, "weight of the sum of squared parameters in a value loss", traced=True, low=0)
    entropy_coefficient: float = option(0.0, "weight of the policy's entropy", traced=True, low=0)

    def __post_init__(self) -> None:
        """Check each option, and that a minibatch fits into an iteration."""
        super().__post_init__()
        if self.minibatch_size > self.steps_per_iteration:
            raise ValueError(
                f"minibatch_size must be at most steps_per_iteration ({self.steps_per_iteration}), "
                f"got {self.minibatch_size}"
            )


@hyperparameters
class PPO(FirstOrder):
    """Proximal policy optimisation."""

    clip_ratio: float = option(0.2, "how far the probability ratio may move from 1", traced=True, above=0)


@hyperparameters
class Constrained(Hyper):
    """One cost, `State.cost_sum`, whose undiscounted sum over an episode is to stay below a limit on average."""

    cost_limit: float = option(25.0, "largest allowed mean of an episode's undiscounted cost", traced=True, low=0)
    multiplier_max: float = option(NO_LIMIT, "upper bound of the multiplier", traced=True, low=0)
    multiplier_init: float = option(0.001, "multiplier before the first update", traced=True, low=0)


@hyperparameters
class Lagrange(Constrained):
    """A multiplier that follows the gradient."""

    multiplier_optimizer: str = option("adam", "gradient method of the multiplier", choices=("adam", "sgd"))
    multiplier_learning_rate: float = option(0.035, "step size of the multiplier", traced=True, low=0)


@hyperparameters
class PID(Constrained):
    """A multiplier set by a PID controller."""

    multiplier_max: float = option(NO_LIMIT, "upper bound of the multiplier", traced=True, low=0)
    pid_kp: float = option(0.1, "gain of the smoothed violation", traced=True, low=0)
    pid_ki: float = option(0.01, "gain of the accumulated violation", traced=True, low=0)
    pid_kd: float = option(0.01, "gain of the growth of the cost", traced=True, low=0)
    pid_p_smoothing: float = option(0.95, "weight of the past in the smoothed violation", traced=True, low=0, high=1)
    pid_d_smoothing: float = option(0.95, "weight of the past in the smoothed cost", traced=True, low=0, high=1)
    pid_delay: int = option(10, "updates over which the growth of the cost is taken", low=1)


@hyperparameters
class PPOLag(Lagrange, PPO):
    """PPO with a gradient-following multiplier."""


@hyperparameters
class CPPOPID(PID, PPO):
    """PPO with a PID-controlled multiplier."""
