"""Table and figure of a scaling law (`rlhf.scaling_law`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.format import table
from experiments.report.rlhf.figure import saved_figure
from rlhf.scaling_law import Curve, Fits, ScalingLaw


def _law_data(law: ScalingLaw, points: int) -> dict[str, Any]:
    errors = dict(zip(("log_factor", "exponent", "floor"), law.deviation.tolist(), strict=True))
    return {"factor": law.factor, "exponent": law.exponent, "floor": law.floor, "errors": errors, "points": points}


def _prediction(law: ScalingLaw, petaflops: float) -> dict[str, float]:
    loss, error = law.predict(petaflops)
    return {"petaflops": petaflops, "predicted": float(loss), "standard_error": float(error)}


def scaling_data(curves: Sequence[Curve], fits: Fits, which: str, predictions: Mapping[str, float]) -> dict[str, Any]:
    """Return laws, held-out runs and predictions as JSON data.

    Args:
        curves: all runs.
        fits: the fitted laws.
        which: points that were fitted.
        predictions: training compute in PFLOP by label.
    """
    held_out = []
    for curve in fits.held_out:
        row: dict[str, Any] = {"run": curve.name, "loss": float(curve.losses[-1])}
        row |= _prediction(fits.trial, float(curve.petaflops[-1]))
        held_out.append(row | {"error": row["predicted"] - row["loss"], "relative": row["predicted"] / row["loss"] - 1})
    return {
        "runs": [{"run": c.name, "petaflops": c.petaflops, "losses": c.losses} for c in curves],
        "fitted": which,
        "law": _law_data(fits.law, fits.points),
        "without_held_out": _law_data(fits.trial, fits.trial_points),
        "held_out": held_out,
        "predictions": [{"of": label, **_prediction(fits.law, value)} for label, value in predictions.items()],
    }


def _law_text(law: Mapping[str, Any]) -> str:
    return (
        f"L(C) = {law['factor']:.4g} C^{law['exponent']:.4g} + {law['floor']:.4g}, C in PFLOP "
        f"({law['points']} points; standard errors {law['errors']['exponent']:.2g} of the exponent, "
        f"{law['errors']['floor']:.2g} of the floor)"
    )


def scaling_text(data: Mapping[str, Any]) -> str:
    """Return laws, held-out runs and predictions as text."""
    rows = [
        [r["run"], f"{r['petaflops']:.4g}", f"{r['predicted']:.4f}", f"{r['standard_error']:.4f}",
         f"{r['loss']:.4f}", f"{r['relative']:+.2%}"]
        for r in data["held_out"]
    ]  # fmt: skip
    rows += [
        [r["of"], f"{r['petaflops']:.4g}", f"{r['predicted']:.4f}", f"{r['standard_error']:.4f}", "-", "-"]
        for r in data["predictions"]
    ]
    law = data["law"]
    warning = ""
    if law["floor"] < law["errors"]["floor"]:
        warning = "\n\nthe floor is smaller than its error: use more or longer runs to extrapolate far"
    laws = f"without held-out runs  {_law_text(data['without_held_out'])}\nall runs               {_law_text(law)}"
    return f"{laws}\n\n{table(['run', 'PFLOP', 'predicted', 'error', 'measured', 'difference'], rows)}{warning}"


def draw_laws(path: Path, curves: Sequence[Curve], fits: Fits) -> None:
    """Draw the losses of all runs against compute, and both laws."""
    with saved_figure(path, 1, 1, (6.5, 4.2)) as axes:
        axis = axes[0, 0]
        for curve in curves:
            axis.plot(curve.petaflops, curve.losses, marker="o", markersize=3, label=curve.name)
        compute = np.geomspace(min(c.petaflops[0] for c in curves), max(c.petaflops[-1] for c in curves), 100)
        for law, label, style in ((fits.trial, "law without held-out runs", ":"), (fits.law, "law", "-")):
            axis.plot(compute, law.predict(compute)[0], style, color="black", linewidth=1, label=label)
        axis.set(xscale="log", xlabel="training compute (PFLOP)", ylabel="loss per token (nats)")
        axis.legend()
