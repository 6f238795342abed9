"""Requests for training stages: all settings of a run, stored with it and validated when it is resumed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from sketch.data.dataset_config import BitmapConfig, DatasetConfig
from sketch.models.model_configs import (
    VECTORS,
    ClassifierConfig,
    DiscriminatorConfig,
    PredictorConfig,
    SketchRNNConfig,
)
from sketch.settings import Settings
from sketch.training.training_configs import (
    ClassifierTrainingConfig,
    DiscriminatorTrainingConfig,
    GuidedTrainingConfig,
    PredictorTrainingConfig,
    ReinforceConfig,
    SketchRNNTrainingConfig,
)


@dataclass(frozen=True, kw_only=True)
class TrainingRequest(Settings):
    """Base of the requests.

    A run holds copies of the models that it starts from, so that it can be resumed without the original folders.

    Attributes:
        seed: root of all randomness.
    """

    stage: ClassVar[str]

    seed: int = 0

    @property
    def models(self) -> dict[str, Path]:
        """Folders of the models that the stage starts from, by the name of their copies."""
        return {}

    def with_models_in(self, run_dir: Path) -> Self:
        """Return the request with the copies of the models in a run."""
        return dataclasses.replace(self, **{name: run_dir / name for name in self.models})


@dataclass(frozen=True, kw_only=True)
class SketchRNNRequest(TrainingRequest):
    """Training of a Sketch-RNN, plain or guided.

    Attributes:
        dataset: training and validation drawings.
        start: model to start from, whose sizes and unit are kept.
        predictor: predictor that guides the decoder; None for a plain model.
        framed: frame the drawings, so that a predictor can score the strokes of a plain model.
        architecture: sizes; ignored with `start`.
        training: hyper-parameters; the options of guided training are ignored without a predictor.
    """

    stage: ClassVar[str] = "train"

    dataset: DatasetConfig
    start: Path | None = None
    predictor: Path | None = None
    framed: bool = False
    architecture: SketchRNNConfig = SketchRNNConfig()
    training: GuidedTrainingConfig = GuidedTrainingConfig()

    @property
    def models(self) -> dict[str, Path]:
        """See `TrainingRequest.models`."""
        named = {"start": self.start, "predictor": self.predictor}
        return {name: path for name, path in named.items() if path is not None}

    @property
    def plain_training(self) -> SketchRNNTrainingConfig:
        """Hyper-parameters of a plain model."""
        names = {field.name for field in dataclasses.fields(SketchRNNTrainingConfig)}  # type: ignore[arg-type]
        return SketchRNNTrainingConfig(**{k: v for k, v in self.training.config().items() if k in names})


@dataclass(frozen=True, kw_only=True)
class PredictorRequest(TrainingRequest):
    """Training of a predictor.

    Attributes:
        dataset: training and validation drawings.
        size: sizes of the network.
        training: hyper-parameters.
    """

    stage: ClassVar[str] = "predictor"

    dataset: DatasetConfig
    size: PredictorConfig = PredictorConfig()
    training: PredictorTrainingConfig = PredictorTrainingConfig()


@dataclass(frozen=True, kw_only=True)
class DiscriminatorRequest(TrainingRequest):
    """Training of a discriminator.

    Attributes:
        dataset: positives.
        negatives: drawings of other classes: files, folders and `CLASS:COUNT`.
        generators: models whose samples are negatives.
        generated: number of samples of each generator.
        start: discriminator to start from, whose sizes are kept.
        size: sizes of the network; ignored with `start`.
        training: hyper-parameters.
    """

    stage: ClassVar[str] = "discriminator"

    dataset: DatasetConfig
    negatives: tuple[str, ...] = ()
    generators: tuple[Path, ...] = ()
    generated: int = 1000
    start: Path | None = None
    size: DiscriminatorConfig = DiscriminatorConfig()
    training: DiscriminatorTrainingConfig = DiscriminatorTrainingConfig()

    @property
    def models(self) -> dict[str, Path]:
        """See `TrainingRequest.models`."""
        named = {f"generator-{number}": path for number, path in enumerate(self.generators)}
        return {"start": self.start, **named} if self.start is not None else named

    def with_models_in(self, run_dir: Path) -> Self:
        """See `TrainingRequest.with_models_in`."""
        generators = tuple(run_dir / f"generator-{number}" for number in range(len(self.generators)))
        start = None if self.start is None else run_dir / "start"
        return dataclasses.replace(self, generators=generators, start=start)


@dataclass(frozen=True, kw_only=True)
class ClassifierRequest(TrainingRequest):
    """Training of a classifier, from vectors or from official bitmaps.

    Attributes:
        dataset: labelled vectors; None with `bitmaps`.
        bitmaps: official bitmaps; None with `dataset`.
        size: sizes of the network.
        training: hyper-parameters.
    """

    stage: ClassVar[str] = "judge"

    dataset: DatasetConfig | None = None
    bitmaps: BitmapConfig | None = None
    size: ClassifierConfig = ClassifierConfig()
    training: ClassifierTrainingConfig = ClassifierTrainingConfig()

    def __post_init__(self) -> None:
        """Check that there is one source of drawings, of the kind that the architecture reads."""
        if (self.dataset is None) == (self.bitmaps is None):
            raise ValueError("a judge needs either vectors or bitmaps, got both or neither")
        if self.bitmaps is not None and self.size.input_kind == VECTORS:
            raise ValueError("a recurrent judge reads vectors; use --data instead of --bitmaps")


@dataclass(frozen=True, kw_only=True)
class ReinforceRequest(TrainingRequest):
    """Reinforcement of a generator by a discriminator.

    Attributes:
        model: generator to start from.
        discriminator: discriminator whose log odds are the reward.
        dataset: people's drawings, for the likelihood loss.
        training: hyper-parameters.
    """

    stage: ClassVar[str] = "reward"

    model: Path
    discriminator: Path
    dataset: DatasetConfig
    training: ReinforceConfig = ReinforceConfig()

    @property
    def models(self) -> dict[str, Path]:
        """See `TrainingRequest.models`."""
        return {"model-before": self.model, "discriminator": self.discriminator}

    def with_models_in(self, run_dir: Path) -> Self:
        """See `TrainingRequest.with_models_in`."""
        return dataclasses.replace(self, model=run_dir / "model-before", discriminator=run_dir / "discriminator")


REQUESTS: dict[str, type[TrainingRequest]] = {
    kind.stage: kind
    for kind in (SketchRNNRequest, PredictorRequest, DiscriminatorRequest, ClassifierRequest, ReinforceRequest)
}
"""Requests by the name of their stage."""


def request_from_json(stage: str, data: dict[str, Any]) -> TrainingRequest:
    """Read the request of a stage back, and validate it.

    Raises:
        ValueError: if the stage is unknown, or a setting is invalid.
    """
    if stage not in REQUESTS:
        raise ValueError(f"unknown stage {stage!r} (stages: {', '.join(REQUESTS)})")
    return REQUESTS[stage].from_json(data)
