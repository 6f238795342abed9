"""Data sets: splits, duplicates, selection by class, negatives and bitmaps."""

from pathlib import Path

import numpy as np
import pytest

from sketch.data import procedural
from sketch.data.bitmap_dataset import BitmapConfig, load_bitmaps
from sketch.data.dataset import (
    ClassFilter,
    DatasetConfig,
    ReadConfig,
    class_of,
    digest,
    load_dataset,
    load_negatives,
    read_drawings,
    save_drawings,
)

CATS = procedural.drawings("cat", 20)


@pytest.fixture
def cats(tmp_path) -> Path:
    """Twenty drawings: 12 training, 4 validation and 4 test drawings."""
    split = np.repeat([0, 1, 2], [12, 4, 4])
    save_drawings(tmp_path / "cat_20.npz", CATS, split=split, key_id=np.arange(20, dtype=np.uint64))
    return tmp_path / "cat_20.npz"


def content(drawings):
    return {drawing.strokes.tobytes() for drawing in drawings}


def test_a_validation_file_replaces_the_validation_split(cats, tmp_path):
    config = DatasetConfig(data=(cats,), valid=(cats,))
    dataset = load_dataset(config)
    assert len(dataset.train) == 12 and content(dataset.valid) == {drawing.tobytes() for drawing in CATS[12:16]}
    assert "12 training drawings" in dataset.summary() and dataset.skipped == []
    assert load_dataset(DatasetConfig(data=(cats,), split="valid")).valid == []


def test_drawings_without_a_split_get_one_from_their_content():
    config = DatasetConfig(procedural=("cat:40", "sun:40"), valid_share=0.25)
    dataset = load_dataset(config)
    assert len(dataset.train) + len(dataset.valid) == 80 and 8 < len(dataset.valid) < 32
    fewer = load_dataset(DatasetConfig(procedural=("cat:20",), valid_share=0.25))
    assert content(fewer.valid) <= content(dataset.valid)
    assert dataset.digest() == load_dataset(config).digest() != fewer.digest()


def test_negatives_are_neither_positives_nor_of_their_class(cats, tmp_path):
    config = DatasetConfig(data=(cats,), valid_share=0.3, select=ClassFilter(classes=("cat",)))
    dataset = load_dataset(config)
    negatives = load_negatives(["sun:30", "cat:5"], dataset, config)
    assert {drawing.label for drawing in negatives.train + negatives.valid} == {"sun"}
    assert not content(negatives.train) & content(negatives.valid) and negatives.valid
    with pytest.raises(ValueError, match=r"negatives need training and validation drawings, got \d and 0"):
        load_negatives(["sun:1"], dataset, config)


def test_bitmaps_are_selected_by_row_and_class_and_count_once(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 784), dtype=np.uint8)
    path = tmp_path / "bitmaps.npz"
    np.savez(
        path, cat=np.concatenate([images, images]), cat_lines=np.tile(np.arange(30), 2), cat_other=images, sun=images
    )
    train, valid = load_bitmaps(BitmapConfig(bitmaps=(path,), first_index=10, valid_share=0.3))
    assert train.images.shape[1:] == (28, 28) and len(train.images) == len(train.labels)
    assert train.labels.count("cat") + valid.labels.count("cat") == 20
    assert train.labels.count("sun") + valid.labels.count("sun") == 30
    few, _ = load_bitmaps(BitmapConfig(bitmaps=(path,), per_class=3, select=ClassFilter(without=("sun",))))
    assert few.labels == ["cat"] * 3
    with pytest.raises(ValueError, match="every class needs training bitmaps"):
        load_bitmaps(BitmapConfig(bitmaps=(path,), first_index=1000))
    with pytest.raises(ValueError, match="no drawings of 'cart'; did you mean 'cat'"):
        load_bitmaps(BitmapConfig(bitmaps=(path,), select=ClassFilter(classes=("cart",))))


def test_unusable_files_are_refused_or_skipped(cats, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="has no files that end in"):
        read_drawings([folder], ReadConfig())
    (folder / "a.ndjson").write_text('{"word": "cat", "drawing": []}\n')
    with pytest.raises(ValueError, match="a.ndjson, row 0: the drawing is empty"):
        read_drawings([folder], ReadConfig())
    drawings, skipped = read_drawings([folder, cats], ReadConfig(skip=True))
    assert len(drawings) == 20 and len(skipped) == 1
    with pytest.raises(ValueError, match="there are no training drawings"):
        load_dataset(DatasetConfig())


