"""`jsafe sketch demo`: train all stages on procedural drawings, and write a page of samples."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from experiments.cli.argument_types import Count, Folder, Switch, Whole, parameter, positive
from experiments.cli.devices import configure
from experiments.cli.errors import CommandError
from experiments.cli.format import seconds_text, to_json
from experiments.cli.request import flags
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from experiments.pipeline.step import Step

MARK = "demo.json"
"""Record of a demonstration in its folder."""

TRAINED, SHOWN, BEST_OF, TEMPERATURE = 1500, 40, 4, 0.3
FIRST_UNSEEN = 100_000
"""Number of the first procedural drawing on the page; drawings below it are training drawings."""

Updates = Annotated[int, parameter(positive, "N", name="--training")]


TERMS = """<dl>
<dt>procedural</dt><dd>drawings by rules with random sizes and angles, which the models do not see in training</dd>
<dt>Sketch-RNN</dt><dd>a recurrent network that samples the next offset of the pen from the offsets before it</dd>
<dt>guided</dt><dd>Sketch-RNN with inputs of a predictor, which suggests the next stroke from the canvas</dd>
<dt>discriminator</dt><dd>a classifier of good drawings against other classes, corrupted drawings and samples</dd>
<dt>log odds</dt><dd>its score: log p / (1 - p) of a good drawing; higher is more recognisable, 0 is undecided</dd>
<dt>best of n</dt><dd>the sample with the highest score among n</dd>
<dt>temperature</dt><dd>spread of the samples: 0 takes the most likely offset, 1 the distribution of the model</dd>
<dt>loss</dt><dd>the quantity that the training of a stage decreases, a mean over its last ten iterations</dd>
</dl>
"""
"""Explanation of the terms of the page."""


@flags
class DemoRequest:
    """Settings of `jsafe sketch demo`.

    Attributes:
        run_dir: Folder of the demonstration, in which an earlier one is replaced.
        seed: Root of all randomness.
        updates: Updates of Sketch-RNN; the other stages take a fraction of it.
        jobs: Number of stages that run at once, each in a process of its own.
        quiet: No progress line.
    """

    run_dir: Folder = Path("runs/sketch-demo")
    seed: Whole = 0
    updates: Updates = 1000
    jobs: Count = 1
    quiet: Switch = False
    machine: Machine = Machine()
    output: Output = Output()


def run(request: DemoRequest) -> Result:
    """Run `jsafe sketch demo`; the path of the page is the last line."""
    began = time.monotonic()
    configure(request.machine.platform, request.machine.devices)
    from experiments.pipeline.runner import run_steps
    from experiments.pipeline.step import Shared

    folder = request.run_dir
    _empty(folder)
    (folder / MARK).write_text(to_json({"seed": request.seed}), encoding="utf-8")
    shared = Shared(request.machine, request.output, request.quiet)
    outcome = run_steps(steps(request.seed, request.updates), folder, jobs=request.jobs, shared=shared)
    if outcome.stopped is not None:
        return outcome.stopped
    note("sampling ...")
    rows, log_odds = _sample(folder, request.seed)
    path = _write_page(folder / "page.html", rows, log_odds, outcome.data)
    data = {"log_odds": log_odds, "page": str(path), "seconds": time.monotonic() - began, "run_dir": str(folder)}
    (folder / MARK).write_text(to_json(data), encoding="utf-8")
    lines = ["mean log odds of the discriminator:", *(f"  {name:45} {value:6.2f}" for name, value in log_odds.items())]
    lines.append(f"\ndraw with the guided model: jsafe sketch draw {folder / 'guided'}")
    return Result(data, "\n".join([*lines, f"\n{seconds_text(data['seconds'])} in total; page:", str(path)]))


def _empty(folder: Path) -> None:
    """Create the folder, and remove an earlier demonstration in it."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise CommandError(f"{folder} holds other files; choose another folder with --run-dir")
    shutil.rmtree(folder, ignore_errors=True)
    writable_folder(folder)


