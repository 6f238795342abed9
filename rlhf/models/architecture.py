"""Sizes and switches of a decoder-only language model, and the published ones by name.

One description covers Llama 1 to 3 and Baichuan 2: they differ in how positions enter, in how many heads share their
keys, and in the output layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How Llama 3 stretches slow rotations to longer texts.

    Rotations whose wavelength exceeds `original_length / low_frequency` turn `factor` times slower, those below
    `original_length / high_frequency` as before, and those in between in proportion.

    Attributes:
        factor: how much slower.
        low_frequency: turns in the original length at which the whole stretch begins.
        high_frequency: and above which there is none.
        original_length: tokens of the texts the model was first trained on.
    """

    factor: float
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_length: int = 8192


POOLINGS = ("last", "mean")

DTYPES = {"float32": 4, "bfloat16": 2}
"""What activations and matrix products may be, and the bytes of a number. Parameters, norms, softmax, positions,
logits, losses and moments are float32 in either."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder-only language model.

    Attributes:
        family: `"llama"` or `"baichuan"`: the names of its tensors and the layout of its `config.json`.
        vocab_size: V, rows of the embedding and of the output layer.
        hidden_size: H.
        intermediate_size: F, width of the gated layer.
        num_layers: L.
        num_heads: heads of queries.
        num_kv_heads: heads of keys and values, a divisor of `num_heads`.
        head_dim: width of a head.
        position: `"rope"` turns queries and keys, `"alibi"` lowers scores with distance.
        rope_theta: base of the rotations' wavelengths.
        rope_scaling: how they are stretched, if they are.
        norm_eps: added to the mean square in RMSNorm.
        norm_head: scale every row of the output layer to unit length (Baichuan 2, section 1.5).
        tied: the output layer is the embedding.
        z_loss_weight: weight of the squared largest logit in the loss of the language model.
        init_std: deviation of the initial matrices.
        max_length: tokens the model was trained on.
        bos_id: start of a text, None if there is none.
        eos_id: end of a text.
        other_eos_ids: further ids that end an answer; a text that is learned ends with `eos_id`.
        pad_id: padding, None if the tokenizer has none.
        score_pooling: what a score model scores a token by: `"last"`, its own hidden state, as published, or `"mean"`,
            the mean over the text so far, which small models learn from few texts.
        score_shrinkage: tokens of score 0 that this mean counts beside the text's, so that a few words say little.
        score_after: ids behind whose last occurrence that mean begins, so that a prompt does not count; none for all.
        score_words: add to each token's score one that depends on the token alone and is fitted before the rest is
            trained (`rlhf.judges.unigram_scores`); only with the mean.
        score_openings: the first tokens of an answer, so many, have another such score each, whose mean is added: how
            an answer begins says more than the same words further on. 0 for none; only with `score_words`.
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
        """Refuse sizes that do not fit together.

        Raises:
            ValueError: the message names the size and what was expected.
        """
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
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

    Source: Baichuan 2's sizes are `2VH + L(4H^2 + 3HF + 2H) + H`; shared keys and tied embeddings take away from it.
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
"""Tokens of either, which is what tells them apart: both call themselves `baichuan`."""


def from_hf(found: Mapping[str, Any]) -> ModelConfig:
    """Read a Hugging Face `config.json` of a Llama or a Baichuan 2 model.

    Raises:
        ValueError: for another kind of model, Baichuan 1 among them, or one that needs what is not built (biases,
            another activation, another stretch of the rotations); the message names the key and its value.
        KeyError: for a missing key, by name.
    """
    kind = found.get("model_type")
    if kind not in ("llama", "baichuan"):
        raise ValueError(f"model_type must be 'llama' or 'baichuan', got {kind!r}")
    if found.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act must be 'silu', got {found['hidden_act']!r}")
    for name in ("attention_bias", "mlp_bias"):
        if found.get(name):
            raise ValueError(f"{name} is true; models with biases are not supported")
    heads, hidden = found["num_attention_heads"], found["hidden_size"]
    rope = found.get("rope_parameters") or {}  # transformers 5; earlier versions keep two keys beside each other
    scaling = found.get("rope_scaling") or (rope if rope.get("rope_type", "default") != "default" else None)
    own: dict[str, Any] = {}
    if kind == "baichuan":
        if BAICHUAN_1 <= found["vocab_size"] < BAICHUAN_2:
            raise ValueError(
                f"vocab_size {found['vocab_size']} is that of Baichuan 1, which is not built; Baichuan 2, whose output "
                f"layer has rows of unit length, has {BAICHUAN_2}"
            )
        # 13B has no rotations: its configuration says model_max_length where that of 7B says max_position_embeddings.
        own = {"norm_head": True, "position": "rope" if "max_position_embeddings" in found else "alibi"}
    length = found.get("max_position_embeddings", found.get("model_max_length", 2048))
    eos, *others = eos_ids(found) or (2,)
    return ModelConfig(
        family=kind,
        vocab_size=found["vocab_size"],
        hidden_size=hidden,
        intermediate_size=found["intermediate_size"],
        num_layers=found["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=found.get("num_key_value_heads") or heads,
        head_dim=found.get("head_dim") or hidden // heads,
        rope_theta=float(found.get("rope_theta", rope.get("rope_theta", 10_000.0))),
        rope_scaling=_scaling(scaling),
        norm_eps=found.get("rms_norm_eps", 1e-6),
        tied=bool(found.get("tie_word_embeddings", False)),
        z_loss_weight=found.get("z_loss_weight", 0.0),
        init_std=found.get("initializer_range", 0.02),
        max_length=length,
        bos_id=found.get("bos_token_id", 1),
        eos_id=eos,
        other_eos_ids=tuple(others),
        pad_id=found.get("pad_token_id"),
        **scoring_from_hf(found),
        **own,
    )


def scoring_from_hf(found: Mapping[str, Any]) -> dict[str, Any]:
    """How a score model scores, from the entries that `scoring_to_hf` writes; as published where there are none."""
    return {
        "score_pooling": found.get("score_pooling", "last"),
        "score_shrinkage": found.get("score_shrinkage", 0.0),
        "score_after": tuple(found.get("score_after", ())),
        "score_words": bool(found.get("score_words", False)),
        "score_openings": int(found.get("score_openings", 0)),
    }


def scoring_to_hf(config: ModelConfig) -> dict[str, Any]:
    """How a score model scores, as entries of its `config.json`; none if as published."""
    if config.score_pooling == "last":
        return {}
    return {name: getattr(config, name) for name in scoring_from_hf({})} | {"score_after": list(config.score_after)}


def eos_ids(found: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids that end an answer, as a `config.json` or a `generation_config.json` has them: a number, a list, or none.

    Raises:
        ValueError: it is something else.
    """
    said = found.get("eos_token_id")
    ids = said if isinstance(said, list) else [] if said is None else [said]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise ValueError(f"eos_token_id must be a whole number or a list of them, got {said!r}")
    return tuple(dict.fromkeys(ids))


def _scaling(found: Mapping[str, Any] | None) -> RopeScaling | None:
    if not found:
        return None
    kind = found.get("rope_type", found.get("type"))
    if kind != "llama3":
        raise ValueError(f"rope_scaling must be of type 'llama3', got {kind!r}")
    return RopeScaling(
        factor=found["factor"],
        low_frequency=found["low_freq_factor"],
        high_frequency=found["high_freq_factor"],
        original_length=found["original_max_position_embeddings"],
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
