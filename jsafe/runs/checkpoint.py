"""Checkpoints of a whole training state that survive crashes, full disks and damaged files.

Layout of `DIR/checkpoints/<iteration>`: `arrays/` (written by orbax) and `manifest.json`, with the name, shape and
type of every array and the SHA-256 of every file. A checkpoint is written next to the others under a temporary name,
flushed to the disk, and renamed, so it is there whole or not at all. On the way back every file is checked: a damaged
checkpoint is named and the previous good one is used.

Arrays are stored by name (`params.policy.mean.layer_0.kernel`), so a part can be read without the code that made the
rest. Typed PRNG keys are stored as their key data.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FORMAT = 1
MANIFEST = "manifest.json"
ARRAYS = "arrays"
_TEMPORARY = ".unfinished-"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message names the path and what to do."""


class Restored(NamedTuple):
    """Result of `Checkpoints.restore`.

    Attributes:
        state: the tree, with NumPy leaves and typed PRNG keys.
        iteration: finished iterations at that point.
        extra: data passed to `save` in addition to the state.
        damaged: iterations whose checkpoints were damaged and passed over, newest first.
    """

    state: Any
    iteration: int
    extra: dict[str, Any]
    damaged: tuple[int, ...]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run_dir: folder of the run; checkpoints live in `run_dir/checkpoints`.
        keep: number of newest checkpoints to keep, at least 1.
    """

    def __init__(self, run_dir: Path | str, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1 checkpoint, got {keep}")
        self.folder = Path(run_dir) / "checkpoints"
        self.keep = keep

    def iterations(self) -> list[int]:
        """Iterations with a finished checkpoint, oldest first; it may still turn out to be damaged."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit() and p.is_dir())

    def path(self, iteration: int) -> Path:
        return self.folder / str(iteration)

    def save(self, iteration: int, state: Any, extra: dict[str, Any] | None = None) -> Path:
        """Write a checkpoint, then remove those that are too old.

        Args:
            iteration: finished iterations; an existing checkpoint of that number is replaced.
            state: a pytree of arrays; it is copied to the host first.
            extra: anything JSON can hold, given back by `restore`.

        Returns:
            The folder of the checkpoint.

        Raises:
            CheckpointError: the folder cannot be written or the disk is full; earlier checkpoints stay as they are.
        """
        target = self.path(iteration)
        temporary = self.folder / f"{_TEMPORARY}{iteration}-{uuid.uuid4().hex[:8]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            _write(temporary, iteration, state, extra or {})
            if target.exists():
                replaced = self.folder / f"{_TEMPORARY}old-{uuid.uuid4().hex[:8]}"
                target.rename(replaced)
                temporary.rename(target)
                shutil.rmtree(replaced, ignore_errors=True)
            else:
                temporary.rename(target)
            _flush(self.folder)
        except Exception as error:  # orbax reports a full disk in more than one way
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(self._explain(target, error)) from error
        self._prune(iteration)
        return target

    def restore(self, template: Any, iteration: int | None = None, parts: tuple[str, ...] = ("",)) -> Restored:
        """Read the newest good checkpoint.

        Args:
            template: a tree with the structure, shapes and types expected (arrays or `jax.ShapeDtypeStruct`).
            iteration: a particular one instead; then a damaged one is an error.
            parts: names of the parts to read, for example `("params.policy",)`; the template then holds only these.

        Raises:
            CheckpointError: there is none, none is good, or it belongs to another kind of state.
        """

        def read(folder: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
            return _fill(folder, template, parts, manifest, arrays)

        return self._newest_good(read, iteration)

    def restore_arrays(self, iteration: int | None = None, parts: tuple[str, ...] = ("",)) -> Restored:
        """Read the newest good checkpoint without a template: `state` is a dict from name to NumPy array.

        Typed PRNG keys come as their key data. Arguments and errors as in `restore`.
        """
        return self._newest_good(
            lambda folder, manifest, arrays: {k: v for k, v in arrays.items() if _inside(k, parts)}, iteration
        )

    def _newest_good(self, read: Any, iteration: int | None) -> Restored:
        candidates = self.iterations()
        if iteration is not None:
            if iteration not in candidates:
                raise CheckpointError(
                    f"no checkpoint of iteration {iteration} in {self.folder}; there are {candidates or 'none'}"
                )
            candidates = [iteration]
        if not candidates:
            raise CheckpointError(f"no checkpoint in {self.folder}: the run was stopped before it wrote one")
        damaged: list[tuple[int, str]] = []
        for number in reversed(candidates):
            folder = self.path(number)
            try:
                manifest = verify(folder)
                arrays = _read_arrays(folder, manifest)
            except _Damaged as error:
                damaged.append((number, str(error)))
                continue
            if damaged:
                lines = "; ".join(f"{self.path(n)}: {why}" for n, why in damaged)
                warnings.warn(f"damaged checkpoint passed over ({lines}); using {folder}", stacklevel=3)
            passed = tuple(n for n, _ in damaged)
            return Restored(read(folder, manifest, arrays), int(manifest["iteration"]), manifest["extra"], passed)
        lines = "\n".join(f"  {self.path(n)}: {why}" for n, why in damaged)
        raise CheckpointError(
            f"no good checkpoint in {self.folder}; copy one back from a backup, or start a new run:\n{lines}"
        )

    def _prune(self, newest: int) -> None:
        """Remove what is older than the newest `keep`, and what a run that went back left behind in the future."""
        candidates = self.iterations()
        past = [n for n in candidates if n <= newest]
        for number in [n for n in candidates if n > newest] + past[: -self.keep]:
            shutil.rmtree(self.path(number), ignore_errors=True)

    def _remove_leftovers(self) -> None:
        for leftover in self.folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _explain(self, target: Path, error: Exception) -> str:
        kept = self.iterations()
        stays = f"the checkpoints of iterations {kept} stay" if kept else "no checkpoint was written before"
        if is_disk_full(error):
            return f"cannot write checkpoint {target}: the disk is full; {stays}. Free some space, then resume the run"
        if isinstance(error, OSError):
            return (
                f"cannot write checkpoint {target}: {error.strerror or error}; {stays}. "
                "Make the folder writable, or choose another run folder"
            )
        return f"cannot write checkpoint {target}: {type(error).__name__}: {error}; {stays}"


def is_disk_full(error: BaseException | None) -> bool:
    """True if an error, or its cause, reports that no space or quota is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


class _Damaged(Exception):
    """A checkpoint differs from its manifest."""


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of a checkpoint against its manifest, and return the manifest.

    Raises:
        _Damaged: naming the first file that is missing, cut off or changed.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        expected = dict(manifest["files"])
        body = {k: v for k, v in manifest.items() if k != "digest"}
        intact = manifest["digest"] == _digest_of(body)
    except FileNotFoundError:
        raise _Damaged(f"{MANIFEST} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Damaged(f"{MANIFEST} cannot be read ({type(error).__name__})") from error
    if not intact:
        raise _Damaged(f"{MANIFEST} has changed since it was written")
    for name, digest in expected.items():
        file = folder / name
        if not file.is_file():
            raise _Damaged(f"{name} is missing")
        try:
            if _sha256(file) != digest:
                raise _Damaged(f"{name} has changed since it was written ({file.stat().st_size} bytes)")
        except OSError as error:
            raise _Damaged(f"{name} cannot be read: {error.strerror}") from error
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has checkpoint format {manifest.get('format')}, this version reads {FORMAT}")
    return manifest


def named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Leaves of a tree with their names, for example `params.policy.log_std`."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield jax.tree_util.keystr(path, simple=True, separator="."), leaf


def _is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _checkpointer() -> Any:
    """Orbax's reader and writer; of several processes each works alone, where it would wait for the others."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _write(folder: Path, iteration: int, state: Any, extra: dict[str, Any]) -> None:
    import orbax.checkpoint as ocp  # slow to import, and only needed here

    leaves, stored = {}, {}
    named = list(named_leaves(state))
    data = jax.device_get([jax.random.key_data(x) if _is_key(x) else x for _, x in named])
    for (name, leaf), value in zip(named, data, strict=True):
        if name in leaves:
            raise ValueError(f"two arrays of the state are called {name!r}")
        array = np.asarray(value)
        leaves[name] = {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "key": str(jax.random.key_impl(leaf)) if _is_key(leaf) else None,
        }
        if array.size:  # orbax does not store arrays without elements
            stored[name] = array.reshape(array.shape or (1,))
    folder.mkdir(parents=True)
    with _checkpointer() as checkpointer:
        with _unlogged("absl"):  # orbax prints what it raises; the caller reports it in one line
            checkpointer.save((folder / ARRAYS).absolute(), args=ocp.args.PyTreeSave(stored))
    files = {str(p.relative_to(folder)): _sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    manifest = {"format": FORMAT, "iteration": iteration, "extra": extra, "leaves": leaves, "files": files}
    manifest["digest"] = _digest_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in [*folder.rglob("*"), folder]:
        _flush(path)


@contextlib.contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """Without the errors of a logger; its level is as before outside the block."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read_arrays(folder: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    try:
        with _checkpointer() as checkpointer:
            stored = checkpointer.restore((folder / ARRAYS).absolute())
    except Exception as error:  # tensorstore raises many kinds of errors for unreadable data
        raise _Damaged(f"orbax cannot read it: {error}") from error
    return {
        name: np.asarray(stored.get(name, ()), _dtype(leaf["dtype"])).reshape(leaf["shape"])
        for name, leaf in manifest["leaves"].items()
    }


def _fill(
    folder: Path, template: Any, parts: tuple[str, ...], manifest: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Any:
    """Put stored arrays into the structure of a template, refusing any difference by name."""
    names = [name for name, _ in named_leaves(template)]
    missing = [n for n in names if n not in arrays]
    unexpected = [n for n in arrays if _inside(n, parts) and n not in set(names)]
    if missing or unexpected:
        lacks = f"it lacks {missing[:4]}; " if missing else ""
        more = f"it also has {unexpected[:4]}" if unexpected else ""
        raise CheckpointError(
            f"{folder} belongs to another algorithm, environment or configuration: {(lacks + more).rstrip('; ')}"
        )
    filled = []
    for name, leaf in named_leaves(template):
        impl = manifest["leaves"][name]["key"]
        if impl is not None:
            value = jax.random.wrap_key_data(jnp.asarray(arrays[name]), impl=impl)
        else:
            value = arrays[name]
        if value.shape != leaf.shape or value.dtype != leaf.dtype:
            raise CheckpointError(
                f"{folder}: {name} is {value.dtype}{list(value.shape)}, expected {leaf.dtype}{list(leaf.shape)}: "
                "the run was made with other sizes or another number of seeds"
            )
        filled.append(value)
    return jax.tree.unflatten(jax.tree.structure(template), filled)


def _inside(name: str, parts: tuple[str, ...]) -> bool:
    return any(not part or name == part or name.startswith(part + ".") for part in parts)


def _dtype(name: str) -> np.dtype:
    return jnp.dtype(name)  # knows bfloat16 and its like, which NumPy alone does not


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _flush(path: Path) -> None:
    """Flush a file or folder to disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file so that a reader, or a crash, sees the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
