"""`jsafe sketch demo`: from drawings that the program makes itself to a page with drawings of models."""

from __future__ import annotations

import argparse
import base64
import html
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.cli import training_run
from experiments.cli.devices import prepare
from experiments.cli.result import Outcome, note, seconds_text, to_json
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.sketch.sketch_evaluate import Rival, drawn
from experiments.commands.sketch.sketch_models import artist, opened
from experiments.pipeline.runner import run_steps
from experiments.pipeline.step import Shared, Step
from sketch.data import procedural
from sketch.data.strokes import pad
from sketch.models.discriminator import TrainedDiscriminator, recognisability
from sketch.render import contact_sheet
from sketch.sampling.stroke_candidates import Inspection

MARK = "demo.json"
LEARNED, SHOWN, BEST_OF, TEMPERATURE = 1500, 40, 4, 0.3
FIRST_UNSEEN = 100_000
"""Number of the first made drawing that is shown; those below are learned from."""


def demo(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch demo`; the page's path is the last line."""
    began = time.monotonic()
    prepare(args)
    where = args.run_dir or Path("runs/sketch-demo")
    training_run.made_anew(where, MARK)
    (where / MARK).write_text(to_json({"seed": args.seed}))
    machine = Machine(platform=args.platform, devices=args.devices)
    shared = Shared(machine, Output(json=args.json, debug=args.debug))
    outcome = run_steps(steps_of(args.seed, args.updates), where, jobs=args.jobs, shared=shared)
    if outcome.stopped is not None:
        return outcome.stopped
    results = outcome.data
    plain, guided = (artist(where / name, "demo") for name in ("sketch-rnn", "guided"))
    critic = opened(where / "discriminator", TrainedDiscriminator, "demo")
    how = Inspection()
    rivals = [Rival("Sketch-RNN", 0, plain), Rival("guided", 0, guided, how, critic)]
    note("drawing ...")
    systems = drawn(rivals, [TEMPERATURE], SHOWN, BEST_OF, args.seed, SHOWN)
    rows: dict[str, Any] = {
        "made by the program": procedural.drawings("cat", SHOWN, seed=args.seed, first=FIRST_UNSEEN)
    }
    for name, samples in systems.items():
        for one in samples:
            rows[name + (f", best of {one.best_of} by the discriminator" if one.best_of > 1 else "")] = one.drawings
    say = recognisability(critic.size)
    odds = {name: np.asarray(say(critic.params, pad([d for d in row if len(d) > 1]))) for name, row in rows.items()}
    data: dict[str, Any] = {name: float(np.mean(found)) for name, found in odds.items()}
    path = where / "page.html"
    path.write_text(page(rows, data, results))
    data = {"log_odds": data, "page": str(path), "seconds": time.monotonic() - began, "run_dir": str(where)}
    (where / MARK).write_text(to_json(data))
    lines = [f"  {name:45} log odds {value:6.2f}" for name, value in data["log_odds"].items()]
    lines = ["what the discriminator says of drawings, mean:", *lines]
    return Outcome(data, "\n".join([*lines, f"\n{seconds_text(data['seconds'])} in all; page:", str(path)]))


def steps_of(seed: int, updates: int) -> list[Step]:
    """The stages, on cats and other things of which there is no file."""
    cats, root = ("--procedural", f"cat:{LEARNED}"), ("--seed", str(seed))
    others = [w for name in sorted(procedural.CLASSES) if name != "cat" for w in ("--others", f"{name}:100")]
    decoder = ("--decoder-size", "128", "--updates", "50", "--iterations", str(max(updates // 50, 1)))
    size = ("--side", "32", "--channels", "16,32,64,128", "--features", "128", "--embedding-size", "32")
    training = ("--batch-size", "64", "--updates", "50", "--iterations", str(max(updates // 100, 1)))
    return [
        Step.from_words("predictor", ("sketch", "predictor"), (*cats, *size, *training, *root)),
        Step.from_words("sketch-rnn", ("sketch", "train"), (*cats, "--framed", *decoder, *root)),
        Step.from_words(
            "guided",
            ("sketch", "train"),
            (
                *cats,
                "--predictor",
                "@predictor",
                "--start",
                "@sketch-rnn",
                *decoder[2:4],
                "--iterations",
                str(max(updates // 100, 1)),
                "--copies",
                "4",
                *root,
            ),
        ),
        Step.from_words(
            "discriminator",
            ("sketch", "discriminator"),
            (
                *cats,
                *others,
                "--generator",
                "@sketch-rnn",
                "--updates",
                "50",
                "--iterations",
                str(max(updates // 200, 1)),
                *root,
            ),
        ),
    ]


def page(rows: dict[str, Any], odds: dict[str, float], results: dict[str, Any]) -> str:
    """One file that needs nothing else: a sheet of each kind of drawings, and what the discriminator says of them."""
    parts = []
    for name, drawings in rows.items():
        image = contact_sheet.sheet(drawings, 10, side=96)
        held = io.BytesIO()
        Image.fromarray(image).save(held, format="png")
        picture = base64.b64encode(held.getvalue()).decode()
        title = html.escape(f"{name}: the discriminator's log odds {odds[name]:.2f}")
        parts.append(f'<h2>{title}</h2>\n<img alt="{html.escape(name)}" src="data:image/png;base64,{picture}">')
    losses = {name: found["final"].get("loss") for name, found in results.items() if "final" in found}
    table = "".join(f"<tr><td>{html.escape(n)}</td><td>{v:.4g}</td></tr>" for n, v in losses.items() if v is not None)
    style = "body{font:15px sans-serif;max-width:1000px;margin:2em auto}img{max-width:100%}td{padding:0 1em 0 0}"
    return (
        f"<!doctype html>\n<meta charset='utf-8'>\n<title>jsafe sketch demo</title>\n<style>{style}</style>\n"
        "<h1>Drawings of models trained on drawings that the program made</h1>\n"
        f"{chr(10).join(parts)}\n<h2>Losses at last</h2>\n<table>{table}</table>\n"
    )
