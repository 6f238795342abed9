"""One step of an experiment: a command with its typed settings, which may refer to the results of earlier steps."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli import app
from experiments.cli.errors import CommandError
from experiments.cli.request import as_json
from experiments.cli.shared_flags import Machine, Output, RunFlags

REFERENCE = "@"
"""First character of a setting that stands for the result of an earlier step."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of an experiment.

    Attributes:
        name: name of the step, and its folder below that of the experiment.
        command: words that name the command, for example `("rlhf", "sft")`.
        request: its settings; the value `@NAME` is the artifact of an earlier step.
        label: name without the seed, for steps that differ in their seed alone.
    """

    name: str
    command: tuple[str, ...]
    request: Any
    label: str = ""

    @classmethod
    def from_words(cls, name: str, command: tuple[str, ...], words: Sequence[str], label: str = "") -> Step:
        """Return the step of a command line.

        Raises:
            CommandError: the words are no command line of the command.
        """
        line = [*command, *words]
        try:
            return cls(name, command, app.parse(line).request, label or name)
        except CommandError as error:
            message = f"step {name!r} is not a command of jsafe {' '.join(command[:-1])}: {error}"
            raise CommandError(message) from error

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the steps that the settings refer to, in order."""
        texts = (str(value) for value in _leaves(self.request) if isinstance(value, str | Path))
        return tuple(dict.fromkeys(text.removeprefix(REFERENCE) for text in texts if text.startswith(REFERENCE)))

    @property
    def resumable(self) -> bool:
        """True if the command has a run that can be resumed; other commands start over."""
        return _run_field(self.request) is not None

    @property
    def artifact(self) -> str | None:
        """File or folder below the step's folder that a reference stands for; None where there is none."""
        if self.resumable:
            return "model"
        return getattr(importlib.import_module(app.find_command(self.command).module), "ARTIFACT", None)

    def settings(self) -> dict[str, Any]:
        """Return the settings that determine the result, as JSON: without machine, output and folders."""
        settings = as_json(self.request)
        for field in dataclasses.fields(self.request):
            value = getattr(self.request, field.name)
            if isinstance(value, Machine | Output) or field.name in _FOLDERS:
                settings.pop(field.name)
            elif isinstance(value, RunFlags):
                settings[field.name] = {k: v for k, v in settings[field.name].items() if k not in _FOLDERS}
        return settings

    def bind(self, artifacts: Mapping[str, Path], folder: Path, shared: Shared) -> Callable[[], Any]:
        """Return the command with references replaced and its folder filled in.

        Args:
            artifacts: path of each needed artifact, by step.
            folder: folder of the step; a run that is there is resumed.
            shared: settings of all steps.
        """
        request = _mapped(self.request, lambda text: _resolved(text, artifacts))
        resume = self.resumable and (folder / "run.json").is_file()
        out = folder / self.artifact if self.artifact else folder
        changes: dict[str, Any] = {"machine": shared.machine, "output": shared.output}
        name = _run_field(request)
        if name is None:
            return app.BoundCommand(self.command, dataclasses.replace(request, **changes, out=out), self.command)
        run_flags: RunFlags = getattr(request, name)
        quiet = run_flags.quiet or shared.quiet
        if resume:  # everything else comes from the run
            words = (*self.command, "--resume", str(folder))
            resumed = type(request)(**changes, **{name: RunFlags(resume=folder, quiet=quiet)})
            return app.BoundCommand(self.command, resumed, words)
        changes[name] = dataclasses.replace(run_flags, run_dir=folder, quiet=quiet)
        return app.BoundCommand(self.command, dataclasses.replace(request, **changes), self.command)


@dataclasses.dataclass(frozen=True)
class Shared:
    """Settings of all steps of an experiment.

    Attributes:
        machine: machine to compute on.
        output: form of the output.
        quiet: no progress lines.
    """

    machine: Machine = Machine()
    output: Output = Output()
    quiet: bool = False


_FOLDERS = ("run_dir", "resume", "quiet", "out")


def _run_field(request: Any) -> str | None:
    """Return the name of the field with the flags of a training run; None for a command without a run."""
    fields = dataclasses.fields(request)
    return next((field.name for field in fields if isinstance(getattr(request, field.name), RunFlags)), None)


def _resolved(text: str, artifacts: Mapping[str, Path]) -> str:
    return str(artifacts[text.removeprefix(REFERENCE)]) if text.startswith(REFERENCE) else text


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values of a request, those inside of groups and tuples among them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _leaves(entry)
    else:
        yield value


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a request with every text and path changed."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _mapped(getattr(value, field.name), change) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    if isinstance(value, tuple | list):
        return type(value)(_mapped(entry, change) for entry in value)
    if isinstance(value, Path):
        return Path(change(str(value)))
    return change(value) if isinstance(value, str) else value
