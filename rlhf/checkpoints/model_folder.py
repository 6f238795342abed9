"""A model as a folder in Hugging Face's layout: configuration, tokenizer and weights, with or without scores on top.

Score models carry `score_head.weight`, `score_head.bias` and the statistics of their scores beside the decoder's
tensors, as the published reward and cost models do.
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
from rlhf.checkpoints import weight_files
from rlhf.judges.score_normalizer import ScoreStatistics
from rlhf.models.architecture import PUBLISHED, ModelConfig, scoring_from_hf, scoring_to_hf
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.tokenizer.tokenizer import FAST, SENTENCEPIECE, Tokenizer, check_size, load_tokenizer, template_of

HEAD, BIAS = "score_head.weight", "score_head.bias"
WORDS, OPENINGS = "score_words.weight", "score_openings.weight"
LIKE_A_HEAD = ("score", "v_head", "value_head", "reward", "classifier", "summary")
"""Parts of the names that other libraries give to the tensors of a head of scores."""

OWN = "jsafe.json"
"""Beside adapters, what PEFT's own files have no place for: how their model scores, and the weights they belong to."""

BESIDE = ("tokenizer_config.json", "special_tokens_map.json")

PRESETS: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 128, "intermediate_size": 384, "num_layers": 2, "num_heads": 4},
    "mini": {"hidden_size": 96, "intermediate_size": 288, "num_layers": 2, "num_heads": 3},
    "tiny": {"hidden_size": 64, "intermediate_size": 192, "num_layers": 2, "num_heads": 2},
    "nano": {"hidden_size": 32, "intermediate_size": 96, "num_layers": 2, "num_heads": 1},
}
"""Sizes that two CPU cores train in minutes; their vocabulary is learned from the texts they are trained on."""


