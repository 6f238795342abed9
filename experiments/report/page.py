"""The HTML page about runs, which needs no other file."""

from __future__ import annotations

import base64
import datetime
import json
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from experiments.cli.format import seconds_text
from experiments.report import svg_charts
from experiments.report.run_summary import interval_text, number_text, overall_of, spread_text, summary, timing
from jsafe.runs.reader import Run


def page(runs: Sequence[Run], film: bytes | None = None) -> str:
    """The page about one run, or a comparison of several.

    Args:
        runs: at least one, each with metrics.
        film: a GIF of the first run's policy.
    """
    first = runs[0]
    single = len(runs) == 1
    title = f"{first.algorithm} on {first.env_id}" if single else f"Comparison of {len(runs)} runs"
    if not single and len({run.env_id for run in runs}) == 1:
        title += f" on {first.env_id}"
    parts = [_tiles(first) if single else "", _charts(runs, film), _final_table(runs), _evaluation_table(runs)]
    for run in runs:
        parts.append(_conditions(run, heading=not single))
    parts.append(_reproduce(runs))
    template = Template((Path(__file__).with_name("report.html")).read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), lead=_lead(runs), body="\n".join(filter(None, parts)))


def _lead(runs: Sequence[Run]) -> str:
    run = runs[0]
    seeds = f"{len(run.seeds)} seed{'s' * (len(run.seeds) != 1)}"
    steps = f"{run.env_steps[-1]:,.0f} environment steps each"
    when = run.facts.get("created") or run.facts.get("started")
    limit = f", at most {run.cost_limit:g} cost per episode allowed" if run.cost_limit is not None else ""
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    started = f"Started {escape(_moment(str(when)))}; page" if when else "Page"
    return (
        f"{escape(seeds)}, {steps}{limit}. {started} written {written}."
        if len(runs) == 1
        else f"Page written {written}."
    )


def _moment(stamp: str) -> str:
    """`2026-11-23T15:04:05+00:00` as `2026-11-23 15:04 UTC`; anything else as it is."""
    try:
        return datetime.datetime.fromisoformat(stamp).astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return stamp


