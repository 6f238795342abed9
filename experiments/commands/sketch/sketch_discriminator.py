"""`jsafe sketch discriminator`: train a discriminator of recognisable drawings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from experiments.cli.argument_types import Count, Folder, Folders
from experiments.cli.config_flags import ConfigFlags, config_flags
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, RunFlags
from experiments.commands.sketch.shared.config_presets import preset_values
from experiments.commands.sketch.shared.data_flags import DataFlags, ReadFlags, Sources
from experiments.commands.sketch.shared.stage_run import run_stage
from sketch.models.model_configs import DiscriminatorConfig
from sketch.training.training_configs import DISCRIMINATOR_PRESETS, DiscriminatorTrainingConfig

if TYPE_CHECKING:
    from sketch.training.requests import DiscriminatorRequest as LibraryRequest

PRESETS = preset_values(DISCRIMINATOR_PRESETS, first="small")


@config_flags(DiscriminatorConfig, DiscriminatorTrainingConfig, presets=PRESETS)
class ModelFlags(ConfigFlags):
    """Sizes and hyper-parameters."""


@flags
class DiscriminatorRequest:
    """Settings of `jsafe sketch discriminator`.

    Attributes:
        negatives: Drawings of other classes: a file, a folder or CLASS:N for procedural ones; repeatable.
        generator: Folder of a generator whose samples serve as negatives; repeatable.
        generated: Number of samples of each generator.
        start: Folder of a trained discriminator to start from, whose sizes are kept.
        preset: Sizes and hyper-parameters to start from.
    """

    negatives: Sources = ()
    generator: Folders = ()
    generated: Count = 1000
    start: Folder | None = None
    preset: Literal["small", "full"] = "small"
    data: DataFlags = DataFlags()
    read: ReadFlags = ReadFlags()
    run: RunFlags = RunFlags()
    model: ModelFlags = ModelFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: DiscriminatorRequest) -> Result:
    """Run `jsafe sketch discriminator`."""
    return run_stage(request, "discriminator", lambda: _library_request(request))


def _library_request(request: DiscriminatorRequest) -> LibraryRequest:
    from sketch.training.requests import DiscriminatorRequest as LibraryRequest

    defaults = PRESETS[request.preset]
    return LibraryRequest(
        seed=request.run.seed,
        dataset=request.data.config(request.read),
        negatives=request.negatives,
        generators=request.generator,
        generated=request.generated,
        start=request.start,
        size=request.model.config(DiscriminatorConfig, defaults),
        training=request.model.config(DiscriminatorTrainingConfig, defaults),
    )
