"""`jsafe algorithms`: the algorithms, or the hyper-parameters of one."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

from experiments.cli.algorithm_names import resolve
from experiments.cli.config_flags import range_text
from experiments.cli.format import table, value_text
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output

WIDTH = 120
"""Columns of the widest table."""


@flags
class AlgorithmsRequest:
    """Settings of `jsafe algorithms`.

    Attributes:
        name: Algorithm whose hyper-parameters are listed, with the values of each preset.
    """

    name: str | None = positional(default=None)
    machine: Machine = Machine()
    output: Output = Output()


def run(request: AlgorithmsRequest) -> Result:
    """Run `jsafe algorithms [NAME]`: all algorithms and their parts, or the hyper-parameters of one."""
    import algorithms

    chosen = algorithms.names() if request.name is None else (resolve(request.name),)
    listed = [_with_preset_values(algorithms.describe(name)) for name in chosen]
    text = _overview(listed) if request.name is None else _details(listed[0])
    return Result({"algorithms": listed}, text)


def _with_preset_values(facts: dict[str, Any]) -> dict[str, Any]:
    """Return a description whose options also have `values`, one for each preset."""
    options = []
    for option in facts["options"]:
        values = {name: preset.get(option["name"], option["default"]) for name, preset in facts["presets"].items()}
        options.append({**option, "values": values})
    return {**facts, "options": options}


def _overview(listed: list[dict[str, Any]]) -> str:
    """Every algorithm with its parts, presets, other names and source."""
    rows = [
        [
            facts["name"],
            " x ".join(part for part in facts["parts"].values() if part),
            ", ".join(facts["presets"]),
            ", ".join(facts["aliases"]),
            facts["paper"],
        ]
        for facts in listed
    ]
    header = ["algorithm", "parts", "presets", "also called", "paper"]
    text = table(header, _folded(header, rows, limits=(24, 26, 23, 20)))
    return f"{text}\n\nparts: update x constraint x transform; one algorithm and its options: jsafe algorithms NAME"


def _details(facts: dict[str, Any]) -> str:
    """One algorithm with all of its hyper-parameters."""
    default, others = facts["default_preset"], [name for name in facts["presets"] if name != facts["default_preset"]]
    rows = []
    for option in facts["options"]:
        value = option["values"][default]
        differing = [option["values"][name] for name in others]
        choices = f"; one of {', '.join(option['choices'])}" if option["choices"] else ""
        rows.append(
            [
                option["name"],
                value_text(value),
                *("" if other == value else value_text(other) for other in differing),
                range_text(option),
                "yes" if option["traced"] else "",
                option["help"] + choices,
            ]
        )
    header = ["hyper-parameter", default, *others, "range", "traced", "description"]
    parts = [f"{axis} {name}" for axis, name in facts["parts"].items() if name]
    lines = [
        *textwrap.wrap(f"{facts['name']}: {facts['summary']}", WIDTH),
        *textwrap.wrap(f"paper        {facts['paper']}", WIDTH, subsequent_indent=" " * 13),
        f"parts        {', '.join(parts)}",
        f"also called  {', '.join(facts['aliases'])}",
        "",
        table(header, _folded(header, rows, limits=(29, *(15,) * (1 + len(others)), 12, 6))),
        "",
        f"A preset's column lists values that differ from {default!r}. Traced ones may differ across a population.",
    ]
    return "\n".join(lines)


def _folded(header: list[str], rows: list[list[str]], limits: Sequence[int]) -> list[list[str]]:
    """Rows broken into as many lines as it takes for the table to be at most `WIDTH` wide.

    Args:
        header: header of the table.
        rows: rows of the table.
        limits: largest width of each column but the last, which gets what is left.
    """
    widths = [
        min(limit, max(len(cell) for cell in column))
        for limit, column in zip(limits, zip(header[:-1], *(row[:-1] for row in rows), strict=True), strict=True)
    ]
    widths.append(WIDTH - sum(widths) - 2 * len(widths))
    folded = []
    for row in rows:
        cells = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(row, widths, strict=True)]
        folded += [list(line) for line in itertools.zip_longest(*cells, fillvalue="")]
    return folded
