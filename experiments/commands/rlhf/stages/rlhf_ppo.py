"""`jsafe rlhf ppo`: train a language model with PPO on a reward model; a cost model is only reported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.stage_flags import LIMIT_OPTIONS, LimitFlags, ReinforcementRequest
from rlhf.config import SamplingConfig
from rlhf.reinforcement.method_presets import BAICHUAN2, PUBLISHED
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig

if TYPE_CHECKING:
    from rlhf.training.recipes import Recipe


@hyperparameter_flags(
    ReinforcementConfig,
    SamplingConfig,
    presets={"safe-rlhf": PUBLISHED["ppo"], "baichuan2": BAICHUAN2["ppo"]},
    hidden=LIMIT_OPTIONS,
)
class PpoTraining(HyperparameterFlags):
    """Hyper-parameters of the method and of its responses."""


@flags
class PpoRequest(ReinforcementRequest):
    """Settings of `jsafe rlhf ppo`.

    Attributes:
        preset: Published hyper-parameters to start from.
    """

    STAGE: ClassVar[str] = "ppo"

    preset: Literal["safe-rlhf", "baichuan2"] = "safe-rlhf"
    limits: LimitFlags = LimitFlags()
    training: PpoTraining = PpoTraining()

    def recipe(self, run_dir: Path) -> Recipe:
        """Build the stage."""
        from rlhf.reinforcement.setup import reinforcement_recipe

        return reinforcement_recipe(self.setup(preset=self.preset))


def run(request: PpoRequest) -> Result:
    """Run `jsafe rlhf ppo`."""
    from experiments.commands.rlhf.shared.rlhf_run import run_stage

    return run_stage(request)
