"""How many answers moderation models flag, from the command line, with models whose opinion is known."""

import json

import numpy as np
import pytest

from experiments.commands.rlhf import rlhf_moderate
from experiments.commands.rlhf.rlhf_use import row_of
from rlhf.checkpoints import model_folder
from rlhf.data import beavertails, synthetic
from rlhf.data.schemas import Sample, load
from rlhf.tokenizer.train_bpe import learn_tokenizer
from tests.experiments.rlhf.test_rlhf_stages import refused, run

NAMES = beavertails.CATEGORIES


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """One that finds self-harm in everything with probability 0.45, and one that finds it with 0.35."""
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
    said = write(tmp_path / "said.jsonl", [{"people": True}, {"people": False}, {"people": True}])
    words = ["flagged", judges / "strict", judges / "mild", "--data", answers, "--json"]
    found = run(capsys, *words, "--verdicts", said, "--out", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == found
    assert (found["answers"], found["prompts"], found["threshold"]) == (3, 2, 0.4)
    strict, mild = found["models"]["strict"], found["models"]["mild"]
    assert strict["flagged"] == {"value": 1.0, "low": 1.0, "high": 1.0} and mild["flagged"]["value"] == 0.0
    assert {name: row["value"] for name, row in strict["by_category"].items()} == {n: n == "self_harm" for n in NAMES}
    assert strict["flagged_by_question"] == {"all": 1.0, "x": 1.0, "y": 1.0}
    agreement = {tuple(pair["judges"]): pair["share"] for pair in found["agreement"]}
    shares = {("mild", "people"): 1 / 3, ("mild", "strict"): 0.0, ("people", "strict"): 2 / 3}
    assert agreement == pytest.approx(shares)
    assert "is no moderation model: expected 14" in refused(capsys, "flagged", judges / "cost", "--data", answers)
    assert "name the answers" in refused(capsys, "flagged", judges / "mild")
    short = write(tmp_path / "short.jsonl", [{"people": True}])
    assert "must have a row for each of the 3 answers, got 1" in refused(capsys, *words, "--verdicts", short)
    asked = write(tmp_path / "asked.jsonl", [{"prompt": "a"}])
    assert "asked.jsonl, row 0: no answer" in refused(capsys, "flagged", judges / "mild", "--data", asked)


def test_labels_of_the_data_are_one_more_judge_with_their_statistics():
    harmful = Sample(("a",), "x", safe=False, labels={"self_harm": True})
    samples = [harmful, Sample(("b",), "y", safe=True, labels={})]
    probabilities = np.zeros((2, len(NAMES)))
    probabilities[1, 3] = 0.41
    data = rlhf_moderate.compared(samples, {"m": probabilities}, {}, 0.4)
    assert data["models"]["m"]["flagged"]["value"] == 0.5 and "flagged_by_question" not in data["models"]["m"]
    assert data["agreement"] == [{"judges": [rlhf_moderate.PEOPLE, "m"], "share": 0.0}]
    assert data["labels"]["categories"]["self_harm"] == 1
    said = rlhf_moderate.summary(data)
    assert "2 answers to 2 prompts" in said and all(name in said for name in NAMES)


def test_what_generate_writes_is_read_back(tmp_path):
    """A dialogue, and the category of a question."""
    dialogue, question = Sample(("a", "b", "c"), "d"), Sample(("q",), "e", labels={"self_harm": True})
    path = write(tmp_path / "answers.jsonl", [row_of(s) for s in (dialogue, question)])
    assert [s._replace(source="") for s in load(path)[0]] == [dialogue, question]
    assert "question_category" not in row_of(question._replace(safe=False))  # then it is of another answer
    path = write(tmp_path / "bad.jsonl", [{"prompt": ["a", "b"], "response": "c"}])
    with pytest.raises(ValueError, match="row 0: 'prompt' must be a text or an odd number of texts"):
        load(path)


def test_verdicts_are_true_or_false(tmp_path):
    table = tmp_path / "said.csv"
    table.write_text("gpt,people\nTrue,0\nfalse,1\n")
    found = rlhf_moderate.verdicts_of(table, 2)
    assert {name: row.tolist() for name, row in found.items()} == {"gpt": [True, False], "people": [False, True]}
    table.write_text("gpt\nperhaps\n")
    with pytest.raises(ValueError, match=r"said.csv, row 0: 'gpt' must be true or false, got 'perhaps'"):
        rlhf_moderate.verdicts_of(table, 1)
