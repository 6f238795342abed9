"""`jsafe rlhf experiment FILE`: run the stages that a file declares, with a table and a figure of the results."""

from __future__ import annotations

from experiments.cli.format import to_json
from experiments.cli.result import Result
from experiments.cli.stdout import note
from experiments.pipeline.spec import ExperimentRequest, run_experiment
from rlhf.reinforcement.method_presets import METHODS


def run(request: ExperimentRequest) -> Result:
    """Run the steps of a file, or resume them."""
    from experiments.report.rlhf.comparison import summary_table
    from experiments.report.rlhf.reinforcement_runs import draw_runs, runs_table

    experiment = run_experiment(request, "rlhf")
    if isinstance(experiment, Result):
        return experiment
    steps, folder = experiment.steps, experiment.folder
    data = {"steps": experiment.data, "run_dir": str(folder)}
    runs: dict[str, list[str]] = {}
    for step in steps:
        if step.command[-1] in METHODS:
            runs.setdefault(step.label, []).append(step.name)
    tables = [runs_table(runs, experiment.data) if runs else f"{len(steps)} steps are done"]
    tables += [summary_table(experiment.data[step.name]) for step in steps if step.command[-1] == "evaluate"]
    if runs:
        try:
            data["picture"] = str(draw_runs(folder / "curves.png", folder, runs))
            tables.append(f"picture: {data['picture']}")
        except ImportError:
            note("no picture: matplotlib is not installed")
    (folder / "summary.json").write_text(to_json(data), encoding="utf-8")
    return Result(data, "\n\n".join(tables))
