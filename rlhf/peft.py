"""Adapters as a folder that Hugging Face's PEFT reads beside the model they belong to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlhf import lora
from rlhf.models.config import ModelConfig

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


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
        yield "base_model.model.score_head.weight", np.ascontiguousarray(np.asarray(trained["score_head"]).T)
        yield "base_model.model.score_head.bias", np.asarray(trained["score_bias"])
