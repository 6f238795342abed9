"""Weights in Hugging Face's layout, one tensor at a time: reads safetensors and PyTorch `.bin`, writes safetensors.

Our parameters stack the layers, have an axis of heads, and multiply from the left; published tensors do not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from rlhf.checkpoints.pickle_reader import PytorchFile
from rlhf.models.architecture import ModelConfig, eos_ids, from_hf, to_hf

T = TypeVar("T")

SHARD_BYTES = 5 * 1024**3
"""Largest file that `save` writes, in bytes."""

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "pytorch_model.bin")


class TensorFile(Protocol):
    """A file of named tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
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

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Read a tensor and check its shape.

        Raises:
            KeyError: there is no such tensor.
            ValueError: it has another shape, or its file is damaged.
        """
        if name not in self.files:
            raise KeyError(f"{self.folder} has no tensor {name}")
        path = self.files[name]
        if name not in self._names(path):
            raise KeyError(f"{path} has no tensor {name}, but the index lists it")
        file = self._file(path)
        if (stored := file.shape(name)) != shape:
            raise ValueError(f"{path}: {name} must have shape {shape}, got {stored}")
        return file.read(name)

    def __contains__(self, name: str) -> bool:
        """True if there is a tensor of this name."""
        return name in self.files


def _indexed(folder: Path, name: str) -> dict[str, Path]:
    try:
        weight_map = json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / name} is not an index of shards: {error}") from error
    missing = sorted({shard for shard in weight_map.values() if not (folder / shard).is_file()})
    if missing:
        raise FileNotFoundError(f"{folder} lacks {len(missing)} of its shards: {', '.join(missing)}")
    return {tensor: folder / shard for tensor, shard in weight_map.items()}


class PublishedTensor(NamedTuple):
    """A published tensor and the leaves of a layer that it contains.

    Attributes:
        name: name after `model.layers.i.`.
        shape: shape of the tensor, `[out, in]` for matrices.
        leaves: path of a leaf to its rows in the tensor.
        to_leaf: rows to leaf.
        to_rows: leaf to rows.
    """

    name: str
    shape: tuple[int, ...]
    leaves: Mapping[tuple[str, ...], slice]
    to_leaf: Callable[[np.ndarray], np.ndarray]
    to_rows: Callable[[np.ndarray], np.ndarray]


def _published_tensors(config: ModelConfig) -> list[PublishedTensor]:
    hidden, inner, width = config.hidden_size, config.intermediate_size, config.head_dim
    whole = slice(None)

    def heads_in(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, width, hidden).transpose(2, 0, 1)

    def heads_out(x: np.ndarray) -> np.ndarray:
        return x.transpose(1, 2, 0).reshape(-1, hidden)

    def turn(x: np.ndarray) -> np.ndarray:
        return x.T

    def same(x: np.ndarray) -> np.ndarray:
        return x

    def norm(name: str, leaf: str) -> PublishedTensor:
        return PublishedTensor(name, (hidden,), {(leaf, "scale"): whole}, same, same)

    def matrix(name: str, leaf: str, shape: tuple[int, int]) -> PublishedTensor:
        return PublishedTensor(f"mlp.{name}.weight", shape, {("mlp", leaf): whole}, turn, turn)

    queries, keys = config.num_heads * width, config.num_kv_heads * width
    if config.family == "baichuan":
        rows = {"q": slice(0, queries), "k": slice(queries, queries + keys), "v": slice(queries + keys, None)}
        leaves = {("attention", name): part for name, part in rows.items()}
        projections = [
            PublishedTensor("self_attn.W_pack.weight", (queries + 2 * keys, hidden), leaves, heads_in, heads_out)
        ]
    else:
        projections = [
            PublishedTensor(
                f"self_attn.{name}_proj.weight",
                (queries if name == "q" else keys, hidden),
                {("attention", name): whole},
                heads_in,
                heads_out,
            )
            for name in ("q", "k", "v")
        ]
    out = PublishedTensor(
        "self_attn.o_proj.weight",
        (hidden, queries),
        {("attention", "o"): whole},
        lambda x: x.T.reshape(config.num_heads, width, hidden),
        lambda x: x.reshape(-1, hidden).T,
    )
    return [
        norm("input_layernorm.weight", "ln_1"),
        *projections,
        out,
        norm("post_attention_layernorm.weight", "ln_2"),
        matrix("gate_proj", "gate", (inner, hidden)),
        matrix("up_proj", "up", (inner, hidden)),
        matrix("down_proj", "down", (hidden, inner)),
    ]


def load_decoder(config: ModelConfig, weights: Weights, dtype: Any = np.float32) -> dict[str, Any]:
    """Parameters of a `Decoder`, as NumPy arrays.

    Raises:
        KeyError: a tensor is missing.
        ValueError: a tensor does not have the configured shape, or a file is damaged.
    """
    hidden, layers = config.hidden_size, config.num_layers
    stacked: dict[str, Any] = {}
    for tensor_spec in _published_tensors(config):
        for layer in range(layers):
            tensor = weights.read(f"model.layers.{layer}.{tensor_spec.name}", tensor_spec.shape)
            for path, rows in tensor_spec.leaves.items():
                leaf = tensor_spec.to_leaf(tensor[rows])
                target = _at(stacked, path, lambda leaf=leaf: np.empty((layers, *leaf.shape), dtype))
                target[layer] = leaf
    return {
        "embedding": weights.read("model.embed_tokens.weight", (config.vocab_size, hidden)).astype(dtype),
        "layers": stacked,
        "ln_f": {"scale": weights.read("model.norm.weight", (hidden,)).astype(dtype)},
    }


def load_language_model(folder: Path, dtype: Any = np.float32) -> tuple[ModelConfig, dict[str, Any]]:
    """Read a model's folder as configuration and variables for `LanguageModel.apply`.

    Raises:
        FileNotFoundError: `config.json` or weights are missing.
        KeyError: a tensor is missing.
        ValueError: the model has another type, or a file is damaged.
    """
    config, weights = load_config(folder), Weights(folder)
    params: dict[str, Any] = {"decoder": load_decoder(config, weights, dtype)}
    if not config.tied:
        params["head"] = weights.read("lm_head.weight", (config.vocab_size, config.hidden_size)).astype(dtype)
    return config, {"params": params}


def load_config(folder: Path) -> ModelConfig:
    """Read `config.json`, and further end-of-text ids from `generation_config.json` if it exists.

    Raises:
        FileNotFoundError: there is no `config.json`.
        ValueError: a file is not JSON, or its model is not supported; the message names the file.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: expected the folder of a model in Hugging Face's layout")
    config = _parsed(folder / "config.json", from_hf)
    if not (folder / "generation_config.json").is_file():
        return config
    ends = dict.fromkeys((*config.ends, *_parsed(folder / "generation_config.json", eos_ids)))
    return dataclasses.replace(config, other_eos_ids=tuple(ends)[1:])


