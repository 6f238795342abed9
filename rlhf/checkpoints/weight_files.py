"""Weights in Hugging Face's layout, one tensor at a time: published tensors to parameters and back.

Our parameters stack the layers, have an axis of heads, and multiply from the left; published tensors do not.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from rlhf.checkpoints.tensor_files import INDEXES, QUANTIZED, SINGLE, Weights
from rlhf.models.architecture import ModelConfig, eos_ids, from_hf, to_hf

T = TypeVar("T")

SHARD_BYTES = 5 * 1024**3
"""Largest file that `save` writes, in bytes."""

GENERATION = "generation_config.json"


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
    config, params["head"] = load_head(config, weights, params["decoder"]["embedding"])
    if params["head"] is None:
        del params["head"]
    return config, {"params": params}


def load_head(config: ModelConfig, weights: Weights, embedding: np.ndarray) -> tuple[ModelConfig, np.ndarray | None]:
    """Read the output layer `[V, H]`, None if it is the embedding, and the configuration that fits it.

    A configuration that ties the output layer to the embedding does not fit a file with another output layer. The file
    is right then, as in transformers, and a warning names both.
    """
    name = "lm_head.weight"
    if config.tied and name not in weights:
        return config, None
    head = weights.read(name, (config.vocab_size, config.hidden_size)).astype(embedding.dtype)
    if not config.tied:
        return config, head
    if np.array_equal(head, embedding):
        return config, None
    warnings.warn(
        f"{weights.folder}: tie_word_embeddings is true, but {name} differs from the embedding; {name} is used",
        stacklevel=3,
    )
    return dataclasses.replace(config, tied=False), head


IGNORED = ("rotary_emb.inv_freq", "normalizer.mean", "normalizer.var", "normalizer.count")
"""Ends of the names of tensors that follow from the configuration or repeat it."""


def report_unread(config: ModelConfig, weights: Weights, *, score: bool = False) -> None:
    """Report the tensors of a folder that the model does not have: an error inside its layers, a warning elsewhere.

    Raises:
        ValueError: a layer has a further tensor, for example a bias, without which it computes something else.
    """
    names = [name for name in weights.unread() if not name.endswith(IGNORED)]
    names = [name for name in names if not (score and name == "lm_head.weight")]
    own = ("lm_head.", "model.embed_tokens.", "model.norm.", *(f"model.layers.{i}." for i in range(config.num_layers)))
    tied = {"lm_head.weight"} if config.tied else set()
    if inside := [name for name in names if name.startswith(own) and name not in tied]:
        raise ValueError(
            f"{weights.folder} has {len(inside)} tensors that its layers do not use, for example {inside[0]}. A "
            f"{config.family} model with them is not supported"
        )
    if others := [name for name in names if name not in tied]:
        shown = ", ".join(others[:3])
        warnings.warn(f"{weights.folder}: {len(others)} tensors are not used, for example {shown}", stacklevel=3)


def load_config(folder: Path) -> ModelConfig:
    """Read `config.json`, and further end-of-text ids from `generation_config.json` if it exists.

    Raises:
        FileNotFoundError: there is no `config.json`.
        ValueError: a file is not JSON, or its model is not supported; the message names the file.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: expected the folder of a model in Hugging Face's layout")
    if quantized := [name for name in QUANTIZED if (folder / name).is_file()]:
        raise ValueError(f"{folder} must have original weights, got quantized ones according to its {quantized[0]}")
    config = parsed(folder / "config.json", from_hf)
    if not (folder / GENERATION).is_file():
        return config
    first = parsed(folder / "config.json", eos_ids)
    ends = tuple(dict.fromkeys((*first, *parsed(folder / GENERATION, eos_ids)))) or config.ends
    return dataclasses.replace(config, eos_id=ends[0], other_eos_ids=ends[1:])


def parsed(path: Path, read: Callable[[Mapping[str, Any]], T]) -> T:
    """Read an object of a JSON file.

    Raises:
        ValueError: the file is not an object in JSON, or `read` refuses it; the message names the file.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path} must have an object, got {type(entries).__name__}")
    try:
        return read(entries)
    except KeyError as error:
        raise ValueError(f"{path} needs an entry {error}, got none") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path} has an entry of another type: {error}") from error


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
