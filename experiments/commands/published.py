"""`jsafe published`: runs next to the results that OmniSafe published for the same algorithm and environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from experiments.cli.argument_types import File, Folders
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Output


@flags
class PublishedRequest:
    """Settings of `jsafe published`.

    Attributes:
        runs: Folders of runs.
        out: File for the table, as Markdown.
        earlier: Rows of other runs, as printed by an earlier --json.
    """

    runs: Folders = positional()
    out: File | None = None
    earlier: Annotated[Path | None, Parameter(name="--with", metavar="FILE")] = None
    output: Output = Output()


def run(request: PublishedRequest) -> Result:
    """Run `jsafe published RUN ...`: a row for each run."""
    from experiments.report.published_comparison import as_table, earlier_rows, joined, published_results, row_of
    from jsafe.runs.reader import groups, load_run

    known = published_results()
    rows = [row_of(run, known["results"]) for path in request.runs for run in groups(load_run(path))]
    if request.earlier:
        rows = joined(earlier_rows(request.earlier), rows)
    text = as_table(rows, known["source"])
    if request.out:
        request.out.write_text(text + "\n", encoding="utf-8")
    return Result({"source": known["source"], "rows": rows}, text)