def steps(seed: int, updates: int) -> list[Step]:
    """Return the stages, on procedural cats and other classes."""
    from experiments.pipeline.step import Step
    from sketch.data import procedural

    cats, root = ("--procedural", f"cat:{TRAINED}"), ("--seed", str(seed))
    others = [w for name in sorted(procedural.CLASSES) if name != "cat" for w in ("--negatives", f"{name}:100")]

    def length(fraction: int) -> tuple[str, ...]:
        return "--updates", "50", "--iterations", str(max(updates // fraction, 1))

    size = ("--side", "32", "--channels", "16,32,64,128", "--features", "128", "--embedding-size", "32")
    start = ("--predictor", "@predictor", "--start", "@sketch-rnn", "--copies", "4")
    words = {
        ("predictor", "predictor"): (*cats, *size, "--batch-size", "64", *length(100), *root),
        ("sketch-rnn", "train"): (*cats, "--framed", "--decoder-size", "128", *length(50), *root),
        ("guided", "train"): (*cats, *start, *length(100), *root),
        ("discriminator", "discriminator"): (*cats, *others, "--generator", "@sketch-rnn", *length(200), *root),
    }
    return [Step.from_words(name, ("sketch", stage), line) for (name, stage), line in words.items()]


def _sample(folder: Path, seed: int) -> tuple[dict[str, list[np.ndarray]], dict[str, float]]:
    """Return drawings of each kind, and the mean log odds of the discriminator for them."""
    import numpy as np

    from sketch.data import procedural
    from sketch.data.strokes import pad
    from sketch.evaluation.systems import GenerationConfig, System, generate_sets
    from sketch.models.checkpoint import load_generator, load_model
    from sketch.models.discriminator import TrainedDiscriminator, recognisability
    from sketch.sampling.stroke_candidates import CandidateConfig

    plain, guided = (load_generator(folder / name, "demo") for name in ("sketch-rnn", "guided"))
    critic = load_model(folder / "discriminator", TrainedDiscriminator, "demo")
    systems = [System("Sketch-RNN", 0, plain), System("guided", 0, guided, CandidateConfig(), critic)]
    sets = generate_sets(systems, GenerationConfig((TEMPERATURE,), SHOWN, BEST_OF, seed, SHOWN), note)
    rows = {"procedural": procedural.drawings("cat", SHOWN, seed=seed, first=FIRST_UNSEEN)}
    for name, generated in sets.items():
        for one in generated:
            best_of = f", best of {one.best_of} by the discriminator" if one.best_of > 1 else ""
            rows[name + best_of] = list(one.drawings)
    score = recognisability(critic.size)
    log_odds = {
        name: float(np.mean(np.asarray(score(critic.params, pad([d for d in row if len(d) > 1])))))
        for name, row in rows.items()
    }
    return rows, log_odds


def _write_page(
    path: Path, rows: Mapping[str, Sequence[np.ndarray]], log_odds: Mapping[str, float], results: Mapping[str, Any]
) -> Path:
    """Write a self-contained page with a sheet of each kind of drawings."""
    import base64
    import html
    import io

    from PIL import Image

    from sketch import contact_sheet

    parts = []
    for name, drawings in rows.items():
        buffer = io.BytesIO()
        Image.fromarray(contact_sheet.sheet(drawings, 10, side=96)).save(buffer, format="png")
        picture = base64.b64encode(buffer.getvalue()).decode()
        title = html.escape(f"{name}: mean log odds {log_odds[name]:.2f}")
        parts.append(f'<h2>{title}</h2>\n<img alt="{html.escape(name)}" src="data:image/png;base64,{picture}">')
    losses = {name: result["final"].get("loss") for name, result in results.items() if "final" in result}
    cells = "".join(f"<tr><td>{html.escape(n)}</td><td>{v:.4g}</td></tr>" for n, v in losses.items() if v is not None)
    drawing = f"jsafe sketch draw {path.parent / 'guided'}"
    style = "body{font:15px sans-serif;max-width:1000px;margin:2em auto}img{max-width:100%}td{padding:0 1em 0 0}"
    path.write_text(
        f"<!doctype html>\n<meta charset='utf-8'>\n<title>jsafe sketch demo</title>\n<style>{style}</style>\n"
        "<h1>Samples of models trained on procedural drawings</h1>\n"
        f"{TERMS}<p>Draw with the guided model: <code>{html.escape(drawing)}</code></p>\n"
        f"{chr(10).join(parts)}\n<h2>Final losses</h2>\n<table>{cells}</table>\n",
        encoding="utf-8",
    )
    return path
