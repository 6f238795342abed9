"""Commands of `jsafe sketch` on tiny models: training, sampling, resuming and errors."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.cli import main
from experiments.cli.exit_codes import USER_ERROR
from experiments.commands.sketch import sketch_demo
from jsafe.runs.checkpoint import Checkpoints
from sketch import contact_sheet
from sketch.data import procedural, svg
from sketch.data.dataset import ClassFilter, DatasetConfig, ReadConfig, SketchDataset, load_dataset, save_drawings
from sketch.data.drawing_files import load
from sketch.models import checkpoint
from sketch.models.checkpoint import load_model
from sketch.models.classifier import TrainedClassifier
from sketch.models.sketch_rnn import SketchRNN

SHORT = ["--iterations", "2", "--updates", "2", "--batch-size", "4", "--quiet"]
SMALL = [
    "--decoder-cell",
    "lstm",
    "--decoder-size",
    "8",
    "--mixtures",
    "2",
    "--keep",
    "1",
    "--flip",
    "0",
    "--turn",
    "0",
]
SMALL += ["--point-drop", "0", *SHORT]
ENCODER = ["--conditional", "--encoder-size", "6", "--latent-size", "4"]


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    """Run a command with --json and return its output."""
    code = main.main(["sketch", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """Run a command that fails with exit code 2, and return its one line."""
    assert main.main(["sketch", *map(str, words)]) == USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1]


def trained(folder: Path, stage: str, *words: Any) -> Path:
    with contextlib.redirect_stdout(io.StringIO()):
        assert main.main(["sketch", stage, *map(str, words), "--run-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def cats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty drawings as vectors: 12 to learn from, 4 to validate, 4 to test."""
    path = tmp_path_factory.mktemp("drawings") / "cat_20.npz"
    split = np.repeat([0, 1, 2], [12, 4, 4])
    save_drawings(path, procedural.drawings("cat", 20), split=split, key_id=np.arange(20, dtype=np.uint64))
    return path


