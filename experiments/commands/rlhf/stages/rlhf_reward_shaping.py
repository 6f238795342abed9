"""`jsafe rlhf reward-shaping`: train a language model with PPO on the reward minus a multiple of the cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from experiments.cli.argument_types import NotNegative
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.stage_flags import LIMIT_OPTIONS, LimitFlags, ReinforcementRequest
from rlhf.config import SamplingConfig
from rlhf.reinforcement.method_presets import PUBLISHED
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig

if TYPE_CHECKING:
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(
    ReinforcementConfig,
    SamplingConfig,
    presets={"": PUBLISHED["reward-shaping"]},
    hidden=LIMIT_OPTIONS,
)
class RewardShapingTraining(HyperparameterFlags):
    """Hyper-parameters of the method and of its responses."""


@flags
class RewardShapingRequest(ReinforcementRequest):
    """Settings of `jsafe rlhf reward-shaping`.

    Attributes:
        cost_weight: Weight of the cost.
    """

    STAGE: ClassVar[str] = "reward-shaping"

    cost_weight: NotNegative = 1.0
    limits: LimitFlags = LimitFlags()
    training: RewardShapingTraining = RewardShapingTraining()

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.reinforcement.setup import reinforcement_recipe

        return reinforcement_recipe(self.setup(cost_weight=self.cost_weight))


def run(request: RewardShapingRequest) -> Result:
    """Run `jsafe rlhf reward-shaping`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
