"""One interface to tokenizers: SentencePiece models and Hugging Face's `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.chat_templates.safe_rlhf import BAICHUAN, SAFE_RLHF
from rlhf.models.architecture import ModelConfig

SENTENCEPIECE = "tokenizer.model"
FAST = "tokenizer.json"

SPARE_ROWS, SPARE_SHARE = 1024, 0.01
"""Maximum number and share of unused rows of an embedding. The larger one counts, because some models round up."""

PROBES = (
    "How do I oil the door? Read the label first, and let it dry overnight.",
    "BEGINNING OF CONVERSATION: USER: hi ASSISTANT:I'm sorry, that wouldn't be safe.",
    "  two  spaces\tand\n\na line's end ",
    "x = 12345.678; return f(y)[0] != {'a': None}",
    "naïve café, Größe, Привет, 登鹳雀楼, 😀",
)
"""Texts whose tokens distinguish tokenizers."""


class Tokenizer(NamedTuple):
    """Texts to ids and back.

    Attributes:
        path: its file.
        backend: the underlying tokenizer.
        size: V, number of ids.
        bos: id at the start of a text, None for a model without one.
        eos: id at the end of a text.
        pad: id of padding; V for a tokenizer without one.
        eos_text: text of the end-of-text token.
        other_ends: further ids that end an answer and do not belong to it.
        template: template of conversations, one of `rlhf.chat_templates.safe_rlhf.TEMPLATES`.
    """

    path: Path
    backend: Any
    size: int
    bos: int | None
    eos: int
    pad: int
    eos_text: str
    other_ends: tuple[int, ...] = ()
    template: str = SAFE_RLHF

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """Return the ids of a text, with the start token if `start` is set and the model has one.

        Each `eos_text` becomes the end-of-text token and separates independently encoded pieces.
        """
        ids = [self.bos] if start and self.bos is not None else []
        for number, piece in enumerate(text.split(self.eos_text)):
            ids += [self.eos] if number else []
            ids += self.backend.encode(piece) if piece else []
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without start, end and padding tokens."""
        special = {self.bos, self.eos, self.pad, *self.other_ends}
        return self.backend.decode([int(i) for i in ids if int(i) not in special and int(i) < self.size])


class _SentencePiece:
    """Encodes with a SentencePiece model."""

    def __init__(self, path: Path) -> None:
        import sentencepiece

        self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, text: str) -> list[int]:
        return self.model.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.model.decode(ids)

    def vocabulary(self) -> dict[str, int]:
        return {self.model.id_to_piece(i): i for i in range(self.model.vocab_size())}


class _Fast:
    """Encodes with a `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        import tokenizers

        self.model = tokenizers.Tokenizer.from_file(str(path))

    def encode(self, text: str) -> list[int]:
        return self.model.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.model.decode(ids, skip_special_tokens=True)

    def vocabulary(self) -> dict[str, int]:
        return self.model.get_vocab()


def difference(first: Tokenizer, second: Tokenizer) -> str:
    """Describe the difference between the ids of two tokenizers; empty if they are interchangeable.

    The comparison covers sizes, start and end tokens, the vocabularies of files of the same kind, and the tokens of
    `PROBES`. It ignores padding, which is masked.
    """
    for name in ("size", "bos", "eos"):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            return f"{name} is {one} in the first and {other} in the second"
    if type(first.backend) is type(second.backend):
        one, other = first.backend.vocabulary(), second.backend.vocabulary()
        if different := sorted(one.items() ^ other.items(), key=lambda entry: entry[::-1]):
            piece = different[0][0]
            return f"token {piece!r} has id {one.get(piece)} in the first and {other.get(piece)} in the second"
    for text in PROBES:
        if first.backend.encode(text) != second.backend.encode(text):
            return f"{text!r} has different tokens"
    return ""


def load_tokenizer(place: Path, config: ModelConfig | None = None) -> Tokenizer:
    """Read the tokenizer of a model's folder, or a SentencePiece file.

    Args:
        place: folder with `tokenizer.json` or `tokenizer.model`, or a `.model` file.
        config: configuration of its model.

    Raises:
        FileNotFoundError: there is no tokenizer.
        ValueError: the file is damaged, or it does not fit the model; the message names it.
    """
    files = [place] if place.is_file() else [place / name for name in (FAST, SENTENCEPIECE) if (place / name).is_file()]
    if not files:
        raise FileNotFoundError(f"{place} has no tokenizer: expected {FAST} or {SENTENCEPIECE}")
    path = files[0]
    try:
        tokenizer = _read_fast(path) if path.suffix == ".json" else _read_sentencepiece(path)
    except Exception as error:  # each library has its own errors for damaged files
        raise ValueError(f"{path} is not a readable tokenizer: {error}") from error
    if config is not None:
        tokenizer = _fitted(tokenizer, config)
    return tokenizer


def _read_sentencepiece(path: Path) -> Tokenizer:
    backend = _SentencePiece(path)
    model = backend.model
    pad = model.pad_id() if model.pad_id() >= 0 else model.vocab_size()
    return Tokenizer(path, backend, model.vocab_size(), model.bos_id(), model.eos_id(), pad, "</s>")


def _read_fast(path: Path) -> Tokenizer:
    backend = _Fast(path)
    config_file = path.parent / "tokenizer_config.json"
    settings = json.loads(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}

    def special(kind: str, default: str) -> tuple[str, int | None]:
        text = settings.get(f"{kind}_token", default)
        text = text.get("content", default) if isinstance(text, dict) else text or default
        return text, backend.model.token_to_id(text)

    size = backend.model.get_vocab_size()
    eos_text, eos = special("eos", "</s>")
    if eos is None:
        raise ValueError(f"it needs an end-of-text token, got none named {eos_text!r}")
    pad = special("pad", "<pad>")[1]
    return Tokenizer(path, backend, size, special("bos", "<s>")[1], eos, size if pad is None else pad, eos_text)


def check_size(tokenizer: Tokenizer, rows: int, model: str) -> None:
    """Check that a tokenizer belongs to an embedding with this number of rows.

    Raises:
        ValueError: it has more tokens than rows, or too few to explain the rest as padding of the embedding.
    """
    spare = rows - tokenizer.size
    if spare < 0 or spare > max(SPARE_ROWS, rows * SPARE_SHARE):
        raise ValueError(
            f"{tokenizer.path} has {tokenizer.size} tokens and {model} embeds {rows}: they do not belong together"
        )


def _fitted(tokenizer: Tokenizer, config: ModelConfig) -> Tokenizer:
    """Return the tokenizer with the special ids of the model.

    Raises:
        ValueError: the tokenizer belongs to another model.
    """
    check_size(tokenizer, config.vocab_size, "the model")
    # Baichuan 2 is trained without a start token, although its configuration has one.
    bos = None if config.family == "baichuan" else config.bos_id
    pad = tokenizer.pad if config.pad_id is None else config.pad_id
    ends = config.other_eos_ids
    return tokenizer._replace(bos=bos, eos=config.eos_id, pad=pad, other_ends=ends, template=template_of(config))


def template_of(config: ModelConfig) -> str:
    """Return the published template of conversations of a family of models."""
    return BAICHUAN if config.family == "baichuan" else SAFE_RLHF
