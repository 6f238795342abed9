"""Named tensors of a folder in safetensors or PyTorch `.bin` files, in one file or in shards, read one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlhf.checkpoints.pickle_reader import PytorchFile

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "pytorch_model.bin")
QUANTIZED = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files next to quantized weights whose `config.json` may not mention them (AutoGPTQ, AutoAWQ, ModelOpt)."""

NUMBERS = ("F64", "F32", "F16", "BF16", "float64", "float32", "float16", "bfloat16")
"""Types of weights, by the names of safetensors and of NumPy. Integers and eight-bit floats need scales."""


class TensorFile(Protocol):
    """A file of named tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        ...

    def type_of(self, name: str) -> str:
        """Name of the type of a tensor's numbers."""
        ...

    def read(self, name: str) -> np.ndarray:
        """Read a tensor."""
        ...


class SafetensorsFile:
    """Tensors of a `.safetensors` file, read one by one."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            ValueError: the file is damaged; the message names it.
        """
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            self._file = safe_open(str(path), framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
        self.names = set(self._file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, read without its numbers."""
        return tuple(self._file.get_slice(name).get_shape())

    def type_of(self, name: str) -> str:
        """Name of the type of a tensor's numbers."""
        return str(self._file.get_slice(name).get_dtype())

    def read(self, name: str) -> np.ndarray:
        """Read a tensor."""
        return self._file.get_tensor(name)


class Weights:
    """Named tensors of a model's folder, in one file or in shards.

    Attributes:
        folder: folder of the model.
        files: file of each tensor.
    """

    def __init__(self, folder: Path) -> None:
        """Find the files.

        Raises:
            FileNotFoundError: there are no weights, or a shard that the index names is missing.
            ValueError: a file is damaged or refers to objects other than tensors.
        """
        self.folder = folder
        self._open: dict[Path, Any] = {}
        self._seen: set[str] = set()
        for name in INDEXES:
            if (folder / name).is_file():
                self.files = _indexed(folder, name)
                return
        for name in SINGLE:
            if (folder / name).is_file():
                self.files = {tensor: folder / name for tensor in self._names(folder / name)}
                return
        raise FileNotFoundError(f"{folder} has no weights: expected one of {', '.join((*INDEXES, *SINGLE))}")

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            self._open[path] = SafetensorsFile(path) if path.suffix == ".safetensors" else PytorchFile(path)
        return self._open[path]

    def _names(self, path: Path) -> set[str]:
        file = self._file(path)
        return file.names if isinstance(file, SafetensorsFile) else set(file.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, read without its numbers; see `read` for the errors."""
        return self._holder(name).shape(name)

    def unread(self) -> list[str]:
        """Names of the tensors that were not read."""
        return sorted(self.files.keys() - self._seen)

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Read a tensor and check its shape, its type and its numbers.

        Raises:
            KeyError: there is no such tensor.
            ValueError: it has another shape, quantized or infinite numbers, or its file is damaged.
        """
        file, path = self._holder(name), self.files[name]
        self._seen.add(name)
        if (stored := file.shape(name)) != shape:
            raise ValueError(f"{path}: {name} must have shape {shape}, got {stored}")
        if (kind := file.type_of(name)) not in NUMBERS:
            raise ValueError(
                f"{path}: {name} must have a floating type of 16 bits or more, got {kind}. Quantized weights are not "
                "supported; use the original ones, or dequantize them first"
            )
        numbers = file.read(name)
        largest = np.finfo(np.float32).max
        if not np.all(np.isfinite(numbers)) or (numbers.dtype == np.float64 and np.any(np.abs(numbers) > largest)):
            raise ValueError(f"{path}: {name} must have finite numbers, got NaN or infinity in float32")
        return numbers

    def _holder(self, name: str) -> Any:
        """Return the open file of a tensor."""
        if name not in self.files:
            raise KeyError(f"{self.folder} has no tensor {name}")
        path = self.files[name]
        if name not in self._names(path):
            raise KeyError(f"{path} has no tensor {name}, but the index lists it")
        return self._file(path)

    def __contains__(self, name: str) -> bool:
        """True if there is a tensor of this name."""
        return name in self.files


def _indexed(folder: Path, name: str) -> dict[str, Path]:
    try:
        weight_map = json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(shard, str) for shard in dict(weight_map).values()):
            raise TypeError("a tensor has no file name")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / name} is not an index of shards: {error}") from error
    missing = sorted({shard for shard in weight_map.values() if not (folder / shard).is_file()})
    if missing:
        raise FileNotFoundError(f"{folder} lacks {len(missing)} of its shards: {', '.join(missing)}")
    return {tensor: folder / shard for tensor, shard in weight_map.items()}
