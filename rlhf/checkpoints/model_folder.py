"""Models as folders in Hugging Face's layout: configuration, tokenizer and weights, with or without a score head.

Score models have `score_head.weight`, `score_head.bias` and the statistics of their scores in addition to the decoder's
tensors, like the published reward and cost models.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf.adapters import lora, peft
from rlhf.chat_templates.safe_rlhf import BAICHUAN
from rlhf.checkpoints import score_heads, special_ids, weight_files
from rlhf.judges.score_normalizer import ScoreStatistics
from rlhf.models.architecture import PUBLISHED, ModelConfig, scoring_from_hf, scoring_to_hf
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.tokenizer.tokenizer import FAST, SENTENCEPIECE, Tokenizer, check_size, template_of

EXTRA_FILE = "jsafe.json"
"""File next to adapters for entries without a place in PEFT's files: scoring options and the digest of the weights."""

COPIED = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")

PRESETS: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 128, "intermediate_size": 384, "num_layers": 2, "num_heads": 4},
    "mini": {"hidden_size": 96, "intermediate_size": 288, "num_layers": 2, "num_heads": 3},
    "tiny": {"hidden_size": 64, "intermediate_size": 192, "num_layers": 2, "num_heads": 2},
    "nano": {"hidden_size": 32, "intermediate_size": 96, "num_layers": 2, "num_heads": 1},
}
"""Sizes that two CPU cores train in minutes; their vocabulary is learned from the training texts."""


class Model(NamedTuple):
    """A model with its tokenizer and statistics.

    Attributes:
        config: configuration.
        tokenizer: tokenizer with the model's special ids.
        params: NumPy arrays; `decoder`, and `head` of a language model or `score_head`, `score_bias` and perhaps
            `score_words` and `score_openings` of a score model.
        statistics: statistics of the scores, None for a language model.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    params: dict[str, Any]
    statistics: ScoreStatistics | None = None

    @property
    def score_size(self) -> int:
        """S, number of scores of a text; 0 for a language model."""
        return self.params["score_head"].shape[1] if "score_head" in self.params else 0


def missing(folder: Path, tokenizer: Path | None = None) -> list[str]:
    """Descriptions of the missing parts of a model folder; empty if it is complete."""
    if not folder.is_dir():
        return [f"there is no folder {folder}"]
    if peft.is_adapter(folder):
        reasons = [f"{reason} (base model of {folder})" for reason in missing(peft.base_of(folder), tokenizer)]
        return reasons + ([] if (folder / peft.TENSORS).is_file() else [f"{folder / peft.TENSORS}"])
    lacks = []
    if not (folder / "config.json").is_file():
        lacks.append(f"{folder / 'config.json'}")
    try:
        weight_files.Weights(folder)
    except (FileNotFoundError, ValueError) as error:
        lacks.append(str(error))
    place = tokenizer or folder
    if not place.is_file() and not any((place / name).is_file() for name in (FAST, SENTENCEPIECE)):
        lacks.append(f"{place} has no tokenizer ({FAST} or {SENTENCEPIECE})")
    return lacks


def open_model(
    folder: Path,
    tokenizer: Path | None = None,
    *,
    score: bool = False,
    new_scores: int = 0,
    kind: str = "",
    adapters: bool = False,
) -> Model:
    """Read a model from its folder.

    Args:
        folder: folder with `config.json` and weights, or with adapters, which name their base model.
        tokenizer: folder or file of a tokenizer, None for the model's own.
        score: read a score model.
        new_scores: size of the new head, initialised from seed 0, for training from a folder without a head. With 0
            such a folder is refused, because an untrained head scores at random.
        kind: kind of a judge, `reward` or `cost`; a folder of another kind is refused.
        adapters: return adapters separate from their weights instead of merged.

    Raises:
        FileNotFoundError: parts are missing; the message names all of them.
        KeyError: a tensor is missing.
        ValueError: a file is damaged, tokenizer and model do not fit, or the scores are not the requested ones.
    """
    if lacks := missing(folder, tokenizer):
        raise FileNotFoundError(f"cannot open the model: {'; '.join(lacks)}")
    if peft.is_adapter(folder):
        return _open_adapted(folder, tokenizer, score, new_scores, kind, adapters)
    config = weight_files.load_config(folder)
    files = weight_files.Weights(folder)
    entries = weight_files.parsed(folder / "config.json", dict)
    if score:
        score_heads.check(files, entries, score_heads.size_in(files, entries, new_scores or 1), new_scores, kind)
    config, tokens = special_ids.open_tokenizer(folder, tokenizer or folder, config)
    params: dict[str, Any] = {"decoder": weight_files.load_decoder(config, files)}
    statistics = None
    if not score:
        if score_heads.head_in(files) or entries.get("score_dim"):
            raise ValueError(f"{folder} must be a language model, got a score model")
        config, head = weight_files.load_head(config, files, params["decoder"]["embedding"])
        params |= {} if head is None else {"head": head}
    elif score_heads.head_in(files):
        head_params, statistics = score_heads.read(files, config, entries, kind)
        params |= head_params
    else:
        params |= new_head(config, new_scores)
        config = dataclasses.replace(config, score_words=False, score_openings=0)
    weight_files.report_unread(config, files, score=score)
    return grown(Model(config, tokens, params, statistics))


def _open_adapted(
    folder: Path, tokenizer: Path | None, score: bool, new_scores: int, kind: str, adapters: bool
) -> Model:
    """Read adapters and their base model; see `open_model`."""
    entries = json.loads((folder / EXTRA_FILE).read_text(encoding="utf-8")) if (folder / EXTRA_FILE).is_file() else {}
    size = int(entries.get("score_dim") or 0)
    if bool(size) != score:
        what = "score" if size else "language"
        raise ValueError(
            f"{folder} must have adapters of a {'score' if score else 'language'} model, got those of a {what} model"
        )
    if score:
        score_heads.check_kind(folder, entries, kind, EXTRA_FILE)
        if entries.get("do_normalize"):
            raise ValueError(f"{folder / EXTRA_FILE}: do_normalize must be false for adapters, got true")
        score_heads.check_size(folder, size, new_scores, kind)
    base = peft.base_of(folder)
    if entries.get("base_sha256") not in (None, peft.fingerprint(base)):
        raise ValueError(f"{folder} has adapters of other weights than those in {base}. Restore the original weights")
    base_model = open_model(base, tokenizer, score=score, new_scores=size)
    params = lora.joined(base_model.params, peft.load(folder, base_model.params))
    config = dataclasses.replace(base_model.config, **scoring_from_hf(entries)) if score else base_model.config
    statistics = score_heads.statistics(entries, size) if score else None
    return Model(config, base_model.tokenizer, params if adapters else lora.merged(params), statistics)


def shared(models: Iterable[Model]) -> list[Model]:
    """Share equal arrays between models: adapters of one model then share one copy of its weights."""
    arrays: dict[tuple[Any, ...], list[np.ndarray]] = {}

    def once(array: Any) -> Any:
        array = np.asarray(array)
        alike = arrays.setdefault((array.shape, array.dtype, array.reshape(-1)[:64].tobytes()), [])
        for other in alike:
            if array is other or np.array_equal(array, other):
                return other
        alike.append(array)
        return array

    return [model._replace(params=jax.tree.map(once, model.params)) for model in models]


def new_head(config: ModelConfig, size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """An untrained head of `size` scores: normal with the model's initial deviation, and a bias of zero."""
    drawn = np.random.default_rng(seed).normal(0.0, config.init_std, (config.hidden_size, size))
    return {"score_head": drawn.astype(np.float32), "score_bias": np.zeros(size, np.float32)}


