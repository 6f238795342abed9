"""Files of drawings: supported formats, and errors that name file and row."""

import gzip
import json
import struct

import numpy as np
import pytest

from sketch.data import drawing_files
from sketch.data.drawing_files import Drawing
from tests.support.quickdraw import DATA, cats, needs_data

GOOD = np.array([[1, 2, 0], [3, 4, 1]], np.int16)


def vectors(path, drawings, **more):
    offsets = np.cumsum([0, *map(len, drawings)]).astype(np.int32)
    np.savez(path, points=np.concatenate(drawings), offsets=offsets, **more)
    return path


def objects(drawings):
    result = np.empty(len(drawings), object)
    result[:] = drawings
    return result


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_vectors_are_read_with_what_is_known_of_them(tmp_path):
    path = vectors(
        tmp_path / "v.npz", [GOOD, GOOD * [2, 2, 1]], key_id=np.array([5, 2**63 + 1], np.uint64),
        label=np.array([1, 0]), names=np.array(["bird", "cat"]), recognized=np.array([True, False]),
        split=np.array([0, 1], np.uint8),
    )  # fmt: skip
    (first, second), skipped = drawing_files.load(path)
    assert not skipped and first.source == f"{path}, row 0"
    assert (first.split, first.label, first.key_id, first.recognized) == ("train", "cat", 5, True)
    assert (second.split, second.label, second.key_id, second.recognized) == ("valid", "bird", 2**63 + 1, False)
    np.testing.assert_array_equal(second.strokes, [[2, 4, 0], [6, 8, 1]])
    assert second.strokes.dtype == np.float32


def test_pickled_files_are_read_only_with_permission(tmp_path):
    path = tmp_path / "sketchrnn.npz"
    np.savez(path, train=objects([GOOD, GOOD]), valid=objects([GOOD]), test=objects([GOOD * [3, 3, 1]]))
    with pytest.raises(
        ValueError, match=r"sketchrnn.npz: array '\w+' holds pickled objects.*can run arbitrary code.*allow_p"
    ):
        drawing_files.load(path)
    drawings, _ = drawing_files.load(path, allow_pickle=True, label="cat")
    assert [drawing.split for drawing in drawings] == ["train", "train", "valid", "test"]
    assert drawings[3].source == f"{path}, test row 0" and drawings[3].label == "cat"
    np.testing.assert_array_equal(drawing_files.of_split(drawings, "test"), [[[3, 6, 0], [9, 12, 1]]])


def test_simplified_and_raw_ndjson_are_distinguished_by_their_times(tmp_path):
    simplified = {
        "word": "cat",
        "key_id": "77",
        "recognized": True,
        "drawing": [[[0, 4], [0, 9]], [[4, 4, 2], [1, 2, 3]]],
    }
    raw = {"word": "cat", "drawing": [[[10.5, 20.5, 30.5], [7, 7, 7], [0, 9, 20]], [[20.5], [17], [30]]]}
    (first, second), _ = drawing_files.load(lines(tmp_path / "cat.ndjson", [simplified, raw]))
    assert (first.label, first.key_id, first.recognized) == ("cat", 77, True)
    np.testing.assert_array_equal(first.strokes, [[0, 0, 0], [4, 9, 1], [0, -8, 0], [0, 1, 0], [-2, 1, 1]])
    # 20 wide, scaled to 255; the middle point lies on the line.
    np.testing.assert_array_equal(second.strokes, [[0, 0, 0], [255, 0, 1], [-127, 128, 1]])


BAD = [
    (np.zeros((0, 3)), "the drawing is empty"),
    (np.array([[1.0, 2, 1]]), "the drawing is a single point"),
    (np.ones((10_000, 3)), "the drawing must have at most 1000 points, got 10000"),
    (np.array([[1, 2, 0], [np.nan, 4, 1]]), r"point 1 must be finite, got \[nan, 4.0, 1.0\]"),
    (np.array([[1, 2, 0], [3, 4, 2.0]]), "the pen lift of point 1 must be 0 or 1, got 2.0"),
    (np.ones((2, 5)), r"rows must be \(dx, dy, pen lift\), got an array of shape \[2, 5\]"),
    (np.array([["a", "b", "c"]] * 2), "a drawing must hold numbers"),
]


