"""`jsafe FAMILY experiment FILE`: stages declared in a file, each from the models of those before it."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli.argument_types import key_value
from experiments.cli.family import Family
from experiments.cli.result import CommandError, Outcome, to_json, unknown, writable_folder
from experiments.pipeline.runner import Step, run_steps

PRESETS = Path(__file__).parents[1] / "presets"
MARK = "experiment.json"


class Ended(NamedTuple):
    """An experiment whose steps have all ended.

    Attributes:
        steps: of it.
        found: the data of each by name.
        where: its folder.
        declared: what its file says.
    """

    steps: list[Step]
    found: dict[str, Any]
    where: Path
    declared: dict[str, Any]


def run(args: argparse.Namespace, family: Family) -> Ended | Outcome:
    """Run the steps of a file, or go on with them; an outcome if it was stopped before the end."""
    path = _file(args.file, family)
    declared = _read(path)
    if declared.get("family", family.name) != family.name:
        raise CommandError(f"{path} is for `jsafe {declared['family']} experiment`")
    paths = {**declared.get("paths", {}), **dict(key_value(text) for text in args.set or [])}
    if more := sorted(set(paths) - set(declared.get("paths", {}))):
        raise unknown("name in --set", more[0], declared.get("paths", {}))
    steps = steps_of(_until(declared, args.until), paths, family)
    where = args.run_dir or Path("runs") / path.stem
    if where.exists() and any(where.iterdir()) and not (where / MARK).is_file():
        raise CommandError(f"{where} holds something else; choose another folder with --run-dir")
    writable_folder(where)
    kept = {"family": family.name, "file": str(path), "steps": [step._asdict() for step in steps]}
    kept |= {"comparison": declared["comparison"]} if "comparison" in declared else {}
    (where / MARK).write_text(to_json(kept))
    found, stopped = run_steps(family, args, steps, where, args.jobs)
    if stopped is not None:
        again = " ".join(["jsafe", *args.words])
        return Outcome({"steps": found}, f"stopped; the same command goes on with it:\n  {again}", stopped.exit_code)
    return Ended(steps, found, where, declared)


def presets(family: Family) -> list[Path]:
    """Files of our own for a family."""
    files = sorted(PRESETS.glob("*.toml"))
    return [path for path in files if _read(path)["family"] == family.name]


def _file(given: Path, family: Family) -> Path:
    if given.is_file():
        return given
    known = sorted(path.stem for path in presets(family))
    if given.name in known and given.parent == Path("."):
        return PRESETS / f"{given.name}.toml"
    raise CommandError(f"there is no file {given}, and no experiment of that name; known: {', '.join(known)}")


KNOWN = ("about", "family", "paths", "defaults", "step", "comparison")


def _read(path: Path) -> dict[str, Any]:
    try:
        declared = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is not TOML: {error}") from error
    if more := sorted(set(declared) - set(KNOWN)):
        raise CommandError(f"{path}: {more[0]!r} is not one of {', '.join(KNOWN)}")
    if not declared.get("step"):
        raise CommandError(f"{path} has no [[step]]")
    return declared


def _until(declared: dict[str, Any], last: str | None) -> dict[str, Any]:
    """The same with the steps up to the one of that name."""
    if last is None:
        return declared
    names = [row.get("name") for row in declared["step"]]
    if last not in names:
        raise unknown("step in --until", last, [str(name) for name in names])
    return {**declared, "step": declared["step"][: names.index(last) + 1]}


def steps_of(declared: Mapping[str, Any], paths: Mapping[str, str], family: Family) -> list[Step]:
    """The steps of a declared experiment, one for each seed of those that have several.

    Args:
        declared: `defaults`, options by stage or by several of them, and `step`, a list of tables with `name`, `stage`,
            perhaps `seeds`, and the stage's options without their dashes; several values are a list, switches are true.
            A step's own options come before those of `defaults`, and the first of these before later ones.
        paths: what stands for `{name}` in texts; of a step with several seeds, `{seed}` is the one it has.
        family: of the stages.

    Raises:
        CommandError: a step lacks its name or stage, or there is no such stage.
    """
    steps = []
    stages = set(family.commands) - {"demo", "experiment"}
    for row in declared["step"]:
        options = dict(row)
        name, stage = options.pop("name", ""), options.pop("stage", "")
        if stage not in stages:
            raise unknown(f"stage of step {name!r}", str(stage), stages)
        for names, shared in declared.get("defaults", {}).items():
            options = {**shared, **options} if stage in names.split() else options
        seeds = options.pop("seeds", None)
        given = set(family.commands[stage].given) & set(family.positional)
        for seed in [None] if seeds is None else seeds:
            known = paths if seed is None else {**paths, "seed": str(seed)}
            words = [w for key, value in options.items() for w in _words(key, value, known, positional=key in given)]
            if seed is not None:
                words += ["--seed", str(seed)]
            steps.append(Step(name if seed is None else f"{name}-{seed}", stage, tuple(words)))
    return steps


def _words(key: str, value: Any, paths: Mapping[str, str], *, positional: bool) -> list[str]:
    if isinstance(value, bool):
        return [f"--{key}"] if value else []
    values = value if isinstance(value, list) else [value]
    try:
        texts = [v.format_map(_Paths(paths)) if isinstance(v, str) else str(v) for v in values]
    except (IndexError, ValueError) as error:
        raise CommandError(f"{key} = {value!r}: {error}") from error
    return texts if positional else [word for text in texts for word in (f"--{key}", text)]


class _Paths(dict[str, str]):
    """What stands for `{name}`; a name without a value says how to give it one."""

    def __missing__(self, name: str) -> str:
        raise CommandError(f"{{{name}}} is none of [paths]: {', '.join(self)}")

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        if not value:
            raise CommandError(f"say where {name} is: --set {name}=PATH")
        return value