def grown(model: Model) -> Model:
    """Add an embedding of the padding id if the model has none: the mean of the others, as published."""
    config, pad = model.config, model.tokenizer.pad
    if pad < config.vocab_size:
        return model._replace(config=dataclasses.replace(config, pad_id=pad))

    def more(table: np.ndarray) -> np.ndarray:
        return np.concatenate([table, np.repeat(table.mean(0, keepdims=True), pad + 1 - config.vocab_size, axis=0)])

    params = dict(model.params)
    params["decoder"] = params["decoder"] | {"embedding": more(params["decoder"]["embedding"])}
    params |= {name: more(params[name]) for name in ("head", *lora.FIXED) if name in params}
    return model._replace(config=dataclasses.replace(config, vocab_size=pad + 1, pad_id=pad), params=params)


def size_of(name: str, vocabulary: int) -> ModelConfig:
    """Configuration of a named size: one of `PRESETS` with `vocabulary` tokens, or one of `rlhf.models.PUBLISHED`.

    Raises:
        ValueError: the size does not exist.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    if name not in PRESETS:
        raise ValueError(f"model must be a folder or a size, got {name!r}; sizes: {', '.join([*PRESETS, *PUBLISHED])}")
    sizes: dict[str, Any] = dict(PRESETS[name])
    heads = sizes["num_heads"]
    return ModelConfig(
        **sizes, vocab_size=vocabulary, num_kv_heads=heads, head_dim=sizes["hidden_size"] // heads, tied=True
    )


def fresh(name: str, tokenizer: Tokenizer, seed: int = 0, *, score: bool = False, size: int = 1) -> Model:
    """An untrained model of a size by name, one of `PRESETS` or `rlhf.models.PUBLISHED`.

    Raises:
        ValueError: the size does not exist, or the tokenizer does not fit its vocabulary.
    """
    config = size_of(name, max(tokenizer.size, tokenizer.pad + 1))
    if name in PRESETS:
        config = dataclasses.replace(config, bos_id=tokenizer.bos, eos_id=tokenizer.eos, pad_id=tokenizer.pad)
    else:
        check_size(tokenizer, config.vocab_size, name)
    tokenizer = tokenizer._replace(template=template_of(config))
    key, ids = jax.random.key(seed), jnp.zeros((1, 2), jnp.int32)
    if score:
        initial = jax.jit(ScoreModel(config, size).init)(key, ids, jnp.ones((1, 2), bool))["params"]
    else:
        initial = jax.jit(LanguageModel(config).init)(key, ids)["params"]
    return grown(Model(config, tokenizer, jax.tree.map(np.asarray, initial)))


def with_template(model: Model, template: str | None) -> Model:
    """Replace the chat template; None keeps that of the model's family.

    Raises:
        ValueError: Baichuan's template for another family, which lacks its role tokens.
    """
    if template is None:
        return model
    if template == BAICHUAN and model.config.family != "baichuan":
        raise ValueError(f"template 'baichuan' needs a model of family 'baichuan', got {model.config.family!r}")
    return model._replace(tokenizer=model.tokenizer._replace(template=template))


def with_scores(model: Model, size: int = 1, seed: int = 0) -> Model:
    """Put a new score head on the decoder of a language model."""
    return model._replace(params={"decoder": model.params["decoder"], **new_head(model.config, size, seed)})


def save_model(folder: Path, model: Model, kind: str = "") -> None:
    """Write a folder that `open_model` and Hugging Face's libraries read.

    Args:
        folder: created if it does not exist.
        model: arrays of the host.
        kind: kind of a score model: `reward`, `cost`, `critic` or `moderation`.
    """
    extra = {"architectures": ["LlamaForScore"], **_scores(model, kind)} if model.score_size else {}
    weight_files.save(folder, model.config, _tensors(model), extra=extra)
    source = model.tokenizer.path
    kept = FAST if source.suffix == ".json" else SENTENCEPIECE
    for path, name in [(source, kept), *((source.parent / name, name) for name in COPIED)]:
        if path.is_file() and path.resolve() != (folder / name).resolve():
            shutil.copyfile(path, folder / name)
    if not model.score_size:
        special_ids.save_generation_config(folder, source.parent, model.config)


def save_adapters(folder: Path, model: Model, trained: Mapping[str, Any], base: Path, kind: str = "") -> None:
    """Write adapters as a folder that `open_model` and PEFT read.

    Args:
        folder: created if it does not exist; not that of a model.
        model: the adapted model, with its statistics if it has scores.
        trained: adapters, and the head of a score model.
        base: folder of the base model.
        kind: kind of a score model.

    Raises:
        ValueError: the model is not a Llama.
    """
    peft.save(folder, model.config, trained, str(base.resolve()))
    entries: dict[str, Any] = {"base_sha256": peft.fingerprint(base)}
    if model.score_size:
        entries |= _scores(model, kind) | scoring_to_hf(model.config)
    (folder / EXTRA_FILE).write_text(json.dumps(entries, indent=1), encoding="utf-8")


def _scores(model: Model, kind: str) -> dict[str, Any]:
    """Entries of a model's files about its scores."""
    entries: dict[str, Any] = {"score_type": kind, "score_dim": model.score_size, "score_bias": True}
    entries |= {"do_normalize": False, "normalizer_type": "ExponentialMovingAverage"}
    if model.statistics is not None:
        mean, variance, count = (np.asarray(x) for x in model.statistics)
        entries |= {"mean": mean.tolist(), "var": variance.tolist(), "count": int(count)}
    return entries


def _tensors(model: Model) -> Iterator[tuple[str, np.ndarray]]:
    if not model.score_size:
        yield from weight_files.language_model_tensors(model.config, {"params": model.params})
        return
    yield from weight_files.decoder_tensors(model.config, model.params["decoder"])
    yield score_heads.HEAD, np.asarray(model.params["score_head"]).T
    yield score_heads.BIAS, np.asarray(model.params["score_bias"])
    if "score_words" in model.params:
        yield score_heads.WORDS, np.asarray(model.params["score_words"])
    if "score_openings" in model.params:
        yield score_heads.OPENINGS, np.asarray(model.params["score_openings"])
    if model.statistics is not None:
        mean, variance, count = (np.asarray(x) for x in model.statistics)
        yield from (("normalizer.mean", mean), ("normalizer.var", variance), ("normalizer.count", count.astype("i8")))
