"""`jsafe sketch reward`: reinforce a generator by the log odds of a discriminator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from experiments.cli.argument_types import Folder
from experiments.cli.config_flags import ConfigFlags, config_flags
from experiments.cli.errors import CommandError
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, RunFlags
from experiments.commands.sketch.shared.config_presets import preset_values
from experiments.commands.sketch.shared.data_flags import DataFlags, ReadFlags
from experiments.commands.sketch.shared.stage_run import run_stage
from sketch.training.training_configs import REINFORCE_PRESETS, ReinforceConfig

if TYPE_CHECKING:
    from sketch.training.requests import ReinforceRequest

PRESETS = preset_values({name: (config,) for name, config in REINFORCE_PRESETS.items()}, first="small")


@config_flags(ReinforceConfig, presets=PRESETS)
class TrainingFlags(ConfigFlags):
    """Hyper-parameters."""


@flags
class RewardRequest:
    """Settings of `jsafe sketch reward`.

    Attributes:
        model: Folder of the generator to start from, from which the KL divergence is computed.
        discriminator: Folder of the discriminator whose log odds are the reward.
        preset: Hyper-parameters to start from.
    """

    model: Folder | None = None
    discriminator: Folder | None = None
    preset: Literal["small", "paper"] = "small"
    data: DataFlags = DataFlags()
    read: ReadFlags = ReadFlags()
    run: RunFlags = RunFlags()
    training: TrainingFlags = TrainingFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: RewardRequest) -> Result:
    """Run `jsafe sketch reward`."""
    return run_stage(request, "reward", lambda: _library_request(request))


def _library_request(request: RewardRequest) -> ReinforceRequest:
    from sketch.training.requests import ReinforceRequest

    if request.model is None or request.discriminator is None:
        raise CommandError("`reward` requires --model DIR (the generator) and --discriminator DIR (the reward)")
    return ReinforceRequest(
        seed=request.run.seed,
        model=request.model,
        discriminator=request.discriminator,
        dataset=request.data.config(request.read),
        training=request.training.config(ReinforceConfig, PRESETS[request.preset]),
    )
