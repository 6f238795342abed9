"""`jsafe sketch train`: train a Sketch-RNN, plain or guided by a predictor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from experiments.cli.argument_types import Folder, Switch
from experiments.cli.config_flags import ConfigFlags, config_flags
from experiments.cli.errors import CommandError
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, RunFlags
from experiments.commands.sketch.shared.config_presets import preset_values
from experiments.commands.sketch.shared.data_flags import DataFlags, ReadFlags
from experiments.commands.sketch.shared.stage_run import run_stage
from sketch.models.model_configs import SketchRNNConfig
from sketch.training.training_configs import GUIDED_PRESETS, GuidedTrainingConfig, SketchRNNTrainingConfig

if TYPE_CHECKING:
    from sketch.training.requests import SketchRNNRequest

PRESETS = preset_values(GUIDED_PRESETS, first="small")


@config_flags(SketchRNNConfig, GuidedTrainingConfig, presets=PRESETS, hidden={"extra_inputs"})
class ModelFlags(ConfigFlags):
    """Sizes and hyper-parameters."""


@flags
class TrainRequest:
    """Settings of `jsafe sketch train`.

    Attributes:
        start: Folder of a trained model to start from, whose sizes and unit are kept.
        predictor: Folder of a predictor that guides the decoder.
        framed: Fit drawings into the box and start at its centre, so that a predictor can score strokes (guided:
            always).
        preset: Sizes and hyper-parameters to start from.
    """

    start: Folder | None = None
    predictor: Folder | None = None
    framed: Switch = False
    preset: Literal["small", "code", "paper"] = "small"
    data: DataFlags = DataFlags()
    read: ReadFlags = ReadFlags()
    run: RunFlags = RunFlags()
    model: ModelFlags = ModelFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: TrainRequest) -> Result:
    """Run `jsafe sketch train`."""
    return run_stage(request, "train", lambda: _library_request(request))


def _library_request(request: TrainRequest) -> SketchRNNRequest:
    from sketch.training.requests import SketchRNNRequest

    chosen = set(request.model.explicit())
    sizes = _names(SketchRNNConfig) & chosen
    if request.start is not None and sizes:
        raise CommandError(f"--start keeps the sizes of its model; leave {_flags(sizes)} out")
    if request.predictor is None and (guided := chosen - _names(SketchRNNTrainingConfig) - sizes):
        raise CommandError(f"{_flags(guided)} has no effect without a predictor; add --predictor DIR")
    defaults = PRESETS[request.preset]
    return SketchRNNRequest(
        seed=request.run.seed,
        dataset=request.data.config(request.read),
        start=request.start,
        predictor=request.predictor,
        framed=request.framed,
        architecture=request.model.config(SketchRNNConfig, defaults),
        training=request.model.config(GuidedTrainingConfig, defaults),
    )


def _names(config: Any) -> set[str]:
    from jsafe.config import describe

    return {option["name"] for option in describe(config)}


def _flags(names: set[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))
