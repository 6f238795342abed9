"""The human test set: content of each kind of file, splits, and errors."""

import numpy as np
import pytest

from sketch.evaluation.human_test_set import human_drawings, unseen
from tests.support.quickdraw import DATA, needs_data

GOOD = np.array([[1, 2, 0], [3, 4, 1]], np.int16)


def vectors(path, count, start=0, **more):
    drawings = [GOOD * [1, 1 + start + n, 1] for n in range(count)]
    offsets = np.cumsum([0, *map(len, drawings)]).astype(np.int32)
    np.savez(path, points=np.concatenate(drawings).astype(np.int16), offsets=offsets, **more)


def bitmaps(count, value):
    return np.full((count, 784), value, np.uint8)


def test_a_folder_gives_bitmaps_and_vectors_in_the_order_of_names(tmp_path):
    np.savez(tmp_path / "b.npz", cat=bitmaps(2, 7), dog=bitmaps(5, 9))
    np.savez(tmp_path / "a.npz", cat=bitmaps(3, 5).reshape(3, 28, 28))
    vectors(tmp_path / "v.npz", 4)
    result = human_drawings(tmp_path)
    assert result.bitmaps.shape == (5, 28, 28) and result.bitmaps[:, 3, 3].tolist() == [5, 5, 5, 7, 7]
    assert [int(d[0, 1]) for d in result.vectors] == [2, 4, 6, 8]
    assert result.sources == ("a.npz: 3 bitmaps 'cat'", "b.npz: 2 bitmaps 'cat'", "v.npz: 4 vectors")
    assert len(human_drawings(tmp_path / "b.npz").bitmaps) == 2 and human_drawings(tmp_path / "b.npz").vectors == []
    assert human_drawings(tmp_path / "b.npz", "dog").bitmaps.shape == (5, 28, 28)


def test_files_without_the_class_change_nothing(tmp_path):
    np.savez(tmp_path / "m.npz", cat=bitmaps(2, 7))
    vectors(tmp_path / "v.npz", 2)
    before = human_drawings(tmp_path)
    np.savez(tmp_path / "a.npz", dog=bitmaps(5, 9), train=bitmaps(5, 9))  # the vehicle, not the split
    vectors(tmp_path / "z.npz", 2, 5, label=np.array([0, 0]), names=np.array(["dog"]))
    (tmp_path / "notes.txt").write_text("cat")
    (tmp_path / "sub").mkdir()
    np.savez(tmp_path / "sub" / "m.npz", cat=bitmaps(2, 7))
    after = human_drawings(tmp_path)
    np.testing.assert_array_equal(before.bitmaps, after.bitmaps)
    np.testing.assert_array_equal(before.vectors, after.vectors)
    assert "a.npz: no 'cat', it has dog, train" in after.sources


def test_only_drawings_of_the_test_are_taken_where_the_file_knows_splits(tmp_path):
    vectors(tmp_path / "v.npz", 4, split=np.array([0, 2, 1, 2], np.uint8), key_id=np.array([1, 2, 3, 2], np.uint64))
    result = human_drawings(tmp_path)
    assert [int(d[0, 1]) for d in result.vectors] == [4]  # the other one of the test is the same drawing
    assert result.sources == ("v.npz: 2 vectors of 4 (the others have other splits)",)
    assert len(human_drawings(tmp_path, splits=("train", "valid")).vectors) == 2
    vectors(tmp_path / "v.npz", 2, split=np.array([0, 1], np.uint8))
    with pytest.raises(ValueError, match="of the split 'test' or '', got v.npz: 0 vectors of 2"):
        human_drawings(tmp_path, splits=("test", ""))


def test_a_file_without_a_test_split_is_used_whole_with_a_note(tmp_path):
    vectors(tmp_path / "v.npz", 3, split=np.array([1, 0, 1], np.uint8))
    result = human_drawings(tmp_path)
    assert len(result.vectors) == 3
    assert result.sources == ("v.npz: 3 vectors, using splits train and valid (no test split found)",)


def test_vectors_that_a_system_learned_from_are_left_out(tmp_path):
    vectors(tmp_path / "v.npz", 4)
    result = human_drawings(tmp_path)
    left = unseen(result, [result.vectors[2].astype(np.float64), result.vectors[0] + 1])
    assert [int(d[0, 1]) for d in left.vectors] == [2, 4, 8]
    assert left.sources[-1] == "1 vectors dropped, which are training drawings of the first system"
    assert unseen(result, []) is result


def test_vectors_that_cannot_be_used_are_refused_or_counted(tmp_path):
    points = np.concatenate([GOOD, [[1, 1, 7]], GOOD]).astype(np.int16)
    np.savez(tmp_path / "v.npz", points=points, offsets=np.array([0, 2, 3, 5], np.int32))
    with pytest.raises(ValueError, match="v.npz, row 1: the drawing is a single point"):
        human_drawings(tmp_path)
    result = human_drawings(tmp_path, skip=True)
    assert len(result.vectors) == 2 and "1 skipped, the first" in result.sources[0]


def test_errors_contain_the_value(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        human_drawings(tmp_path / "none")
    with pytest.raises(ValueError, match="no human drawings of 'cat'.*got no npz or ndjson file"):
        human_drawings(tmp_path)
    np.savez(tmp_path / "a.npz", dog=bitmaps(5, 9))
    with pytest.raises(ValueError, match="got a.npz: no 'cat', it has dog"):
        human_drawings(tmp_path)
    for wrong in (bitmaps(2, 7).astype(float), bitmaps(2, 7)[:, :700], bitmaps(0, 7)):
        np.savez(tmp_path / "a.npz", cat=wrong)
        with pytest.raises(ValueError, match=r"a.npz: 'cat' must be bytes \[n, 28, 28\] or \[n, 784\], got"):
            human_drawings(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match="a.npz is damaged"):
        human_drawings(tmp_path)


def test_pickled_drawings_are_read_only_with_permission(tmp_path):
    drawings = np.empty(2, object)
    drawings[:] = [GOOD, GOOD]
    np.savez(tmp_path / "cat.npz", test=drawings, train=drawings, valid=drawings)
    with pytest.raises(ValueError, match="unpickling can run arbitrary code"):
        human_drawings(tmp_path)
    assert len(human_drawings(tmp_path, allow_pickle=True).vectors) == 2


@needs_data
def test_the_published_bitmaps_are_read():
    result = human_drawings(DATA / "bitmaps28.npz", bitmap_key="cat_stride100")
    assert result.bitmaps.shape == (520, 28, 28) and result.bitmaps.max() == 255 and not result.vectors
