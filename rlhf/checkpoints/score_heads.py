"""Score heads of model folders: their names, sizes, kinds and normalisation.

Safe RLHF's models have `score_head.weight` and `score_head.bias`; sequence classifiers of transformers, TRL's reward
models and the published moderation model have `score.weight`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlhf.checkpoints.tensor_files import Weights
from rlhf.judges.score_normalizer import EPSILON, ScoreStatistics
from rlhf.models.architecture import ModelConfig

HEAD, BIAS = "score_head.weight", "score_head.bias"
WORDS, OPENINGS = "score_words.weight", "score_openings.weight"
HEADS: Mapping[str, str] = {HEAD: BIAS, "score.weight": "score.bias"}
"""Names of heads, and of their biases."""

LIKE_A_HEAD = ("score", "v_head", "value_head", "reward", "classifier", "summary")
"""Parts of the names of score heads in other libraries."""


def head_in(files: Weights) -> str | None:
    """Name of the score head in a folder, None if there is none.

    Raises:
        ValueError: there are several.
    """
    names = [name for name in HEADS if name in files]
    if len(names) > 1:
        raise ValueError(f"{files.folder} must have one score head, got {' and '.join(names)}")
    return names[0] if names else None


def alike(files: Weights) -> list[str]:
    """Names of the tensors that resemble a head."""
    return sorted(name for name in files.files if any(word in name.lower() for word in LIKE_A_HEAD))


def size_in(files: Weights, entries: Mapping[str, Any], default: int) -> int:
    """Number of scores of a folder: the rows of its head, or `default` without a head.

    Raises:
        ValueError: the configuration states another number.
    """
    name = head_in(files)
    labels = entries.get("id2label")
    stated = {"score_dim": entries.get("score_dim"), "num_labels": entries.get("num_labels")}
    stated["id2label"] = len(labels) if isinstance(labels, Mapping) else None
    if name is None:
        return stated["score_dim"] or default
    shape = files.shape(name)
    if len(shape) != 2 or shape[0] < 1:
        raise ValueError(f"{files.folder}: {name} must have shape (scores, hidden_size), got {shape}")
    for key, number in stated.items():
        if number is not None and number != shape[0]:
            raise ValueError(f"{files.folder}: {name} must have as many rows as {key} {number!r}, got {shape[0]}")
    return shape[0]


def check_kind(folder: Path, entries: Mapping[str, Any], kind: str, file: str = "config.json") -> None:
    """Check that a folder has scores of a kind.

    Raises:
        ValueError: its file states another kind.
    """
    recorded = entries.get("score_type")
    if kind and recorded and recorded != kind:
        raise ValueError(f"{folder} must be a {kind} model, got a {recorded} model according to its {file}")


def check_size(folder: Path, size: int, new_scores: int, kind: str) -> None:
    """Check that a folder has the requested number of scores.

    Raises:
        ValueError: it has another number.
    """
    expected = 1 if kind else new_scores or size
    if size != expected:
        raise ValueError(f"{folder} must be a {kind or 'score'} model with {expected} scores per text, got {size}")


def check(files: Weights, entries: Mapping[str, Any], size: int, new_scores: int, kind: str) -> None:
    """Check that a folder has the requested scores, or may get a new head; see `model_folder.open_model`.

    Raises:
        ValueError: it has other scores, or none and `new_scores` is 0.
    """
    folder = files.folder
    check_kind(folder, entries, kind)
    if head_in(files) is not None:
        check_size(folder, size, new_scores, kind)
        return
    names = ", ".join(alike(files))
    if not new_scores:
        hint = f"possible heads: {names}" if names else "no other tensor resembles a head"
        raise ValueError(f"{folder} must be a {kind or 'score'} model with a tensor {HEAD}, got none; {hint}")
    if names:
        warnings.warn(f"{folder}: a new score head is trained; {names} in its weights are not used", stacklevel=3)


def read(
    files: Weights, config: ModelConfig, entries: Mapping[str, Any], kind: str = ""
) -> tuple[dict[str, Any], ScoreStatistics]:
    """Read the head of a folder, and the statistics of its scores.

    With `do_normalize` the published code normalises every score: rewards by mean and deviation, costs by deviation.
    The head then includes this, which gives the same scores.

    Raises:
        KeyError: a tensor is missing.
        ValueError: a tensor has another shape, or the scores cannot be normalised.
    """
    name = head_in(files) or HEAD
    size, bias = files.shape(name)[0], HEADS[name]
    params: dict[str, Any] = {
        "score_head": files.read(name, (size, config.hidden_size)).astype(np.float32).T.copy(),
        "score_bias": files.read(bias, (size,)).astype(np.float32) if bias in files else np.zeros(size, np.float32),
    }
    if config.score_words:
        params["score_words"] = files.read(WORDS, (config.vocab_size, size)).astype(np.float32)
    if config.score_openings:
        params["score_openings"] = files.read(OPENINGS, (config.vocab_size, size)).astype(np.float32)
    recorded = statistics(entries, size)
    if not entries.get("do_normalize"):
        return params, recorded
    return _normalized(files, config, params, recorded, str(entries.get("score_type") or kind))


def _normalized(
    files: Weights, config: ModelConfig, params: dict[str, Any], recorded: ScoreStatistics, kind: str
) -> tuple[dict[str, Any], ScoreStatistics]:
    """Put the normalisation of scores into their head; see `read`."""
    folder, size = files.folder, len(params["score_bias"])
    if config.score_pooling != "last" or kind not in ("reward", "cost"):
        raise ValueError(
            f"{folder}: do_normalize needs a reward or cost model with score_pooling 'last', got kind {kind!r} and "
            f"{config.score_pooling!r}. Set do_normalize to false in config.json to use the scores as they are"
        )
    mean, variance = np.asarray(recorded.mean, np.float64), np.asarray(recorded.variance, np.float64)
    if "normalizer.mean" in files and "normalizer.var" in files:
        mean, variance = (files.read(f"normalizer.{name}", (size,)).astype(np.float64) for name in ("mean", "var"))
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(variance)) and np.all(variance > 0)):
        raise ValueError(f"{folder}: do_normalize needs a finite mean and a positive var, got {mean} and {variance}")
    warnings.warn(f"{folder}: do_normalize is true; its score head includes the normalisation", stacklevel=4)
    center, scale = (mean if kind == "reward" else np.zeros(size)), np.sqrt(variance) + EPSILON
    head, bias = (np.asarray(params[name], np.float64) for name in ("score_head", "score_bias"))
    scaled = {"score_head": (head / scale), "score_bias": (bias - center) / scale}
    after = ScoreStatistics(
        jnp.asarray((mean - center) / scale, jnp.float32), jnp.asarray(variance / scale**2, jnp.float32), recorded.count
    )
    return params | {name: array.astype(np.float32) for name, array in scaled.items()}, after


def statistics(entries: Mapping[str, Any], size: int) -> ScoreStatistics:
    """Statistics of scores that a JSON file states, the initial ones without them.

    Raises:
        ValueError: they have another size or type.
    """
    mean, variance = entries.get("mean") or [0.0] * size, entries.get("var") or [1.0] * size
    try:
        arrays = [np.asarray(values, np.float32).reshape(-1) for values in (mean, variance)]
        count = np.int32(entries.get("count", 0))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"mean, var and count must be numbers, got {mean!r} and {variance!r}") from error
    if any(len(array) != size for array in arrays):
        raise ValueError(f"mean and var must have {size} numbers, got {mean!r} and {variance!r}")
    return ScoreStatistics(jnp.asarray(arrays[0]), jnp.asarray(arrays[1]), jnp.asarray(count, jnp.int32))
