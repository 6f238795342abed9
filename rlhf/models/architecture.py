"""Configuration of a decoder-only language model, and published configurations by name.

One class covers Llama 1 to 3 and Baichuan 2, which differ in positional encoding, in key-value heads, and in the output
layer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Scaling of rotary frequencies for longer contexts (Llama 3.1).

    Rotations with a wavelength above `original_length / low_frequency` are `factor` times slower, those with one below
    `original_length / high_frequency` are unchanged, and those between are interpolated.

    Attributes:
        factor: slow-down of the slowest rotations.
        low_frequency: turns in the original length below which the full factor applies.
        high_frequency: turns in the original length above which rotations are unchanged.
        original_length: context length of the first training.
    """

    factor: float
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_length: int = 8192


POOLINGS = ("last", "mean")

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim")
"""Sizes of a `ModelConfig` that are at least 1."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "hidden_act": ("silu",),
    "partial_rotary_factor": (1, 1.0),
    "sliding_window": (),
    "final_logit_softcapping": (),
    "attn_logit_softcapping": (),
    "quantization_config": (),
    "compression_config": (),
}
"""Entries of a `config.json` that change the model, with the values that do not. Null is neutral everywhere."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder-only language model.

    Attributes:
        family: `"llama"` or `"baichuan"`, which sets tensor names and the layout of `config.json`.
        vocab_size: V, rows of the embedding and of the output layer.
        hidden_size: H.
        intermediate_size: F, width of the gated layer.
        num_layers: L.
        num_heads: query heads.
        num_kv_heads: key-value heads, a divisor of `num_heads`.
        head_dim: width of a head.
        position: `"rope"` (rotary embeddings) or `"alibi"` (linear biases).
        rope_theta: base of the rotary wavelengths.
        rope_scaling: scaling of the rotary frequencies, None without.
        norm_eps: epsilon of RMSNorm.
        norm_head: scale every row of the output layer to unit length (Baichuan 2, section 1.5).
        tied: the output layer is the embedding.
        z_loss_weight: weight of the squared largest logit in the loss of the language model.
        init_std: standard deviation of the initial matrices.
        max_length: context length.
        bos_id: start of a text, None if there is none.
        eos_id: end of a text.
        other_eos_ids: further ids that end an answer; training texts end with `eos_id`.
        pad_id: padding, None if the tokenizer has none.
        score_pooling: pooling of a score model: `"last"`, the hidden state of the token, as published, or `"mean"`,
            the mean over the text so far, which small models learn from few texts.
        score_shrinkage: pseudo-count of tokens with score 0 in the mean, which shrinks the score of short texts.
        score_after: ids after whose last occurrence the mean starts, which excludes the prompt; empty for whole texts.
        score_words: add a score of each token's id, fitted before training (`rlhf.judges.unigram_scores`); only with
            the mean.
        score_openings: number of first tokens of an answer with a further score of their id, whose mean is added,
            because the start of an answer is more informative. 0 for none; only with `score_words`.
    """

    family: str = "llama"
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    position: str = "rope"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-6
    norm_head: bool = False
    tied: bool = False
    z_loss_weight: float = 0.0
    init_std: float = 0.02
    max_length: int = 2048
    bos_id: int | None = 1
    eos_id: int = 2
    other_eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    score_pooling: str = "last"
    score_shrinkage: float = 0.0
    score_after: tuple[int, ...] = ()
    score_words: bool = False
    score_openings: int = 0

    def __post_init__(self) -> None:
        """Check that the sizes fit together.

        Raises:
            ValueError: a size is out of range; the message names it and the expected value.
        """
        for name in SIZES:
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")
        for name in ("rope_theta", "norm_eps", "init_std"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be a finite number of at least 0, got {getattr(self, name)!r}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads must divide num_heads {self.num_heads}, got {self.num_kv_heads}")
        if self.family not in ("llama", "baichuan"):
            raise ValueError(f"family must be 'llama' or 'baichuan', got {self.family!r}")
        if self.position not in ("rope", "alibi"):
            raise ValueError(f"position must be 'rope' or 'alibi', got {self.position!r}")
        if self.score_pooling not in POOLINGS:
            raise ValueError(f"score_pooling must be one of {POOLINGS}, got {self.score_pooling!r}")
        if self.score_words and self.score_pooling != "mean":
            raise ValueError(f"score_words needs score_pooling 'mean', got {self.score_pooling!r}")
        if self.score_openings < 0 or (self.score_openings and not self.score_words):
            raise ValueError(f"score_openings must be at least 0, and 0 without score_words, got {self.score_openings}")
        if self.position == "rope" and self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotations, got {self.head_dim}")

    @property
    def ends(self) -> tuple[int, ...]:
        """All ids that end an answer."""
        return (self.eos_id, *self.other_eos_ids)


def parameter_count(config: ModelConfig) -> dict[str, int]:
    """Parameters by part, and `total`: embedding, layers, last norm and output layer.

    Source: Baichuan 2's sizes are `2VH + L(4H^2 + 3HF + 2H) + H`; shared key-value heads and tied embeddings reduce it.
    """
    hidden = config.hidden_size
    attention = 2 * hidden * config.head_dim * (config.num_heads + config.num_kv_heads)
    layer = attention + 3 * hidden * config.intermediate_size + 2 * hidden
    parts = {
        "embedding": config.vocab_size * hidden,
        "layers": config.num_layers * layer,
        "norm": hidden,
        "head": 0 if config.tied else config.vocab_size * hidden,
    }
    return {**parts, "total": sum(parts.values())}


def _llama(hidden: int, ffn: int, layers: int, heads: int, **changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {"hidden_size": hidden, "intermediate_size": ffn, "num_layers": layers, "num_heads": heads}
    base: dict[str, Any] = {
        "vocab_size": 32_000,
        "num_kv_heads": heads,
        "head_dim": hidden // heads,
        "max_length": 2048,
    }
    return ModelConfig(**(sizes | base | changes))


def _llama2(hidden: int, ffn: int, layers: int, heads: int, **changes: Any) -> ModelConfig:
    return _llama(hidden, ffn, layers, heads, **({"norm_eps": 1e-5, "max_length": 4096} | changes))


def _llama3(hidden: int, ffn: int, layers: int, heads: int, **changes: Any) -> ModelConfig:
    own: dict[str, Any] = {"vocab_size": 128_256, "num_kv_heads": 8, "rope_theta": 500_000.0, "norm_eps": 1e-5}
    own |= {"max_length": 8192, "bos_id": 128_000, "eos_id": 128_001}
    return _llama(hidden, ffn, layers, heads, **(own | changes))


def _baichuan(hidden: int, ffn: int, layers: int, heads: int, **changes: Any) -> ModelConfig:
    own = {"family": "baichuan", "vocab_size": 125_696, "norm_head": True, "max_length": 4096, "pad_id": 0}
    return _llama(hidden, ffn, layers, heads, **(own | changes))


PUBLISHED: dict[str, ModelConfig] = {
    "llama-7b": _llama(4096, 11_008, 32, 32),
    "llama-13b": _llama(5120, 13_824, 40, 40),
    "llama-30b": _llama(6656, 17_920, 60, 52),
    "llama-65b": _llama(8192, 22_016, 80, 64),
    "llama2-7b": _llama2(4096, 11_008, 32, 32),
    "llama2-13b": _llama2(5120, 13_824, 40, 40),
    "llama2-70b": _llama2(8192, 28_672, 80, 64, num_kv_heads=8),
    "llama3-8b": _llama3(4096, 14_336, 32, 32),
    "llama3-70b": _llama3(8192, 28_672, 80, 64),
    "llama3.2-1b": _llama3(2048, 8192, 16, 32, tied=True, max_length=131_072, rope_scaling=RopeScaling(factor=32.0)),
    "baichuan2-7b": _baichuan(4096, 11_008, 32, 32),
    "baichuan2-13b": _baichuan(5120, 13_696, 40, 40, position="alibi"),
    "baichuan2-scaling-12m": _baichuan(384, 1152, 6, 6),
    "baichuan2-scaling-52m": _baichuan(704, 2112, 8, 8),
    "baichuan2-scaling-108m": _baichuan(832, 2496, 12, 8),
    "baichuan2-scaling-308m": _baichuan(1216, 3648, 16, 8),
    "baichuan2-scaling-835m": _baichuan(1792, 5376, 20, 14),
    "baichuan2-scaling-1.6b": _baichuan(2240, 6720, 24, 14),
    "baichuan2-scaling-3b": _baichuan(2880, 8640, 28, 20),
    "tiny-llama": _llama(128, 384, 4, 4, vocab_size=512, max_length=256),
    "tiny-baichuan": _baichuan(128, 384, 4, 4, vocab_size=512, max_length=256, position="alibi"),
}
"""Published sizes by name, and two small ones for tests and demonstrations.

