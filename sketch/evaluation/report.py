"""Report of a comparison, as Markdown tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sketch.evaluation.compare import MEAN, Report
from sketch.evaluation.generated_sets import HUMAN

Column = tuple[str, Callable[[Mapping[str, Any]], str]]


def _number(key: str, form: str = ".3f", factor: float = 1.0) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row.get(key) is None else format(row[key] * factor, form)


def _range(key: str, low: str, high: str) -> Callable[[Mapping[str, Any]], str]:
    """Column of a percentage with its interval."""

    def cell(row: Mapping[str, Any]) -> str:
        if row.get(key) is None:
            return ""
        ends = f" ({100 * row[low]:.1f} to {100 * row[high]:.1f})" if row.get(low) is not None else ""
        return f"{100 * row[key]:.1f}{ends}"

    return cell


SETTING: tuple[Column, ...] = (
    ("system", lambda row: str(row["system"])),
    ("T", _number("temperature", "g")),
    ("best of", _number("best_of", "d", 1)),
)

QUALITY: tuple[Column, ...] = (
    ("judge", lambda row: str(row["judge"])),
    *SETTING,
    ("seeds", _number("seeds", "d", 1)),
    ("drawings", _number("drawings", "d", 1)),
    ("recognised %", _range("recognised", "recognised_low", "recognised_high")),
    ("mean p", _number("probability")),
    ("confident %", _number("confident", ".1f", 100)),
    ("FID", _number("fid", ".2f")),
    ("KID x 1000", _number("kid", ".2f", 1000)),
    ("precision", _number("precision")),
    ("recall", _number("recall")),
    ("density", _number("density")),
    ("coverage", _number("coverage")),
    ("copies %", _number("feature_copies", ".1f", 100)),
)

STATISTICS: tuple[Column, ...] = (
    *SETTING,
    ("drawings", _number("drawings", "d", 1)),
    ("strokes", _number("strokes", ".1f")),
    ("KS", _number("strokes_ks")),
    ("points", _number("points", ".1f")),
    ("KS ", _number("points_ks")),
    ("unfinished %", _number("unfinished", ".1f", 100)),
    ("disordered strokes %", _range("disordered", "disordered_low", "disordered_high")),
    ("copies %", _number("pixel_copies", ".1f", 100)),
    ("duplicates %", _number("duplicates", ".1f", 100)),
)

DIFFERENCES: tuple[Column, ...] = (
    ("judge", lambda row: str(row["judge"])),
    *SETTING,
    ("against", lambda row: str(row["against"])),
    ("recognised, % points", _range("difference", "low", "high")),
    ("p", _number("p_value", ".4f")),
    ("p (Holm)", _number("p_holm", ".4f")),
    ("recall", _number("recall_difference", "+.3f")),
    ("coverage", _number("coverage_difference", "+.3f")),
)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Format rows as a Markdown table without empty columns."""
    if not rows:
        return "none\n"
    cells = [[cell(row).replace("|", "\\|") for _, cell in columns] for row in rows]
    shown = [n for n in range(len(columns)) if any(row[n] for row in cells)]
    lines = [[columns[n][0].strip() for n in shown], ["---"] * len(shown), *([row[n] for n in shown] for row in cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def markdown(report: Report) -> str:
    """Format the whole report: recognisability, statistics, differences and notes."""
    settings = report.settings
    level = f"{100 * settings['level']:g} %"
    size = next((row["set_size"] for row in report.rows if "set_size" in row), None)
    sets = (
        f" FID to coverage use sets of {size} against one half of the people; `human` is the other half."
        if size
        else ""
    )
    return "\n".join(
        [
            f"## Recognised as {settings['target']}\n",
            f"Brackets hold Wilson's {level} interval over all drawings.{sets}\n",
            table(report.rows, QUALITY),
            "## Statistics without a judge\n",
            "KS is the Kolmogorov-Smirnov distance to people's distribution. Copies and duplicates are closer than "
            f"all but {100 * settings['copy_quantile']:g} % of people's drawings.\n",
            table(report.statistics, STATISTICS),
            "## Differences in the same setting\n",
            f"Brackets hold the {level} bootstrap interval over training seeds and drawings. p values are corrected "
            "over all comparisons of a judge with the same counterpart.\n",
            table(report.differences, DIFFERENCES),
            *(["## Notes\n", *(f"- {note}" for note in report.notes), ""] if report.notes else []),
        ]
    )


HEADLINE = ("system", "T", "best of", "drawings", "recognised %", "FID", "recall", "coverage")


def summary(report: Report) -> str:
    """Format recognisability and recall of every system and setting, averaged over several judges."""
    means = [row for row in report.rows if row["judge"] == MEAN]
    return table(means or report.rows, [column for column in QUALITY if column[0] in HEADLINE])


def figures(report: Report, folder: Path) -> list[Path]:
    """Write `recall.png` (recognisability against recall over temperatures) and `recognised.png` (bars with intervals).

    There is one panel for each judge, and one for their mean. The human line is one half of the humans against the
    other.

    Args:
        report: result of `sketch.evaluation.compare.evaluate`.
        folder: folder to create.

    Returns:
        Paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    judges = [*report.settings["judges"], *([MEAN] if any(row["judge"] == MEAN for row in report.rows) else [])]
    plots = [(folder / "recall.png", _recall), (folder / "recognised.png", _bars)]
    for path, draw in plots:
        _panels(path, judges, report.rows, draw)
    return [path for path, _ in plots]


def _panels(path: Path, judges: Sequence[str], rows: Sequence[Mapping[str, Any]], draw: Callable[..., None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(judges), 4.4), layout="constrained")
    panels = figure.subplots(1, len(judges), squeeze=False)[0]
    for axes, judge in zip(panels, judges, strict=True):
        draw(axes, [row for row in rows if row["judge"] == judge])
        axes.set_title(judge, fontsize=10)
        axes.grid(alpha=0.2)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)


def _lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of each system and best-of, by increasing temperature."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted((row for row in rows if row["temperature"] is not None), key=lambda row: row["temperature"]):
        name = row["system"] + (f", best of {row['best_of']}" if row["best_of"] > 1 else "")
        lines.setdefault(name, []).append(row)
    return lines


def _recall(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Plot recognisability against recall, with a line through the temperatures of each system."""
    for name, each in _lines([row for row in rows if row.get("recall") is not None]).items():
        (line,) = axes.plot([r["recall"] for r in each], [r["recognised"] for r in each], "o-", ms=4, label=name)
        for row in each:
            place = row["recall"], row["recognised"]
            axes.annotate(f"{row['temperature']:g}", place, (3, 3), textcoords="offset points", fontsize=7)
            if row.get("recognised_low") is not None:
                axes.plot([place[0]] * 2, [row["recognised_low"], row["recognised_high"]], lw=0.8, c=line.get_color())
    for row in rows:
        if row["system"] == HUMAN and row.get("recall") is not None:
            axes.plot(row["recall"], row["recognised"], "k*", ms=11, label=HUMAN)
    axes.set(xlabel="recall (covered variety of people)", ylabel="recognised", xlim=(0, 1), ylim=(0, 1))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Plot recognisability by system and temperature, with intervals."""
    lines = _lines(rows)
    temperatures = sorted({row["temperature"] for row in rows if row["temperature"] is not None})
    width = 0.8 / max(len(lines), 1)
    for number, (name, each) in enumerate(lines.items()):
        x = [temperatures.index(row["temperature"]) + (number - (len(lines) - 1) / 2) * width for row in each]
        axes.bar(x, [row["recognised"] for row in each], width, label=name)
        for place, row in zip(x, each, strict=True):
            if row.get("recognised_low") is not None:
                axes.plot([place] * 2, [row["recognised_low"], row["recognised_high"]], "k-", lw=1)
    for row in rows:
        if row["system"] == HUMAN:
            axes.axhline(row["recognised"], color="black", ls="--", lw=1, label=HUMAN)
            if row.get("recognised_low") is not None:
                axes.axhspan(row["recognised_low"], row["recognised_high"], color="black", alpha=0.08)
    axes.set_xticks(range(len(temperatures)), [f"{t:g}" for t in temperatures])
    axes.set(xlabel="temperature", ylabel="recognised", ylim=(0, 1))
    axes.legend(fontsize=8)
