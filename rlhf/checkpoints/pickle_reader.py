"""Reading tensors from a PyTorch `.bin` file without torch, and without running anything the file says.

Such a file is a zip archive of raw storages and a pickle that says which tensor is which part of which storage. A
pickle may name any function to be called, so the names are limited to the few that a dictionary of tensors needs, and
those stand for objects of ours that only take notes. A pickle may also set attributes of whatever it was handed, so
these have none that can be set.
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
    """A file asks for something other than tensors."""


class Storage(NamedTuple):
    """A run of numbers in the archive.

    Attributes:
        key: name of the archive's entry.
        dtype: of the numbers.
        count: how many there are.
    """

    key: str
    dtype: np.dtype
    count: int


class Tensor(NamedTuple):
    """A view of a storage.

    Attributes:
        storage: where the numbers are.
        offset: first one, counted in numbers.
        shape: of the tensor.
        strides: counted in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


LARGEST = 2**58
"""Bound on numbers, offsets and strides, whose bytes still fit into 64 bits."""

MOST_AXES = 32


class _Unchangeable:
    """A callable that a pickle may be handed: it has no state, and its attributes cannot be set."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        raise UnsafeFileError(f"sets {name} of a function; nothing of it was run")


class _Dictionary(_Unchangeable):
    __slots__ = ()

    def __call__(self, *entries: Any) -> collections.OrderedDict[Any, Any]:
        return collections.OrderedDict(*entries)


class _Tensor(_Unchangeable):
    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
        del rest  # whether it wants gradients, hooks, metadata
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
    """An unpickler that knows no other names than `ALLOWED` and the storages."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every name that a file of tensors does not need.

        Raises:
            UnsafeFileError: the message names what the file asks for.
        """
        if module == "torch" and name in STORAGES:
            return name  # NumPy's types are shared by all, and have a state that can be set
        if (module, name) in ALLOWED:
            return ALLOWED[(module, name)]
        raise UnsafeFileError(f"asks for {module}.{name}, which is not a tensor; nothing of it was run")

    def persistent_load(self, pid: Any) -> Storage:
        """Take note of a storage."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], str)):
            raise UnsafeFileError(f"refers to {pid!r}, which is not a storage")
        if pid[1] not in STORAGES:
            raise UnsafeFileError(f"refers to a storage of {pid[1]!r}")
        return Storage(str(pid[2]), STORAGES[pid[1]], int(pid[4]))


class PytorchFile:
    """The tensors of a `.bin` file, read one by one.

    Attributes:
        path: the file.
        tensors: by name.
    """

    def __init__(self, path: Path) -> None:
        """Read the list of tensors.

        Raises:
            UnsafeFileError: the file asks for something other than tensors.
            ValueError: the file is not a zip archive of PyTorch's, or is damaged; the message names it.
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
            raise ValueError(f"{path} holds {len(listed)} lists of tensors (data.pkl), expected one")
        self._root = listed[0].removesuffix("data.pkl")
        try:
            found = _Reader(io.BytesIO(self._zip.read(listed[0]))).load()
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path} {error}") from error
        except Exception as error:  # a damaged pickle fails in many ways
            raise ValueError(f"{path} has a damaged list of tensors: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{path} holds a {type(found).__name__}, expected a dictionary of tensors")
        entries = list(dict.items(found))  # the dictionary's own `items` may have been set to anything
        self.tensors = {str(k): v for k, v in entries if isinstance(v, Tensor)}
        strange = [k for k, v in entries if not isinstance(v, Tensor)]
        if strange:
            raise ValueError(f"{path} holds more than tensors, for example under {strange[0]!r}")

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, of which nothing else is read."""
        return self.tensors[name].shape

    def read(self, name: str) -> np.ndarray:
        """A tensor as an array.

        Raises:
            ValueError: its storage is missing, damaged or has fewer numbers than the tensor; the message names file and
                tensor.
        """
        storage, offset, shape, strides = self.tensors[name]
        count = math.prod(shape)
        if not count:
            return np.zeros(shape, storage.dtype)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        needed = max(last + 1, count)  # strides of 0 would make any number of numbers out of one
        size = storage.dtype.itemsize

        def check(length: int) -> None:
            if needed > length // size:
                raise ValueError(f"{self.path}: {name} needs {needed} numbers, its storage has {length // size}")

        try:
            entry = self._zip.getinfo(f"{self._root}data/{storage.key}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{self.path}: the numbers of {name} are compressed, which PyTorch never does")
            check(entry.file_size)
            raw = self._zip.read(entry)
        except (KeyError, zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
            raise ValueError(f"{self.path}: the numbers of {name} are missing or damaged ({error})") from error
        check(len(raw))  # an archive may promise more than it holds
        numbers = np.frombuffer(raw[: len(raw) - len(raw) % size], storage.dtype)
        steps = tuple(s * size if n > 1 else 0 for n, s in zip(shape, strides, strict=True))
        view = np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)
        return np.ascontiguousarray(view)
