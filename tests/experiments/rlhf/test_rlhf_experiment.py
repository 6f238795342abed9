"""Several stages declared in a file: rounds that continue from one another, and resume after an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.cli.errors import CommandError
from experiments.commands.rlhf import rlhf_demo
from experiments.pipeline.runner import check
from experiments.pipeline.spec import presets, read_file, steps_of
from experiments.pipeline.step import Step
from jsafe.runs.checkpoint import Checkpoints
from rlhf.data import synthetic

ROUNDS = """
[paths]
data = ""

[defaults.sft]
model = "tiny"
vocabulary = 300
length = 64
batch-size = 8

[defaults."reward cost"]
model = "@sft"
length = 64
batch-size = 8
epochs = 1
no-baseline = true

[defaults.ppo-lag]
prompts-per-iteration = 4
batch-size = 4
iterations = 2
checkpoint-every = 1
max-new-tokens = 4
prompt-length = 32
data = "{data}/prompts.jsonl"

[[step]]
name = "sft"
stage = "sft"
data = "{data}/sft.jsonl"
epochs = 1
"""

JUDGES = """
[[step]]
name = "judges/reward"
stage = "reward"
data = "{data}/pairs.jsonl"

[[step]]
name = "judges/cost"
stage = "cost"
data = "{data}/pairs.jsonl"
"""

ROUND = """
[[step]]
name = "round%(n)d/policy"
stage = "ppo-lag"
model = "@%(before)s"
reward-model = "@judges/reward"
cost-model = "@judges/cost"
"""

EVALUATION = """
[[step]]
name = "evaluation"
stage = "evaluate"
models = ["@sft", "@round1/policy", "@round2/policy"]
reward-model = "@judges/reward"
cost-model = "@judges/cost"
data = "{data}/prompts.jsonl"
prompt-length = 32
max-new-tokens = 4
"""


@pytest.fixture(scope="module")
def declared(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("rounds")
    rows = synthetic.make(seed=0, answers=1, pairs=1)
    parts = {"sft": rows["sft"][:16], "pairs": rows["pairs"][:8], "prompts": rows["prompts"][:8]}
    for name, part in parts.items():
        (where / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    rounds = [ROUND % {"n": 1, "before": "sft"}, ROUND % {"n": 2, "before": "round1/policy"}]
    path = where / "rounds.toml"
    path.write_text(ROUNDS + JUDGES + "".join(rounds) + EVALUATION)
    return path


def words(path: Path, where: Path, *more: str) -> list[str]:
    return [
        "rlhf",
        "experiment",
        str(path),
        "--input",
        f"data={path.parent}",
        "--run-dir",
        str(where),
        "--quiet",
        *more,
    ]


def refused(capsys, *line: str) -> str:
    assert main.main(list(line)) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def whole(declared, tmp_path_factory) -> Path:
    """The experiment in one go."""
    where = tmp_path_factory.mktemp("whole") / "run"
    assert main.main(words(declared, where, "--json")) == 0
    return where


def weights(where: Path, step: str) -> bytes:
    return (where / step / "model" / "model.safetensors").read_bytes()


def test_each_round_starts_from_the_policy_of_the_previous_round(whole):
    assert weights(whole, "sft") != weights(whole, "round1/policy") != weights(whole, "round2/policy")
    record = json.loads((whole / "round2/policy/run.json").read_text())["rlhf"]["settings"]["models"]
    assert record["model"] == str(whole / "round1/policy/model")
    assert record["cost_model"] == [str(whole / "judges/cost/model")]
    evaluation = json.loads((whole / "evaluation/evaluation.json").read_text())
    assert [row["model"] for row in evaluation["models"]] == ["run/sft", "round1/policy", "round2/policy"]
    assert (whole / "curves.png").is_file()
    assert set(json.loads((whole / "summary.json").read_text())["steps"]) >= {"sft", "round2/policy", "evaluation"}


def test_a_killed_experiment_ends_with_the_same_models(declared, whole, tmp_path, capsys):
    """A kill in the second round's policy leaves its run without a last checkpoint, and nothing behind it."""
    broken = tmp_path / "run"
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "evaluation")
    policy = broken / "round2/policy"
    shutil.rmtree(policy / "model")
    (policy / "result.json").unlink()
    runs = Checkpoints(policy)
    shutil.rmtree(runs.path(max(runs.iterations())))
    record = policy / "run.json"
    record.write_text(record.read_text().replace(str(whole), str(broken)))
    done = (broken / "round1/policy/result.json").read_bytes()
    assert main.main(words(declared, broken, "--json")) == 0
    assert weights(broken, "round2/policy") == weights(whole, "round2/policy")
    assert (policy / "metrics.jsonl").read_text() == (whole / "round2/policy/metrics.jsonl").read_text()
    assert (broken / "round1/policy/result.json").read_bytes() == done
    assert (broken / "evaluation/evaluation.json").is_file()


