"""Every stage from the command line, on a tiny model and a corpus made here: files in, a model's folder out."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.benchmarks.stage_programs import STAGE_PROGRAMS
from experiments.cli import main
from experiments.commands.rlhf.shared.rlhf_run import recorded_request
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.reader import load_run
from rlhf.checkpoints import model_folder
from rlhf.config import SamplingConfig
from rlhf.data import synthetic
from rlhf.data.schemas import Example
from rlhf.generation.answers import answer_prompts
from rlhf.models import LanguageModel
from rlhf.training.recipes import data_digest

TINY = ["--model", "tiny", "--vocabulary", "300", "--length", "64"]
SHORT = ["--batch-size", "8", "--epochs", "1", "--quiet", "--json"]
RL = ["--prompts-per-iteration", "4", "--batch-size", "4", "--iterations", "2", "--max-new-tokens", "6"]
RL += ["--prompt-length", "32", "--quiet", "--json"]


def run(capsys, *words) -> dict:
    """Return the result that `jsafe rlhf` prints with --json."""
    code = main.main(["rlhf", *map(str, words)])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def refused(capsys, *words) -> str:
    """Return the error of `jsafe rlhf`, which must be one line with exit code 2."""
    assert main.main(["rlhf", *map(str, words)]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    return err[-1]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("corpus")
    rows = synthetic.make(seed=0, answers=1, pairs=1)
    sizes = {"sft": 24, "pairs": 24, "prompts": 8}
    paths = {}
    for name, count in sizes.items():
        paths[name] = where / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows[name][:count]))
    return paths


@pytest.fixture(scope="module")
def models(files, tmp_path_factory) -> dict[str, Path]:
    """A language model, a reward model and a cost model, barely trained."""
    where = tmp_path_factory.mktemp("models")
    assert main.main(["rlhf", "sft", *TINY, *SHORT, "--data", str(files["sft"]), "--run-dir", str(where / "sft")]) == 0
    start = str(where / "sft" / "model")
    for kind in ("reward", "cost"):
        words = [kind, "--model", start, "--length", "64", *SHORT, "--data", str(files["pairs"]), "--no-baseline"]
        assert main.main(["rlhf", *words, "--run-dir", str(where / kind)]) == 0
    return {name: where / name for name in ("sft", "reward", "cost")}


def test_a_cost_model_is_evaluated_on_held_out_rows(files, models, tmp_path, capsys):
    words = ["--model", models["sft"] / "model", "--length", 64, *SHORT, "--data", files["pairs"]]
    result = run(capsys, "cost", *words, "--eval-share", 0.4, "--run-dir", tmp_path / "run")
    assert result["status"] == "finished"
    for name in ("ranking_accuracy", "sign_accuracy"):
        assert 0.0 <= result[name]["low"] <= result[name]["value"] <= result[name]["high"] <= 1.0
    assert result["evaluation"]["prompts_also_learned_from"] == 0
    assert result["evaluation"]["pairs"] + result["evaluation"]["training_pairs"] == 24
    assert set(result["baseline"] or {"ranking_accuracy", "sign_accuracy"}) == {"ranking_accuracy", "sign_accuracy"}
    assert (
        model_folder.open_model(tmp_path / "run" / "model", score=True).statistics.count == 2 * 8 * result["iterations"]
    )


def test_an_interrupted_stage_ends_with_the_same_numbers(files, models, tmp_path, capsys):
    """A run whose later checkpoints and rows are gone, as after `kill -9`, goes on to the same parameters."""
    words = ["sft", "--model", models["sft"] / "model", "--length", 64, *SHORT, "--data", files["sft"]]
    words += ["--checkpoint-every", 1, "--run-dir"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(capsys, *words, whole)
    run(capsys, *words, broken)
    last = max(Checkpoints(broken).iterations())
    shutil.rmtree(Checkpoints(broken).path(last))
    shutil.rmtree(broken / "model")
    assert run(capsys, "sft", "--resume", broken, "--quiet", "--json")["status"] == "finished"
    assert (whole / "model/model.safetensors").read_bytes() == (broken / "model/model.safetensors").read_bytes()
    assert (whole / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()
    assert "not of `jsafe rlhf cost`" in refused(capsys, "cost", "--resume", broken)


def test_accumulation_does_not_change_what_a_stage_learns(models, tmp_path, capsys):
    """Answers differ in length; the first gradient and all losses are those of the whole batch."""
    data, metrics = tmp_path / "rows.jsonl", []
    answers = ["yes"] * 12 + ["A long answer with many words goes on and on."] * 4
    data.write_text(
        "".join(json.dumps({"prompt": f"{n}?", "completion": text}) + "\n" for n, text in enumerate(answers))
    )
    words = [
        "sft",
        "--model",
        models["sft"] / "model",
        "--length",
        64,
        "--data",
        data,
        "--epochs",
        2,
        "--quiet",
        "--json",
    ]
    for parts in (1, 4, 8):
        run(capsys, *words, "--batch-size", 8, "--accumulation", parts, "--run-dir", tmp_path / str(parts))
        rows = [json.loads(line) for line in (tmp_path / str(parts) / "metrics.jsonl").read_text().splitlines()]
        metrics.append([(row["loss"], row["gradient_norm"]) for row in rows])
    for other in metrics[1:]:
        np.testing.assert_allclose(other, metrics[0], rtol=1e-4)


def test_a_run_with_relative_paths_is_resumed_from_another_folder(files, models, tmp_path, monkeypatch, capsys):
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    shutil.copytree(models["sft"] / "model", there / "model")
    shutil.copyfile(files["sft"], there / "rows.jsonl")
    elsewhere.mkdir()
    monkeypatch.chdir(there)
    words = ["sft", "--model", "model", "--length", 64, *SHORT, "--data", "rows:1.0:rows.jsonl", "--run-dir", "run"]
    run(capsys, *words)
    monkeypatch.chdir(elsewhere)
    assert run(capsys, "sft", "--resume", there / "run", "--quiet", "--json")["status"] == "finished"


def test_a_run_whose_data_changed_is_not_resumed(files, models, tmp_path, capsys):
    """The data have the same number of rows, one of them with the opposite label; a moved file does not matter."""
    started, moved = tmp_path / "run", tmp_path / "pairs.jsonl"
    shutil.copytree(models["reward"], started)
    shutil.copyfile(files["pairs"], moved)
    record = started / "run.json"
    record.write_text(record.read_text().replace(str(files["pairs"]), str(moved)))
    request, digest = recorded_request(load_run(started))
    recipe = request.recipe(started)
    assert recipe.digest == digest != data_digest(recipe.stage, [Example(("p",))])
    first, rest = moved.read_text().split("\n", 1)
    row = json.loads(first)
    moved.write_text(json.dumps(row | {"better_response_id": 1 - row["better_response_id"]}) + "\n" + rest)
    assert f"the training data differ from those {started} was started with" in refused(
        capsys, "reward", "--resume", started
    )


def test_ppo_lag_keeps_a_multiplier_and_reward_shaping_does_not(files, models, tmp_path, capsys):
    base = [
        "--model",
        models["sft"] / "model",
        "--reward-model",
        models["reward"] / "model",
        "--data",
        files["prompts"],
    ]
    costs = ["--cost-model", models["cost"] / "model"]
    limited = run(capsys, "ppo-lag", *base, *costs, *RL, "--ptx-data", files["sft"], "--ptx-coefficient", 1,
                  "--run-dir", tmp_path / "lag")  # fmt: skip
    assert limited["final"]["multiplier"] > 0
    assert limited["final"]["ptx_loss"] > 0 and "critic_loss_1" in limited["final"]
    shaped = run(capsys, "reward-shaping", *base, *costs, *RL, "--cost-weight", 2, "--run-dir", tmp_path / "shaped")
    one = shaped["final"]
    assert one["shaped"] == pytest.approx(one["return"] - 2 * one["cost"], abs=1e-4)
    assert one["multiplier"] == 0 and "critic_loss_1" not in one
    before = model_folder.open_model(models["sft"] / "model").params["decoder"]["embedding"]
    after = model_folder.open_model(tmp_path / "lag" / "model").params["decoder"]["embedding"]
    assert not np.array_equal(before, after)


def test_adapters_are_trained_resumed_and_written_without_the_weights_below(files, models, tmp_path, capsys):
    low = ["--lora-rank", 2, "--lora-alpha", 4]
    pairs = ["--data", files["pairs"], "--no-baseline", "--length", 64, *SHORT]
    low_pairs = ["--model", models["sft"] / "model", *pairs, *low]
    result = run(capsys, "reward", *low_pairs, "--run-dir", tmp_path / "reward")
    started, ended = models["sft"] / "model", tmp_path / "reward" / "model"
    start, made = (model_folder.open_model(place, score=True, new_scores=1).params for place in (started, ended))
    np.testing.assert_array_equal(made["decoder"]["embedding"], start["decoder"]["embedding"])
    assert not np.array_equal(made["decoder"]["layers"]["mlp"]["up"], start["decoder"]["layers"]["mlp"]["up"])
    assert not np.array_equal(made["score_head"], start["score_head"])
    held = load_file(Path(result["adapter"]) / "adapter_model.safetensors")
    assert len(held) == 2 * 2 * 7 + 2  # A and B of seven matrices in two layers, and the head

    words = ["ppo-lag", "--model", models["sft"] / "model", "--reward-model", tmp_path / "reward" / "model"]
    words += ["--cost-model", models["cost"] / "model", "--data", files["prompts"], *RL, *low, "--checkpoint-every", 1]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(capsys, *words, "--run-dir", whole)
    shutil.copytree(whole, broken)
    shutil.rmtree(Checkpoints(broken).path(2))
    shutil.rmtree(broken / "model")
    assert run(capsys, "ppo-lag", "--resume", broken, "--quiet", "--json")["status"] == "finished"
    assert (whole / "model/model.safetensors").read_bytes() == (broken / "model/model.safetensors").read_bytes()
    assert (whole / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()
    stored = Checkpoints(whole).restore_arrays().state
    weights = (models["sft"] / "model/model.safetensors").stat().st_size
    assert sum(array.nbytes for array in stored.values()) < 0.5 * weights  # of three models, with their moments
    out = tmp_path / "out"
    run(capsys, "export", whole, "--out", out, "--json")
    assert (out / "model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
    table = models["cost"] / "model/model.safetensors"
    kept = table.read_bytes()
    table.write_bytes(kept[:-4] + b"\0\0\0\0")
    assert "made with other frozen weights" in refused(capsys, "export", whole, "--out", out)
    table.write_bytes(kept)


def test_a_run_that_is_refused_leaves_no_folder(files, tmp_path, capsys):
    words = ["sft", *TINY, *SHORT, "--data", files["sft"], "--run-dir"]
    assert "lora_alpha changes nothing" in refused(capsys, *words, tmp_path / "run", "--lora-alpha", 3)
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    refused(capsys, *words, tmp_path / "mine", "--lora-alpha", 3)
    assert (tmp_path / "mine").exists()


def test_judges_that_are_adapters_of_the_actors_model_stand_on_its_copy_of_the_weights(files, models, tmp_path, capsys):
    """Six models share one copy of the weights, and give the same scores as merged models."""
    low, start = ["--lora-rank", 2], models["sft"] / "model"
    more = ["--data", files["pairs"], "--no-baseline", "--length", 64, *SHORT, *low]
    for kind in ("reward", "cost"):
        run(capsys, kind, "--model", start, "--pooling", "mean", *more, "--run-dir", tmp_path / kind)
        alone = model_folder.open_model(tmp_path / kind / "adapter", score=True, kind=kind)
        whole = model_folder.open_model(tmp_path / kind / "model", score=True)
        assert alone.config == whole.config and alone.config.score_pooling == "mean"
        jax.tree.map(np.testing.assert_array_equal, alone.params, whole.params)
        jax.tree.map(np.testing.assert_array_equal, alone.statistics, whole.statistics)
        assert "is no moderation model: expected 14 scores" in refused(
            capsys, "flagged", tmp_path / kind / "adapter", "--data", files["sft"]
        )
        assert "must be a language model, got a score model" in refused(
            capsys, "generate", "--model", tmp_path / kind / "model", "--prompt", "a"
        )

    def words(part: str) -> list:
        judges = ["--reward-model", tmp_path / "reward" / part, "--cost-model", tmp_path / "cost" / part]
        return ["ppo-lag", "--model", start, *judges, "--data", files["prompts"], *RL, *low]

    metrics, sizes = [], []
    for part in ("adapter", "model"):
        run(capsys, *words(part), "--run-dir", tmp_path / part)
        metrics.append(json.loads((tmp_path / part / "metrics.jsonl").read_text().splitlines()[0]))
        request, _ = recorded_request(load_run(tmp_path / part), "ppo-lag")
        trainer = request.recipe(tmp_path / part).stage.trainer
        frozen = jax.eval_shape(trainer.init, jax.random.key(0)).frozen
        sizes.append(sum(np.prod(array.shape) for array in jax.tree.leaves(frozen)))
    for name in ("return", "cost"):
        assert metrics[0][name] == pytest.approx(metrics[1][name], rel=1e-4), name
    one = sum(np.size(x) for x in jax.tree.leaves(model_folder.open_model(start).params))
    assert one < sizes[0] < 1.1 * one and sizes[1] > 2 * one
    lacking = ["--reward-model", tmp_path / "nowhere", "--cost-model", tmp_path / "neither", *RL]
    line = refused(capsys, "ppo-lag", "--model", start, "--data", files["prompts"], *lacking)
    assert "there is no folder" in line and "nowhere" in line and "neither" in line
    changed = tmp_path / "changed"
    shutil.copytree(start, changed)
    words_of = json.loads((tmp_path / "cost" / "adapter" / "adapter_config.json").read_text())
    assert Path(words_of["base_model_name_or_path"]) == start.resolve()
    table = changed / "model.safetensors"
    table.write_bytes(table.read_bytes()[:-1] + b"\0")
    (tmp_path / "cost" / "adapter" / "adapter_config.json").write_text(
        json.dumps(words_of | {"base_model_name_or_path": str(changed)})
    )
    assert "has adapters of other weights than" in refused(capsys, *words("adapter"))
    assert refused(capsys, *words("adapter")[:-2], "--model", tmp_path / "reward" / "adapter").endswith(
        "must have adapters of a language model, got those of a score model"
    )


def test_dpo_moderation_and_pretraining_write_models(files, models, tmp_path, capsys):
    result = run(capsys, "dpo", "--model", models["sft"] / "model", "--length", 64, *SHORT, "--data", files["pairs"],
                "--run-dir", tmp_path / "dpo")  # fmt: skip
    assert result["final"]["loss"] == pytest.approx(np.log(2), abs=0.05)
    harm = tmp_path / "harm.jsonl"
    labels = {"self_harm": True, "privacy_violation": False}
    row = {"prompt": "a", "response": "b c", "category": labels, "is_safe": False}
    harm.write_text("".join(json.dumps(row) + "\n" for _ in range(16)))
    result = run(
        capsys, "moderation", *TINY, *SHORT, "--data", harm, "--eval-data", harm, "--run-dir", tmp_path / "mod"
    )
    assert set(result["evaluation"]["by_category"]) >= {"flagged", "self_harm"}
    flagged = result["evaluation"]["flagged_accuracy"]
    assert flagged["value"] == pytest.approx(result["evaluation"]["by_category"]["flagged"]["accuracy"])
    plain = tmp_path / "plain.txt"
    plain.write_text("\n\n".join(synthetic.prompts()))
    result = run(capsys, "pretrain", *TINY, *SHORT, "--data", plain, "--run-dir", tmp_path / "lm")
    assert result["final"]["loss"] < 7


def test_models_answer_and_are_compared(files, models, tmp_path, capsys):
    answers = tmp_path / "answers.jsonl"
    words = ["--data", files["prompts"], "--max-new-tokens", 5, "--prompt-length", 32, "--json"]
    run(capsys, "generate", "--model", models["sft"] / "model", *words, "--out", answers)
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [
        json.loads(x)["prompt"] for x in files["prompts"].read_text().splitlines()
    ]
    judges = ["--reward-model", models["reward"] / "model", "--cost-model", models["cost"] / "model"]
    place = models["sft"] / "model"
    result = run(capsys, "evaluate", place, place, *judges, *words, "--out", tmp_path / "out")
    # A model against itself, with the same random numbers.
    assert result["models"][1]["wins_helpful"]["value"] == 0.5
    assert result["models"][1]["elo"]["helpful"]["value"] == pytest.approx(1000, abs=0.01)
    assert (tmp_path / "out" / "scatter.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "table.csv").read_text().startswith("Prompt,sft,Reward,Cost,sft,Reward,Cost")


def test_any_two_models_are_compared_by_every_judge_and_by_their_divergence(files, models, tmp_path, capsys):
    place, other = models["sft"] / "model", tmp_path / "other"
    base = model_folder.open_model(place)
    rng = np.random.default_rng(0)
    moved = base._replace(
        params=jax.tree.map(lambda x: x + 0.05 * rng.normal(size=x.shape).astype(x.dtype), base.params)
    )
    model_folder.save_model(other, moved)
    words = ["--data", files["prompts"], "--max-new-tokens", 6, "--prompt-length", 32, "--temperature", 1, "--json"]
    shutil.copytree(models["reward"] / "model", tmp_path / "again")
    judges = ["--reward-model", models["reward"] / "model", "--reward-model", tmp_path / "again"]
    judges += ["--cost-model", models["cost"] / "model"]
    result = run(capsys, "evaluate", place, other, place, *judges, *words, "--out", tmp_path / "out")
    first, second, third = result["models"]
    assert first["kl"]["value"] == third["kl"]["value"] == 0 and second["kl"]["value"] > 0.1
    # By hand: every probability from whole logits, one answer at a time.
    samples = [Example((json.loads(line)["prompt"],)) for line in files["prompts"].read_text().splitlines()]
    _, drawn = answer_prompts(moved, samples, SamplingConfig(max_new_tokens=6), prompt_length=32)
    log_ratios, counted = [], 0
    for ids, mask in zip(np.asarray(drawn.ids), np.asarray(drawn.mask), strict=True):
        total = 0.0
        for sign, model in ((1.0, moved), (-1.0, base)):
            logits, _ = LanguageModel(model.config).apply({"params": model.params}, ids[None], mask[None])
            log_probs = np.asarray(jax.nn.log_softmax(logits[0]))
            total += sign * sum(log_probs[at - 1, ids[at]] for at in range(32, len(ids)) if mask[at])
        log_ratios.append(total)
        counted += mask[32:].sum()
    assert second["kl"]["value"] == pytest.approx(np.mean(log_ratios), rel=1e-3)
    assert second["kl_per_token"] == pytest.approx(np.sum(log_ratios) / counted, rel=1e-3)
    assert set(second["lengths"]) == {"5", "50", "95"}
    assert [(row["judge"], row["kind"]) for row in result["judges"]] == [
        ("reward", "reward"), ("again", "reward"), ("cost", "cost"),
    ]  # fmt: skip
    for judge in result["judges"]:
        one, two, _ = judge["models"]
        there, back = one["wins_against"]["other"]["value"], two["wins_against"]["sft"]["value"]
        assert there + back == pytest.approx(1)
    assert result["judges"][2]["models"][1]["wins_against"]["sft"] == second["wins_harmless"]


def test_a_conversation_continues_until_it_is_ended(models, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("How do I oil the door?\n/regenerate\n/unknown\n/reset\nThanks\n/quit\nno")
    )
    result = run(
        capsys, "chat", "--model", models["sft"] / "model", "--max-new-tokens", 3, "--prompt-length", 64, "--json"
    )
    assert result == {"turns": 3}


def test_a_too_long_line_is_reported_and_the_conversation_continues(models, monkeypatch, capsys):
    """The conversation before it is unchanged: the last answer belongs to the first question."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"Oil?\n{99 * 'door '}\n/regenerate\n"))
    words = ["chat", "--model", models["sft"] / "model", "--max-new-tokens", 1, "--prompt-length", 32, "--json"]
    assert main.main(["rlhf", *map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out[out.index("{") :]) == {"turns": 2}
    assert "tokens, the maximum is 32 (--prompt-length)" in err


def test_every_row_is_answered_and_keeps_its_id(models, tmp_path, capsys):
    rows = [{"id": 7, "prompt": "Oil?", "topic": "doors"}, {"id": 8, "prompt": "Oil?"}, {"id": 9, "prompt": "Paint?"}]
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--data", prompts, "--max-new-tokens", 5, "--prompt-length", 32, "--json", "--out", out]
    assert main.main(["rlhf", "generate", "--model", str(models["sft"] / "model"), *map(str, words)]) == 0
    assert "columns that are not read: topic" in capsys.readouterr().err
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [{key: value for key, value in row.items() if key != "response"} for row in answers] == rows
    assert all(isinstance(row["response"], str) for row in answers)


def test_unusable_prompts_are_reported_in_one_line(models, tmp_path, capsys):
    words = ["generate", "--model", models["sft"] / "model", "--skip", "--prompt-length", 8]
    assert "none of the 2 prompts can be answered: the prompt has N tokens" in refused(
        capsys, *words, "--prompt", "how do I oil the door?", "--prompt", "and the other one?"
    )
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"prompt": " "}\n')
    assert "no row can be used: " in refused(capsys, *words, "--data", empty)


