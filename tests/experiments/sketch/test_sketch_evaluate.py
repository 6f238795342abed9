"""`jsafe sketch experiment` and `evaluate`: steps in separate processes, and systems compared with people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import main
from sketch.data import procedural
from sketch.data.dataset import save_drawings
from sketch.evaluation.systems import load_comparison
from sketch.models import checkpoint

DECLARED = """
family = "sketch"

[paths]
cats = ""

[defaults."judge train"]
iterations = 1
updates = 2
batch-size = 4

[[step]]
name = "strict"
stage = "judge"
architecture = "recurrent"
units = 4
features = 4
data = "{cats}"
procedural = "sun:12"

[[step]]
name = "plain"
stage = "train"
seeds = [0, 1]
data = "{cats}"
decoder-cell = "lstm"
decoder-size = 8
mixtures = 2

[comparison]
seeds = [0, 1]
judges = ["strict"]

[[comparison.system]]
name = "first"
model = "plain-{seed}"
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment, and drawings: 12 to learn from, 4 to validate, 14 of people that nothing has learned from."""
    folder = tmp_path_factory.mktemp("files")
    split = np.repeat([0, 1, 2], [12, 4, 14])
    numbers = np.arange(30, dtype=np.uint64)
    save_drawings(folder / "cat_30.npz", procedural.drawings("cat", 30), split=split, key_id=numbers)
    (folder / "tiny.toml").write_text(DECLARED)
    return folder


@pytest.fixture(scope="module")
def compared(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, two steps at once."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["--input", f"cats={files / 'cat_30.npz'}", "--run-dir", str(folder), "--jobs", "2", "--quiet", "--json"]
    assert main.main(["sketch", "experiment", str(files / "tiny.toml"), *words]) == 0
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    code = main.main(["sketch", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def test_steps_in_processes_are_those_of_one_after_the_other(compared: Path, files: Path, tmp_path: Path, capsys):
    cats = files / "cat_30.npz"
    words = ["--decoder-cell", "lstm", "--decoder-size", 8, "--mixtures", 2, "--quiet"]
    words += ["--iterations", 1, "--updates", 2, "--batch-size", 4]
    run(capsys, "train", "--data", cats, *words, "--seed", 1, "--run-dir", tmp_path / "alone")
    ours, theirs = (checkpoint.open_model(place / "model") for place in (compared / "plain-1", tmp_path / "alone"))
    for name, leaf in theirs.params["output"].items():  # a process of its own compiles with all optimisations
        np.testing.assert_allclose(ours.params["output"][name], leaf, atol=1e-5)
    again = ["experiment", files / "tiny.toml", "--input", f"cats={cats}", "--run-dir", compared, "--quiet"]
    kept = (compared / "plain-0" / "result.json").read_text()
    assert set(run(capsys, *again)["steps"]) == {"strict", "plain-0", "plain-1"}
    assert (compared / "plain-0" / "result.json").read_text() == kept


def test_systems_are_held_against_people(compared: Path, files: Path, tmp_path: Path, capsys):
    words = ["--human", files / "cat_30.npz", "--samples", 14, "--temperature", "0.2,0.6", "--resamples", 50]
    result = run(capsys, "evaluate", compared, *words, "--neighbours", 2, "--out", tmp_path / "out")
    rows = {(row["system"], row["temperature"]): row for row in result["rows"] if row["judge"] == "strict"}
    assert {("human", None), ("first", 0.2), ("first", 0.6)} <= set(rows)
    assert rows["first", 0.2]["drawings"] == 28 and rows["human", None]["drawings"] == 14
    by_seed = rows["first", 0.2]["recall_by_seed"]
    assert rows["first", 0.2]["recall"] == pytest.approx(np.mean(list(by_seed.values())))
    assert result["settings"]["training"] == 12
    for name in ("evaluation.json", "evaluation.md", "recall.png", "recognised.png", "sheet.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    one = run(
        capsys, "evaluate", compared / "plain-0", *words, "--judge", compared / "strict", "--out", tmp_path / "one"
    )
    assert {row["system"] for row in one["rows"]} == {"human", "plain-0"}


def test_judges_of_one_name_are_distinguished(compared: Path, tmp_path: Path):
    places = [tmp_path / name / "strict" for name in ("a", "b")]
    for place in places:
        shutil.copytree(compared / "strict" / "model", place / "model")
    assert set(load_comparison(compared / "plain-0", judges=places).judges) == {"a/strict", "b/strict"}


@pytest.mark.parametrize(
    "words, reason",
    [
        (["{run}"], "needs human drawings; add --human DIR"),
        (["{run}/plain-0", "--human", "{cats}"], "needs judges"),
        (
            ["{run}/plain-0", "--human", "{cats}", "--judge", "{run}/strict", "--system", "x"],
            "--system selects",
        ),
        (["{run}", "--human", "{cats}", "--target", "moon"], "judge 'strict' has no class 'moon'"),
        (["{run}", "--human", "nowhere"], "there is no file or folder nowhere"),
    ],
)
def test_missing_inputs_are_reported(words: list[str], reason: str, compared: Path, files: Path, capsys):
    prefix = [word.format(run=compared, cats=files / "cat_30.npz") for word in words]
    assert main.main(["sketch", "evaluate", *prefix]) == 2
    assert reason in capsys.readouterr().err


def test_a_step_that_fails_is_named(files: Path, tmp_path: Path, capsys):
    broken = tmp_path / "broken.toml"
    broken.write_text(DECLARED.replace("batch-size = 4", "batch-size = 400"))
    words = ["--input", f"cats={files / 'cat_30.npz'}", "--run-dir", str(tmp_path / "run"), "--jobs", "2", "--quiet"]
    assert main.main(["sketch", "experiment", str(broken), *words]) == 2
    assert "failed: jsafe: error: batch_size must be at most the number of drawings" in capsys.readouterr().err
