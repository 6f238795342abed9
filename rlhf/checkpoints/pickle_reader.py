"""Reader of tensors in a PyTorch `.bin` file that needs no torch and runs no code of the file.

Such a file is a zip archive of raw storages and a pickle that maps tensors to parts of storages. A pickle can call any
function by name, so names are limited to the few that a dictionary of tensors needs, and these are replaced by objects
that only record their arguments. A pickle can also set attributes of the objects it gets, so these have no attributes
that can be set.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


class UnsafeFileError(ValueError):
    """A file refers to objects other than tensors."""


class Storage(NamedTuple):
    """A sequence of numbers in the archive.

    Attributes:
        key: name of the archive's entry.
        dtype: type of the numbers.
        count: number of numbers.
    """

    key: str
    dtype: np.dtype
    count: int


class Tensor(NamedTuple):
    """A view of a storage.

    Attributes:
        storage: storage of the numbers.
        offset: index of the first number.
        shape: shape of the tensor.
        strides: strides in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


LARGEST = 2**58
"""Bound on counts, offsets and strides, so that bytes fit into 64 bits."""

MOST_AXES = 32


class _Unchangeable:
    """A callable for a pickle: it has no state, and its attributes cannot be set."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        raise UnsafeFileError(f"sets {name} of a function; no code of it was run")


class _Dictionary(_Unchangeable):
    __slots__ = ()

    def __call__(self, *entries: Any) -> collections.OrderedDict[Any, Any]:
        return collections.OrderedDict(*entries)


class _Tensor(_Unchangeable):
    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
        del rest  # gradient flag, hooks, metadata
        if not isinstance(storage, Storage):
            raise UnsafeFileError("a tensor without a storage")
        offset, shape, strides = int(offset), tuple(int(n) for n in shape), tuple(int(n) for n in strides)
        sizes = (offset, math.prod(max(n, 1) for n in shape), *shape, *strides)
        if not len(shape) == len(strides) <= MOST_AXES or min(sizes) < 0 or max(sizes) > LARGEST:
            raise UnsafeFileError(f"has a tensor of shape {shape} with strides {strides} and offset {offset}")
        return Tensor(storage, offset, shape, strides)


class _Parameter(_Unchangeable):
    __slots__ = ()

    def __call__(self, tensor: Any, *rest: Any) -> Any:
        del rest
        return tensor


ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _Dictionary(),
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
}


class _Reader(pickle.Unpickler):
    """An unpickler restricted to the names in `ALLOWED` and the storages."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of an allowed name.

        Raises:
            UnsafeFileError: a file of tensors does not need the name; the message includes it.
        """
        if module == "torch" and name in STORAGES:
            return name  # NumPy's types are shared and have mutable state
        if (module, name) in ALLOWED:
            return ALLOWED[(module, name)]
        raise UnsafeFileError(f"refers to {module}.{name}, which is not a tensor; no code of it was run")

    def persistent_load(self, pid: Any) -> Storage:
        """Record a storage."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], str)):
            raise UnsafeFileError(f"refers to {pid!r}, which is not a storage")
        if pid[1] not in STORAGES:
            raise UnsafeFileError(f"refers to a storage of {pid[1]!r}")
        return Storage(str(pid[2]), STORAGES[pid[1]], int(pid[4]))


class PytorchFile:
    """Tensors of a `.bin` file, read one by one.

    Attributes:
        path: the file.
        tensors: tensors by name.
    """

    def __init__(self, path: Path) -> None:
        """Read the list of tensors.

        Raises:
            UnsafeFileError: the file refers to objects other than tensors.
            ValueError: the file is not a zip archive of PyTorch, or is damaged; the message names it.
        """
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(
                f"{path} is not a PyTorch archive, or it is cut short ({error}); files written before PyTorch 1.6 "
                "must be converted to safetensors first"
            ) from error
        listed = [name for name in self._zip.namelist() if name.endswith("/data.pkl")]
        if len(listed) != 1:
            raise ValueError(f"{path} must contain one list of tensors (data.pkl), got {len(listed)}")
        self._root = listed[0].removesuffix("data.pkl")
        try:
            entries = _Reader(io.BytesIO(self._zip.read(listed[0]))).load()
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path} {error}") from error
        except Exception as error:  # a damaged pickle fails in many ways
            raise ValueError(f"{path} has a damaged list of tensors: {error}") from error
        if not isinstance(entries, dict):
            raise ValueError(f"{path} must contain a dictionary of tensors, got {type(entries).__name__}")
        items = list(dict.items(entries))  # the dictionary's own `items` may have been replaced
        self.tensors = {str(k): v for k, v in items if isinstance(v, Tensor)}
        others = [k for k, v in items if not isinstance(v, Tensor)]
        if others:
            raise ValueError(f"{path} must contain only tensors, got another object under {others[0]!r}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, read without its numbers."""
        return self.tensors[name].shape

    def type_of(self, name: str) -> str:
        """Name of the type of a tensor's numbers."""
        return self.tensors[name].storage.dtype.name

    def read(self, name: str) -> np.ndarray:
        """Read a tensor as an array.

        Raises:
            ValueError: its storage is missing, damaged or has fewer numbers than the tensor; the message names file and
                tensor.
        """
        storage, offset, shape, strides = self.tensors[name]
        count = math.prod(shape)
        if not count:
            return np.zeros(shape, storage.dtype)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        needed = max(last + 1, count)  # strides of 0 could repeat one number any number of times
        size = storage.dtype.itemsize

        def check(length: int) -> None:
            if needed > length // size:
                raise ValueError(f"{self.path}: {name} needs {needed} numbers, its storage has {length // size}")

        try:
            entry = self._zip.getinfo(f"{self._root}data/{storage.key}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{self.path}: the numbers of {name} are compressed, unlike those of PyTorch")
            check(entry.file_size)
            raw = self._zip.read(entry)
        except (KeyError, zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
            raise ValueError(f"{self.path}: the numbers of {name} are missing or damaged ({error})") from error
        check(len(raw))  # the archive may be shorter than its index states
        numbers = np.frombuffer(raw[: len(raw) - len(raw) % size], storage.dtype)
        steps = tuple(s * size if n > 1 else 0 for n, s in zip(shape, strides, strict=True))
        view = np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)
        return np.ascontiguousarray(view)
