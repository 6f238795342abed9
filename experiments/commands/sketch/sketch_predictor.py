"""`jsafe sketch predictor`: train a predictor of the next stroke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.cli.config_flags import ConfigFlags, config_flags
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, RunFlags
from experiments.commands.sketch.shared.data_flags import DataFlags, ReadFlags
from experiments.commands.sketch.shared.stage_run import run_stage
from sketch.models.model_configs import PredictorConfig
from sketch.training.training_configs import PredictorTrainingConfig

if TYPE_CHECKING:
    from sketch.training.requests import PredictorRequest as LibraryRequest


@config_flags(PredictorConfig, PredictorTrainingConfig)
class ModelFlags(ConfigFlags):
    """Sizes and hyper-parameters."""


@flags
class PredictorRequest:
    """Settings of `jsafe sketch predictor`."""

    data: DataFlags = DataFlags()
    read: ReadFlags = ReadFlags()
    run: RunFlags = RunFlags()
    model: ModelFlags = ModelFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: PredictorRequest) -> Result:
    """Run `jsafe sketch predictor`."""
    return run_stage(request, "predictor", lambda: _library_request(request))


def _library_request(request: PredictorRequest) -> LibraryRequest:
    from sketch.training.requests import PredictorRequest as LibraryRequest

    return LibraryRequest(
        seed=request.run.seed,
        dataset=request.data.config(request.read),
        size=request.model.config(PredictorConfig),
        training=request.model.config(PredictorTrainingConfig),
    )
