"""Hyper-parameters that many on-policy algorithms share; each part declares its own."""

from __future__ import annotations

from jsafe.config import Config, hyperparameters, option
from jsafe.networks import encoders
from jsafe.networks.encoders import TORSOS
from jsafe.networks.mlp import ACTIVATIONS, INITIALIZERS


@hyperparameters
class OnPolicyConfig(Config):
    """Options of every on-policy algorithm."""

    total_steps: int = option(
        "environment steps of the whole run; learning rates decay over it", default=10_000_000, low=1
    )
    num_envs: int = option("environments side by side", default=20, low=1)
    steps_per_iteration: int = option(
        "environment steps per iteration, summed over all environments", default=20_000, low=1
    )
    reset_at_iteration_start: bool = option("abandon running episodes when an iteration starts", default=False)
    episode_window: int = option("finished episodes over which return and cost are averaged", default=100, low=1)
    normalize_observations: bool = option("scale observations by their running mean and deviation", default=True)
    observation_clip: float = option("bound on the absolute value of a normalised observation", default=5.0, above=0)
    raw_final_observation: bool = option(
        "bootstrap at a time limit from the observation as it is, not normalised, as SafePO does", default=False
    )
    normalize_rewards: bool = option("learn from rewards scaled by their running mean and deviation", default=False)
    discount: float = option("discount of rewards", default=0.99, traced=True, low=0, high=1)
    gae_lambda: float = option(
        "weight of long-term estimates in reward advantages", default=0.95, traced=True, low=0, high=1
    )
    hidden_sizes: tuple[int, ...] = option("widths of the hidden layers of policy and values", default=(64, 64), low=1)
    activation: str = option("nonlinearity between layers", default="tanh", choices=tuple(ACTIVATIONS))
    initializer: str = option("distribution of initial weights", default="kaiming_uniform", choices=tuple(INITIALIZERS))
    torso: str = option(
        "encoder of observations: cnn for an image, gru for a history",
        default="mlp",
        choices=TORSOS,
    )
    history: int = option("observations the policy sees, the present one included", default=1, low=1)
    recurrent_size: int = option("width of the recurrent layer of torso gru", default=64, low=1)
    image_shape: tuple[int, ...] = option(
        "height, width and channels of the image at the start of an observation, for torso cnn", default=(), low=1
    )
    squash: bool = option("squash continuous actions to their bounds by tanh instead of clipping them", default=False)
    initial_log_std: float = option("log standard deviation of a continuous policy before training", default=0.0)

    def __post_init__(self) -> None:
        """Check each option, that the environments share an iteration evenly, and that the torso has what it needs."""
        super().__post_init__()
        encoders.check(self.torso, self.history, self.image_shape)
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
class MinibatchConfig(OnPolicyConfig):
    """Options of algorithms that take many small gradient steps on one batch."""

    passes: int = option("maximum number of passes over the batch", default=40, low=1)
    minibatch_size: int = option("samples in one gradient step; the last of a pass may be smaller", default=64, low=1)
    value_learning_rate: float = option("Adam's step size for the value functions", default=3e-4, traced=True, low=0)
    max_grad_norm: float = option("largest norm of a gradient", default=40.0, traced=True, above=0)
    joint_grad_norm: bool = option("bound the norm of all networks together instead of each one's", default=False)
    value_l2: float = option(
        "weight of the sum of squared parameters in a value loss", default=1e-3, traced=True, low=0
    )

    def __post_init__(self) -> None:
        """Check each option, and that a minibatch fits into an iteration."""
        super().__post_init__()
        if self.minibatch_size > self.steps_per_iteration:
            raise ValueError(
                f"minibatch_size must be at most steps_per_iteration ({self.steps_per_iteration}), "
                f"got {self.minibatch_size}"
            )


@hyperparameters
class FirstOrderConfig(MinibatchConfig):
    """Options of algorithms whose policy takes those small steps too."""

    target_kl: float = option(
        "mean KL divergence from the acting policy that ends the passes; inf makes all of them",
        default=0.02,
        traced=True,
        above=0,
        infinite=True,
    )
    learning_rate: float = option("Adam's step size for the policy", default=3e-4, traced=True, low=0)
    learning_rate_decay: bool = option("decrease the policy's step size linearly to 0 over total_steps", default=True)
    entropy_coefficient: float = option("weight of the policy's entropy", default=0.0, traced=True, low=0)
    entropy_per_dimension: bool = option(
        "average the entropy over action dimensions, as OmniSafe does, instead of summing", default=False
    )


@hyperparameters
class CostAdvantageConfig(Config):
    """Options of algorithms with limits: how costs become advantages and episode costs."""

    cost_gae_lambda: float = option(
        "weight of long-term estimates in cost advantages", default=0.95, traced=True, low=0, high=1
    )
    normalize_costs: bool = option("learn from costs scaled by their running mean and deviation", default=False)
    smooth_costs_twice: bool = option(
        "compare limits with the mean of the window's means at each end of an episode, and with 0 in the first "
        "iteration, as SafePO does",
        default=False,
    )
