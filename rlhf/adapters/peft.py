"""Adapters as a folder that Hugging Face's PEFT reads beside the model they belong to, and back."""

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
"""Switches of PEFT that say something else than `W + alpha / r B A` of every layer."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """The model that adapters belong to: a relative path is looked up from their folder, then from where we are.

    Raises:
        ValueError: the file does not say it.
    """
    named = _said(folder).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ValueError(f"{folder / CONFIG} names no base_model_name_or_path")
    beside = folder / named
    found = beside if Path(named).is_absolute() or beside.exists() or not Path(named).exists() else Path(named)
    if found.resolve() == folder.resolve():
        raise ValueError(f"{folder / CONFIG} names its own folder as base_model_name_or_path")
    return found


def fingerprint(folder: Path) -> str:
    """SHA-256 of the files of weights in a folder, by which adapters know the model they belong to again."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin")):
        found.update(path.name.encode())
        with path.open("rb") as file:
            while part := file.read(1 << 24):
                found.update(part)
    return found.hexdigest()


def _said(folder: Path) -> dict[str, Any]:
    try:
        said = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{folder / CONFIG} must hold an object, got {type(said).__name__}")
    return said


def save(folder: Path, config: ModelConfig, trained: Mapping[str, Any], base: str) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`.

    Not into the folder of the merged model: transformers would put the adapters on top of it a second time.

    Args:
        folder: made if it does not exist.
        config: of the model, a Llama; Baichuan 2 has one tensor for three of our adapted matrices.
        trained: adapters, and the head of a score model.
        base: folder of the model below.

    Raises:
        ValueError: the model is no Llama.
    """
    from safetensors.numpy import save_file

    if config.family != "llama":
        raise ValueError(f"adapters are written for family 'llama' only, got {config.family!r}")
    found = dict(lora.adapters(trained))
    first = next(iter(found.values()))
    rank = first.b.shape[1]
    heads = "score_head" in trained
    said = {
        "peft_type": "LORA",
        "task_type": None if heads else "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": [f"{name}_proj" for name in found],
        "modules_to_save": ["score_head"] if heads else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors(trained)), str(folder / TENSORS), metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(said, indent=1))


def tensors(trained: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors by the names of PEFT, `[r, in]` and `[out, r]` for each matrix."""
    for name, adapter in lora.adapters(trained):
        part = {"attention": "self_attn", "mlp": "mlp"}[lora.MATRICES[name][0]]
        for layer, (a, b) in enumerate(zip(np.asarray(adapter.a), np.asarray(adapter.b), strict=True)):
            place = f"base_model.model.model.layers.{layer}.{part}.{name}_proj"
            yield f"{place}.lora_A.weight", np.ascontiguousarray(a.reshape(-1, a.shape[-1]).T)
            yield f"{place}.lora_B.weight", np.ascontiguousarray(b.reshape(len(b), -1).T)
    if "score_head" in trained:
        yield HEAD[0], np.ascontiguousarray(np.asarray(trained["score_head"]).T)
        yield HEAD[1], np.asarray(trained["score_bias"])


def load(folder: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """What `save` wrote: adapters, and the head of a score model.

    Args:
        folder: with the two files.
        params: of the model below; only shapes are read.

    Raises:
        ValueError: a file is damaged, or the adapters are of another kind or do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    said, place = _said(folder), folder / TENSORS
    if said.get("peft_type") != "LORA" or (odd := [name for name in BEYOND if said.get(name)]):
        what = said.get("peft_type") if said.get("peft_type") != "LORA" else f"LORA with {', '.join(odd)}"
        raise ValueError(f"{folder / CONFIG} must be of peft_type LORA without further switches, got {what}")
    rank, alpha = said.get("r"), said.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise ValueError(f"{folder / CONFIG} needs a rank r of at least 1 and a lora_alpha, got {rank!r} and {alpha!r}")
    try:
        files = load_file(str(place))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{place} cannot be read: {error}") from error

    def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in files:
            raise ValueError(f"{place} has no tensor {name}")
        found = files.pop(name).astype(np.float32)
        if found.shape != shape:
            raise ValueError(f"{place}, {name}: expected the shape {list(shape)}, got {list(found.shape)}")
        return found

    layers: dict[str, dict[str, LowRank]] = {}
    for name, (part, axes) in lora.MATRICES.items():
        where = {"attention": "self_attn", "mlp": "mlp"}[part] + f".{name}_proj."
        if not any(where in key for key in files):
            continue
        depth, *shape = np.shape(params["decoder"]["layers"][part][name])
        inputs, outputs = tuple(shape[:axes]), tuple(shape[axes:])
        a, b = [], []
        for layer in range(depth):
            at = f"base_model.model.model.layers.{layer}.{where}"
            a.append(tensor(f"{at}lora_A.weight", (rank, int(np.prod(inputs)))).T.reshape(*inputs, rank))
            b.append(tensor(f"{at}lora_B.weight", (int(np.prod(outputs)), rank)).T.reshape(rank, *outputs))
        layers.setdefault(part, {})[name + SUFFIX] = LowRank(np.stack(a), np.stack(b), alpha / rank)  # pyright: ignore[reportArgumentType]
    found: dict[str, Any] = {"decoder": {"layers": layers}} if layers else {}
    if HEAD[0] in files:
        size, width = len(files[HEAD[0]]), np.shape(params["decoder"]["embedding"])[1]
        found |= {"score_head": tensor(HEAD[0], (size, width)).T.copy(), "score_bias": tensor(HEAD[1], (size,))}
    if files:
        raise ValueError(f"{place} holds tensors that are not read here: {', '.join(sorted(files)[:3])}")
    if not layers:
        raise ValueError(f"{place} holds no adapters")
    return found