def test_digests_depend_on_every_number():
    other = [CATS[0] + np.float32([0, 0, 0]), *CATS[1:]]
    assert digest(CATS) == digest(other) != digest(CATS[1:])
    other[3] = other[3] + np.float32([1e-3, 0, 0])
    assert digest(CATS) != digest(other) and digest(CATS, CATS) != digest(CATS + CATS)


@pytest.mark.parametrize(
    "name, label",
    [
        ("cat.npz", "cat"), ("cat.full.npz", "cat"), ("sketchrnn_cat.npz", "cat"), ("sketchrnn_cat.full.npz", "cat"),
        ("sketchrnn-cat.npz", "cat"), ("alarm_clock.npz", "alarm clock"), ("alarm clock.ndjson", "alarm clock"),
        ("alarm%20clock.ndjson", "alarm clock"), ("cat_1800.npz", "cat"), ("cat (1).ndjson", "cat"),
        ("cat_raw_25.npz", "cat"), ("full_simplified_alarm_clock.ndjson", "alarm clock"),
        ("full_raw_cat.ndjson", "cat"),
        ("full_binary_cat.bin", "cat"), ("full_numpy_bitmap_The Eiffel Tower.npy", "The Eiffel Tower"),
        ("t-shirt.npz", "t-shirt"), ("2.npz", "2"), ("full_simplified_cat.ndjson.gz", "cat"),
    ],
)  # fmt: skip
def test_the_name_of_a_file_states_its_class(name, label):
    assert class_of(Path(name)) == label


def test_drawings_far_longer_than_the_others_are_dropped_by_name_unless_asked_for(tmp_path):
    long = np.tile(np.array([[1, 0, 0], [-1, 1, 0]], np.float32), (400, 1))
    save_drawings(tmp_path / "cat.npz", [*CATS, long])
    dataset = load_dataset(DatasetConfig(data=(tmp_path / "cat.npz",)))
    assert len(dataset.train + dataset.valid) == 20
    assert "cat.npz, row 20: a drawing of 800 points is far longer" in dataset.skipped[0] and len(dataset.skipped) == 1
    kept = load_dataset(DatasetConfig(data=(tmp_path / "cat.npz",), read=ReadConfig(max_points=800), split="all"))
    assert len(kept.train) == 21 and f"longest 800: {tmp_path / 'cat.npz'}, row 20" in kept.summary()


def test_a_folder_of_svg_files_is_a_class_and_names_what_it_left_out(tmp_path):
    folder = tmp_path / "alarm_clock"
    folder.mkdir()
    for number in range(20):
        text = f'<svg stroke="black"><path d="M0 0L{number + 1} 9L3 4"/><text>{number}</text></svg>'
        (folder / f"{number}.{'SVG' if number % 2 else 'svg'}").write_text(text)
    (folder / "._0.svg").write_bytes(b"resource fork")
    dataset = load_dataset(DatasetConfig(data=(folder,), valid_share=0.3))
    assert len(dataset.loaded) == 20 and {drawing.label for drawing in dataset.loaded} == {"alarm clock"}
    assert "left out of 20 drawings: 1 <text>" in dataset.summary()
    assert max(np.abs(np.cumsum(drawing.strokes[:, :2], axis=0)).max() for drawing in dataset.loaded) == 255


def test_files_with_a_training_split_alone_get_a_validation_split(tmp_path):
    drawings = procedural.drawings("cat", 60)
    objects = np.empty(60, object)
    objects[:] = drawings
    np.savez(tmp_path / "cat.npz", train=objects)
    config = DatasetConfig(data=(tmp_path / "cat.npz",), valid_share=0.25, read=ReadConfig(allow_pickle=True))
    dataset = load_dataset(config)
    assert len(dataset.train) + len(dataset.valid) == 60 and 5 < len(dataset.valid) < 30
    assert not content(dataset.train) & content(dataset.valid)


def test_published_bitmaps_are_read_by_row_and_named_by_their_file(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 784), np.uint8)
    np.save(tmp_path / "full_numpy_bitmap_alarm clock.npy", images)
    train, valid = load_bitmaps(BitmapConfig(bitmaps=(tmp_path,), first_index=10, valid_share=0.2))
    assert set(train.labels) == {"alarm clock"} and len(train.images) + len(valid.images) == 30
    objects = np.empty(1, object)
    np.save(tmp_path / "cat.npy", objects, allow_pickle=True)
    with pytest.raises(ValueError, match="cat.npy is damaged or not an npy file without pickles"):
        load_bitmaps(BitmapConfig(bitmaps=(tmp_path / "cat.npy",)))