def _parsed(path: Path, read: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def decoder_tensors(config: ModelConfig, params: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Published names and tensors of a decoder's parameters."""
    yield "model.embed_tokens.weight", np.asarray(params["embedding"])
    for layer in range(config.num_layers):
        for tensor_spec in _published_tensors(config):
            rows = [
                tensor_spec.to_rows(np.asarray(_leaf(params["layers"], path)[layer])) for path in tensor_spec.leaves
            ]
            yield f"model.layers.{layer}.{tensor_spec.name}", np.concatenate(rows)
    yield "model.norm.weight", np.asarray(params["ln_f"]["scale"])


def language_model_tensors(config: ModelConfig, variables: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Published names and tensors of a language model."""
    params = variables["params"]
    yield from decoder_tensors(config, params["decoder"])
    if not config.tied:
        yield "lm_head.weight", np.asarray(params["head"])


def save(
    folder: Path,
    config: ModelConfig,
    tensors: Iterator[tuple[str, np.ndarray]],
    *,
    extra: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a model's folder: `config.json`, safetensors shards, and their index if there are several.

    Files are written under temporary names first, so that a folder never contains half a shard.

    Args:
        folder: made if it does not exist.
        config: configuration of the model.
        tensors: tensors by published name.
        extra: further entries of `config.json`.
        shard_bytes: largest file, in bytes.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, np.ndarray]] = [{}]
    names: dict[str, int] = {}
    size = total = 0

    def write(number: int) -> None:
        save_file(shards[number], str(folder / f"part-{number}.tmp"), metadata={"format": "pt"})
        shards[number] = {}

    for name, tensor in tensors:
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            write(len(shards) - 1)
            shards.append({})
            size = 0
        shards[-1][name] = np.ascontiguousarray(tensor)
        names[name] = len(shards) - 1
        size, total = size + tensor.nbytes, total + tensor.nbytes
    write(len(shards) - 1)
    count = len(shards)
    files = [SINGLE[0]] if count == 1 else [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    for number, file in enumerate(files):
        (folder / f"part-{number}.tmp").replace(folder / file)
    if count > 1:
        index = {"metadata": {"total_size": total}, "weight_map": {name: files[i] for name, i in names.items()}}
        (folder / INDEXES[0]).write_text(json.dumps(index, indent=1), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(to_hf(config) | dict(extra or {}), indent=1), encoding="utf-8")


def _at(tree: dict[str, Any], path: tuple[str, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    return tree.setdefault(path[-1], make()) if path[-1] not in tree else tree[path[-1]]


def _leaf(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree
