"""`jsafe sketch experiment`: run the stages that a file declares, or resume an experiment."""

from __future__ import annotations

from experiments.cli.result import Result
from experiments.pipeline.spec import ExperimentRequest, run_experiment


def run(request: ExperimentRequest) -> Result:
    """Run `jsafe sketch experiment`."""
    finished = run_experiment(request, "sketch")
    if isinstance(finished, Result):
        return finished
    lines = [f"{len(finished.steps)} steps are done"]
    if "comparison" in finished.declaration:
        lines.append(f"  next  jsafe sketch evaluate {finished.folder} --human DIR")
    return Result({"steps": finished.data, "run_dir": str(finished.folder)}, "\n".join(lines))
