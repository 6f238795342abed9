"""Systems of a comparison: trained models with their settings, and the drawings that they generate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jsafe.suggestions import did_you_mean
from sketch.data.dataset import load_dataset
from sketch.evaluation.generated_sets import GeneratedSet
from sketch.models.checkpoint import load_generator, load_model
from sketch.models.classifier import TrainedClassifier
from sketch.models.discriminator import TrainedDiscriminator
from sketch.models.guided_sketch_rnn import GuidedSketchRNN
from sketch.models.predictor import TrainedPredictor
from sketch.sampling.batching import sample_many
from sketch.sampling.sampler import SamplingConfig, make_sampler
from sketch.sampling.stroke_candidates import CandidateConfig
from sketch.training.requests import request_from_json

EXPERIMENT = "experiment.json"
"""Record of an experiment in its folder."""


class System(NamedTuple):
    """One trained model of a system.

    Attributes:
        name: name of the system.
        seed: training seed.
        generator: the model.
        candidates: choice among candidates; None to take strokes as they are sampled.
        critic: discriminator that selects the best of n; None for no selection.
    """

    name: str
    seed: int
    generator: GuidedSketchRNN
    candidates: CandidateConfig | None = None
    critic: TrainedDiscriminator | None = None


class Comparison(NamedTuple):
    """Systems and the models that judge them.

    Attributes:
        systems: models of all systems, the baseline first.
        judges: classifiers by name.
        training: training drawings of the first model; empty if unknown.
        stroke_model: predictor that no system uses, for disordered strokes, or None.
        remarks: limitations of the comparison.
    """

    systems: list[System]
    judges: dict[str, TrainedClassifier]
    training: list[np.ndarray]
    stroke_model: TrainedPredictor | None = None
    remarks: tuple[str, ...] = ()


def load_comparison(
    folder: Path, *, judges: Sequence[Path] = (), names: Sequence[str] = (), best_of: int = 1
) -> Comparison:
    """Load the systems of an experiment, or one model.

    Args:
        folder: folder of an experiment with a comparison, of a run, or of a model.
        judges: folders of classifiers (default: those of the experiment).
        names: systems of the experiment to load, the baseline first (default: all).
        best_of: number of drawings from which the discriminator of an experiment selects.

    Raises:
        ValueError: if the options do not fit the folder, or a system is unknown.
        FileNotFoundError: if a model is missing, because a step of the experiment is not finished.
    """
    labels = distinct_names(judges)
    loaded = {label: load_model(path, TrainedClassifier, "--judge") for label, path in zip(labels, judges, strict=True)}
    if (folder / EXPERIMENT).is_file():
        return _load_experiment(folder, loaded, names, best_of)
    system = System(folder.name, 0, load_generator(folder, "the compared model"))
    if not loaded:
        raise ValueError(
            f"{folder} is one model and needs judges; train one with `jsafe sketch judge`, add --judge DIR"
        )
    if best_of > 1:
        raise ValueError(f"--best-of needs the discriminator of an experiment, got one model, {folder}")
    if names:
        raise ValueError(f"--system selects systems of an experiment, got one model, {folder}")
    training, remarks = training_drawings(folder)
    return Comparison([system], loaded, training, None, remarks)


class _Experiment(NamedTuple):
    """A finished experiment.

    Attributes:
        folder: its folder.
        steps: names of its steps.
        comparison: its declared comparison.
    """

    folder: Path
    steps: frozenset[str]
    comparison: dict[str, Any]

    def step(self, name: str, seed: int | None = None) -> Path:
        """Return the folder of a finished step."""
        name = name.format(seed=seed)
        if name not in self.steps or not (self.folder / name / "model").is_dir():
            raise FileNotFoundError(f"step {name!r} of {self.folder} is not finished; resume the experiment")
        return self.folder / name

    def load(self, name: str, kind: type[Any], seed: int | None = None) -> Any:
        """Load the model of a finished step."""
        path = self.step(name, seed)
        return load_model(path, kind, path.name)


def _load_experiment(
    folder: Path, judges: dict[str, TrainedClassifier], names: Sequence[str], best_of: int
) -> Comparison:
    record = json.loads((folder / EXPERIMENT).read_text(encoding="utf-8"))
    comparison = record.get("comparison")
    if not comparison:
        raise ValueError(f"{folder} is an experiment without a [comparison]; compare one of its models instead")
    experiment = _Experiment(folder, frozenset(step["name"] for step in record["steps"]), comparison)
    declared = {system["name"]: system for system in comparison["system"]}
    for name in names:
        if name not in declared:
            raise ValueError(
                f"unknown --system {name!r}{did_you_mean(name, declared)} (systems: {', '.join(declared)})"
            )
    chosen = [declared[name] for name in names or declared]
    critics: dict[int, TrainedDiscriminator] = {}
    if best_of > 1:
        for seed in comparison["seeds"]:
            critics[seed] = experiment.load(comparison["discriminator"], TrainedDiscriminator, seed)
    systems = [
        _load_system(experiment, system, seed, critics.get(seed)) for system in chosen for seed in comparison["seeds"]
    ]
    judges = judges or {name: experiment.load(name, TrainedClassifier) for name in comparison["judges"]}
    stroke_model = experiment.load(comparison["order"], TrainedPredictor) if "order" in comparison else None
    first = experiment.step(chosen[0]["model"], comparison["seeds"][0])
    training, remarks = training_drawings(first)
    return Comparison(systems, judges, training, stroke_model, remarks)


def _load_system(
    experiment: _Experiment, declared: Mapping[str, Any], seed: int, critic: TrainedDiscriminator | None
) -> System:
    predictor = experiment.step(declared["predictor"], seed) if "predictor" in declared else None
    generator = load_generator(experiment.step(declared["model"], seed), declared["name"], predictor)
    candidates = CandidateConfig(**declared.get("inspection", {})) if declared.get("inspect") else None
    return System(declared["name"], seed, generator, candidates, critic)


def training_drawings(run_dir: Path) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Return the training drawings of a run; empty, with a remark, if they are unknown or no longer available."""
    try:
        record = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["sketch"]
        request = request_from_json(record["stage"], record["request"])
        return load_dataset(request.dataset).train_strokes, ()  # type: ignore[attr-defined]
    except (OSError, ValueError, LookupError, AttributeError) as error:
        return [], (f"the training drawings of {run_dir} are not available, so copies are not counted: {error}",)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return short names that distinguish paths, without the folders `model` of runs."""
    if not paths:
        return []
    short = [path.parent if path.name == "model" and path.parent.name else path for path in paths]
    if len(set(short)) < len(set(paths)):
        short = list(paths)
    names = [str(path) for path in short]
    for depth in range(max(len(path.parts) for path in short), 0, -1):
        shorter = ["/".join(path.parts[-depth:]) for path in short]
        if len(set(shorter)) < len(set(short)):
            break
        names = shorter
    return names


class GenerationConfig(NamedTuple):
    """Settings of the generation of drawings.

    Attributes:
        temperatures: sampling temperatures.
        count: drawings for each model and temperature.
        best_of: number of drawings from which the critic selects; 1 for no second set.
        seed: root of all randomness.
        batch_size: drawings of one call.
    """

    temperatures: tuple[float, ...]
    count: int
    best_of: int = 1
    seed: int = 0
    batch_size: int = 500


def generate_sets(
    systems: Sequence[System], config: GenerationConfig, progress: Callable[[str], None] = lambda message: None
) -> dict[str, list[GeneratedSet]]:
    """Generate drawings of every system at every temperature, plain and best of n.

    Args:
        systems: trained models.
        config: numbers and temperatures.
        progress: called with one line for each model.
    """
    sets: dict[str, list[GeneratedSet]] = {}
    temperature = np.repeat(np.asarray(config.temperatures, np.float32), config.count)
    for number, system in enumerate(systems):
        for best_of in sorted({1, config.best_of if system.critic else 1}):
            progress(f"[{number + 1}/{len(systems)}] {system.name}, seed {system.seed}, best of {best_of}")
            critic = system.critic if best_of > 1 else None
            length = system.generator.model.max_length
            draw = make_sampler(
                system.generator, SamplingConfig(length, candidates=system.candidates, critic=critic, best_of=best_of)
            )
            batch_size = min(config.batch_size, len(temperature))
            rows = np.asarray(sample_many(draw, config.seed, batch_size, temperature).samples.rows)
            drawings = system.generator.from_model(rows)
            finished = np.any(rows[..., 4] > 0, axis=1)
            for index, value in enumerate(config.temperatures):
                part = slice(index * config.count, (index + 1) * config.count)
                generated = GeneratedSet(system.seed, float(value), best_of, drawings[part], finished[part])
                sets.setdefault(system.name, []).append(generated)
    return sets
