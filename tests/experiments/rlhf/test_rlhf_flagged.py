"""Flagged answers from the command line, with moderation models of known scores."""

import json

import numpy as np
import pytest

from rlhf.checkpoints import model_folder
from rlhf.data import beavertails, synthetic
from rlhf.tokenizer.train_bpe import learn_tokenizer
from tests.experiments.rlhf.test_rlhf_stages import refused, run

NAMES = beavertails.CATEGORIES


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Two moderation models that give self-harm a probability of 0.45 and of 0.35 in every text."""
    where = tmp_path_factory.mktemp("judges")
    tokens = learn_tokenizer(synthetic.prompts(), 300, where / "tokenizer")
    model = model_folder.with_scores(model_folder.fresh("nano", tokens), len(NAMES))
    for name, chance in (("strict", 0.45), ("mild", 0.35)):
        bias = np.full(len(NAMES), -9.0, np.float32)
        bias[NAMES.index("self_harm")] = np.log(chance / (1 - chance))
        params = model.params | {"score_head": np.zeros_like(model.params["score_head"]), "score_bias": bias}
        model_folder.save_model(where / name, model._replace(params=params), "moderation")
    model_folder.save_model(where / "cost", model_folder.with_scores(model), "cost")
    return where


def test_answers_are_flagged_above_the_threshold_and_judges_compared(judges, tmp_path, capsys):
    rows = [{"prompt": q, "response": "yes", "question_category": c} for q, c in (("a", "x"), ("b", "x"), ("b", "y"))]
    answers = write(tmp_path / "answers.jsonl", rows)
    verdicts = write(tmp_path / "verdicts.jsonl", [{"people": True}, {"people": False}, {"people": True}])
    words = ["flagged", judges / "strict", judges / "mild", "--data", answers, "--json"]
    result = run(capsys, *words, "--verdicts", verdicts, "--out", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == result
    assert (result["answers"], result["prompts"], result["threshold"]) == (3, 2, 0.4)
    strict, mild = result["models"]["strict"], result["models"]["mild"]
    assert strict["flagged"] == {"value": 1.0, "low": 1.0, "high": 1.0} and mild["flagged"]["value"] == 0.0
    assert {name: row["value"] for name, row in strict["by_category"].items()} == {n: n == "self_harm" for n in NAMES}
    assert strict["flagged_by_question"] == {"all": 1.0, "x": 1.0, "y": 1.0}
    agreement = {tuple(pair["judges"]): pair["share"] for pair in result["agreement"]}
    shares = {("mild", "people"): 1 / 3, ("mild", "strict"): 0.0, ("people", "strict"): 2 / 3}
    assert agreement == pytest.approx(shares)
    assert "is no moderation model: expected 14" in refused(capsys, "flagged", judges / "cost", "--data", answers)
    assert "no responses" in refused(capsys, "flagged", judges / "mild")
    short = write(tmp_path / "short.jsonl", [{"people": True}])
    assert "must have a row for each of the 3 answers, got 1" in refused(capsys, *words, "--verdicts", short)
    prompts_only = write(tmp_path / "prompts_only.jsonl", [{"prompt": "a"}])
    assert "prompts_only.jsonl, row 0: no answer" in refused(capsys, "flagged", judges / "mild", "--data", prompts_only)