@pytest.mark.parametrize("drawing, message", BAD)
def test_a_drawing_that_cannot_be_used_is_named_or_skipped_and_counted(drawing, message, tmp_path):
    path = tmp_path / "official.npz"
    np.savez(path, train=objects([GOOD, drawing, GOOD]))
    with pytest.raises(ValueError, match=f"official.npz, train row 1: {message}"):
        drawing_files.load(path, allow_pickle=True)
    drawings, skipped = drawing_files.load(path, allow_pickle=True, skip=True)
    assert len(drawings) == 2 and len(skipped) == 1 and "train row 1" in skipped[0]
    if drawing.ndim == 2 and drawing.shape[1] == 3 and drawing.dtype.kind == "f":
        with pytest.raises(ValueError, match=f"v.npz, row 1: {message}"):
            drawing_files.load(vectors(tmp_path / "v.npz", [GOOD.astype(float), drawing, GOOD]))


@pytest.mark.parametrize(
    "record, message",
    [
        ({"drawing": []}, "the drawing is empty"),
        ({"drawing": [[[], []]]}, "the drawing is empty"),
        ({"drawing": [[[3], [4]]]}, "the drawing is a single point"),
        ({"drawing": [[[3], [4], [0]]]}, "the drawing is a single point"),
        ({"drawing": [[[1, 2], [3]]]}, "stroke 0 must have the same number of x and y"),
        ({"drawing": [[[1, 2], [3, float("nan")]]]}, "stroke 0 must have finite positions"),
        ({"drawing": [[[1, 2]]]}, r"stroke 0 must be \[x, y\] or \[x, y, time\]"),
        ({"drawing": [[["a", "b"], [1, 2]]]}, "stroke 0 must have the same number"),
        ({"drawing": [[list(range(9999)), [0] * 9999]]}, "the drawing must have at most 1000 points, got 9999"),
        ({"word": "cat"}, "expected an object with a list 'drawing'"),
        ([1, 2], "expected an object with a list 'drawing'"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_or_skipped_and_counted(record, message, tmp_path):
    good = {"drawing": [[[0, 4], [0, 9]]]}
    path = lines(tmp_path / "cat.ndjson", [good, record, good])
    with pytest.raises(ValueError, match=f"cat.ndjson, row 1: {message}"):
        drawing_files.load(path)
    drawings, skipped = drawing_files.load(path, skip=True)
    assert len(drawings) == 2 and len(skipped) == 1


def test_ten_thousand_raw_points_on_few_lines_are_a_short_drawing(tmp_path):
    raw = {"drawing": [[list(range(10_000)), [0] * 10_000, list(range(10_000))]]}
    (drawing,), _ = drawing_files.load(lines(tmp_path / "raw.ndjson", [raw]))
    assert len(drawing.strokes) == 2


@pytest.mark.parametrize(
    "row, message",
    [
        ('{"drawing": ' + "[" * 100_000, "not JSON"),
        ('{"drawing": [[[0, 4], [0, %s]]]}' % ("9" * 5001), "not JSON"),
        ('{"drawing": [[[0, 4], [0, 1e308], [0, 1]]]}', "stroke 0 must have positions up to 1e\\+06"),
        ('{"drawing": [[[0], [0]], [[4], [9]]]}', "the drawing has no line"),
    ],
)
def test_a_row_that_no_drawing_can_be_is_one_rows_fault(row, message, tmp_path):
    path = tmp_path / "cat.ndjson"
    path.write_text(f'{{"drawing": [[[0, 4], [0, 9]]], "key_id": 1e999}}\n{row}\n')
    with pytest.raises(ValueError, match=f"cat.ndjson, row 1: {message}"):
        drawing_files.load(path)
    kept, skipped = drawing_files.load(path, skip=True)
    assert len(kept) == len(skipped) == 1 and kept[0].key_id is None


def test_files_cut_short_are_named(tmp_path):
    whole = lines(tmp_path / "cat.ndjson", [{"drawing": [[[0, 4], [0, 9]]]}] * 3).read_text()
    (tmp_path / "cat.ndjson").write_text(whole[:-15])
    with pytest.raises(ValueError, match="cat.ndjson, row 2: not JSON"):
        drawing_files.load(tmp_path / "cat.ndjson")
    assert len(drawing_files.load(tmp_path / "cat.ndjson", skip=True)[0]) == 2
    path = vectors(tmp_path / "v.npz", [GOOD] * 1000)
    for share in (0.0, 0.3, 0.7, 0.99):
        (tmp_path / "cut.npz").write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(ValueError, match="cut.npz is damaged or not an npz file"):
            drawing_files.load(tmp_path / "cut.npz")
    (tmp_path / "x.npz").write_text("not a zip")
    with pytest.raises(ValueError, match="x.npz is damaged or not an npz file"):
        drawing_files.load(tmp_path / "x.npz")


def test_files_that_do_not_hold_together_are_named(tmp_path):
    path = tmp_path / "v.npz"
    np.savez(path, points=np.ones((4, 3)), offsets=np.array([0, 3, 2, 4]))
    with pytest.raises(ValueError, match="v.npz: 'offsets' must increase from 0 to 4, the number of points"):
        drawing_files.load(path)
    with pytest.raises(ValueError, match=r"v.npz: 'key_id' must have 2 entries, got \[1\]"):
        drawing_files.load(vectors(path, [GOOD, GOOD], key_id=np.array([1])))
    for name, wrong, more in (("split", 3, {}), ("split", -1, {}), ("label", -1, {"names": np.array(["cat"])})):
        with pytest.raises(ValueError, match=f"v.npz, row 1: {name} must be 0 to ., got {wrong}"):
            drawing_files.load(vectors(path, [GOOD, GOOD], **{name: np.array([0, wrong])}, **more))
    for name, wrong in (
        ("label", np.array(["cat", "dog"])),
        ("split", np.array([0.0, np.nan])),
        ("key_id", ["a", "b"]),
    ):
        with pytest.raises(ValueError, match=f"v.npz: '{name}' must hold whole numbers, got"):
            drawing_files.load(vectors(path, [GOOD, GOOD], **{name: wrong}))
    np.savez(path, train=np.zeros((3, 784), np.uint8))
    with pytest.raises(ValueError, match="v.npz: 'train' must hold vectors, got images"):
        drawing_files.load(path)
    np.save(tmp_path / "v.npy", np.ones(3))
    (tmp_path / "v.npy").rename(path)
    with pytest.raises(ValueError, match="v.npz is damaged or not an npz file: it is no zip archive"):
        drawing_files.load(path)
    np.savez(path, images=np.ones(3))
    with pytest.raises(
        ValueError, match="v.npz must hold 'points' and 'offsets', or Sketch-RNN's 'train', .*, got images"
    ):
        drawing_files.load(path)
    with pytest.raises(ValueError, match="none.txt must end in .npz, .ndjson, .csv, .bin or .svg"):
        (tmp_path / "none.txt").write_text("")
        drawing_files.load(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        drawing_files.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"has no usable drawings \(1 skipped\)"):
        drawing_files.load(vectors(path, [GOOD[1:]]), skip=True)


def test_the_split_of_a_drawing_does_not_depend_on_its_company():
    rng = np.random.default_rng(0)
    drawings = [Drawing(rng.normal(size=(5, 3)).astype(np.float32)) for _ in range(2000)]
    splits = [drawing.split for drawing in drawing_files.assign_splits(drawings, valid=0.2, test=0.1)]
    assert splits[7::3] == [d.split for d in drawing_files.assign_splits(drawings[7::3], valid=0.2, test=0.1)]
    assert abs(splits.count("valid") / 2000 - 0.2) < 0.03 and abs(splits.count("test") / 2000 - 0.1) < 0.03
    assert drawing_files.assign_splits([drawings[0]._replace(split="test")])[0].split == "test"
    with pytest.raises(ValueError, match="sum to less than 1"):
        drawing_files.assign_splits(drawings, valid=0.6, test=0.4)


def test_a_drawing_that_came_before_is_skipped():
    first, second, none = (Drawing(GOOD, key_id=number) for number in (1, 2, None))
    assert drawing_files.without_duplicates([first, second, first, none, none], known=[second]) == [first, none, none]


@needs_data
def test_the_published_vectors_are_read_whole():
    drawings, skipped = drawing_files.load(DATA / "cat_1800.npz", label="cat")
    assert (
        not skipped
        and len(drawing_files.of_split(drawings, "train")) == 1600
        and len(drawing_files.of_split(drawings, "valid")) == 200
    )
    for result, expected in zip(drawings, cats(), strict=True):
        np.testing.assert_array_equal(result.strokes, expected)
    others, _ = drawing_files.load(DATA / "all345_25.npz")
    assert len(others) == 8600 and len({drawing.label for drawing in others}) == 344
    assert sum(drawing.label == "cat" for drawing in drawing_files.without_duplicates(others, drawings)) == 0


RECORD = {"word": "cat", "key_id": "77", "recognized": True, "drawing": [[[0, 4], [0, 9]], [[4, 4, 2], [1, 2, 3]]]}
STROKES = [[0, 0, 0], [4, 9, 1], [0, -8, 0], [0, 1, 0], [-2, 1, 1]]


def binary(record):
    """One drawing in the binary format of Quick, Draw!."""
    parts = [struct.pack("<Q2sbIH", int(record["key_id"]), b"DE", record["recognized"], 0, len(record["drawing"]))]
    return b"".join(parts + [struct.pack("<H", len(x)) + bytes(x) + bytes(y) for x, y in record["drawing"]])


def table(record):
    """One drawing in the columns of Kaggle's competition."""
    drawing = json.dumps(record["drawing"])
    return f'countrycode,drawing,key_id,recognized,timestamp,word\nDE,"{drawing}",77,True,2017-03-01,cat\n'.encode()


@pytest.mark.parametrize("name", ["cat.bin", "cat.ndjson", "cat.csv", "cat.bin.gz", "cat.ndjson.gz", "cat.csv.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_published_formats_hold_the_same_drawing(name, mark, tmp_path):
    write = {"bin": binary, "ndjson": lambda record: json.dumps(record).encode(), "csv": table}[name.split(".")[1]]
    data = write(RECORD) if "bin" in name else mark + write(RECORD)  # a byte order mark costs no drawing
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (drawing,), skipped = drawing_files.load(tmp_path / name, label="cat")
    assert not skipped and (drawing.label, drawing.key_id, drawing.recognized) == ("cat", 77, True)
    np.testing.assert_array_equal(drawing.strokes, STROKES)


def test_damaged_published_formats_are_named(tmp_path):
    for name, content, message in [
        ("a.bin", binary(RECORD) * 2 + b"\0", "a.bin is damaged: it ends within row 2"),
        ("b.bin", binary(RECORD)[:-1], "b.bin is damaged: it ends within row 0"),
        ("c.bin", b"word,drawing\ncat,nothing\n", "c.bin, row 0: 'recognized' must be 0 or 1"),
        ("d.csv", b"a,b\n1,2\n", "d.csv must have a column 'drawing', got 'a', 'b'"),
        ("e.csv", b"drawing\n[[1\n", "e.csv, row 0: not JSON"),
        ("f.ndjson.gz", b"{}", "f.ndjson.gz is damaged: Not a gzipped file"),
        ("g.ndjson.gz", gzip.compress(b"{}" * 99)[:-5], "g.ndjson.gz is damaged"),
        ("h.npz.gz", b"", "h.npz.gz must end in"),
        ("i.npy", b"", "i.npy must hold strokes, got an array of bitmaps"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            drawing_files.load(tmp_path / name)


def test_rows_of_zeros_behind_a_drawing_are_padding(tmp_path):
    padded = np.concatenate([GOOD, np.zeros((5, 3), np.int16)])
    (drawing, other), _ = drawing_files.load(vectors(tmp_path / "v.npz", [padded, GOOD]))
    np.testing.assert_array_equal(drawing.strokes, GOOD)
    assert drawing.note == "5 rows of padding" and not other.note
