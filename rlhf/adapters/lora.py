"""Low-rank adaptation (Hu et al. 2022, arXiv 2106.09685): weights are frozen, and `alpha / r * A B` is trained.

Trained parameters are a tree of their own. `joined` overlays it on the frozen tree without a copy, so that several
models share one copy of the weights: an actor and its reference, a critic and its reward model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf.config import MATRICES, LoraConfig
from rlhf.models.architecture import ModelConfig
from rlhf.models.low_rank import SUFFIX, LowRank
from rlhf.parallel import sharding

HEADS = ("score_head", "score_bias")
"""Parameters trained in full with the adapters: a new head has no weights to adapt."""

FIXED = ("score_words", "score_openings")
"""Parameters fitted before training (`rlhf.judges.unigram_scores`) and frozen afterwards."""

_ADAPTER_STREAM = 1 << 31
"""Folded into a run's key for initial adapters; iterations and epochs count up from 0 and down from -1."""


def split(params: Mapping[str, Any], options: LoraConfig) -> tuple[Any, Any]:
    """Split a model's parameters into frozen and trained ones.

    With rank 0 everything but `FIXED` is trained, else the heads and the adapters that the model already has.
    """
    trained = {name: part for name, part in params.items() if name in HEADS or not options.lora_rank}
    trained = {name: part for name, part in trained.items() if name not in FIXED}
    frozen = {name: part for name, part in params.items() if name not in trained}
    if options.lora_rank:
        frozen, own = _split_adapters(frozen)
        trained = joined(trained, own)
    return frozen, trained


def _split_adapters(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a tree into weights and adapters."""
    weights, own = {}, {}
    for name, part in params.items():
        if isinstance(part, Mapping):
            weights[name], inner = _split_adapters(part)
            own |= {name: inner} if inner else {}
        else:
            (own if isinstance(part, LowRank) else weights)[name] = part
    return weights, own


def begin(key: jax.Array, params: Mapping[str, Any], options: LoraConfig, number: int = 0) -> Any:
    """Initial trained parameters of a model, inside a program: new adapters, or those that it already has.

    Args:
        key: key of the run.
        params: arrays of the host.
        options: hyper-parameters of the adapters.
        number: index of the model among those of the run; each draws its own adapters.
    """
    _, trained = split(params, options)
    started = sharding.loaded(trained, key) if trained else {}
    if _split_adapters(params)[1]:
        return started
    own = jax.random.fold_in(jax.random.fold_in(key, _ADAPTER_STREAM), number)
    return joined(started, fresh(own, params, options))


def fresh(key: jax.Array, params: Mapping[str, Any], options: LoraConfig) -> dict[str, Any]:
    """New adapters, whose product is zero: B is zero, A uniform within `1 / sqrt(inputs)`, as in the published code.

    Args:
        key: a typed key.
        params: parameters of a model with a `decoder`; only shapes are read.
        options: hyper-parameters of the adapters; rank 0 gives none.
    """
    if not options.lora_rank:
        return {}
    layers: dict[str, dict[str, LowRank]] = {}
    for number, name in enumerate(options.matrices):
        part, axes = MATRICES[name]
        depth, *shape = np.shape(params["decoder"]["layers"][part][name])
        inputs, outputs = shape[:axes], shape[axes:]
        bound = math.prod(inputs) ** -0.5
        a = jax.random.uniform(
            jax.random.fold_in(key, number), (depth, *inputs, options.lora_rank), jnp.float32, -bound, bound
        )
        b = jnp.zeros((depth, options.lora_rank, *outputs), jnp.float32)
        layers.setdefault(part, {})[name + SUFFIX] = LowRank(a, b, options.scale)
    return {"decoder": {"layers": layers}}


def joined(frozen: Any, trained: Any) -> Any:
    """Merge two trees without a copy; trained entries replace frozen ones."""
    if not (isinstance(frozen, Mapping) and isinstance(trained, Mapping)):
        return trained
    return {**frozen, **{key: joined(frozen.get(key, {}), value) for key, value in trained.items()}}


def dropped_out(trained: Any, key: jax.Array, rate: float) -> Any:
    """Adapters with dropout on a fraction `rate` of their inputs, as in PEFT.

    Args:
        trained: a tree with adapters, stacked over layers.
        key: a typed key, a new one for each update.
        rate: fraction that is dropped; the rest is scaled up.
    """
    parts, structure = jax.tree.flatten(trained, is_leaf=_is_adapter)
    dropped = [
        part.replace(key=jax.random.split(jax.random.fold_in(key, number), len(part.a)), keep=1.0 - rate)
        if _is_adapter(part)
        else part
        for number, part in enumerate(parts)
    ]
    return jax.tree.unflatten(structure, dropped)


def _is_adapter(part: Any) -> bool:
    return isinstance(part, LowRank)


def merged(params: Any) -> Any:
    """Equivalent weights without adapters: each adapter is added to its matrix."""
    if not isinstance(params, Mapping):
        return params
    weights = {key: merged(value) for key, value in params.items() if not isinstance(value, LowRank)}
    for key, adapter in params.items():
        if isinstance(adapter, LowRank):
            name = key.removesuffix(SUFFIX)
            weight = weights[name]
            weights[name] = weight + product(adapter).reshape(weight.shape).astype(weight.dtype)
    return weights


def product(adapter: LowRank) -> Any:
    """Product `[layers, inputs, outputs]` that an adapter adds to the matrices of all layers."""
    a, b = adapter.a, adapter.b
    rank = a.shape[-1]
    return adapter.scale * (a.reshape(len(a), -1, rank) @ b.reshape(len(b), rank, -1))


def adapters(params: Mapping[str, Any]) -> Iterator[tuple[str, LowRank]]:
    """Adapters of a model with the names of their matrices."""
    layers = params["decoder"]["layers"]
    for name, (part, _) in MATRICES.items():
        if name + SUFFIX in layers.get(part, {}):
            yield name, layers[part][name + SUFFIX]


def parameter_count(config: ModelConfig, options: LoraConfig) -> int:
    """Number of parameters of one model's adapters, without heads."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    sides = {"q": hidden + queries, "k": hidden + keys, "v": hidden + keys, "o": queries + hidden}
    sides |= dict.fromkeys(("gate", "up", "down"), hidden + inner)
    return config.num_layers * options.lora_rank * sum(sides[name] for name in options.matrices)