def test_what_was_made_with_other_options_or_models_is_refused(declared, whole, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    other = tmp_path / "other.toml"
    other.write_text(declared.read_text().replace("max-new-tokens = 4\nprompt", "max-new-tokens = 5\nprompt"))
    assert "round1/policy was made with other options" in refused(
        capsys, *words(declared, run)[:2], str(other), *words(declared, run)[3:]
    )
    result = run / "judges/cost/result.json"  # as if the step had run again
    result.write_text(json.dumps(json.loads(result.read_text()) | {"finished": 1}))
    assert "round1/policy was made from other models" in refused(capsys, *words(declared, run))


WRONG = {
    "unknown stage of step 'sft' 'sfd'": ('stage = "sft"', 'stage = "sfd"'),
    "'round3/policy', which is none of the steps before": ('"@round1/policy"\nreward', '"@round3/policy"\nreward'),
    "{date} is none of [paths]": ("{data}/sft.jsonl", "{date}/sft.jsonl"),
    "step 'sft' is not a command of jsafe rlhf": ("epochs = 1\n\n[[step]]", "epoch = 1\n\n[[step]]"),
    "'path' is not one of about, family, paths, defaults, step, comparison": ("[paths]", "[path]"),
    "each step needs a name of its own, got 'judges/reward'": ('name = "judges/cost"', 'name = "judges/reward"'),
}


@pytest.mark.parametrize(("message", "change"), WRONG.items())
def test_a_wrong_declaration_is_refused_before_anything_runs(declared, tmp_path, capsys, message, change):
    text = declared.read_text()
    assert change[0] in text
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace(*change, 1))
    where = tmp_path / "run"
    command = words(path, where)
    command[command.index(f"data={tmp_path}")] = f"data={declared.parent}"
    assert message in refused(capsys, *command)
    assert not where.exists() or not [p for p in where.iterdir() if p.is_dir()]


def test_a_path_without_a_value_is_refused_with_the_fix(declared, tmp_path, capsys):
    line = refused(capsys, "rlhf", "experiment", str(declared), "--run-dir", str(tmp_path / "run"))
    assert "needs a path for data: --input data=PATH" in line
    assert "did you mean 'data'?" in refused(capsys, "rlhf", "experiment", str(declared), "--input", "dat=x")


@pytest.mark.parametrize("family, name", [("rlhf", "three_rounds"), ("sketch", "comparison")])
def test_our_own_experiments_are_commands_that_exist(family, name):
    """Every step of the shipped files is understood, with whatever its paths are."""
    files = presets(family)
    assert name in {path.stem for path in files}
    for path in files:
        read = read_file(path)
        check(steps_of(read, {name: "somewhere" for name in read.get("paths", {})}, family))


def test_the_demonstration_is_commands_that_exist():
    paths = {name: Path("x") for name in ("sft", "pairs", "held_pairs", "prompts", "held_prompts")}
    check(rlhf_demo.demo_steps(paths, 0, 1))


def test_seeds_of_a_step_are_steps_of_their_own():
    row = {"name": "p", "stage": "ppo", "seeds": [0, 3], "remat": True, "model": "@sft-{seed}"}
    steps = steps_of({"step": [row]}, {}, "rlhf")
    assert [s.name for s in steps] == ["p-0", "p-3"] and {s.label for s in steps} == {"p"}
    assert steps[1] == Step.from_words(
        "p-3", ("rlhf", "ppo"), ["--remat", "--model", "@sft-3", "--seed", "3"], label="p"
    )
    assert steps[1].needs == ("sft-3",)
    with pytest.raises(CommandError, match="none of the steps before"):
        check([Step.from_words("a", ("rlhf", "generate"), ["--model", "@b"])])
