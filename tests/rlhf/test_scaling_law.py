"""The scaling law: recovery of a known law, and calibration of its uncertainty."""

import csv
import json

import numpy as np
import pytest

from experiments.cli import main
from rlhf import scaling_law
from rlhf.models.architecture import PUBLISHED

COMPUTE = np.geomspace(10, 1e5, 7)


def law(compute, a=2.5, b=-0.12, floor=1.7):
    return a * compute**b + floor


def test_a_law_without_noise_is_recovered_exactly():
    result = scaling_law.fit(COMPUTE, law(COMPUTE))
    assert (result.factor, result.exponent, result.floor) == pytest.approx((2.5, -0.12, 1.7), rel=1e-4)
    loss, error = result.predict(1e7)
    assert loss == pytest.approx(law(1e7), rel=1e-5)
    assert error < 1e-4


def test_predictions_lie_within_their_errors_as_often_as_they_should():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(100):
        result = scaling_law.fit(COMPUTE, law(COMPUTE) + 0.003 * rng.normal(size=7))
        loss, error = result.predict(1e6)
        inside.append(abs(loss - law(1e6)) < 2 * error)
    # Two standard errors with four degrees of freedom: 88 %.
    assert 0.75 < np.mean(inside) < 0.98


def test_a_floor_is_never_negative():
    """A loss that falls like a logarithm is fitted best by a floor at minus infinity, which no cross-entropy has."""
    result = scaling_law.fit(COMPUTE, 5 - 0.1 * np.log(COMPUTE))
    assert 0 <= result.floor < result.deviation[2]


def test_compute_of_the_published_sizes():
    """11.51 million parameters outside the embedding and the output layer (Baichuan 2, figure 4)."""
    config = PUBLISHED["baichuan2-scaling-12m"]
    head = config.vocab_size * config.hidden_size
    assert scaling_law.training_petaflops(config, 1e9) == pytest.approx(6 * (11.51e6 + head) * 1e9 / 1e15, rel=1e-3)


@pytest.mark.parametrize(
    ("compute", "losses", "complaint"),
    [
        ([1, 2, 3], [3, 2, 1], "at least four"),
        ([1, 2, 3, 4], [1, 2, 3, 4], "must fall with compute"),
        ([0, 2, 3, 4], [4, 3, 2, 1], "above 0"),
    ],
)
def test_runs_that_cannot_be_fitted_are_refused(compute, losses, complaint):
    with pytest.raises(ValueError, match=complaint):
        scaling_law.fit(np.array(compute), np.array(losses))


def curves(path, sizes=(1, 3, 10), floor=1.7):
    """Runs that follow the law; the larger ones begin above it, where smaller ones are cheaper."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "petaflops", "loss"])
        for size in sizes:
            for part in np.linspace(0.1, 1.0, 8):
                compute = 100 * size * part
                writer.writerow([size, compute, law(compute, floor=floor) + (0.2 if part < 0.5 and size > 1 else 0.0)])
    return path


def test_the_command_foretells_the_run_held_out(tmp_path, capsys):
    table, picture = curves(tmp_path / "runs.csv"), tmp_path / "law.png"
    words = ["rlhf", "scaling", str(table), "--predict", "1e5", "--predict", "baichuan2-7b:2.6e12"]
    words += ["--out", str(picture)]
    assert main.main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in result["held_out"]] == ["10"]
    assert result["held_out"][0]["loss"] == pytest.approx(law(1000))
    assert abs(result["held_out"][0]["relative"]) < 0.002
    assert result["law"]["exponent"] == pytest.approx(-0.12, abs=0.02)
    assert result["predictions"][0]["predicted"] == pytest.approx(law(1e5), rel=0.02)
    # Six operations for each of 2.6e12 tokens and 7.0 billion parameters outside the embedding, in PFLOP.
    assert result["predictions"][1]["petaflops"] == pytest.approx(6 * 2.6e12 * (7_505_973_248 - 125_696 * 4096) / 1e15)
    assert picture.stat().st_size > 10_000
    assert main.main(words) == 0
    assert "C in PFLOP" in capsys.readouterr().out


def test_the_command_names_what_it_cannot_use(tmp_path, capsys):
    def error_line(*words):
        assert main.main(["rlhf", "scaling", *map(str, words)]) == 2
        return capsys.readouterr().err

    assert "has no losses" in error_line(tmp_path)
    (tmp_path / "bad.csv").write_text("run,petaflops,loss\na,1,x\n")
    assert "bad.csv, row 0" in error_line(tmp_path / "bad.csv")
    assert "must be PFLOP or SIZE:TOKENS" in error_line(curves(tmp_path / "runs.csv"), "--predict", "none:1")
    assert "hold_out must be less than the 3 runs, got 3" in error_line(tmp_path / "runs.csv", "--hold-out", 3)
