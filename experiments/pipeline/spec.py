"""Experiments declared in TOML files: `jsafe GROUP experiment FILE`."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from experiments.cli import app
from experiments.cli.argument_types import Count, Folder, Pairs, Switch
from experiments.cli.errors import CommandError, unknown
from experiments.cli.format import to_json
from experiments.cli.request import as_json, flags, positional
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.pipeline.runner import run_steps
from experiments.pipeline.step import Shared, Step

PRESETS = Path(__file__).parents[1] / "presets"
MARK = "experiment.json"
TABLES = ("about", "family", "paths", "defaults", "step", "comparison")
"""Tables of an experiment file."""


@flags
class ExperimentRequest:
    """Settings of `jsafe GROUP experiment`.

    Attributes:
        file: TOML file of steps, or the name of a shipped experiment.
        input: Path for a name in [paths] of the file; repeatable.
        until: Last step to run.
        jobs: Number of steps that run at once, each in a process of its own.
        run_dir: Folder of the experiment (default: runs/NAME).
        quiet: No progress lines.
    """

    file: Annotated[Path, Parameter(metavar="FILE")] = positional()
    input: Pairs = ()
    until: str | None = None
    jobs: Count = 1
    run_dir: Folder | None = None
    quiet: Switch = False
    machine: Machine = Machine()
    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class FinishedExperiment:
    """An experiment whose steps are all finished.

    Attributes:
        steps: its steps.
        data: data of each step, by name.
        folder: its folder.
        declaration: content of its file.
    """

    steps: list[Step]
    data: dict[str, Any]
    folder: Path
    declaration: dict[str, Any]


def run_experiment(request: ExperimentRequest, group: str) -> FinishedExperiment | Result:
    """Run the steps of a file, or resume them.

    Returns:
        The finished experiment, or a result if a step was interrupted.
    """
    path = find_file(request.file, group)
    declaration = read_file(path)
    if declaration.get("family", group) != group:
        raise CommandError(f"{path} is for `jsafe {declaration['family']} experiment`")
    paths = {**declaration.get("paths", {}), **dict(request.input)}
    if more := sorted(set(paths) - set(declaration.get("paths", {}))):
        raise unknown("name in --input", more[0], declaration.get("paths", {}))
    steps = steps_of(_until(declaration, request.until), paths, group)
    folder = request.run_dir or Path("runs") / path.stem
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise CommandError(f"{folder} holds other files; choose another folder with --run-dir")
    writable_folder(folder)
    record: dict[str, Any] = {"family": group, "file": str(path)}
    record["steps"] = [{"name": s.name, "command": s.command, "settings": as_json(s.request)} for s in steps]
    record |= {"comparison": declaration["comparison"]} if "comparison" in declaration else {}
    (folder / MARK).write_text(to_json(record), encoding="utf-8")
    outcome = run_steps(steps, folder, jobs=request.jobs, shared=Shared(request.machine, request.output, request.quiet))
    if outcome.stopped is not None:
        again = f"jsafe {' '.join(app.current_words())}" if app.current_words() else "the same command"
        return Result({"steps": outcome.data}, f"stopped; to resume:\n  {again}", outcome.stopped.exit_code)
    return FinishedExperiment(steps, outcome.data, folder, declaration)


def presets(group: str) -> list[Path]:
    """Return the shipped files of a group."""
    return [path for path in sorted(PRESETS.glob("*.toml")) if read_file(path)["family"] == group]


def find_file(path: Path, group: str) -> Path:
    """Return the file of an experiment from its path or the name of a shipped one.

    Raises:
        CommandError: there is neither.
    """
    if path.is_file():
        return path
    known = sorted(preset.stem for preset in presets(group))
    if path.name in known and path.parent == Path("."):
        return PRESETS / f"{path.name}.toml"
    from jsafe.suggestions import did_you_mean  # importing jsafe is slow: only where a name is unknown

    near = did_you_mean(path.stem, known)
    raise CommandError(f"there is no file {path}, and no experiment of that name{near} (known: {', '.join(known)})")


def read_file(path: Path) -> dict[str, Any]:
    """Read an experiment file.

    Raises:
        CommandError: it is not TOML, has unknown tables, or no steps.
    """
    try:
        declaration = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is not TOML: {error}") from error
    if more := sorted(set(declaration) - set(TABLES)):
        raise CommandError(f"{path}: {more[0]!r} is not one of {', '.join(TABLES)}")
    if not declaration.get("step"):
        raise CommandError(f"{path} has no [[step]]")
    return declaration


def _until(declaration: dict[str, Any], last: str | None) -> dict[str, Any]:
    """Return the declaration with the steps up to `last`."""
    if last is None:
        return declaration
    names = [row.get("name") for row in declaration["step"]]
    if last not in names:
        raise unknown("step in --until", last, [str(name) for name in names])
    return {**declaration, "step": declaration["step"][: names.index(last) + 1]}


def steps_of(declaration: Mapping[str, Any], paths: Mapping[str, str], group: str) -> list[Step]:
    """Return the steps of a declared experiment, one for each seed of those that have several.

    Args:
        declaration: `defaults`, options by stage or by several of them, and `step`, a list of tables with `name`,
            `stage`, perhaps `seeds`, and the stage's options without their dashes; several values are a list, switches
            are true. A step's own options come before those of `defaults`, and the first of these before later ones.
        paths: value of `{name}` in texts; for a step with several seeds, `{seed}` is its seed.
        group: group of the stages.

    Raises:
        CommandError: a step lacks its name or stage, there is no such stage, or it refuses the options.
    """
    steps = []
    stages = set(app.find_group(group)) - {"demo", "experiment"}
    for row in declaration["step"]:
        options = dict(row)
        name, stage = options.pop("name", ""), options.pop("stage", "")
        if stage not in stages:
            raise unknown(f"stage of step {name!r}", str(stage), stages)
        for names, shared in declaration.get("defaults", {}).items():
            options = {**shared, **options} if stage in names.split() else options
        seeds = options.pop("seeds", None)
        for seed in [None] if seeds is None else seeds:
            known = paths if seed is None else {**paths, "seed": str(seed)}
            words = [w for key, value in options.items() for w in _words(key, value, known)]
            words += [] if seed is None else ["--seed", str(seed)]
            full_name = name if seed is None else f"{name}-{seed}"
            steps.append(Step.from_words(full_name, (group, stage), words, label=name))
    return steps


def _words(key: str, value: Any, paths: Mapping[str, str]) -> Iterator[str]:
    """Yield the words of one option."""
    if isinstance(value, bool):
        if value:
            yield f"--{key}"
        return
    for entry in value if isinstance(value, list) else [value]:
        try:
            text = entry.format_map(_Paths(paths)) if isinstance(entry, str) else str(entry)
        except (IndexError, ValueError) as error:
            raise CommandError(f"{key} = {value!r}: {error}") from error
        yield from (f"--{key}", text)


class _Paths(dict[str, str]):
    """Values of `{name}`; the error for a name without a value shows how to give one."""

    def __missing__(self, name: str) -> str:
        raise CommandError(f"{{{name}}} is none of [paths]: {', '.join(self)}")

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        if not value:
            raise CommandError(f"the experiment needs a path for {name}: --input {name}=PATH")
        return value
