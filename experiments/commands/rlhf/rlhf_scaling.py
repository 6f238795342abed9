"""`jsafe rlhf scaling`: the law of loss against compute from runs of several sizes, tried on one it has not seen."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli.result import CommandError, Outcome, table, writable_folder
from rlhf import scaling
from rlhf.models import PUBLISHED
from rlhf.scaling import ScalingLaw

COLUMNS = ("run", "petaflops", "loss")


class Curve(NamedTuple):
    """Losses of a run on the way.

    Attributes:
        name: of the run.
        petaflops: `[N]`, training compute, rising.
        losses: `[N]`, of a token of the texts kept apart.
        texts: what they are: bytes and tokens, None where nobody says.
    """

    name: str
    petaflops: np.ndarray
    losses: np.ndarray
    texts: tuple[int, int] | None = None


def read_run(path: Path) -> Curve:
    """The curve of a run of `jsafe rlhf pretrain`.

    Raises:
        CommandError: it was not evaluated as it went.
    """
    place = path / "dynamics.json"
    points = json.loads(place.read_text())["points"] if place.is_file() else []
    points = [p for p in points if "cross_entropy" in p]
    if not points:
        raise CommandError(f"{path} has no losses: jsafe rlhf pretrain --eval-data FILE --save-every TOKENS")
    compute, losses = (np.array([p[k] for p in points], float) for k in ("petaflops", "cross_entropy"))
    return Curve(path.name, compute, losses, (points[0]["bytes"], points[0]["predicted"]))


def read_table(path: Path) -> list[Curve]:
    """The curves of a table with the columns run, petaflops and loss.

    Raises:
        CommandError: a column is missing, or a cell is no number; the message names the row.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise CommandError(f"{path} needs the columns {', '.join(COLUMNS)}")
    found: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(rows):
        try:
            found.setdefault(row["run"], []).append((float(row["petaflops"]), float(row["loss"])))
        except (TypeError, ValueError) as error:
            raise CommandError(f"{path}, row {number}: {error}") from error
    return [Curve(name, *np.array(sorted(points)).T) for name, points in found.items()]


def points_of(curves: Sequence[Curve], which: str) -> tuple[np.ndarray, np.ndarray]:
    """Compute and losses to fit: the `last` of each run, `all`, or the `frontier`, which no cheaper point beats."""
    if which == "last":
        return np.array([c.petaflops[-1] for c in curves]), np.array([c.losses[-1] for c in curves])
    compute, losses = (np.concatenate(x) for x in ([c.petaflops for c in curves], [c.losses for c in curves]))
    order = np.lexsort((losses, compute))
    compute, losses = compute[order], losses[order]
    if which == "all":
        return compute, losses
    best = np.minimum.accumulate(losses)
    kept = losses < np.concatenate([[np.inf], best[:-1]])
    return compute[kept], losses[kept]


def compute_of(text: str) -> float:
    """`--predict` as PFLOP: a number, or a published size and its tokens."""
    name, _, tokens = text.partition(":")
    try:
        return scaling.training_petaflops(PUBLISHED[name], float(tokens)) if tokens else float(name)
    except (KeyError, ValueError):
        raise CommandError(f"--predict {text}: expected PFLOP, or SIZE:TOKENS with a published size") from None


def _law(law: ScalingLaw, count: int) -> dict[str, Any]:
    errors = dict(zip(("log_factor", "exponent", "floor"), law.deviation.tolist(), strict=True))
    return {"factor": law.factor, "exponent": law.exponent, "floor": law.floor, "errors": errors, "points": count}


def _said(law: ScalingLaw, petaflops: float) -> dict[str, float]:
    loss, error = law.predict(petaflops)
    return {"petaflops": petaflops, "predicted": float(loss), "standard_error": float(error)}


def run(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf scaling`."""
    curves: list[Curve] = []
    for path in args.curves:
        curves += read_table(path) if path.is_file() else [read_run(path)]
    if len({c.texts for c in curves}) > 1:
        raise CommandError("the runs were evaluated on other texts, or cut them into other tokens: their losses differ")
    curves.sort(key=lambda c: c.petaflops[-1])
    seen, kept = curves[: len(curves) - args.hold_out], curves[len(curves) - args.hold_out :]
    if args.hold_out >= len(curves):
        raise CommandError(f"--hold-out {args.hold_out} leaves nothing of {len(curves)} runs to fit")
    compute, losses = points_of(seen, args.points)
    tried = scaling.fit(compute, losses)
    held = []
    for curve in kept:
        row: dict[str, Any] = {"run": curve.name, "loss": float(curve.losses[-1])}
        row |= _said(tried, float(curve.petaflops[-1]))
        held.append(row | {"error": row["predicted"] - row["loss"], "relative": row["predicted"] / row["loss"] - 1})
    every = points_of(curves, args.points)
    law = scaling.fit(*every)
    wanted = [{"of": text, **_said(law, compute_of(text))} for text in args.predict or ()]
    data: dict[str, Any] = {
        "runs": [{"run": c.name, "petaflops": c.petaflops, "losses": c.losses} for c in curves],
        "fitted": args.points,
        "law": _law(law, len(every[0])),
        "without_held_out": _law(tried, len(compute)),
        "held_out": held,
        "predictions": wanted,
    }
    if args.out is not None:
        writable_folder(args.out.parent)
        picture(args.out, curves, tried, law)
    return Outcome(data, describe(data))


def describe(data: dict[str, Any]) -> str:
    """The law, and what it says of the runs held out and of those asked about."""
    law, without = data["law"], data["without_held_out"]

    def said(found: dict[str, Any]) -> str:
        return (
            f"L(C) = {found['factor']:.4g} C^{found['exponent']:.4g} + {found['floor']:.4g}, C in PFLOP "
            f"({found['points']} points; standard errors {found['errors']['exponent']:.2g} of the exponent, "
            f"{found['errors']['floor']:.2g} of the floor)"
        )

    rows = [
        [r["run"], f"{r['petaflops']:.4g}", f"{r['predicted']:.4f}", f"{r['standard_error']:.4f}",
         f"{r['loss']:.4f}", f"{r['relative']:+.2%}"]
        for r in data["held_out"]
    ]  # fmt: skip
    rows += [
        [r["of"], f"{r['petaflops']:.4g}", f"{r['predicted']:.4f}", f"{r['standard_error']:.4f}", "-", "-"]
        for r in data["predictions"]
    ]
    header = ["run", "PFLOP", "predicted", "its error", "found", "off by"]
    doubt = ""
    if law["floor"] < law["errors"]["floor"]:
        doubt = "\n\nthe floor is less than its error: these runs are too short or too few to foretell far larger ones"
    laws = f"without the runs held out  {said(without)}\nfrom all runs              {said(law)}"
    return f"{laws}\n\n{table(header, rows)}{doubt}"


def picture(path: Path, curves: Sequence[Curve], tried: ScalingLaw, law: ScalingLaw) -> None:
    """Losses of all runs against compute, and both laws."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.5, 4.2), constrained_layout=True)
    for curve in curves:
        axes.plot(curve.petaflops, curve.losses, marker="o", markersize=3, label=curve.name)
    low, high = min(c.petaflops[0] for c in curves), max(c.petaflops[-1] for c in curves)
    over = np.geomspace(low, high, 100)
    for found, label, style in ((tried, "law without the held out", ":"), (law, "law", "-")):
        axes.plot(over, found.predict(over)[0], style, color="black", linewidth=1, label=label)
    axes.set(xscale="log", xlabel="training compute (PFLOP)", ylabel="loss of a token (nats)")
    axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
