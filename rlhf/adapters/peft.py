"""Adapters as a folder in the format of Hugging Face's PEFT."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlhf.adapters import lora
from rlhf.models.architecture import ModelConfig
from rlhf.models.low_rank import SUFFIX, LowRank

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
HEAD = ("base_model.model.score_head.weight", "base_model.model.score_head.bias")
BEYOND = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "layers_to_transform")
"""Switches of PEFT that change `W + alpha / r B A` of every layer."""


def is_adapter(folder: Path) -> bool:
    """True if a folder contains adapters."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """Folder of the base model; a relative path is resolved from the adapters' folder, then from the current one.

    Raises:
        ValueError: the file has no valid path.
    """
    named = _read_config(folder).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ValueError(f"{folder / CONFIG} names no base_model_name_or_path")
    local = folder / named
    base = local if Path(named).is_absolute() or local.exists() or not Path(named).exists() else Path(named)
    if base.resolve() == folder.resolve():
        raise ValueError(f"{folder / CONFIG} names its own folder as base_model_name_or_path")
    return base


def fingerprint(folder: Path) -> str:
    """SHA-256 of the weight files in a folder, which identifies the base model of adapters."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while part := file.read(1 << 24):
                digest.update(part)
    return digest.hexdigest()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        entries = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{folder / CONFIG} must hold an object, got {type(entries).__name__}")
    return entries


def save(folder: Path, config: ModelConfig, trained: Mapping[str, Any], base: str) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`.

    The folder must not be that of the merged model: transformers would apply the adapters a second time.

    Args:
        folder: made if it does not exist.
        config: configuration of a Llama; Baichuan 2 has one tensor for three of our adapted matrices.
        trained: adapters, and the head of a score model.
        base: folder of the base model.

    Raises:
        ValueError: the model is not a Llama.
    """
    from safetensors.numpy import save_file

    if config.family != "llama":
        raise ValueError(f"adapters are written for family 'llama' only, got {config.family!r}")
    adapters = dict(lora.adapters(trained))
    first = next(iter(adapters.values()))
    rank = first.b.shape[1]
    heads = "score_head" in trained
    entries = {
        "peft_type": "LORA",
        "task_type": None if heads else "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": [f"{name}_proj" for name in adapters],
        "modules_to_save": ["score_head"] if heads else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors(trained)), str(folder / TENSORS), metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(entries, indent=1), encoding="utf-8")


def tensors(trained: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors with PEFT's names, `[r, in]` and `[out, r]` for each matrix."""
    for name, adapter in lora.adapters(trained):
        part = {"attention": "self_attn", "mlp": "mlp"}[lora.MATRICES[name][0]]
        for layer, (a, b) in enumerate(zip(np.asarray(adapter.a), np.asarray(adapter.b), strict=True)):
            prefix = f"base_model.model.model.layers.{layer}.{part}.{name}_proj"
            yield f"{prefix}.lora_A.weight", np.ascontiguousarray(a.reshape(-1, a.shape[-1]).T)
            yield f"{prefix}.lora_B.weight", np.ascontiguousarray(b.reshape(len(b), -1).T)
    if "score_head" in trained:
        yield HEAD[0], np.ascontiguousarray(np.asarray(trained["score_head"]).T)
        yield HEAD[1], np.asarray(trained["score_bias"])


def load(folder: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """Read the adapters, and the head of a score model, that `save` wrote.

    Args:
        folder: folder with the two files.
        params: parameters of the base model; only shapes are read.

    Raises:
        ValueError: a file is damaged, or the adapters have another type or do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    entries, path = _read_config(folder), folder / TENSORS
    if entries.get("peft_type") != "LORA" or (odd := [name for name in BEYOND if entries.get(name)]):
        what = entries.get("peft_type") if entries.get("peft_type") != "LORA" else f"LORA with {', '.join(odd)}"
        raise ValueError(f"{folder / CONFIG} must have peft_type LORA without further switches, got {what}")
    rank, alpha = entries.get("r"), entries.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise ValueError(f"{folder / CONFIG} needs a rank r of at least 1 and a lora_alpha, got {rank!r} and {alpha!r}")
    try:
        files = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error

    def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in files:
            raise ValueError(f"{path} has no tensor {name}")
        array = files.pop(name).astype(np.float32)
        if array.shape != shape:
            raise ValueError(f"{path}, {name}: expected the shape {list(shape)}, got {list(array.shape)}")
        return array

    layers: dict[str, dict[str, LowRank]] = {}
    for name, (part, axes) in lora.MATRICES.items():
        infix = {"attention": "self_attn", "mlp": "mlp"}[part] + f".{name}_proj."
        if not any(infix in key for key in files):
            continue
        depth, *shape = np.shape(params["decoder"]["layers"][part][name])
        inputs, outputs = tuple(shape[:axes]), tuple(shape[axes:])
        a, b = [], []
        for layer in range(depth):
            prefix = f"base_model.model.model.layers.{layer}.{infix}"
            a.append(tensor(f"{prefix}lora_A.weight", (rank, int(np.prod(inputs)))).T.reshape(*inputs, rank))
            b.append(tensor(f"{prefix}lora_B.weight", (int(np.prod(outputs)), rank)).T.reshape(rank, *outputs))
        layers.setdefault(part, {})[name + SUFFIX] = LowRank(np.stack(a), np.stack(b), alpha / rank)  # pyright: ignore[reportArgumentType]
    trained: dict[str, Any] = {"decoder": {"layers": layers}} if layers else {}
    if HEAD[0] in files:
        size, width = len(files[HEAD[0]]), np.shape(params["decoder"]["embedding"])[1]
        trained |= {"score_head": tensor(HEAD[0], (size, width)).T.copy(), "score_bias": tensor(HEAD[1], (size,))}
    if files:
        raise ValueError(f"{path} contains unsupported tensors: {', '.join(sorted(files)[:3])}")
    if not layers:
        raise ValueError(f"{path} contains no adapters")
    return trained
