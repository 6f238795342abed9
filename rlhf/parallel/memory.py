"""Memory estimates of a run before anything is loaded: parameters, gradients, moments and activations.

Estimates come from sizes, not from a measurement: the compiler needs less where it fuses and more where it copies.
Counts of parameters are exact.
"""

from __future__ import annotations

from rlhf.adapters import lora
from rlhf.adapters.lora import LoraConfig
from rlhf.config import DTYPES, SamplingConfig
from rlhf.models.architecture import ModelConfig, parameter_count
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig

FLOAT = 4
WHOLE = LoraConfig()
KEPT_PER_LAYER = 12
"""Approximate number of arrays `[B, L, H]` that a layer stores for the backward pass, gated MLP included."""


def activations(
    config: ModelConfig,
    rows: int,
    length: int,
    *,
    chunk: int = 0,
    remat: bool = False,
    tensor: int = 1,
    size: int = FLOAT,
) -> int:
    """Bytes of activations of one gradient on one device.

    Args:
        config: configuration of the model.
        rows: rows of the device.
        length: length of the texts.
        chunk: tokens of the device whose logits are in memory at once, 0 for all.
        remat: True if only the input of each layer is stored, and the rest of one layer at a time.
        tensor: devices that share heads, gated MLP and vocabulary.
        size: bytes of a number in a layer; scores and logits are float32.
    """
    hidden = rows * length * config.hidden_size * size
    scores = rows * config.num_heads * length * length * FLOAT // tensor
    layer = KEPT_PER_LAYER * hidden // tensor + 2 * scores
    layers = config.num_layers * hidden + layer if remat else config.num_layers * layer
    return layers + 2 * _tokens_in_memory(rows * length, chunk) * config.vocab_size * FLOAT // tensor


def _tokens_in_memory(tokens: int, chunk: int) -> int:
    """Tokens whose logits are in memory at once."""
    return min(tokens, chunk) if chunk else tokens


def _weights_and_trained(config: ModelConfig, options: LoraConfig) -> tuple[int, int]:
    """Bytes of a model's weights, and of its trained parameters: adapters or the weights."""
    count = parameter_count(config)["total"] * FLOAT
    return count, lora.parameter_count(config, options) * FLOAT if options.lora_rank else count


def supervised(
    config: ModelConfig, rows: int, length: int, options: LoraConfig = WHOLE, chunk: int = 0, dtype: str = "float32"
) -> dict[str, int]:
    """Bytes of a supervised stage by purpose: parameters, gradients, two moments of Adam, activations."""
    each, trained = _weights_and_trained(config, options)
    parts = {"parameters": each + trained if options.lora_rank else each, "gradients": trained, "moments": 2 * trained}
    return parts | {"activations": activations(config, rows, length, chunk=chunk, size=DTYPES[dtype])}


def reinforcement(
    config: ModelConfig,
    models: int,
    critics: int,
    options: ReinforcementConfig,
    prompt_length: int,
    sampling: SamplingConfig,
) -> dict[str, int]:
    """Bytes of reinforcement by purpose: actor and critics are trained, reference and judges are frozen.

    Trained models are copies of the reference or of a judge, or with a `lora_rank` adapters on top of it.

    Args:
        config: configuration of every model, approximately.
        models: number of actor and judges; with adapters, number of distinct base models.
        critics: number of critics, which start from judges; 0 for estimator "group".
        options: hyper-parameters of the method.
        prompt_length: longest prompt.
        sampling: sampling options.
    """
    each, trained = _weights_and_trained(config, options)
    learning = 1 + critics
    length = prompt_length + sampling.max_new_tokens
    answers = options.prompts_per_iteration * options.answers_per_prompt
    cache = 2 * answers * length * config.num_layers * config.num_kv_heads * config.head_dim * DTYPES[options.dtype]
    return {
        "parameters": models * each + learning * trained,
        "gradients": trained,
        "moments": 2 * learning * trained,
        "activations": activations(
            config, options.batch_size, length, chunk=options.loss_chunk, size=DTYPES[options.dtype]
        ),
        "cache": cache,
        "experience": 2 * _tokens_in_memory(answers * length, options.loss_chunk) * config.vocab_size * FLOAT,
    }


def describe(parts: dict[str, int]) -> str:
    """Format the parts and their sum in one line."""
    listed = ", ".join(f"{name} {size(value)}" for name, value in parts.items())
    return f"needs about {size(sum(parts.values()))} of memory ({listed})"


def size(count: float) -> str:
    """Format a number of bytes with three digits and a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
