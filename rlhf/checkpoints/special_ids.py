"""Ids of start, end and padding of a model, from the files that state them."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.checkpoints import weight_files
from rlhf.models.architecture import ModelConfig, eos_ids
from rlhf.tokenizer import tokenizer as tokenizers
from rlhf.tokenizer.tokenizer import Tokenizer

Stated = dict[str, tuple[int, ...]]
"""Ids by file, in the order in which files are preferred."""


def open_tokenizer(folder: Path, place: Path, config: ModelConfig) -> tuple[ModelConfig, Tokenizer]:
    """Read the tokenizer of a model, and find the special ids of both.

    An id comes from `config.json`, else from `generation_config.json`, else from the tokenizer. The ids that end an
    answer are those of both JSON files, because transformers stops at either. Files that disagree cause a warning.

    Args:
        folder: folder of the model.
        place: folder or file of its tokenizer.
        config: configuration of the model, without the tokenizer's ids.

    Raises:
        ValueError: a file is damaged, an id is not in the vocabulary, or no file states the end of a text.
    """
    files = [name for name in ("config.json", weight_files.GENERATION) if (folder / name).is_file()]
    by_file = {name: weight_files.parsed(folder / name, _ids) for name in files}
    ends = [end for ids in by_file.values() for end in ids.get("eos", ())]
    own = tokenizers.load_tokenizer(place, eos=ends[0] if ends else None)
    by_file[own.path.name] = {kind: (i,) for kind, i in tokenizers.stated_ids(own).items()}
    stated = {kind: {name: ids[kind] for name, ids in by_file.items() if ids.get(kind)} for kind in tokenizers.SPECIAL}
    _check_rows(folder, config, stated)
    for kind, ids in stated.items():
        if kind != "bos" or config.family != "baichuan":  # Baichuan 2 is trained without a start token
            _warn_of_difference(folder, kind, ids)
    ends = ends or [own.eos]
    config = dataclasses.replace(
        config,
        bos_id=_first(stated["bos"], own.bos),
        eos_id=ends[0],
        other_eos_ids=tuple(dict.fromkeys(ends))[1:],
        pad_id=_first(stated["pad"], None),
    )
    return config, tokenizers.fitted(own, config)


def save_generation_config(folder: Path, source: Path, config: ModelConfig) -> None:
    """Write the ids that generation in transformers uses, with the other entries of the original's file."""
    path = source / weight_files.GENERATION
    entries = weight_files.parsed(path, dict) if path.is_file() else {}
    ends = list(config.ends) if config.other_eos_ids else config.eos_id
    ids = {"bos_token_id": config.bos_id, "eos_token_id": ends, "pad_token_id": config.pad_id}
    entries |= {name: value for name, value in ids.items() if value is not None}
    (folder / weight_files.GENERATION).write_text(json.dumps(entries, indent=1), encoding="utf-8")


def _ids(entries: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Special ids of a JSON file; a negative id of padding means none, as Llama's first configurations have it."""
    ids = {"eos": eos_ids(entries)}
    for kind in ("bos", "pad"):
        value = entries.get(f"{kind}_token_id")
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{kind}_token_id must be a whole number, got {value!r}")
        ids[kind] = () if value is None or (kind == "pad" and value < 0) else (value,)
    return ids


def _first(stated: Stated, default: int | None) -> int | None:
    return next((ids[0] for ids in stated.values()), default)


def _check_rows(folder: Path, config: ModelConfig, stated: Mapping[str, Stated]) -> None:
    for kind in ("bos", "eos"):
        for name, ids in stated[kind].items():
            if wrong := [i for i in ids if not 0 <= i < config.vocab_size]:
                raise ValueError(
                    f"{folder / name}: {kind}_token_id must be below vocab_size {config.vocab_size}, got {wrong[0]}"
                )


def _warn_of_difference(folder: Path, kind: str, stated: Stated) -> None:
    """Warn if files state different ids; further ends of an answer in one file are no difference."""
    sets = [set(ids) for ids in stated.values()]
    if all(one <= other or other <= one for one in sets for other in sets):
        return
    listed = ", ".join(f"{'/'.join(map(str, ids))} in {name}" for name, ids in stated.items())
    used = [i for name, ids in stated.items() for i in ids if kind != "eos" or not name.startswith("tokenizer")]
    shown = ", ".join(map(str, dict.fromkeys(used))) if kind == "eos" else str(used[0])
    warnings.warn(f"{folder}: {kind}_token_id is {listed}; {shown} is used", stacklevel=4)
