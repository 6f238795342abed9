"""`run.json`: configuration and status of a run, and the settings to resume it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jsafe.policy_spec import PolicySpec
from jsafe.runs.checkpoint import is_disk_full, write_atomically
from jsafe.trainer import TrainerInfo

RUN_FILE = "run.json"
Status = Literal["running", "interrupted", "stopped", "finished", "failed"]


class RunError(RuntimeError):
    """A run folder cannot be used; the message names it and what to do."""


def exists(run_dir: Path | str) -> bool:
    """True if a folder holds a run."""
    return (Path(run_dir) / RUN_FILE).is_file()


def read_run(run_dir: Path | str) -> dict[str, Any]:
    """The record of a run.

    Returns:
        `trainer` (the fields of `TrainerInfo`), `seeds`, `seed`, `iterations`, `total_steps` per seed, `hyper`,
        `status`, `hardware`, `versions`, `compile_seconds`, `run_seconds`, `sessions`, and what was given as `extra`.

    Raises:
        RunError: there is no run, or its record cannot be read.
    """
    path = Path(run_dir) / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"no run at {run_dir}: it holds no {RUN_FILE}") from None
    except NotADirectoryError:
        raise RunError(f"no run at {run_dir}: it is not a folder") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(record, dict) or "trainer" not in record:
        raise RunError(f"{path} is not the record of a run")
    return record


def make_folder(run_dir: Path | str) -> None:
    """Create the folder of a run.

    Raises:
        RunError: it cannot be created, or cannot be written.
    """
    folder = Path(run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"cannot write to the run folder {folder}: {error.strerror or error}. Make it writable, or choose another"
        ) from error


@contextlib.contextmanager
def lock(run_dir: Path | str) -> Iterator[None]:
    """Hold a run for this process; the system lets go of it however the process ends.

    Raises:
        RunError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with (Path(run_dir) / ".lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{run_dir} is being trained by another process: wait for it, or stop it first") from None
        except OSError:
            pass  # some network file systems know no locks
        yield


def write_run(run_dir: Path | str, record: Mapping[str, Any]) -> None:
    """Replace the record of a run at once.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    path = Path(run_dir) / RUN_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(to_json(record), indent=1) + "\n")
    except OSError as error:
        if is_disk_full(error):
            raise RunError(f"cannot write {path}: the disk is full. Free some space, then try again") from error
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. Make the folder writable, or choose another"
        ) from error


def describe_trainer(info: TrainerInfo) -> dict[str, Any]:
    """A trainer's description as JSON holds it: tuples become lists, NumPy numbers become plain ones."""
    fields = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
    policy = info.policy.to_json() if info.policy is not None else None
    return json.loads(json.dumps(to_json({**fields, "policy": policy})))


def policy_spec(record: Mapping[str, Any]) -> PolicySpec | None:
    """Return how to rebuild the policy of a recorded run, or None for a trainer without one.

    Raises:
        RunError: the record was written by another version.
    """
    stored = record["trainer"].get("policy")
    if stored is None:
        return None
    try:
        return PolicySpec.from_json(stored)
    except ValueError as error:
        raise RunError(f"{error}. Train the run again, or load it with the version that wrote it") from error


def config_differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between two descriptions of a trainer, as phrases."""
    differences = []
    for name in ("algorithm", "problem", "units_per_step"):
        if recorded.get(name) != now.get(name):
            differences.append(f"{name}: {recorded.get(name)!r} in the run, {now.get(name)!r} now")
    old, new = recorded.get("config", {}), now.get("config", {})
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            differences.append(f"{name}: {old.get(name)!r} in the run, {new.get(name)!r} now")
    return differences


def timestamp() -> str:
    """The time now, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def to_json(value: Any) -> Any:
    """Plain lists, dicts and numbers for anything made of dataclasses, tuples and arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    return str(value)