Llama: arXiv 2302.13971, 2307.09288, 2407.21783. Baichuan 2: arXiv 2309.10305, table 2 and the models of its scaling
law (figure 4).
"""


BAICHUAN_1, BAICHUAN_2 = 64_000, 125_696
"""Vocabulary sizes, which distinguish the two: both have the model type `baichuan`."""


def from_hf(entries: Mapping[str, Any]) -> ModelConfig:
    """Read a Hugging Face `config.json` of a Llama or a Baichuan 2 model.

    Raises:
        ValueError: another model type, Baichuan 1 included, or an unsupported feature (biases, another activation,
            another scaling of the rotations); the message names the key and its value.
        KeyError: a key is missing.
    """
    kind = entries.get("model_type")
    if kind not in ("llama", "baichuan"):
        raise ValueError(f"model_type must be 'llama' or 'baichuan', got {kind!r}")
    _check_neutral(entries)
    heads, hidden = entries["num_attention_heads"], entries["hidden_size"]
    rope = entries.get("rope_parameters") or {}  # transformers 5; earlier versions have two keys
    scaling = entries.get("rope_scaling") or rope
    own: dict[str, Any] = {}
    if kind == "baichuan":
        if BAICHUAN_1 <= entries["vocab_size"] < BAICHUAN_2:
            raise ValueError(
                f"vocab_size {entries['vocab_size']} is that of Baichuan 1, which is not supported; Baichuan 2, whose "
                f"output layer has unit rows, has {BAICHUAN_2}"
            )
        # 13B has no rotations: its key is model_max_length, that of 7B max_position_embeddings.
        own = {"norm_head": True, "position": "rope" if "max_position_embeddings" in entries else "alibi"}
    length = entries.get("max_position_embeddings", entries.get("model_max_length", 2048))
    first, *others = eos_ids(entries) or (2,)
    return ModelConfig(
        family=kind,
        vocab_size=entries["vocab_size"],
        hidden_size=hidden,
        intermediate_size=entries["intermediate_size"],
        num_layers=entries["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=entries.get("num_key_value_heads") or heads,
        head_dim=entries.get("head_dim") or hidden // heads,
        rope_theta=float(entries.get("rope_theta", rope.get("rope_theta", 10_000.0))),
        rope_scaling=_scaling(scaling),
        norm_eps=entries.get("rms_norm_eps", 1e-6),
        tied=bool(entries.get("tie_word_embeddings", False)),
        z_loss_weight=entries.get("z_loss_weight", 0.0),
        init_std=entries.get("initializer_range", 0.02),
        max_length=length,
        bos_id=entries.get("bos_token_id", 1),
        eos_id=first,
        other_eos_ids=tuple(others),
        pad_id=entries.get("pad_token_id"),
        **scoring_from_hf(entries),
        **own,
    )


def _check_neutral(entries: Mapping[str, Any]) -> None:
    """Check that no entry asks for a feature that the decoder lacks.

    Raises:
        ValueError: one does; the message names the key and its value.
    """
    for name, neutral in NEUTRAL.items():
        value = entries.get(name)
        if value is None or value in neutral:
            continue
        if name in ("quantization_config", "compression_config"):
            method = value.get("quant_method") if isinstance(value, Mapping) else value
            raise ValueError(
                f"{name} must be absent, got quantized weights of method {method!r}. Use the folder with the original "
                "weights, or dequantize them first"
            )
        raise ValueError(f"{name} must be {neutral[0] if neutral else None!r} or absent, got {value!r}")


def scoring_from_hf(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Scoring options from the entries that `scoring_to_hf` writes; the published ones without entries."""
    return {
        "score_pooling": entries.get("score_pooling", "last"),
        "score_shrinkage": entries.get("score_shrinkage", 0.0),
        "score_after": tuple(entries.get("score_after", ())),
        "score_words": bool(entries.get("score_words", False)),
        "score_openings": int(entries.get("score_openings", 0)),
    }