def _tiles(run: Run) -> str:
    numbers = summary(run)
    tiles = []
    for name, label in (("return", "Return"), ("cost", "Cost")):
        entry = numbers[name]
        aside, state = f"{spread_text(entry)} · last 5 % of training", ""
        if name == "cost" and run.cost_limit is not None and np.isfinite(entry["mean"]):
            within = entry["mean"] <= run.cost_limit
            state = "good" if within else "bad"
            aside = f"{spread_text(entry)} · {'within' if within else 'above'} the limit of {run.cost_limit:g}"
        tiles.append(_tile(f"{label} per episode", number_text(entry["mean"]), aside, state))
    times = timing(run)
    if times["run_seconds"]:
        total = numbers["env_steps"] * max(1, len(run.seeds))
        rate = total / times["run_seconds"]
        tiles.append(_tile("Training speed", f"{rate:,.0f} steps/s", f"{total:,.0f} steps, all seeds together"))
        compile_text = seconds_text(times["compile_seconds"]) if times["compile_seconds"] else "unknown"
        tiles.append(_tile("Run time", seconds_text(times["run_seconds"]), f"plus {compile_text} of compilation"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(label: str, value: str, aside: str, state: str = "") -> str:
    return (
        f'<div class="tile"><div class="label">{escape(label)}</div><div class="value {state}">{escape(value)}</div>'
        f'<div class="aside">{escape(aside)}</div></div>'
    )


def _charts(runs: Sequence[Run], film: bytes | None) -> str:
    charts = []
    limits = {run.cost_limit for run in runs} - {None}
    limit = limits.pop() if len(limits) == 1 else None
    for name, title, unit in (
        ("return", "Return", "reward per episode"),
        ("cost", "Cost", "cost per episode"),
        ("multiplier", "Lagrange multiplier", "multiplier (no unit)"),
    ):
        series = [
            svg_charts.Series(_label(run, runs), run.env_steps, run.curves[name])
            for run in runs
            if name in run.curves and np.isfinite(run.curves[name]).any()
        ]
        if not series:
            continue
        level, level_label = (limit, f"cost limit {limit:g}") if name == "cost" and limit is not None else (None, "")
        chart = svg_charts.line_chart(series, title=title, y_label=unit, level=level, level_label=level_label)
        charts.append(f"<figure>{chart}</figure>")
    if film is not None:
        source = base64.b64encode(film).decode()
        run = runs[0]
        caption = f"An episode of the learned policy ({escape(run.algorithm)}, seed {run.seeds[0]}), seen from above."
        charts.append(
            f'<figure class="film"><img alt="{caption}" src="data:image/gif;base64,{source}">'
            f"<figcaption>{caption} A red frame marks a step with cost.</figcaption></figure>"
        )
    seeds = max(len(run.seeds) for run in runs)
    explanation = "Bold line: mean over seeds; band: 95 % interval of that mean (Student's t)"
    explanation += "; thin lines: single seeds." if len(runs) == 1 else "."
    known = f'<p class="note">{explanation}</p>' if seeds > 1 else '<p class="note">A single seed: no band.</p>'
    return f'<div class="charts">{"".join(charts)}</div>{known}'


def _label(run: Run, runs: Sequence[Run]) -> str:
    """Return the shortest name that distinguishes the runs."""
    if run.hyper_text:
        names = {other.path for other in runs}
        return run.hyper_text if len(names) == 1 else f"{run.path.resolve().name}, {run.hyper_text}"
    for name in (lambda r: r.algorithm, lambda r: f"{r.algorithm}, {r.env_id}", lambda r: r.path.resolve().name):
        if len({name(other) for other in runs}) == len(runs):
            return name(run)
    return str(run.path)


def _final_table(runs: Sequence[Run]) -> str:
    header = ["run" if len(runs) > 1 else "seed", "return", "cost", "multiplier", "length", "steps"]
    limited = any(run.cost_limit is not None for run in runs)
    if limited:
        header.append("best return within the limit")
    rows, classes = [], []
    for run in runs:
        numbers = summary(run)
        best = np.array(numbers["best_within_limit"]["return"])
        steps = f"{numbers['env_steps']:,.0f}"
        name = _label(run, runs) if len(runs) > 1 else "all seeds"
        cells = [interval_text(numbers[key]) for key in ("return", "cost")]
        cells += [number_text(numbers[key]["mean"]) for key in ("multiplier", "length")]
        if len(runs) == 1:
            for place, seed in enumerate(run.seeds):
                each = [number_text(numbers[key]["seeds"][place]) for key in ("return", "cost", "multiplier", "length")]
                rows.append([str(seed), *each, steps, *((_best_text(best[place : place + 1]),) if limited else ())])
                classes.append("")
        rows.append([name, *cells, steps, *((_best_text(best),) if limited else ())])
        classes.append("all" if len(runs) == 1 else "")
    return "<h2>End of training (mean over the last 5 % of the iterations)</h2>" + _table(header, rows, classes)


def _evaluation_table(runs: Sequence[Run]) -> str:
    rows = []
    episodes = set()
    for run in runs:
        try:
            evaluation = json.loads((run.path / "eval.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        episodes.add(evaluation.get("episodes"))
        for mode in ("deterministic", "stochastic"):
            if mode not in evaluation:
                continue
            overall = overall_of(evaluation[mode], run.seeds)
            cells = [f"{number_text(overall[key])} {_spread_of(overall, key)}" for key in ("return", "cost", "length")]
            rows.append([(f"{_label(run, runs)}, " if len(runs) > 1 else "") + mode, *cells])
    if not rows:
        return ""
    counts = "/".join(str(count) for count in sorted(episodes, key=str))
    heading = f"<h2>Test episodes after training ({counts} of each seed)</h2>"
    return heading + _table(["policy", "return", "cost", "length"], rows, [""] * len(rows))


def _conditions(run: Run, heading: bool) -> str:
    times = timing(run)
    machine = [(key.replace("_", " "), value) for key, value in _settings_of(run, "hardware").items()]
    clock = [
        ("compile seconds", _seconds(times["compile_seconds"])),
        ("run seconds", _seconds(times["run_seconds"])),
        ("sessions (resumes + 1)", times["sessions"]),
    ]
    config = sorted(run.info.get("config", {}).items())
    title = f": {escape(run.path.resolve().name)}" if heading else ""
    return (
        f'<h2>Conditions{title}</h2><div class="columns">'
        f"<div>{_pairs('Hardware', machine)}{_pairs('Time', clock)}</div>"
        f"<div>{_pairs('Versions', list(_settings_of(run, 'versions').items()))}</div></div>"
        f"<details{'' if heading else ' open'}><summary>Configuration ({len(config)} settings)</summary>"
        f'<div class="columns"><div>{_pairs("", config[: (len(config) + 1) // 2])}</div>'
        f"<div>{_pairs('', config[(len(config) + 1) // 2 :])}</div></div></details>"
    )


def _settings_of(run: Run, name: str) -> dict[str, Any]:
    value = run.facts.get(name, {})
    return value if isinstance(value, dict) else {name: value}


def _reproduce(runs: Sequence[Run]) -> str:
    commands = [str(run.facts["command"]) for run in runs if run.facts.get("command")]
    return f"<h2>Command</h2><pre>{escape(chr(10).join(commands))}</pre>" if commands else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row, kind in zip(rows, classes, strict=True)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _pairs(title: str, pairs: Sequence[tuple[str, Any]]) -> str:
    rows = "".join(f"<tr><td>{escape(str(name))}</td><td>{escape(_value(value))}</td></tr>" for name, value in pairs)
    head = f"<thead><tr><th>{escape(title)}</th><th></th></tr></thead>" if title else ""
    return f"<table>{head}<tbody>{rows}</tbody></table>" if pairs else ""


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_value(entry) for entry in value)
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _best_text(best: np.ndarray) -> str:
    """Mean over the seeds that were ever within the limit, and how many were not."""
    known = best[np.isfinite(best)]
    if not known.size:
        return "never within"
    return f"{known.mean():.2f}" + (f" ({best.size - known.size} never within)" if known.size < best.size else "")


def _spread_of(entry: dict[str, Any], key: str) -> str:
    interval = entry.get(f"{key}_interval")
    return f"± {(interval[1] - interval[0]) / 2:.2f}" if interval and None not in interval else ""


def _seconds(value: float | None) -> str:
    return "not recorded" if value is None else seconds_text(value)