class Model(NamedTuple):
    """A model and what belongs to it.

    Attributes:
        config: sizes and switches.
        tokenizer: with the model's own special ids.
        params: NumPy arrays; `decoder`, and `head` of a language model or `score_head`, `score_bias` and perhaps
            `score_words` and `score_openings` of a score model.
        statistics: of the scores, None for a language model.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    params: dict[str, Any]
    statistics: ScoreStatistics | None = None

    @property
    def score_size(self) -> int:
        """S, scores of a text; 0 for a language model."""
        return self.params["score_head"].shape[1] if "score_head" in self.params else 0


def missing(folder: Path, tokenizer: Path | None = None) -> list[str]:
    """What a folder lacks to be loaded, in words; empty if nothing."""
    if not folder.is_dir():
        return [f"there is no folder {folder}"]
    if peft.is_adapter(folder):
        below = [f"{reason}, of which {folder} holds adapters" for reason in missing(peft.base_of(folder), tokenizer)]
        return below + ([] if (folder / peft.TENSORS).is_file() else [f"{folder / peft.TENSORS}"])
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
    """Read a folder.

    Args:
        folder: with `config.json` and weights, or with adapters, which name the model they belong to.
        tokenizer: its folder or file, None for the model's own.
        score: read a score model.
        new_scores: scores of a new head, drawn from seed 0, where the folder has none yet; a training asks for it.
            With 0 such a folder is refused: a head that nobody trained judges at random.
        kind: of a judge, `reward` or `cost`; a folder that says it is of another kind is refused.
        adapters: leave adapters beside the weights they belong to, in place of adding them up.

    Raises:
        FileNotFoundError: pieces are missing; the message names all of them.
        KeyError: a tensor is missing.
        ValueError: a file is damaged, tokenizer and model do not fit, or the scores are not those asked for.
    """
    if lacks := missing(folder, tokenizer):
        raise FileNotFoundError(f"cannot open the model: {'; '.join(lacks)}")
    if peft.is_adapter(folder):
        return _adapted(folder, tokenizer, score, new_scores, kind, adapters)
    config = weight_files.load_config(folder)
    files = weight_files.Weights(folder)
    said = json.loads((folder / "config.json").read_text())
    size = int(said.get("score_dim") or new_scores or 1)
    if score:
        _check_scores(folder, files, said, size, new_scores, kind)
    tokens = load_tokenizer(tokenizer or folder, config)
    params: dict[str, Any] = {"decoder": weight_files.load_decoder(config, files)}
    statistics = None
    if not score:
        if HEAD in files or said.get("score_dim"):
            raise ValueError(f"{folder} is a model that gives scores, and a language model is wanted")
        if not config.tied:
            shape = (config.vocab_size, config.hidden_size)
            params["head"] = files.read("lm_head.weight", shape).astype(np.float32)
    elif HEAD in files:
        params["score_head"] = files.read(HEAD, (size, config.hidden_size)).astype(np.float32).T.copy()
        params["score_bias"] = files.read(BIAS, (size,)).astype(np.float32) if BIAS in files else _zeros(size)
        if config.score_words:
            params["score_words"] = files.read(WORDS, (config.vocab_size, size)).astype(np.float32)
        if config.score_openings:
            params["score_openings"] = files.read(OPENINGS, (config.vocab_size, size)).astype(np.float32)
        statistics = _statistics(said, size)
    else:
        params |= new_head(config, new_scores)
        config = dataclasses.replace(config, score_words=False, score_openings=0)
    return grown(Model(config, tokens, params, statistics))


def _adapted(folder: Path, tokenizer: Path | None, score: bool, new_scores: int, kind: str, adapters: bool) -> Model:
    """A model of adapters and the model they belong to; see `open_model`."""
    said = json.loads((folder / OWN).read_text()) if (folder / OWN).is_file() else {}
    size = int(said.get("score_dim") or 0)
    if bool(size) != score:
        what = "score" if size else "language"
        raise ValueError(
            f"{folder} holds adapters of a {what} model, and a {'score' if score else 'language'} model is wanted"
        )
    if score:
        _check_kind(folder, said, kind, OWN)
        _check_size(folder, size, new_scores, kind)
    base = peft.base_of(folder)
    if said.get("base_sha256") not in (None, peft.fingerprint(base)):
        raise ValueError(f"{folder} holds adapters of other weights than {base} has now: put those back")
    below = open_model(base, tokenizer, score=score, new_scores=size)
    params = lora.joined(below.params, peft.load(folder, below.params))
    config = dataclasses.replace(below.config, **scoring_from_hf(said)) if score else below.config
    statistics = _statistics(said, size) if score else None
    return Model(config, below.tokenizer, params if adapters else lora.merged(params), statistics)


def shared(models: Iterable[Model]) -> list[Model]:
    """The models with equal arrays held once: adapters of one model then stand on one copy of its weights."""
    held: dict[tuple[Any, ...], list[np.ndarray]] = {}

    def once(array: Any) -> Any:
        array = np.asarray(array)
        alike = held.setdefault((array.shape, array.dtype, array.reshape(-1)[:64].tobytes()), [])
        for other in alike:
            if array is other or np.array_equal(array, other):
                return other
        alike.append(array)
        return array

    return [model._replace(params=jax.tree.map(once, model.params)) for model in models]


def _check_kind(folder: Path, said: Mapping[str, Any], kind: str, file: str = "config.json") -> None:
    told = said.get("score_type")
    if kind and told and told != kind:
        raise ValueError(f"{folder} is a {told} model, as its {file} says, and a {kind} model is wanted")


def _check_size(folder: Path, size: int, new_scores: int, kind: str) -> None:
    wanted = 1 if kind else new_scores or size
    if size != wanted:
        raise ValueError(f"{folder} gives {size} scores to a text, and a {kind or 'score'} model gives {wanted} here")


def _check_scores(
    folder: Path, files: weight_files.Weights, said: Mapping[str, Any], size: int, new_scores: int, kind: str
) -> None:
    """Refuse a folder whose scores are not those asked for; see `open_model`."""
    _check_kind(folder, said, kind)
    if HEAD not in files:
        if new_scores:
            return
        alike = sorted(name for name in files.files if any(word in name.lower() for word in LIKE_A_HEAD))
        found = f"its tensors that may be one: {', '.join(alike)}" if alike else "no other tensor looks like one"
        raise ValueError(f"{folder} is no {kind or 'score'} model: it has no tensor {HEAD}; {found}")
    _check_size(folder, size, new_scores, kind)


def _zeros(size: int) -> np.ndarray:
    return np.zeros(size, np.float32)


def _statistics(said: Mapping[str, Any], size: int) -> ScoreStatistics:
    mean, variance = said.get("mean") or [0.0] * size, said.get("var") or [1.0] * size
    return ScoreStatistics(jnp.asarray(mean), jnp.asarray(variance), jnp.asarray(said.get("count", 0), jnp.int32))


def new_head(config: ModelConfig, size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """An untrained head of `size` scores: normal with the deviation of the model's matrices, and no bias."""
    drawn = np.random.default_rng(seed).normal(0.0, config.init_std, (config.hidden_size, size))
    return {"score_head": drawn.astype(np.float32), "score_bias": _zeros(size)}