def test_the_model_of_an_earlier_checkpoint_is_exported(models, tmp_path, capsys):
    result = run(capsys, "export", models["sft"], "--out", tmp_path / "model", "--json")
    assert result["iteration"] == 3
    ours, theirs = (p / "model.safetensors" for p in (tmp_path / "model", models["sft"] / "model"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_harness_asks_a_model(models, tmp_path, capsys):
    for part in ("dev", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "law.csv").write_text("which,1,2,3,4,B\n" * 5)
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": f"{i}?", "answer": f"#### {i}"}) + "\n" for i in range(6)))
    words = ["--model", models["sft"] / "model", "--multiple-choice", tmp_path, "--gsm8k", problems, "--json"]
    result = run(capsys, "harness", *words, "--length", 96, "--max-new-tokens", 4, "--batch-size", 4)["scores"]
    assert {name: row["of"] for name, row in result.items()} == {
        "multiple choice, law": 5, "multiple choice, all": 5, "GSM8K": 2,
    }  # fmt: skip
    # The five questions are one question, so the model is right on all of them or on none.
    assert result["multiple choice, law"]["right"] in (0, 5)
    assert "needs --model DIR" in refused(capsys, "harness", "--model", models["sft"] / "model")


LEARNED = ("sft", "reward", "cost", "ppo", "ppo-lag", "reward-shaping", "dpo", "moderation", "pretrain", "generate")
FEW = ("sft", "reward", "ppo", "generate")


@pytest.mark.parametrize("stages", [FEW, pytest.param(LEARNED, marks=pytest.mark.slow)], ids=["few", "all"])
def test_the_benchmark_compares_stages_with_their_floor(stages, tmp_path, capsys):
    words = ["--model", "tiny", "--vocabulary", 300, "--length", 8, "--batch-size", 2, "--repeats", 1, "--json"]
    result = run(capsys, "bench", *words, *(["--stages", ",".join(FEW)] if stages == FEW else []), "--out",
                tmp_path / "bench.json")  # fmt: skip
    assert [row["stage"] for row in result["stages"]] == sorted(stages, key=list(STAGE_PROGRAMS).index)
    rows = {row["stage"]: row for row in result["stages"]}
    for row in rows.values():
        assert row["tokens_per_second"] > 0 and row["floor_ratio"] > 0
        # Nothing fits in less than its parameters, of which there are 110 thousand.
        assert row["peak_bytes"] > 4 * result["parameters"] and row["peak_from"] in ("device", "compiler")
    assert rows["reward"]["tokens"] == 2 * rows["sft"]["tokens"] == 4 * rows["generate"]["tokens"]
    assert rows["ppo"]["model_flops"] > rows["sft"]["model_flops"]
    assert set(STAGE_PROGRAMS) == set(LEARNED)
    assert json.loads((tmp_path / "bench.json").read_text()) == result
    assert "did you mean 'ppo-lag'" in refused(capsys, "bench", *words, "--stages", "ppo-la")


def test_a_pretraining_is_watched_as_it_goes_and_resumed_exactly(tmp_path, capsys):
    """24 texts of 64 tokens, 512 tokens an update: the models after the first and the last of three updates."""
    plain, held_out, choice = tmp_path / "plain.txt", tmp_path / "held_out.txt", tmp_path / "choice"
    plain.write_text("\n\n".join(3 * synthetic.prompts()))
    held_out.write_text("\n".join(synthetic.prompts()[:7]))
    for part in ("dev", "test"):
        (choice / part).mkdir(parents=True)
        (choice / part / "law.csv").write_text("which,1,2,3,4,B\n" * 5)
    words = ["pretrain", *TINY, *SHORT, "--data", plain, "--eval-data", held_out, "--harness", choice]
    words += ["--save-at", "500,1e3", "--checkpoint-every", 1, "--run-dir"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    curve = run(capsys, *words, whole)["curve"]
    updates = curve[-1]["iteration"]
    assert [p["tokens"] for p in curve] == [512, 1024, 512 * updates]
    assert curve[0]["cross_entropy"] > curve[-1]["cross_entropy"]
    for point in curve:
        assert point["bytes"] == len(held_out.read_bytes()) + 1
        nats = point["cross_entropy"] * point["predicted"]
        assert point["bits_per_byte"] == pytest.approx(nats / np.log(2) / point["bytes"])
        assert point["multiple_choice"]["questions"] == 5
        assert model_folder.open_model(whole / "models" / point["model"]).tokenizer.size == 300
    assert json.loads((whole / "dynamics.json").read_text()) == {"points": curve}
    assert (whole / "dynamics.png").stat().st_size > 10_000
    # As after `kill -9` behind the second model: later files are written again, with the same bytes.
    shutil.copytree(whole, broken)
    for iteration in [i for i in Checkpoints(broken).iterations() if i > min(Checkpoints(broken).iterations())]:
        shutil.rmtree(Checkpoints(broken).path(iteration))
    shutil.rmtree(broken / "models" / curve[-1]["model"])
    assert run(capsys, "pretrain", "--resume", broken, "--quiet", "--json")["curve"] == curve
    last = Path("models") / curve[-1]["model"] / "model.safetensors"
    assert (whole / last).read_bytes() == (broken / last).read_bytes() == (whole / "model" / last.name).read_bytes()
    assert "save_at must be at most" in refused(capsys, *words, tmp_path / "none", "--save-at", "1e9")


def test_direct_preference_is_evaluated_on_held_out_pairs(files, models, tmp_path, capsys):
    words = ["--model", models["sft"] / "model", "--length", 64, *SHORT, "--data", files["pairs"]]
    words += ["--learning-rate", 1e-3, "--eval-share", 0.4]
    result = run(capsys, "dpo", *words, "--run-dir", tmp_path / "run")["evaluation"]
    for name in ("accuracy", "margin"):
        assert result[name]["low"] <= result[name]["value"] <= result[name]["high"]
    assert result["margin"]["low"] < result["margin"]["high"] and 1 < result["pairs"] < 24


@pytest.mark.parametrize(
    "words, message",
    [
        (
            "cost --data a --eval-data b --eval-share 0.2",
            "--eval-share has no effect next to --eval-data. Leave --eval-share out",
        ),
        ("ppo --data a --cost-limit 1", "--cost-limit: is a flag of jsafe rlhf ppo-lag"),
        (
            "reward-shaping --data a --multiplier-max=3",
            "--multiplier-max: is a flag of jsafe rlhf ppo-lag",
        ),
        (
            "sft --resume a --epochs 3 --seed=0 --quiet",
            "restores all settings of the run. Leave --epochs, --seed out",
        ),
        ("ppo --resume a --data b --mesh data=1 --json", "restores all settings of the run. Leave --data out"),
        ("cost --resume a --run-dir b", "Leave --run-dir out"),
        (
            "ppo --data a --estimator group --gae-lambda 0.95",
            "--estimator group has no critics. Leave --gae-lambda out",
        ),
    ],
)
def test_options_that_would_change_nothing_are_refused(words, message, capsys):
    assert message in refused(capsys, *words.split())


def test_machine_options_are_accepted_with_resume(tmp_path, capsys):
    words = "sft --mesh data=1 --quiet --json --platform cpu --devices 1 --resume".split()
    assert f"no run at {tmp_path / 'none'}" in refused(capsys, *words, tmp_path / "none")


def test_mistakes_are_named_in_one_line(files, models, tmp_path, capsys):
    sft = ["sft", "--model", models["sft"] / "model", "--length", 64]
    assert "no training data" in refused(capsys, "sft")
    assert "Did you mean --learning-rate" in refused(capsys, *sft, "--learning-rat", 1)
    assert "there is no file nowhere" in refused(capsys, *sft, "--data", "nowhere")
    assert "config.json" in refused(capsys, "sft", "--model", tmp_path, "--data", files["sft"])
    both = refused(capsys, "sft", "--model", tmp_path / "gone", "--data", "nowhere")
    assert "there is no file nowhere" in both and f"there is no folder {tmp_path / 'gone'}" in both
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a", "response": " "}\n')
    assert "bad.jsonl, row 1: an answer is empty" in refused(capsys, *sft, "--data", bad)
    bad.write_text('{"prompt": "' + 99 * "long " + '", "response": "b"}\n')
    assert "bad.jsonl, row 0: the prompt has" in refused(capsys, *sft, "--data", bad)
    assert "needs --reward-model, --cost-model" in refused(
        capsys, "ppo-lag", "--model", models["sft"] / "model", "--data", files["prompts"]
    )
    assert "Unknown option: --beta" in refused(capsys, "sft", "--data", files["sft"], "--beta", 1)
    assert "changes nothing without a lora_rank" in refused(capsys, *sft, "--data", files["sft"], "--lora-alpha", 8)
    warm = ["--warm-epochs", 2, "--data", files["pairs"]]
    assert "needs a model from scratch" in refused(capsys, "cost", "--model", models["sft"] / "model", *warm)
    roles = ["--model", models["sft"] / "model", "--prompt", "a", "--template", "baichuan"]
    assert "needs a model of family 'baichuan'" in refused(capsys, "generate", *roles)
    shard = tmp_path / "torn"
    shutil.copytree(models["sft"] / "model", shard)
    (shard / "model.safetensors").write_bytes((shard / "model.safetensors").read_bytes()[:1000])
    assert "model.safetensors" in refused(capsys, "sft", "--model", shard, "--data", files["sft"])
