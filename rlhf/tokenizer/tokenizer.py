"""Tokenizers behind one small interface: SentencePiece models and Hugging Face's `tokenizer.json`."""

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
"""Rows of an embedding that no token needs, at most the larger of the number and the share: some models round up."""

PROBES = (
    "How do I oil the door? Read the label first, and let it dry overnight.",
    "BEGINNING OF CONVERSATION: USER: hi ASSISTANT:I'm sorry, that wouldn't be safe.",
    "  two  spaces\tand\n\na line's end ",
    "x = 12345.678; return f(y)[0] != {'a': None}",
    "naïve café, Größe, Привет, 登鹳雀楼, 😀",
)
"""Texts by whose tokens tokenizers are told apart."""


class Tokenizer(NamedTuple):
    """Texts to ids and back.

    Attributes:
        path: the file it was read from.
        backend: encodes and decodes.
        size: V, ids are below it.
        bos: id at the start of a text, None if the model wants none.
        eos: id at the end of a text.
        pad: id of padding; one behind the vocabulary where the tokenizer has none.
        eos_text: how the end of a text is written inside a text.
        other_ends: further ids that end an answer and are no part of it.
        template: of conversations, one of `rlhf.chat_templates.safe_rlhf.TEMPLATES`.
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
        """Ids of a text, with the start of a text before it if `start` and if the model wants one.

        Where the text contains `eos_text`, the end of a text stands, and what follows begins anew.
        """
        ids = [self.bos] if start and self.bos is not None else []
        for number, piece in enumerate(text.split(self.eos_text)):
            ids += [self.eos] if number else []
            ids += self.backend.encode(piece) if piece else []
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without starts, ends and padding."""
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
    """How the ids of two tokenizers differ, in words; empty if a model of either reads those of the other.

    Compared are sizes, starts and ends, the vocabularies of files of one kind, and what `PROBES` are cut into. Padding
    is not: it is masked.
    """
    for name in ("size", "bos", "eos"):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            return f"{name} is {one} in the first and {other} in the second"
    if type(first.backend) is type(second.backend):
        one, other = first.backend.vocabulary(), second.backend.vocabulary()
        if apart := sorted(one.items() ^ other.items(), key=lambda entry: entry[::-1]):
            piece = apart[0][0]
            return f"token {piece!r} has id {one.get(piece)} in the first and {other.get(piece)} in the second"
    for text in PROBES:
        if first.backend.encode(text) != second.backend.encode(text):
            return f"they cut {text!r} into different tokens"
    return ""


def load_tokenizer(place: Path, config: ModelConfig | None = None) -> Tokenizer:
    """Read the tokenizer of a model's folder, or a SentencePiece file.

    Args:
        place: the folder, with `tokenizer.json` or `tokenizer.model`, or a `.model` file.
        config: of the model it is for.

    Raises:
        FileNotFoundError: there is no tokenizer.
        ValueError: the file is damaged, or it does not fit the model; the message names it.
    """
    found = [place] if place.is_file() else [place / name for name in (FAST, SENTENCEPIECE) if (place / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{place} has no tokenizer: expected {FAST} or {SENTENCEPIECE}")
    path = found[0]
    try:
        made = _read_fast(path) if path.suffix == ".json" else _read_sentencepiece(path)
    except Exception as error:  # either library reports damage in its own ways
        raise ValueError(f"{path} is not a tokenizer that can be read: {error}") from error
    if config is not None:
        made = _fitted(made, config)
    return made


def _read_sentencepiece(path: Path) -> Tokenizer:
    backend = _SentencePiece(path)
    model = backend.model
    pad = model.pad_id() if model.pad_id() >= 0 else model.vocab_size()
    return Tokenizer(path, backend, model.vocab_size(), model.bos_id(), model.eos_id(), pad, "</s>")


def _read_fast(path: Path) -> Tokenizer:
    backend = _Fast(path)
    beside = path.parent / "tokenizer_config.json"
    said = json.loads(beside.read_text()) if beside.is_file() else {}

    def special(kind: str, default: str) -> tuple[str, int | None]:
        text = said.get(f"{kind}_token", default)
        text = text.get("content", default) if isinstance(text, dict) else text or default
        return text, backend.model.token_to_id(text)

    size = backend.model.get_vocab_size()
    eos_text, eos = special("eos", "</s>")
    if eos is None:
        raise ValueError(f"it has no token {eos_text!r} for the end of a text")
    pad = special("pad", "<pad>")[1]
    return Tokenizer(path, backend, size, special("bos", "<s>")[1], eos, size if pad is None else pad, eos_text)


def check_size(tokenizer: Tokenizer, rows: int, model: str) -> None:
    """Refuse a tokenizer that is not the one of an embedding with so many rows.

    Raises:
        ValueError: it has more tokens than rows, or so many fewer that the rest is no padding of the embedding.
    """
    spare = rows - tokenizer.size
    if spare < 0 or spare > max(SPARE_ROWS, rows * SPARE_SHARE):
        raise ValueError(
            f"{tokenizer.path} has {tokenizer.size} tokens and {model} embeds {rows}: they do not belong together"
        )


def _fitted(made: Tokenizer, config: ModelConfig) -> Tokenizer:
    """The tokenizer with the model's own special ids.

    Raises:
        ValueError: the tokenizer is of another model.
    """
    check_size(made, config.vocab_size, "the model")
    # Baichuan 2 is trained without a start; its configuration names one all the same.
    bos = None if config.family == "baichuan" else config.bos_id
    pad = made.pad if config.pad_id is None else config.pad_id
    ends = config.other_eos_ids
    return made._replace(bos=bos, eos=config.eos_id, pad=pad, other_ends=ends, template=template_of(config))


def template_of(config: ModelConfig) -> str:
    """The template of conversations that a family of models was published with."""
    return BAICHUAN if config.family == "baichuan" else SAFE_RLHF
