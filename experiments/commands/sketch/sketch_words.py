"""What `jsafe sketch COMMAND` understands: the commands, what each is given, and its hyper-parameters as options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli import family
from experiments.cli.argument_types import integer, not_negative, positive
from experiments.cli.family import Command, Family
from jsafe.config import Hyper
from sketch.data.drawing_files import MAX_POINTS, SPLITS
from sketch.evaluation.compare import EvaluationOptions
from sketch.judges import classifier
from sketch.judges.classifier import JudgeOptions, JudgeSize
from sketch.models import discriminator
from sketch.models.discriminator import DiscriminatorOptions, DiscriminatorSize
from sketch.models.guided_decoder import GUIDED_PRESETS, GuidedOptions
from sketch.models.predictor import PredictorOptions, PredictorSize
from sketch.models.sketch_rnn import Architecture
from sketch.sampling.guided_sampling import Inspection
from sketch.sampling.sample import CONVENTIONS
from sketch.training import reinforce
from sketch.training.reinforce import RewardOptions
from sketch.training.stages import PRESETS


def temperatures(text: str) -> list[float]:
    """Numbers of at least 0 with commas between them."""
    return [not_negative(part) for part in text.split(",")]


_FOLDER, _FILE = {"type": Path, "metavar": "DIR"}, {"type": Path, "metavar": "FILE"}
_COUNT = {"type": positive, "metavar": "N"}
_FILES = {"action": "append", "metavar": "PATH"}
_SWITCH = {"action": "store_true"}
_ROW = {"type": integer, "default": 0, "metavar": "I"}

FLAGS: dict[str, dict[str, Any]] = {
    "data": {**_FILES, "help": "drawings to learn from: .ndjson or .npz, or a folder of such; may be repeated"},
    "procedural": {
        "action": "append",
        "metavar": "CLASS:N",
        "help": "drawings that the program makes itself, for example cat:2000; may be repeated",
    },
    "valid": {**_FILES, "help": "drawings to choose the best parameters by (default: the split of the data)"},
    "split": {
        "choices": (*SPLITS, "all"),
        "default": "train",
        "help": "what to learn from of files that have splits (default train)",
    },
    "valid-share": {
        "type": not_negative,
        "default": 0.1,
        "metavar": "X",
        "help": "of drawings whose file has no splits, to keep apart to validate (default 0.1)",
    },
    "class": {
        "dest": "classes",
        "action": "append",
        "metavar": "NAME",
        "help": "learn from drawings of this class only; may be repeated",
    },
    "without": {"action": "append", "metavar": "NAME", "help": "leave drawings of this class out; may be repeated"},
    "recognized-only": {**_SWITCH, "help": "learn from drawings only that the game recognised"},
    "allow-pickle": {**_SWITCH, "help": "read the pickled arrays of Sketch-RNN's own files, which can run any code"},
    "skip": {**_SWITCH, "help": "leave drawings out that cannot be used, and count them"},
    "max-points": {**_COUNT, "default": MAX_POINTS, "help": f"longest drawing that is read (default {MAX_POINTS})"},
    "bitmaps": {**_FILES, "help": "official bitmaps of 28 x 28, a name for each class: .npz; may be repeated"},
    "from-line": {
        "type": integer,
        "default": 0,
        "metavar": "N",
        "help": "of classes whose lines the bitmaps' file says, those from this one on (default 0)",
    },
    "per-class": {**_COUNT, "help": "most bitmaps of a class to learn from (default: all)"},
    "model-folder": {**_FOLDER, "help": "the model to go on with, and to stay near to"},
    "start": {**_FOLDER, "help": "go on from this trained model, with its sizes and its unit"},
    "predictor": {
        **_FOLDER,
        "help": "of a predictor: what it suggests is told to the decoder (to draw: that of the model by default)",
    },
    "discriminator": {**_FOLDER, "help": "of a discriminator, which says how recognisable a drawing is"},
    "generator": {
        **_FOLDER,
        "action": "append",
        "help": "of a model that draws; its drawings are what is not to be taken for good; may be repeated",
    },
    "generated": {**_COUNT, "default": 1000, "help": "drawings of each --generator to learn from (default 1000)"},
    "framed": {
        **_SWITCH,
        "help": "fit drawings into the box and begin at its centre, so that a predictor can look on (guided: always)",
    },
    "inspect": {**_SWITCH, "help": "draw several candidates for each stroke; the predictor chooses"},
    "choice-temperature": {
        "type": not_negative,
        "default": 0.0,
        "metavar": "X",
        "help": "of the choice with --inspect; 0 takes the best (default 0)",
    },
    "refine": {
        **_COUNT,
        "metavar": "STEPS",
        "help": "then move the points so often up the gradient of what the discriminator says, through the soft raster",
    },
    "best-of": {**_COUNT, "help": "draw so often, and keep what the discriminator takes for best"},
    "others": {**_FILES, "help": "drawings of other things, or CLASS:N of those made here; may be repeated"},
    "seed": {"type": integer, "default": 0, "metavar": "ROOT", "help": "root of all randomness (default 0)"},
    "run-dir": {**_FOLDER, "help": "where to write (default runs/sketch-COMMAND-TIME)"},
    "resume": {**_FOLDER, "help": "go on with the run in DIR, exactly where it stopped"},
    "checkpoint-every": {**_COUNT, "help": "iterations between checkpoints"},
    "quiet": {**_SWITCH, "help": "no progress line"},
    "count": {**_COUNT, "help": "drawings for each temperature (default 100, to complete 9)"},
    "temperature": {
        "type": temperatures,
        "metavar": "T[,T]",
        "help": "0 draws what is likeliest at each step; several draw as many times (default 0.4, to interpolate 0.1)",
    },
    "length": {**_COUNT, "help": "most points of a drawing (default: of the drawings it has learned from)"},
    "convention": {
        "choices": tuple(CONVENTIONS),
        "default": "paper",
        "help": "what a temperature means: as in the paper (default), or in the published JavaScript or Python",
    },
    "batch-size": {**_COUNT, "default": 500, "help": "drawings at once (default 500)"},
    "svgs": {"type": integer, "default": 100, "metavar": "N", "help": "how many also as SVG files (default 100)"},
    "out": {**_FOLDER, "help": "folder for the drawings, which must be new or empty"},
    "strokes": {**_FILE, "help": "drawings that were begun: .npz, .ndjson or .svg"},
    "row": {**_ROW, "default": None, "help": "take this drawing of the file only, from 0 on"},
    "scale": {
        "type": not_negative,
        "default": 1.0,
        "metavar": "X",
        "help": "number to multiply positions of files by, to have the unit of what was learned from (default 1)",
    },
    "from": {**_FILE, "dest": "first", "help": "the first drawing, in a file"},
    "to": {**_FILE, "dest": "last", "help": "the last drawing, in a file"},
    "from-row": {**_ROW, "help": "which drawing of --from (default 0)"},
    "to-row": {**_ROW, "help": "which drawing of --to (default 0)"},
    "frames": {"type": positive, "default": 10, "metavar": "N", "help": "drawings, both ends included (default 10)"},
    "iteration": {**_COUNT, "help": "of this checkpoint (default: the best parameters of the whole run)"},
    "port": {"type": integer, "default": 0, "metavar": "N", "help": "of the page (default: any that is free)"},
    **family.EXPERIMENT,
    "preset": {"choices": tuple(PRESETS), "default": "small", "help": "sizes that are timed (default small)"},
    "repeats": {**_COUNT, "default": 5, "help": "calls, of which the median counts (default 5)"},
    "training": {
        **_COUNT,
        "dest": "updates",
        "default": 1000,
        "help": "updates of Sketch-RNN; the other stages take a share of it (default 1000)",
    },
    "human": {
        **_FOLDER,
        "help": "folder or file of what people drew: bitmaps 28 x 28 under the class's name, or vectors",
    },
    "human-split": {
        "choices": (*SPLITS, "all"),
        "help": "vectors of this split of files that have splits (default: test, or all of a file without one)",
    },
    "bitmap-key": {"metavar": "NAME", "help": "name of the array of people's bitmaps (default: the class)"},
    "samples": {**_COUNT, "default": 1000, "help": "drawings of each model and setting (default 1000)"},
    "system": {
        "action": "append",
        "metavar": "NAME",
        "help": "compare these only, the first with the others (default: all)",
    },
    "judge": {**_FOLDER, "action": "append", "help": "of a judge; several may be given (default: the experiment's)"},
    "no-browser": {"dest": "browser", "action": "store_false", "help": "do not open the page, only say where it is"},
}
"""Everything a command may be given beside hyper-parameters."""

POSITIONAL: dict[str, dict[str, Any]] = {
    "file": {
        "type": Path,
        "metavar": "FILE",
        "help": "a .toml file of steps, or the name of one of ours: comparison",
    },
    "compared": {
        **_FOLDER,
        "metavar": "RUN",
        "help": "folder of `jsafe sketch experiment`, or of one model that draws",
    },
    "model": {**_FOLDER, "metavar": "MODEL", "help": "folder of a run of `jsafe sketch`, or of a trained model"},
}

_READ = ("allow-pickle", "skip", "max-points")
_DATA = ("data", "procedural", "valid", "split", "valid-share", "class", "without", "recognized-only", *_READ)
_RUN = ("seed", "run-dir", "resume", "checkpoint-every", "quiet")
_SAMPLE = ("temperature", "length", "convention", "seed")
_DRAW = (*_SAMPLE, "predictor", "inspect", "choice-temperature", "discriminator", "best-of")
_OUT = ("svgs", "out")
_HEAT = frozenset({"temperature"})
_TRAIN, _USE = "experiments.commands.sketch.sketch_train:train", "experiments.commands.sketch.sketch_use"


def _presets(presets: Mapping[str, tuple[Hyper, ...]]) -> dict[str, dict[str, Any]]:
    """Named values of hyper-parameters, the small ones first."""
    names = sorted(presets, key=lambda name: name != "small")
    return {name: {key: value for part in presets[name] for key, value in part.config().items()} for name in names}


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "all stages on drawings that the program makes; ends with a page",
        "experiments.commands.sketch.sketch_demo:demo",
        ("run-dir", "seed", "training", "jobs", "quiet"),
        says={"run-dir": "where to write; what an earlier one left there is replaced (default runs/sketch-demo)"},
    ),
    "experiment": Command(
        "run stages that a file declares, each from the models before it; again to go on",
        "experiments.commands.sketch.sketch_evaluate:experiment",
        ("file", *family.EXPERIMENT, "run-dir", "quiet"),
    ),
    "evaluate": Command(
        "hold systems that draw against people, by judges that none of them learned from",
        "experiments.commands.sketch.sketch_evaluate:evaluate",
        (
            "compared",
            "human",
            "human-split",
            "bitmap-key",
            "samples",
            "temperature",
            "best-of",
            "system",
            "judge",
            "batch-size",
            *_READ,
            "seed",
            "out",
        ),
        (EvaluationOptions,),
        hidden=frozenset({"seed", "baseline"}),
        says={
            "out": "folder for report, figures and evaluation.json (default RUN/evaluation)",
            "temperature": "what every system draws at (default 0.1,0.2,0.3,0.4,0.5,0.65,0.8,1)",
            "best-of": "of an experiment: also draw so often, and keep what that seed's discriminator takes for best",
            "skip": "leave vectors of people out that cannot be used, and count them",
        },
    ),
    "bench": Command(
        "drawings per second of training, sampling and painting, beside their floors",
        "experiments.commands.sketch.sketch_bench:bench",
        ("preset", "repeats", "seed", "out"),
    ),
    "train": Command(
        "train Sketch-RNN on drawings",
        _TRAIN,
        (*_DATA, "start", "predictor", "framed", *_RUN),
        (Architecture, GuidedOptions),
        presets=_presets(GUIDED_PRESETS),
        hidden=frozenset({"extra_inputs"}),
    ),
    "predictor": Command(
        "train the network that looks at a canvas and suggests the next stroke",
        _TRAIN,
        (*_DATA, *_RUN),
        (PredictorSize, PredictorOptions),
    ),
    "discriminator": Command(
        "train the network that says how recognisable a drawing is",
        _TRAIN,
        (*_DATA, "others", "generator", "generated", "start", *_RUN),
        (DiscriminatorSize, DiscriminatorOptions),
        presets=_presets(discriminator.PRESETS),
    ),
    "judge": Command(
        "train a classifier of people's drawings, which no generator learns from",
        _TRAIN,
        ("bitmaps", "from-line", "per-class", *_DATA, *_RUN),
        (JudgeSize, JudgeOptions),
        presets=_presets(classifier.PRESETS),
        choice="architecture",
    ),
    "reward": Command(
        "go on with a model by what a discriminator says of its drawings",
        _TRAIN,
        ("model-folder", "discriminator", *_DATA, *_RUN),
        (RewardOptions,),
        presets=_presets({name: (options,) for name, options in reinforce.PRESETS.items()}),
    ),
    "generate": Command(
        "draw",
        f"{_USE}:generate",
        ("model", "count", "batch-size", *_DRAW, "refine", *_OUT),
        (Inspection,),
        hidden=_HEAT,
    ),
    "complete": Command(
        "finish drawings that were begun",
        f"{_USE}:complete",
        ("model", "strokes", "row", "scale", "count", "batch-size", *_READ, *_DRAW, *_OUT),
        (Inspection,),
        hidden=_HEAT,
    ),
    "interpolate": Command(
        "draw what lies between two drawings, with a model that has an encoder",
        f"{_USE}:interpolate",
        ("model", "from", "to", "from-row", "to-row", "scale", "frames", *_READ, *_SAMPLE, *_OUT),
    ),
    "export": Command(
        "write the model of a run, or of a checkpoint of it",
        f"{_USE}:export",
        ("model", "out", "iteration"),
        says={"out": "folder for the model, which must be new or empty"},
    ),
    "draw": Command(
        "draw together with a model, on a page of this machine",
        "experiments.commands.sketch.sketch_draw:draw",
        ("model", *_DRAW, "port", "no-browser"),
        (Inspection,),
        hidden=_HEAT,
    ),
}

FAMILY = Family("sketch", "Models of drawings, in JAX: train them, draw with them.", COMMANDS, FLAGS, POSITIONAL)


def parse(
    argv: Sequence[str], parser_class: type[argparse.ArgumentParser], finish: Callable[[argparse.ArgumentParser], None]
) -> argparse.Namespace:
    """Read the words after `jsafe sketch`; see `experiments.cli.family.parse`."""
    return family.parse(FAMILY, argv, parser_class, finish)


def hyper_of(cls: type[Hyper], stage: str, given: dict[str, Any], preset: str | None = None) -> Any:
    """Hyper-parameters of a class: its defaults, those of the command or of its preset, and what was given."""
    return family.hyper_of(cls, COMMANDS[stage], given, preset)
