"""`jsafe report`: one HTML file with the curves, the conditions and a film of a run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.argument_types import Count, File, Folders
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note

if TYPE_CHECKING:
    from jsafe.runs.reader import Run

FILM_BYTES = 1_500_000
"""Size above which a film is made again with fewer pixels and frames, to keep the page easy to send."""


@flags
class ReportRequest:
    """Settings of `jsafe report`.

    Attributes:
        runs: Folders of runs; several are compared.
        out: File of the page (default report.html in the first folder).
        animation: Include a film of the policy.
        episodes: Number of test episodes to evaluate each run over first.
        curves: File for the curves of the first run, as comma-separated values.
        every: Interval of iterations of --curves.
    """

    runs: Folders = positional()
    out: File | None = None
    animation: bool = True
    episodes: Count | None = None
    curves: File | None = None
    every: Count = 1
    machine: Machine = Machine()
    output: Output = Output()


def run(request: ReportRequest) -> Result:
    """Run `jsafe report`: write the page."""
    from experiments.report.page import page
    from experiments.report.run_summary import summary
    from jsafe.runs.reader import curves_csv, groups, load_run

    runs = [load_run(path) for path in request.runs]
    for run in runs:
        if not len(run.env_steps):
            raise CommandError(f"the run at {run.path} has no metrics yet; train it for at least one iteration")
    target = request.out or runs[0].path / "report.html"
    if request.episodes:
        from experiments.report.evaluation import evaluate_run

        for run in runs:
            note(f"evaluating {run.path} over {request.episodes} episodes of each seed")
            evaluate_run(run.path, request.episodes, machine=request.machine)
    film = _film(runs[0], request) if request.animation else None
    parts = [part for run in runs for part in groups(run)]
    _write(target, page(parts, film))
    if request.curves:
        _write(request.curves, curves_csv(runs[0], request.every))
    data = {
        "report": str(Path(target).resolve()),
        "runs": [summary(part) for part in parts],
        "animation": film is not None,
    }
    return Result(data, f"report: {Path(target).resolve()}")


def _write(path: Path, text: str) -> None:
    from jsafe.runs.checkpoint import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error


def _film(run: Run, request: ReportRequest) -> bytes | None:
    """A GIF of the first seed's policy, or None with a note if the policy cannot be run here."""
    try:
        from experiments.cli.devices import configure
        from experiments.report.episode_film import film_episode, film_title, record_run

        configure(request.machine.platform, request.machine.devices)
        episode, title = record_run(run, run.seeds[0]), film_title(run, run.seeds[0])
        for pixels, frames in ((400, 200), (300, 150), (240, 100)):
            buffer = io.BytesIO()
            film_episode(episode, buffer, title=title, pixels=pixels, frames=frames)
            if buffer.tell() <= FILM_BYTES:
                break
        return buffer.getvalue()
    except Exception as error:  # A page without a film is worth more than no page.
        if request.output.debug:
            raise
        note(f"no animation: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return None