def scoring_to_hf(config: ModelConfig) -> dict[str, Any]:
    """Scoring options as entries of a `config.json`; empty for the published ones."""
    if config.score_pooling == "last":
        return {}
    return {name: getattr(config, name) for name in scoring_from_hf({})} | {"score_after": list(config.score_after)}


def eos_ids(entries: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids that end an answer, from a `config.json` or a `generation_config.json`: a number, a list, or none.

    Raises:
        ValueError: the entry has another type.
    """
    eos = entries.get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise ValueError(f"eos_token_id must be a whole number or a list of them, got {eos!r}")
    return tuple(dict.fromkeys(ids))


def _scaling(entries: Mapping[str, Any] | None) -> RopeScaling | None:
    kind = (entries or {}).get("rope_type", (entries or {}).get("type", "default"))
    if not entries or (kind == "default" and "factor" not in entries):
        return None
    if kind != "llama3":
        raise ValueError(f"rope_scaling must be of type 'llama3', got {kind!r}")
    return RopeScaling(
        factor=entries["factor"],
        low_frequency=entries["low_freq_factor"],
        high_frequency=entries["high_freq_factor"],
        original_length=entries["original_max_position_embeddings"],
    )


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model, for Hugging Face's libraries; the inverse of `from_hf`."""
    baichuan = config.family == "baichuan"
    out: dict[str, Any] = {
        "model_type": config.family,
        "architectures": ["BaichuanForCausalLM" if baichuan else "LlamaForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.ends) if config.other_eos_ids else config.eos_id,
        "pad_token_id": config.pad_id,
    }
    out |= scoring_to_hf(config)
    if baichuan:
        out["z_loss_weight"] = config.z_loss_weight
        out["model_max_length" if config.position == "alibi" else "max_position_embeddings"] = config.max_length
        return out
    out |= {"num_key_value_heads": config.num_kv_heads, "head_dim": config.head_dim}
    out |= {"max_position_embeddings": config.max_length, "rope_theta": config.rope_theta}
    if config.rope_scaling:
        out["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": config.rope_scaling.factor,
            "low_freq_factor": config.rope_scaling.low_frequency,
            "high_freq_factor": config.rope_scaling.high_frequency,
            "original_max_position_embeddings": config.rope_scaling.original_length,
        }
    return out
