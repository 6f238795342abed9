"""A judge from scratch in a few lines of Python, as docs/safe_rlhf.md shows, equals that of the command line."""

import json

import jax
import pytest

import jsafe
from experiments.cli import main
from rlhf.data import dataset, encoding, synthetic
from rlhf.evaluation import held_out
from rlhf.judges.from_scratch import from_scratch
from rlhf.tokenizer.train_bpe import learn_tokenizer
from rlhf.training import presets, supervised_stages


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = synthetic.make(seed=0, answers=1, pairs=1)["pairs"][:40]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train_judge(pairs_file, folder):
    rows = dataset.load(pairs_file)
    train, test = dataset.split_by_prompt(rows, 0.2)
    tokenizer = learn_tokenizer(dataset.conversation_texts(train), 300, folder)
    pairs, held = (encoding.preferences(part, tokenizer, 64, by="safer", skip=True) for part in (train, test))
    model = from_scratch("nano", tokenizer, "cost", pairs)
    config = presets.training_config("cost", "nano", batch_size=8)
    stage = supervised_stages.preference("cost", model, pairs, config)
    result = jsafe.fit(stage.trainer, iterations=stage.iterations, progress=False)
    judge = stage.finish(jax.tree.map(lambda leaf: leaf[0], result.state))
    return held_out.evaluate_judge("cost", judge, held, train, baseline=False)


def test_a_judge_from_scratch_equals_that_of_the_command_line(pairs_file, tmp_path, capsys):
    report = train_judge(pairs_file, tmp_path / "tokenizer")
    words = ["--model", "nano", "--vocabulary", "300", "--length", "64", "--batch-size", "8", "--no-baseline"]
    words += ["--data", str(pairs_file), "--eval-share", "0.2", "--skip", "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert main.main(["rlhf", "cost", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evaluation"] == json.loads(json.dumps(report))
    assert report["prompts_also_learned_from"] == 0 and report["pairs"] + report["training_pairs"] == 40


def test_each_row_is_tokenised_once(pairs_file, tmp_path, monkeypatch):
    """Encoding returns the rows it kept, so that nothing tokenises a row again to find out."""
    encoded = []
    original = encoding.answered_ids
    monkeypatch.setattr(encoding, "answered_ids", lambda turns, *rest: encoded.append(turns) or original(turns, *rest))
    monkeypatch.setattr(jsafe, "fit", lambda *args, **options: pytest.skip("training is not needed"))
    rows = dataset.load(pairs_file)
    try:
        train_judge(pairs_file, tmp_path / "tokenizer")
    except pytest.skip.Exception:
        pass
    assert len(encoded) == 2 * len(rows)
