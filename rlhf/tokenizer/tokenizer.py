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

NAMES_OF_SPECIAL_TOKENS = ("tokenizer_config.json", "special_tokens_map.json")
SPECIAL = ("bos", "eos", "pad")

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

    def text_of(self, token: int) -> str | None:
        return self.model.id_to_piece(token) if 0 <= token < self.model.vocab_size() else None

    def vocabulary(self) -> dict[str, int]:
        return {self.model.id_to_piece(i): i for i in range(self.model.vocab_size())}


class _Fast:
    """Encodes with a `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        import tokenizers

        self.model = tokenizers.Tokenizer.from_file(str(path))
        # The file may store settings of its last use, which would change every text; transformers resets them too.
        self.model.no_truncation()
        self.model.no_padding()
        if getattr(self.model.model, "dropout", None):
            self.model.model.dropout = None

    def encode(self, text: str) -> list[int]:
        return self.model.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.model.decode(ids, skip_special_tokens=True)

    def text_of(self, token: int) -> str | None:
        return self.model.id_to_token(token) if token >= 0 else None

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


def load_tokenizer(place: Path, config: ModelConfig | None = None, *, eos: int | None = None) -> Tokenizer:
    """Read the tokenizer of a model's folder, or a SentencePiece file.

    Args:
        place: folder with `tokenizer.json` or `tokenizer.model`, or a `.model` file.
        config: configuration of its model, whose special ids replace those of the file.
        eos: end-of-text id of a tokenizer whose files name none.

    Raises:
        FileNotFoundError: there is no tokenizer.
        ValueError: the file is damaged, or it does not fit the model; the message names it.
    """
    files = [place] if place.is_file() else [place / name for name in (FAST, SENTENCEPIECE) if (place / name).is_file()]
    if not files:
        raise FileNotFoundError(f"{place} has no tokenizer: expected {FAST} or {SENTENCEPIECE}")
    path = files[0]
    try:
        tokenizer = _read_fast(path, eos) if path.suffix == ".json" else _read_sentencepiece(path, eos)
    except Exception as error:  # each library has its own errors for damaged files
        raise ValueError(f"{path} is not a readable tokenizer: {error}") from error
    if config is not None:
        tokenizer = fitted(tokenizer, config)
    return tokenizer


def _read_sentencepiece(path: Path, eos: int | None) -> Tokenizer:
    backend = _SentencePiece(path)
    model = backend.model
    bos, own, pad = (None if i < 0 else i for i in (model.bos_id(), model.eos_id(), model.pad_id()))
    end = own if own is not None else eos
    if end is None:
        raise ValueError("it needs an end-of-text token, got none")
    size = model.vocab_size()
    return Tokenizer(path, backend, size, bos, end, size if pad is None else pad, backend.text_of(end) or "</s>")


def _read_fast(path: Path, eos: int | None) -> Tokenizer:
    backend = _Fast(path)
    names = special_names(path.parent)

    def special(kind: str, default: str) -> int | None:
        return backend.model.token_to_id(names.get(kind, default))

    end = special("eos", "</s>")
    if end is None and "eos" not in names:
        end = eos
    if end is None:
        raise ValueError(f"it needs an end-of-text token, got none named {names.get('eos', '</s>')!r}")
    size, pad = backend.model.get_vocab_size(), special("pad", "<pad>")
    text = backend.text_of(end) or names.get("eos", "</s>")
    return Tokenizer(path, backend, size, special("bos", "<s>"), end, size if pad is None else pad, text)


def special_names(folder: Path) -> dict[str, str]:
    """Texts of the special tokens (`bos`, `eos`, `pad`) that the files next to a `tokenizer.json` name.

    `tokenizer_config.json` is read first, then `special_tokens_map.json`, which older folders have instead.

    Raises:
        ValueError: a file is damaged, or an entry is no token; the message names it.
    """
    names: dict[str, str] = {}
    for path in (folder / name for name in NAMES_OF_SPECIAL_TOKENS):
        if not path.is_file():
            continue
        try:
            entries = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(entries, dict):
            raise ValueError(f"{path} must have an object, got {type(entries).__name__}")
        for kind in SPECIAL:
            token = entries.get(f"{kind}_token")
            text = token.get("content") if isinstance(token, dict) else token
            if token is not None and not isinstance(text, str):
                raise ValueError(f"{path}: {kind}_token must be a text, got {token!r}")
            if text:
                names.setdefault(kind, text)
    return names


def stated_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Special ids (`bos`, `eos`, `pad`) that the files of a tokenizer state, without those of a model."""
    if isinstance(tokenizer.backend, _SentencePiece):
        model = tokenizer.backend.model
        ids = {"bos": model.bos_id(), "eos": model.eos_id(), "pad": model.pad_id()}
        return {kind: i for kind, i in ids.items() if i >= 0}
    names = special_names(tokenizer.path.parent)
    ids = {kind: tokenizer.backend.model.token_to_id(text) for kind, text in names.items()}
    return {kind: i for kind, i in ids.items() if i is not None}


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


def fitted(tokenizer: Tokenizer, config: ModelConfig) -> Tokenizer:
    """Return the tokenizer with the special ids of the model.

    Raises:
        ValueError: the tokenizer belongs to another model, or lacks the token that ends a text.
    """
    check_size(tokenizer, config.vocab_size, "the model")
    # Baichuan 2 is trained without a start token, although its configuration has one.
    bos = None if config.family == "baichuan" else config.bos_id
    pad = tokenizer.pad if config.pad_id is None else config.pad_id
    text = tokenizer.backend.text_of(config.eos_id)
    if text is None:
        raise ValueError(f"{tokenizer.path} needs a token of the model's eos_token_id {config.eos_id}, got none")
    own = tokenizer._replace(bos=bos, eos=config.eos_id, pad=pad, eos_text=text)
    return own._replace(other_ends=config.other_eos_ids, template=template_of(config))


def template_of(config: ModelConfig) -> str:
    """Return the published template of conversations of a family of models."""
    return BAICHUAN if config.family == "baichuan" else SAFE_RLHF