def grown(model: Model) -> Model:
    """The model with an embedding of its tokenizer's padding: if it has none, the mean of the others, as published."""
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
    """The configuration of a size by name, one of `PRESETS`, with so many tokens, or of `rlhf.models.PUBLISHED`.

    Raises:
        ValueError: there is no such size.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    if name not in PRESETS:
        raise ValueError(f"no model folder and no size is called {name!r}; sizes: {', '.join([*PRESETS, *PUBLISHED])}")
    sizes: dict[str, Any] = dict(PRESETS[name])
    heads = sizes["num_heads"]
    return ModelConfig(
        **sizes, vocab_size=vocabulary, num_kv_heads=heads, head_dim=sizes["hidden_size"] // heads, tied=True
    )


def fresh(name: str, tokenizer: Tokenizer, seed: int = 0, *, score: bool = False, size: int = 1) -> Model:
    """An untrained model of a size by name, one of `PRESETS` or `rlhf.models.PUBLISHED`.

    Raises:
        ValueError: there is no such size, or the tokenizer does not fit what it embeds.
    """
    config = size_of(name, max(tokenizer.size, tokenizer.pad + 1))
    if name in PRESETS:
        config = dataclasses.replace(config, bos_id=tokenizer.bos, eos_id=tokenizer.eos, pad_id=tokenizer.pad)
    else:
        check_size(tokenizer, config.vocab_size, name)
    tokenizer = tokenizer._replace(template=template_of(config))
    key, ids = jax.random.key(seed), jnp.zeros((1, 2), jnp.int32)
    if score:
        made = jax.jit(ScoreModel(config, size).init)(key, ids, jnp.ones((1, 2), bool))["params"]
    else:
        made = jax.jit(LanguageModel(config).init)(key, ids)["params"]
    return grown(Model(config, tokenizer, jax.tree.map(np.asarray, made)))


def with_template(model: Model, template: str | None) -> Model:
    """The model with another template of conversations; None keeps its family's.

    Raises:
        ValueError: Baichuan's for another family, whose tokens are no roles.
    """
    if template is None:
        return model
    if template == BAICHUAN and model.config.family != "baichuan":
        raise ValueError(f"template 'baichuan' needs a model of the family baichuan, got one of {model.config.family}")
    return model._replace(tokenizer=model.tokenizer._replace(template=template))


def with_scores(model: Model, size: int = 1, seed: int = 0) -> Model:
    """A language model's decoder under a new head of scores."""
    return model._replace(params={"decoder": model.params["decoder"], **new_head(model.config, size, seed)})


def save_model(folder: Path, model: Model, kind: str = "") -> None:
    """Write a folder that `open_model` and Hugging Face's libraries read.

    Args:
        folder: made if it does not exist.
        model: arrays of the host.
        kind: of a score model: `reward`, `cost`, `critic` or `moderation`.
    """
    extra = {"architectures": ["LlamaForScore"], **_scores(model, kind)} if model.score_size else {}
    weight_files.save(folder, model.config, _tensors(model), extra=extra)
    source = model.tokenizer.path
    kept = FAST if source.suffix == ".json" else SENTENCEPIECE
    for path, name in [(source, kept), *((source.parent / name, name) for name in BESIDE)]:
        if path.is_file() and path.resolve() != (folder / name).resolve():
            shutil.copyfile(path, folder / name)


def save_adapters(folder: Path, model: Model, trained: Mapping[str, Any], base: Path, kind: str = "") -> None:
    """Write adapters as a folder that `open_model` and PEFT read.

    Args:
        folder: made if it does not exist; not that of a model.
        model: that they belong to, with its scores if it has some.
        trained: adapters, and the head of a score model.
        base: folder of the model below.
        kind: of a score model.

    Raises:
        ValueError: the model is no Llama.
    """
    peft.save(folder, model.config, trained, str(base.resolve()))
    said: dict[str, Any] = {"base_sha256": peft.fingerprint(base)}
    if model.score_size:
        said |= _scores(model, kind) | scoring_to_hf(model.config)
    (folder / OWN).write_text(json.dumps(said, indent=1))


def _scores(model: Model, kind: str) -> dict[str, Any]:
    """What the files of a model say of its scores."""
    said: dict[str, Any] = {"score_type": kind, "score_dim": model.score_size, "score_bias": True}
    said |= {"do_normalize": False, "normalizer_type": "ExponentialMovingAverage"}
    if model.statistics is not None:
        mean, variance, count = (np.asarray(x) for x in model.statistics)
        said |= {"mean": mean.tolist(), "var": variance.tolist(), "count": int(count)}
    return said


def _tensors(model: Model) -> Iterator[tuple[str, np.ndarray]]:
    if not model.score_size:
        yield from weight_files.language_model_tensors(model.config, {"params": model.params})
        return
    yield from weight_files.decoder_tensors(model.config, model.params["decoder"])
    yield HEAD, np.asarray(model.params["score_head"]).T
    yield BIAS, np.asarray(model.params["score_bias"])
    if "score_words" in model.params:
        yield WORDS, np.asarray(model.params["score_words"])
    if "score_openings" in model.params:
        yield OPENINGS, np.asarray(model.params["score_openings"])
    if model.statistics is not None:
        mean, variance, count = (np.asarray(x) for x in model.statistics)
        yield from (("normalizer.mean", mean), ("normalizer.var", variance), ("normalizer.count", count.astype("i8")))
