"""Results of steps in their folders: a step is done when its result belongs to the settings and inputs of today."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsafe
from experiments.cli.errors import CommandError
from experiments.cli.format import to_json
from experiments.pipeline.step import Step

RESULT = "result.json"
STARTED = "step.json"


def _hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def describe(step: Step, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return the identity of a step: its command and settings, the hashes of its inputs, the library version."""
    identity = {"command": list(step.command), "settings": step.settings(), "inputs": dict(inputs)}
    identity["version"] = jsafe.__version__
    return {**identity, "key": _hash(identity)}


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the record of a finished step; None where there is none."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def result_hash(folder: Path) -> str | None:
    """Return the hash of a finished result, which changes whenever the step runs again."""
    record = read_result(folder)
    return _hash([record["key"], record["finished"]]) if record else None


def write_result(step: Step, folder: Path, inputs: Mapping[str, str], data: Any) -> Any:
    """Record a finished step.

    Returns:
        Its data as JSON types.
    """
    record = {**describe(step, inputs), "finished": time.time_ns(), "data": data}
    draft = folder / f"{RESULT}.draft"
    draft.write_text(to_json(record), encoding="utf-8")
    os.replace(draft, folder / RESULT)
    return json.loads((folder / RESULT).read_text(encoding="utf-8"))["data"]


def check_fresh(step: Step, folder: Path, inputs: Mapping[str, str], record: Mapping[str, Any]) -> None:
    """Refuse a result that does not belong to the step.

    Raises:
        CommandError: the record has other settings, other inputs, or another version of the library.
    """
    today = describe(step, inputs)
    if record.get("key") == today["key"]:
        return
    remedy = f"remove {folder} to run the step again, or choose another --run-dir"
    if record.get("command") != today["command"] or record.get("settings") != today["settings"]:
        raise CommandError(f"{folder} was made with other options; {remedy}")
    if record.get("inputs") != today["inputs"]:
        raise CommandError(f"{folder} was made from other models than those next to it; {remedy}")
    raise CommandError(f"{folder} was made with jsafe {record.get('version')}; {remedy}")


def open_folder(step: Step, folder: Path, inputs: Mapping[str, str]) -> None:
    """Prepare the folder of a step that is to run: empty, or with the run of the same step to resume.

    Raises:
        CommandError: the folder holds the run of a step with other settings or inputs.
    """
    if step.resumable and (folder / "run.json").is_file():
        started = folder / STARTED
        check_fresh(step, folder, inputs, json.loads(started.read_text(encoding="utf-8")) if started.is_file() else {})
        return
    if not step.resumable:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STARTED).write_text(to_json(describe(step, inputs)), encoding="utf-8")
