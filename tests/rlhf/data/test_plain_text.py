"""Plain text as pieces: every token is learned or predicted as it should be."""

from pathlib import Path

import numpy as np
import pytest

from rlhf.data import plain_text
from rlhf.tokenizer.tokenizer import Tokenizer


class Letters:
    """A token for each letter."""

    def encode(self, text):
        return [ord(c) for c in text]


TOKENS = Tokenizer(Path("letters"), Letters(), 256, None, 2, 0, "</s>")


def test_texts_stand_between_blank_lines_or_on_lines(tmp_path):
    place = tmp_path / "texts.txt"
    place.write_text("a\nb\n\nc\n")
    assert plain_text.read_texts(place) == ["a\nb", "c\n"]
    place.write_text("a\nb\n")
    assert plain_text.read_texts(place) == ["a", "b"]


def test_a_file_in_another_encoding_is_named(tmp_path):
    place = tmp_path / "texts.txt"
    place.write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(ValueError, match=r"texts.txt must be text in UTF-8, got .* can't decode byte 0xe9"):
        plain_text.read_texts(place)


def test_every_token_but_the_first_is_predicted_once():
    result = plain_text.held_out_text(["abcd", "e\u00e9"], TOKENS, 4)
    whole = plain_text.stream(["abcd", "e\u00e9"], TOKENS)
    assert result.ids[:, 1:][result.mask[:, 1:]].tolist() == whole[1:].tolist()
    assert result.tokens == len(whole) - 1 == 7
    np.testing.assert_array_equal(result.ids[1:, 0], result.ids[:-1, -1])
    assert result.bytes == 5 + 4  # the accented letter has two bytes


def test_a_stream_without_a_piece_is_refused():
    with pytest.raises(ValueError, match="less than one piece"):
        plain_text.pieces(plain_text.stream(["ab"], TOKENS), 4)
