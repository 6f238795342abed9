"""`jsafe rlhf experiment FILE`: stages declared in a file, run in order, each from the models before it."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.outcome import CommandError, Outcome, note, table, to_json, unknown, writable_folder
from experiments.rlhf_curves import draw
from experiments.rlhf_steps import Step, run_steps
from experiments.rlhf_train import REINFORCEMENT
from experiments.rlhf_use import summary as compared
from experiments.rlhf_words import COMMANDS
from experiments.words import key_value

PRESETS = Path(__file__).parent / "presets"
MARK = "experiment.json"


def experiment(args: argparse.Namespace) -> Outcome:
    """Run the steps of a file, or go on with them; the same command does both."""
    path = _file(args.file)
    declared = _read(path)
    paths = {**declared.get("paths", {}), **dict(key_value(text) for text in args.set or [])}
    if more := sorted(set(paths) - set(declared.get("paths", {}))):
        raise unknown("name in --set", more[0], declared.get("paths", {}))
    steps = steps_of(_until(declared, args.until), paths)
    where = args.run_dir or Path("runs") / path.stem
    if where.exists() and any(where.iterdir()) and not (where / MARK).is_file():
        raise CommandError(f"{where} holds something else; choose another folder with --run-dir")
    writable_folder(where)
    (where / MARK).write_text(to_json({"file": str(path), "steps": [step._asdict() for step in steps]}))
    found, stopped = run_steps(args, steps, where)
    if stopped is not None:
        again = " ".join(["jsafe", *args.words])
        return Outcome({"steps": found}, f"stopped; the same command goes on with it:\n  {again}", stopped.exit_code)
    data: dict[str, Any] = {"steps": found, "run_dir": str(where)}
    text = "\n\n".join([summary(steps, found), *(compared(found[s.name]) for s in steps if s.stage == "evaluate")])
    if picture := _picture(steps, where):
        data["picture"] = str(picture)
        text += f"\n\npicture: {picture}"
    (where / "summary.json").write_text(to_json(data))
    return Outcome(data, text)


def _file(given: Path) -> Path:
    if given.is_file():
        return given
    known = sorted(p.stem for p in PRESETS.glob("*.toml"))
    if given.name in known and given.parent == Path("."):
        return PRESETS / f"{given.name}.toml"
    raise CommandError(f"there is no file {given}, and no experiment of that name; known: {', '.join(known)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        declared = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is not TOML: {error}") from error
    if more := sorted(set(declared) - {"about", "paths", "defaults", "step"}):
        raise CommandError(f"{path}: {more[0]!r} is not one of about, paths, defaults, step")
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


def steps_of(declared: Mapping[str, Any], paths: Mapping[str, str]) -> list[Step]:
    """The steps of a declared experiment, one for each seed of those that have several.

    Args:
        declared: `defaults`, options by stage or by several of them, and `step`, a list of tables with `name`, `stage`,
            perhaps `seeds`, and the stage's options without their dashes; several values are a list, switches are true.
            A step's own options come before those of `defaults`, and the first of these before later ones.
        paths: what stands for `{name}` in texts.

    Raises:
        CommandError: a step lacks its name or stage, or there is no such stage.
    """
    steps = []
    for row in declared["step"]:
        options = dict(row)
        name, stage = options.pop("name", ""), options.pop("stage", "")
        if stage not in COMMANDS or stage in ("demo", "experiment"):
            raise unknown(f"stage of step {name!r}", str(stage), set(COMMANDS) - {"demo", "experiment"})
        for stages, shared in declared.get("defaults", {}).items():
            options = {**shared, **options} if stage in stages.split() else options
        seeds = options.pop("seeds", None)
        words: list[str] = []
        for key, value in options.items():
            words += _words(key, value, paths, positional=key in COMMANDS[stage].given and key == "models")
        if seeds is None:
            steps.append(Step(name, stage, tuple(words)))
        else:
            steps += [Step(f"{name}-{seed}", stage, (*words, "--seed", str(seed))) for seed in seeds]
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


def _groups(steps: Sequence[Step]) -> dict[str, list[Step]]:
    """Steps of reinforcement, those that differ in their seed together."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        if step.stage in REINFORCEMENT:
            base, _, seed = step.name.rpartition("-")
            together = base and seed.isdigit() and step.words[-2:] == ("--seed", seed)
            groups.setdefault(base if together else step.name, []).append(step)
    return groups


def summary(steps: Sequence[Step], found: Mapping[str, Any]) -> str:
    """What each step of reinforcement came to, mean and range over its seeds, as a table."""
    names = ("return", "cost", "episode_cost", "multiplier", "kl", "length")
    rows = []
    for label, group in _groups(steps).items():
        cells = []
        for name in names:
            values = [found[s.name]["final"][name] for s in group if name in found[s.name].get("final", {})]
            cells.append(_cell(values))
        rows.append([label, str(len(group)), *cells])
    if not rows:
        return f"{len(steps)} steps are done"
    return "the last ten iterations, mean over seeds (smallest to largest)\n" + table(["step", "seeds", *names], rows)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


def _picture(steps: Sequence[Step], where: Path) -> Path | None:
    groups = {label: [where / s.name for s in group] for label, group in _groups(steps).items()}
    if not groups:
        return None
    try:
        import matplotlib
    except ImportError:
        note("no picture: matplotlib is not installed")
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 5, figsize=(20, 4), constrained_layout=True)
    draw(list(axes), groups)
    path = where / "curves.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
