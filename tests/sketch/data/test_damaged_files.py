"""Damaged files: whatever is changed in a small file, a reader returns drawings or raises its own error."""

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sketch.data.bitmap_dataset import BitmapConfig, load_bitmaps
from sketch.data.drawing_files import load
from sketch.data.strokes import from_polylines
from tests.conftest import ROOT

RNG_SEED = 17
CASES = ROOT.parent / "shared" / "cases" / "sketch"

SVG = """<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY ink "stroke:#000;fill:none">]>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink" width="20mm" viewBox="0 0 100 100">
<style>.a, g > path {stroke: black} #b {transform: rotate(20deg) scale(2)} [r] {visibility: visible !important}</style>
<defs><symbol id="s" viewBox="0 0 4 4"><circle cx="2" cy="2" r="50%"/></symbol><path id="p" d="M0 0q1 2 3 4z"/></defs>
<g class="a" style="&ink;" opacity=".5"><path id="b" transform="translate(3,4) skewX(2)" d="M1 2C3 4 5 6 7 8S1-2 3e1 4
A5 6 7 0 1 9 9a1 1 0 00 2-2t3 4h5V6Z"/><rect x="1" y="2" width="3cm" height="4" rx="1"/><ellipse rx="3" ry="2"/></g>
<use x:href="#s" x="3" width="10" height="20"/><use href="#p"/><svg x="1" viewBox="0 0 2 2" preserveAspectRatio="none">
<line x1="1" y2="2pt" stroke="rgb(1,2,3)"/></svg><text>cat</text><polyline points="1,2 3,4 5 6"/></svg>"""

RECORDS = [
    {"word": "cat", "key_id": "77", "recognized": True, "drawing": [[[0, 4], [0, 9]], [[4, 4, 2], [1, 2, 3]]]},
    {"word": "cat", "drawing": [[[10.5, 20.5, 30.5], [7, 7, 9], [0, 9, 20]], [[20.5], [17], [30]]]},
]

WORDS = [
    b"", b"-", b"1e999", b"-1e30", b"NaN", b"0", b"99999999999999999999", b"inherit", b"none", b"%", b"em", b"(", b")",
    b"[", b"]", b"{", b"}", b"\"", b"<", b">", b"&", b";",
    b"\\u0000", b"\x00", b"\xff\xfe", b"null", b"true", b"[[[]]]",
]  # fmt: skip
"""Replacements of words and numbers."""


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Change one to three parts: bytes, words, order, repetition or the end."""
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, max(len(content), 1)))
        length = int(rng.integers(1, 12))
        words = list(re.finditer(rb"[A-Za-z]+|-?[\d.]+", content))
        match int(rng.integers(0, 6)):
            case 0:
                content = content[:place] + rng.bytes(length) + content[place + length :]
            case 1:
                content = content[:place] + content[place + length :]
            case 2:
                content = content[:place] + content[place : place + 4 * length] * 2 + content[place + length :]
            case 3:
                content = content[:place]
            case _ if words:
                word = words[int(rng.integers(0, len(words)))]
                other = words[int(rng.integers(0, len(words)))].group()
                new = other if rng.random() < 0.5 else WORDS[int(rng.integers(0, len(WORDS)))]
                content = content[: word.start()] + new + content[word.end() :]
    return content


def array_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def vectors() -> dict[str, bytes]:
    """Arrays of a file of vectors, each in the npy format."""
    rows = [from_polylines([np.array([[0, 0], [9, 4], [3, 3]])]) for _ in range(3)]
    arrays = {
        "points": np.concatenate(rows).astype(np.int16), "offsets": np.array([0, 3, 6, 9]),
        "split": np.array([0, 1, 2]),
        "label": np.array([0, 1, 0]), "names": np.array(["cat", "dog"]), "key_id": np.arange(3, dtype=np.uint64),
    }  # fmt: skip
    return {name: array_bytes(array) for name, array in arrays.items()}


def npz(path: Path, rng: np.random.Generator) -> None:
    """Write a file in which one array is damaged, or the archive itself."""
    arrays = vectors() if rng.random() < 0.7 else {"train": array_bytes(np.ones((2, 3, 3), np.int16))}
    broken = str(rng.choice(list(arrays)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in arrays.items():
            damaged = name == broken and rng.random() < 0.8
            archive.writestr(f"{name}.npy", mutated(content, rng) if damaged else content)
    content = buffer.getvalue()
    path.write_bytes(content if rng.random() < 0.7 else mutated(content, rng))


def of(*contents: bytes) -> Callable[[Path, np.random.Generator], None]:
    return lambda path, rng: path.write_bytes(mutated(contents[int(rng.integers(0, len(contents)))], rng))


def svgs() -> list[bytes]:
    real = [path.read_bytes() for path in sorted(CASES.glob("*.svg"))] if CASES.is_dir() else []
    return [SVG.encode(), *real]


def binary() -> bytes:
    one = struct.pack("<Q2sbIHH", 7, b"DE", 1, 9, 1, 3) + bytes([0, 5, 9, 0, 7, 2])
    return one * 3


NDJSON = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
CSV = b'word,key_id,recognized,drawing\ncat,77,True,"[[[0, 4, 9], [0, 9, 2]]]"\ndog,8,False,"[[[1, 2], [3, 4]]]"\n'
BITMAPS = np.arange(10 * 784, dtype=np.uint8).reshape(10, 784)
WRITERS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "svg": of(*svgs()), "npz": npz, "ndjson": of(NDJSON), "csv": of(CSV), "bin": of(binary()),
    "npy": of(array_bytes(BITMAPS)),
}  # fmt: skip


def read(path: Path) -> None:
    """Read a file, with and without skipping; only errors that name the file are accepted."""
    for skip in (False, True):
        try:
            if path.suffix == ".npy":
                load_bitmaps(BitmapConfig(bitmaps=(path,)))
            else:
                drawings, _ = load(path, skip=skip)
                assert all(np.isfinite(drawing.strokes).all() for drawing in drawings)
        except ValueError as error:
            assert str(path) in str(error) or "every class needs training bitmaps" in str(error), error


def damage(kind: str, count: int, folder: Path) -> None:
    rng = np.random.default_rng(RNG_SEED)
    path = folder / f"cat.{kind}"
    for number in range(count):
        WRITERS[kind](path, rng)
        try:
            read(path)
        except BaseException as error:
            error.add_note(f"mutation {number} of {kind}: {path.read_bytes()[:3000]!r}")
            raise


@pytest.mark.parametrize("kind", WRITERS)
def test_a_damaged_file_is_read_or_named(kind, tmp_path):
    damage(kind, 40, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_a_thousand_damaged_files_are_read_or_named(kind, tmp_path):
    damage(kind, 1000, tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind not in ("npz",)])
def test_the_undamaged_files_are_read(kind, tmp_path):
    path = tmp_path / f"cat.{kind}"
    contents = {"svg": SVG.encode(), "ndjson": NDJSON, "csv": CSV, "bin": binary(), "npy": array_bytes(BITMAPS)}
    path.write_bytes(contents[kind])
    if kind == "npy":
        assert len(load_bitmaps(BitmapConfig(bitmaps=(path,)))[0].images)
    else:
        assert load(path)[0]
