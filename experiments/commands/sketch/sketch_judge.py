"""`jsafe sketch judge`: train a classifier of people's drawings, for evaluation only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from experiments.cli.config_flags import ConfigFlags, config_flags
from experiments.cli.errors import CommandError
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, RunFlags
from experiments.commands.sketch.shared.config_presets import preset_values
from experiments.commands.sketch.shared.data_flags import BitmapFlags, DataFlags, ReadFlags
from experiments.commands.sketch.shared.stage_run import run_stage
from sketch.models.model_configs import ClassifierConfig
from sketch.training.training_configs import CLASSIFIER_PRESETS, ClassifierTrainingConfig

if TYPE_CHECKING:
    from sketch.training.requests import ClassifierRequest

PRESETS = preset_values(CLASSIFIER_PRESETS, first="plain")


@config_flags(ClassifierConfig, ClassifierTrainingConfig, presets=PRESETS, hidden={"architecture"})
class ModelFlags(ConfigFlags):
    """Sizes and hyper-parameters."""


@flags
class JudgeRequest:
    """Settings of `jsafe sketch judge`.

    Attributes:
        architecture: Network architecture; plain and residual read bitmaps, recurrent reads strokes.
    """

    architecture: Literal["plain", "residual", "recurrent"] = "plain"
    bitmaps: BitmapFlags = BitmapFlags()
    data: DataFlags = DataFlags()
    read: ReadFlags = ReadFlags()
    run: RunFlags = RunFlags()
    model: ModelFlags = ModelFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: JudgeRequest) -> Result:
    """Run `jsafe sketch judge`."""
    return run_stage(request, "judge", lambda: _library_request(request))


def _library_request(request: JudgeRequest) -> ClassifierRequest:
    from sketch.training.requests import ClassifierRequest

    _check_source(request)
    defaults = PRESETS[request.architecture]
    bitmaps = request.bitmaps.config(request.data) if request.bitmaps.bitmaps else None
    return ClassifierRequest(
        seed=request.run.seed,
        dataset=request.data.config(request.read) if bitmaps is None else None,
        bitmaps=bitmaps,
        size=request.model.config(ClassifierConfig, defaults),
        training=request.model.config(ClassifierTrainingConfig, defaults),
    )


def _check_source(request: JudgeRequest) -> None:
    """Refuse flags of vectors next to bitmaps, and flags of bitmaps next to vectors."""
    data, bitmaps = request.data, request.bitmaps
    if not bitmaps.bitmaps:
        of_bitmaps = {"--first-index": bitmaps.first_index, "--per-class": bitmaps.per_class}
        for flag, value in of_bitmaps.items():
            if value:
                raise CommandError(f"{flag} has no effect without --bitmaps FILE")
        if not data.data and not data.procedural:
            raise CommandError(
                "there are no training drawings; add --bitmaps FILE, or vectors: --data FILE --data OTHERS, "
                "--procedural cat:2000"
            )
        return
    if data.data or data.procedural:
        raise CommandError("--bitmaps cannot be combined with --data or --procedural")
    of_vectors = {"--valid": data.valid, "--recognized-only": data.recognized_only, "--skip": request.read.skip}
    of_vectors["--split"] = data.split != "train"
    for flag, value in of_vectors.items():
        if value:
            raise CommandError(f"{flag} has no effect on --bitmaps; leave it out")
