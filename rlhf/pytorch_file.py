"""Reading tensors from a PyTorch `.bin` file without torch, and without running anything the file says.

Such a file is a zip archive of raw storages and a pickle that says which tensor is which part of which storage. A
pickle may name any function to be called, so the names are limited to the few that a dictionary of tensors needs, and
those stand for functions of ours that only take notes.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable
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


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    del rest  # whether it wants gradients, hooks, metadata
    if not isinstance(storage, Storage):
        raise UnsafeFileError("a tensor without a storage")
    shape, strides = tuple(int(n) for n in shape), tuple(int(n) for n in strides)
    if len(shape) != len(strides) or int(offset) < 0 or any(n < 0 for n in (*shape, *strides)):
        raise UnsafeFileError(f"a tensor of shape {shape} with strides {strides} and offset {offset}")
    return Tensor(storage, int(offset), shape, strides)


def _rebuild_parameter(tensor: Any, *rest: Any) -> Any:
    del rest
    return tensor


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows no other names than `ALLOWED` and the storages."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every name that a file of tensors does not need.

        Raises:
            UnsafeFileError: the message names what the file asks for.
        """
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) in ALLOWED:
            return ALLOWED[(module, name)]
        raise UnsafeFileError(f"asks for {module}.{name}, which is not a tensor; nothing of it was run")

    def persistent_load(self, pid: Any) -> Storage:
        """Take note of a storage."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], np.dtype)):
            raise UnsafeFileError(f"refers to {pid!r}, which is not a storage")
        return Storage(str(pid[2]), pid[1], int(pid[4]))


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
        self.tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
        strange = [k for k, v in found.items() if not isinstance(v, Tensor)]
        if strange:
            raise ValueError(f"{path} holds more than tensors, for example under {strange[0]!r}")

    def read(self, name: str) -> np.ndarray:
        """A tensor as an array.

        Raises:
            ValueError: its storage is missing, damaged or too short; the message names file and tensor.
        """
        tensor = self.tensors[name]
        try:
            raw = self._zip.read(f"{self._root}data/{tensor.storage.key}")
        except (KeyError, zipfile.BadZipFile, OSError, EOFError) as error:
            raise ValueError(f"{self.path}: the numbers of {name} are missing or damaged ({error})") from error
        numbers = np.frombuffer(raw[: len(raw) - len(raw) % tensor.storage.dtype.itemsize], tensor.storage.dtype)
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
        if math.prod(tensor.shape) and last >= len(numbers):
            raise ValueError(f"{self.path}: {name} needs {last + 1} numbers, its storage has {len(numbers)}")
        if not math.prod(tensor.shape):
            return np.zeros(tensor.shape, tensor.storage.dtype)
        strides = tuple(s * numbers.itemsize for s in tensor.strides)
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
        return np.ascontiguousarray(view)