@pytest.fixture(scope="module")
def plain(cats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model without an encoder."""
    words = ["--data", cats, *SMALL, "--checkpoint-every", 1]
    return trained(tmp_path_factory.mktemp("runs") / "plain", "train", *words)


@pytest.fixture(scope="module")
def with_encoder(cats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "encoder", "train", "--data", cats, *SMALL, *ENCODER)


@pytest.fixture(scope="module")
def predictor(cats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = ["--side", 8, "--channels", 8, "--features", 8, "--latent-size", 2, "--embedding-size", 4, "--strokes", 4]
    return trained(tmp_path_factory.mktemp("runs") / "predictor", "predictor", "--data", cats, *size, *SHORT)


@pytest.fixture(scope="module")
def guided(cats: Path, predictor: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["--data", cats, "--predictor", predictor, *SMALL, "--copies", 1, "--supervision", 0]
    return trained(tmp_path_factory.mktemp("runs") / "guided", "train", *words)


def dataset(*data: Path, select: ClassFilter | None = None, **settings: Any) -> SketchDataset:
    """A data set of files, a quarter of which validates."""
    return load_dataset(DatasetConfig(data=data, valid_share=0.25, select=select or ClassFilter(), **settings))


def content(drawings: list[Any]) -> set[bytes]:
    return {drawing.strokes.tobytes() for drawing in drawings}


def test_the_splits_of_a_file_are_kept_and_a_drawing_counts_once(cats: Path, tmp_path: Path):
    drawn = procedural.drawings("cat", 20)
    result = dataset(cats, cats)
    assert len(result.train) == 12 and len(result.valid) == 4
    assert all(np.array_equal(*pair) for pair in zip(result.train_strokes, drawn[:12], strict=True))
    assert len(dataset(cats, split="all").train) == 20
    assert len(dataset(cats, valid=(cats,)).train) == 12, "a validation drawing never is a training drawing"
    # A file without splits has the same drawings first, under the same numbers, and twenty others.
    mixed = tmp_path / "mixed.npz"
    others = procedural.drawings("sun", 20)
    labels = {"label": np.repeat([0, 1], 20), "names": np.array(["cat", "sun"])}
    save_drawings(mixed, drawn + others, key_id=np.arange(40, dtype=np.uint64), **labels)
    result = dataset(mixed, cats)
    assert len(result.train) + len(result.valid) + 4 == 40
    tested = {drawing.tobytes() for drawing in drawn[16:]}
    assert not tested & content(result.train + result.valid)
    suns = dataset(mixed, select=ClassFilter(classes=("sun",)))
    assert len(suns.train) + len(suns.valid) == 20 and 0 < len(suns.valid) < 12
    assert content(suns.train + suns.valid) == {drawing.tobytes() for drawing in others}
    assert len(dataset(mixed, select=ClassFilter(without=("sun",)), split="all").train) == 20


def test_an_interrupted_run_ends_with_the_same_numbers(plain: Path, cats: Path, tmp_path: Path, capsys):
    """A run whose later checkpoint is gone, as after `kill -9`, goes on to the same parameters."""
    broken = tmp_path / "broken"
    shutil.copytree(plain, broken)
    shutil.rmtree(Checkpoints(broken).path(max(Checkpoints(broken).iterations())))
    shutil.rmtree(broken / "model")
    assert "has no model yet" in refused(capsys, "generate", broken, "--out", tmp_path / "x")
    assert run(capsys, "train", "--resume", broken, "--quiet")["status"] == "finished"
    weights = "model/model.safetensors"
    assert (plain / weights).read_bytes() == (broken / weights).read_bytes()
    assert (plain / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()
    assert "leave --learning-rate out" in refused(capsys, "train", "--resume", broken, "--learning-rate", 1)
    assert "must be a run of `jsafe sketch predictor`" in refused(capsys, "predictor", "--resume", broken)
    assert "already holds a run" in refused(capsys, "train", "--data", cats, "--run-dir", broken)


def test_a_run_does_not_go_on_with_other_drawings(plain: Path, cats: Path, tmp_path: Path, capsys):
    folder, other = tmp_path / "run", tmp_path / "other.npz"
    shutil.copytree(plain, folder)
    save_drawings(other, procedural.drawings("cat", 20, seed=1), split=np.repeat([0, 1, 2], [12, 4, 4]))
    record = folder / "run.json"
    record.write_text(record.read_text().replace(str(cats), str(other)))
    assert "the training data differ from those" in refused(capsys, "train", "--resume", folder)
    assert "the training data differ from those" in refused(
        capsys, "export", folder, "--iteration", 2, "--out", tmp_path / "x"
    )


def test_going_on_from_a_model_keeps_its_unit_and_its_sizes(plain: Path, tmp_path: Path, capsys):
    folder = tmp_path / "finer"
    words = ["--start", plain, "--procedural", "sun:12", *SHORT]
    result = run(capsys, "train", *words, "--run-dir", folder)
    before, after = load_model(plain, SketchRNN), load_model(folder, SketchRNN)
    assert after.config == before.config and after.scale_factor == before.scale_factor
    assert result["final"]["valid_loss"] and not np.array_equal(
        after.params["output"]["bias"], before.params["output"]["bias"]
    )
    assert (folder / "start" / checkpoint.TENSORS).read_bytes() == (plain / "model" / checkpoint.TENSORS).read_bytes()
    message = refused(capsys, "train", *words, "--decoder-size", 9, "--run-dir", tmp_path / "x")
    assert "--start keeps the sizes of its model; leave --decoder-size out" in message


def test_drawings_are_written_as_vectors_sheet_and_svg(plain: Path, tmp_path: Path, capsys):
    words = [plain, "--count", 5, "--temperature", "0,0.5", "--length", 12, "--svgs", 6, "--batch-size", 4]
    result = run(capsys, "generate", *words, "--out", tmp_path / "a")
    assert result["drawings"] == 10
    with np.load(tmp_path / "a/drawings.npz") as file:
        assert file["temperature"].tolist() == pytest.approx([0.0] * 5 + [0.5] * 5)
        assert len(file["offsets"]) == 11 and file["finished"].sum() == result["finished"]
        ends = np.split(file["points"], file["offsets"][1:-1])
    assert all(np.array_equal(ends[0], drawing) for drawing in ends[:5]), "without heat there is one drawing"
    drawings, left_out = load(tmp_path / "a/drawings.npz", skip=True)
    assert len(drawings) + len(left_out) == 10 and len(left_out) == result["empty"]
    assert len(list((tmp_path / "a/svg").iterdir())) == 6
    places = np.cumsum(ends[5][:, :2], axis=0)
    assert np.allclose(np.cumsum(svg.read(tmp_path / "a/svg/0005.svg")[:, :2], axis=0), places, atol=1e-3)
    assert Image.open(tmp_path / "a/sheet.png").size[0] > 500
    run(capsys, "generate", *words, "--out", tmp_path / "b")
    again, _ = load(tmp_path / "b/drawings.npz", skip=True)
    assert all(np.array_equal(x.strokes, y.strokes) for x, y in zip(drawings, again, strict=True))
    assert "must be a new or empty folder" in refused(capsys, "generate", *words, "--out", tmp_path / "a")


def test_a_failure_leaves_nothing_half_written(plain: Path, tmp_path: Path, capsys, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contact_sheet, "save_png", full)
    assert "No space left" in refused(capsys, "generate", plain, "--count", 2, "--length", 8, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["plain", "with_encoder"])
def test_every_ending_begins_with_what_was_given(kind: str, cats: Path, tmp_path: Path, capsys, request):
    model = request.getfixturevalue(kind)
    words = ["complete", model, "--count", 2, "--temperature", 0.5, "--length", 90]
    result = run(capsys, *words, "--strokes", cats, "--out", tmp_path / "all")
    drawings, _ = load(tmp_path / "all/drawings.npz", skip=True)
    start = procedural.drawings("cat", 20)
    assert result["drawings"] == len(drawings) == 40
    for number, drawing in enumerate(drawings):
        prefix = start[number // 2]
        assert np.allclose(drawing.strokes[: len(prefix)], prefix, atol=1e-3)
    one = tmp_path / "begun.svg"
    one.write_text('<svg xmlns="http://www.w3.org/2000/svg"><path d="M10 10 L60 10 L60 70"/></svg>')
    run(capsys, *words, "--strokes", one, "--scale", 2, "--out", tmp_path / "one")
    for drawing in load(tmp_path / "one/drawings.npz")[0]:
        assert np.allclose(drawing.strokes[:3], [(20, 20, 0), (100, 0, 0), (0, 120, 1)], atol=1e-3)
    assert "row 20 is out of range" in refused(capsys, *words, "--strokes", cats, "--row", 20, "--out", tmp_path / "x")
    assert "--length must exceed" in refused(capsys, *words[:-1], 5, "--strokes", cats, "--out", tmp_path / "x")


def test_between_a_drawing_and_itself_lies_nothing_else(with_encoder: Path, cats: Path, tmp_path: Path, capsys):
    words = [
        "interpolate",
        with_encoder,
        "--temperature",
        0,
        "--frames",
        4,
        "--length",
        20,
        "--from",
        cats,
        "--to",
        cats,
    ]
    run(capsys, *words, "--out", tmp_path / "same")
    with np.load(tmp_path / "same/drawings.npz") as file:
        frames = np.split(file["points"], file["offsets"][1:-1])
    assert len(frames) == 4 and all(np.allclose(frames[0], frame, atol=1e-3) for frame in frames)


def test_what_lacks_an_encoder_cannot_interpolate(plain: Path, cats: Path, tmp_path: Path, capsys):
    words = ["interpolate", plain, "--from", cats, "--to", cats, "--out", tmp_path / "x"]
    assert "has no encoder" in refused(capsys, *words)


def test_the_model_of_a_checkpoint_is_exported(plain: Path, tmp_path: Path, capsys):
    run(capsys, "export", plain, "--iteration", 2, "--out", tmp_path / "last")
    run(capsys, "export", plain, "--out", tmp_path / "whole")
    run(capsys, "export", plain, "--iteration", 1, "--out", tmp_path / "early")
    last, whole, early = ((tmp_path / name / checkpoint.TENSORS).read_bytes() for name in ("last", "whole", "early"))
    assert last == whole == (plain / "model" / checkpoint.TENSORS).read_bytes() != early


def test_a_predictor_is_no_model_that_draws(predictor: Path, tmp_path: Path, capsys):
    message = refused(capsys, "generate", predictor, "--out", tmp_path / "x")
    assert f"generate must be a sketch-rnn, got a predictor in {predictor / 'model'}" in message


def test_a_guided_model_brings_its_predictor_along(guided: Path, predictor: Path, tmp_path: Path, capsys):
    moved, words = tmp_path / "elsewhere", ["--count", 3, "--temperature", 0.5, "--length", 10, "--seed", 5]
    run(capsys, "export", guided, "--out", moved)
    for name, more in (("a", [guided]), ("b", [moved]), ("c", [moved, "--predictor", predictor])):
        run(capsys, "generate", *more, *words, "--out", tmp_path / name)
    drawn = [np.load(tmp_path / name / "drawings.npz")["points"] for name in "abc"]
    assert np.array_equal(drawn[0], drawn[1]) and np.array_equal(drawn[1], drawn[2])
    shutil.rmtree(moved / "predictor")
    assert "add --predictor DIR" in refused(capsys, "generate", moved, *words, "--out", tmp_path / "x")
    more = ["--start", moved, "--procedural", "cat:9", "--run-dir", tmp_path / "x"]
    assert "--start is a guided model and needs its predictor" in refused(capsys, "train", *more)


def test_a_guided_model_finishes_what_was_begun_where_it_stands(guided: Path, cats: Path, tmp_path: Path, capsys):
    words = ["--strokes", cats, "--row", 2, "--count", 2, "--length", 90, "--inspect", "--candidates", 2]
    run(capsys, "complete", guided, *words, "--out", tmp_path / "out")
    prefix = procedural.drawings("cat", 3)[2]
    for drawing in load(tmp_path / "out/drawings.npz")[0]:
        assert np.allclose(drawing.strokes[: len(prefix)], prefix, atol=1e-3)


def test_a_critic_learns_from_a_generator_and_chooses_and_pays(plain: Path, cats: Path, tmp_path: Path, capsys):
    folder, size = tmp_path / "critic", ["--side", 8, "--channels", 4, "--batch-size", 4, *SHORT[:4], "--quiet"]
    words = ["--data", cats, "--negatives", "sun:20", "--generator", plain, "--generated", 6, "--class", "cat"]
    result = run(capsys, "discriminator", *words, *size, "--run-dir", folder)
    assert {"valid_auc_others", "valid_auc_generator-0", "valid_auc_corrupted"} <= set(result["final"])
    words = ["generate", plain, "--count", 6, "--temperature", 1, "--length", 12, "--discriminator", folder]
    best = run(capsys, *words, "--best-of", 3, "--out", tmp_path / "best")
    assert best["score"] > best["mean_score"] and 0 <= best["accepted"] <= 1
    assert "--discriminator DIR needs --best-of N or --refine N" in refused(capsys, *words, "--out", tmp_path / "x")
    finer = run(capsys, *words, "--refine", 4, "--batch-size", 4, "--out", tmp_path / "finer")
    assert finer["log_odds"] >= finer["log_odds_before"]
    with np.load(tmp_path / "finer/drawings.npz") as file, np.load(tmp_path / "best/drawings.npz") as other:
        assert file["odds"].shape == (6, 2) and len(file["offsets"]) == len(other["offsets"])
    words = ["--model", plain, "--discriminator", folder, "--data", cats, *SHORT]
    rewarded = run(capsys, "reward", *words, "--run-dir", tmp_path / "paid")
    assert np.isfinite(rewarded["final"]["reward"])
    before, after = load_model(plain, SketchRNN), load_model(tmp_path / "paid", SketchRNN)
    assert after.scale_factor == before.scale_factor and after.max_length == before.max_length
    assert not np.array_equal(after.params["output"]["bias"], before.params["output"]["bias"])
    assert "requires --model DIR (the generator)" in refused(capsys, "reward", *words[2:], "--run-dir", tmp_path / "x")


def test_a_judge_learns_from_bitmaps_that_are_not_kept_for_others(tmp_path: Path, capsys):
    """A class is dark in the upper or lower half; rows before 8 and the other array are swapped."""
    rng, path = np.random.default_rng(0), tmp_path / "bitmaps.npz"
    above = np.repeat([255, 0], 392) * (rng.uniform(size=(40, 784)) < 0.8)
    below, above = above[:, ::-1].astype(np.uint8), above.astype(np.uint8)
    arrays = {"cat": np.concatenate([below[:8], above[8:]]), "cat_lines": np.arange(40), "cat_other": below}
    np.savez(path, sun=below, **arrays)
    size = ["--channels", "4", "--features", 8, "--batch-size", 16, "--dropout", 0, "--iterations", 3, "--updates", 10]
    words = ["--bitmaps", path, *size, "--learning-rate", 0.02, "--quiet"]
    result = run(capsys, "judge", *words, "--first-index", 8, "--valid-share", 0.3, "--run-dir", tmp_path / "judge")
    assert result["final"]["valid_accuracy"] > 0.9
    model = load_model(tmp_path / "judge", TrainedClassifier)
    assert model.classes == ("cat", "sun") and model.temperature != 1.0
    images = np.stack([above[0], below[0]]).reshape(-1, 28, 28)
    assert model.log_probs(images).argmax(axis=1).tolist() == [0, 1]
    message = refused(capsys, "judge", *words, "--architecture", "recurrent", "--run-dir", tmp_path / "x")
    assert "a recurrent judge reads vectors" in message
    message = refused(capsys, "judge", *words, "--class", "cat", "--run-dir", tmp_path / "x")
    assert "needs at least two classes" in message
    np.savez(path, cat=np.zeros((3, 5), np.uint8))
    assert f"{path}, array 'cat': bitmaps must be bytes" in refused(
        capsys, "judge", *words, "--run-dir", tmp_path / "x"
    )


def test_a_judge_of_strokes_learns_from_vectors(tmp_path: Path, capsys):
    words = ["--procedural", "cat:20", "--procedural", "sun:20", "--architecture", "recurrent", "--units", 4, *SHORT]
    run(capsys, "judge", *words, "--run-dir", tmp_path / "judge")
    assert load_model(tmp_path / "judge", TrainedClassifier).size.architecture == "recurrent"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--inspect"], "--inspect requires --predictor DIR"),
        (["--inspect", "--predictor", "{predictor}"], "train it with --framed"),
        (["--predictor", "{predictor}"], "--predictor has no effect on"),
        (["--candidates", "3"], "--candidates requires --inspect"),
        (["--best-of", "3"], "needs --best-of N or --refine N"),
    ],
)
def test_conflicting_options_are_reported(
    words: list[str], reason: str, plain: Path, predictor: Path, tmp_path, capsys
):
    message = refused(
        capsys, "generate", plain, *(w.format(predictor=predictor) for w in words), "--out", tmp_path / "x"
    )
    assert reason in message


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "there are no training drawings; give files (--data FILE) or --procedural cat:2000"),
        (["--data", "{dir}/nothing.npz"], "there is no file or folder {dir}/nothing.npz"),
        (["--data", "{dir}"], "{dir}/bad.ndjson, row 1: the drawing is empty"),
        (["--data", "{dir}/bad.ndjson", "--skip", "--class", "owl"], "no drawings of 'owl'"),
        (["--data", "{dir}/pickled.npz"], "--allow-pickle"),
        (["--data", "{dir}/pickled.npz", "--skip"], "--allow-pickle"),
        (
            ["--data", "{dir}/few.npz", "--batch-size", "5"],
            "at most the number of drawings, 3, got 5",
        ),
        (["--data", "{dir}/few.npz", "--recognized-only"], "drops all 3 drawings"),
        (["--data", "{dir}/few.npz", "--split", "test"], "split 'test' has no training drawings"),
        (["--procedural", "cat"], "must be CLASS:COUNT, for example cat:2000, got 'cat'"),
        (["--procedural", "cats:5"], "did you mean 'cat'?"),
        (["--procedural", "cat:9", "--valid-share", "1"], "sum to less than 1"),
        (["--procedural", "cat:9", "--start", "{dir}"], "must be the folder of a trained model or of a run"),
        (["--procedural", "cat:9", "--keep", "2"], "keep must be at most 1"),
        (["--procedural", "cat:9", "--extra-inputs", "2"], "--extra-inputs"),
        (["--procedural", "cat:9", "--copies", "2"], "--copies has no effect without a predictor"),
    ],
)
def test_unusable_inputs_are_reported_and_start_no_run(words: list[str], reason: str, tmp_path: Path, capsys):
    folder = tmp_path / "files"
    folder.mkdir()
    good = json.dumps({"word": "cat", "drawing": [[[0, 9, 9], [0, 0, 9]]]})
    (folder / "bad.ndjson").write_text(f'{good}\n{{"word": "cat", "drawing": []}}\n')
    save_drawings(folder / "few.npz", procedural.drawings("cat", 3), split=np.zeros(3, int))
    objects = np.empty(2, object)
    objects[:] = procedural.drawings("cat", 2)
    np.savez(folder / "pickled.npz", train=objects, allow_pickle=True)
    message = refused(capsys, "train", *(word.format(dir=folder) for word in words), "--run-dir", tmp_path / "run")
    assert reason.format(dir=folder) in message
    assert not (tmp_path / "run").exists()


def test_sketch_rnns_own_files_are_learned_from(tmp_path: Path, capsys):
    objects = {}
    for name, count in (("train", 6), ("valid", 3), ("test", 2)):
        objects[name] = np.empty(count, object)
        objects[name][:] = [drawing.astype(np.int16) for drawing in procedural.drawings("cat", count)]
    np.savez(tmp_path / "cat.full.npz", allow_pickle=True, **objects)
    result = dataset(
        tmp_path / "cat.full.npz", read=ReadConfig(allow_pickle=True), select=ClassFilter(classes=("cat",))
    )
    assert (len(result.train), len(result.valid)) == (6, 3)


def test_a_damaged_model_is_named(plain: Path, tmp_path: Path, capsys):
    shutil.copytree(plain / "model", tmp_path / "model")
    path = tmp_path / "model" / checkpoint.TENSORS
    path.write_bytes(path.read_bytes()[:-4])
    assert str(path) in refused(capsys, "generate", tmp_path / "model", "--out", tmp_path / "x")


@pytest.mark.parametrize(
    "words, message",
    [
        (["judge"], "add --bitmaps FILE, or vectors: --data FILE"),
        (
            ["judge", "--procedural", "cat:9", "--procedural", "dog:9", "--first-index", 2000],
            "--first-index has no effect",
        ),
        (["judge", "--procedural", "cat:9", "--procedural", "dog:9", "--per-class", 3], "--per-class has no effect"),
        (["judge", "--bitmaps", "x.npz", "--recognized-only"], "--recognized-only has no effect on --bitmaps"),
        (["judge", "--bitmaps", "x.npz", "--valid", "nowhere.npz"], "--valid has no effect on --bitmaps"),
        (["judge", "--bitmaps", "x.npz", "--split", "test"], "--split has no effect on --bitmaps"),
    ],
)
def test_options_of_a_judge_that_would_change_nothing_are_refused(words, message, tmp_path, capsys):
    assert message in refused(capsys, *words, "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_is_shown_as_summary_and_sheet(cats: Path, tmp_path: Path, capsys):
    out = tmp_path / "sheet.png"
    result = run(capsys, "show", cats, "--out", out, "--first", 5, "--count", 12, "--side", 40)
    assert result["drawings"] == 20 and result["classes"] == {"cat": 20} and result["shown"] == 12
    assert result["splits"] == {"train": 12, "valid": 4, "test": 4} and result["longest_source"].startswith(str(cats))
    with Image.open(out) as image:
        assert image.size == (result["width"], result["height"]) == (10 * 41 + 1, 2 * 55 + 1)
    (tmp_path / "a.svg").write_text('<svg><path d="M0 0L9 9"/><text>cat</text></svg>')
    result = run(capsys, "show", tmp_path / "a.svg")
    assert list(result["left_out"].values()) == ["1 <text>"] and "out" not in result
    assert "--first must be below the number of drawings, 20" in refused(
        capsys, "show", cats, "--first", 20, "--out", out
    )
    assert "--out must end in .png" in refused(capsys, "show", cats, "--out", tmp_path / "x.jpg")
    assert "there is no file or folder" in refused(capsys, "show", tmp_path / "none.npz")


def test_a_drawing_of_any_size_is_fitted_to_the_training_drawings(plain: Path, tmp_path: Path, capsys):
    """A page of 210 x 297 mm, and its drawing in the box of the training drawings."""
    page = tmp_path / "a4.svg"
    page.write_text('<svg width="210mm" viewBox="0 0 2100 2970"><path d="M600 1200 L1300 1200 L1300 1700"/></svg>')
    words = ["complete", plain, "--count", 1, "--length", 90, "--strokes", page, "--fit"]
    run(capsys, *words, "--out", tmp_path / "out")
    (drawing,), _ = load(tmp_path / "out/drawings.npz")
    left, top, side = load_model(plain, SketchRNN).extent
    expected = [(left, top, 0), (side, 0, 0), (0, side * 5 / 7, 1)]
    assert np.allclose(drawing.strokes[:3, :2], np.array(expected)[:, :2], atol=1e-2)
    with Image.open(tmp_path / "out/sheet.png") as image:
        assert image.mode == "RGB"
    assert "--fit sets the scale" in refused(capsys, *words, "--scale", 2, "--out", tmp_path / "x")


def test_the_page_of_the_demonstration_explains_its_terms_and_leads_to_drawing(tmp_path: Path):
    rows = {
        "procedural": procedural.drawings("cat", 2),
        "guided, best of 4 by the discriminator": procedural.drawings("cat", 2),
    }
    sketch_demo._write_page(tmp_path / "page.html", rows, dict.fromkeys(rows, 0.5), {})
    page = (tmp_path / "page.html").read_text()
    assert f"<code>jsafe sketch draw {tmp_path / 'guided'}</code>" in page
    for term in ("procedural", "guided", "discriminator", "best of n", "log odds"):
        assert f"<dt>{term}</dt><dd>" in page
