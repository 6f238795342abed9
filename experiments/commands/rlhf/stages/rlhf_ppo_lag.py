"""`jsafe rlhf ppo-lag`: train a language model with PPO-Lag, which keeps costs below their limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.stage_flags import ReinforcementRequest
from rlhf.config import SamplingConfig
from rlhf.reinforcement.method_presets import BAICHUAN2, PUBLISHED
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig

if TYPE_CHECKING:
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(
    ReinforcementConfig,
    SamplingConfig,
    presets={"safe-rlhf": PUBLISHED["ppo-lag"], "baichuan2": BAICHUAN2["ppo-lag"]},
)
class PpoLagTraining(HyperparameterFlags):
    """Hyper-parameters of the method and of its responses."""


@flags
class PpoLagRequest(ReinforcementRequest):
    """Settings of `jsafe rlhf ppo-lag`.

    Attributes:
        preset: Published hyper-parameters to start from.
    """

    STAGE: ClassVar[str] = "ppo-lag"

    preset: Literal["safe-rlhf", "baichuan2"] = "safe-rlhf"
    training: PpoLagTraining = PpoLagTraining()

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.reinforcement.setup import reinforcement_recipe

        return reinforcement_recipe(self.setup(preset=self.preset))


def run(request: PpoLagRequest) -> Result:
    """Run `jsafe rlhf ppo-lag`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
