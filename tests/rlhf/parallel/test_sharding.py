"""Models over a mesh: the numbers of one device, parameters that really are spread, and plans of published sizes."""

import json
import math
import os
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli import main
from experiments.cli.devices import configure_machine
from experiments.cli.errors import CommandError
from experiments.cli.shared_flags import Machine, Processes
from jsafe import runtime
from rlhf.data import synthetic
from rlhf.models import PUBLISHED, LanguageModel, parameter_count
from rlhf.parallel import plan as plans
from rlhf.parallel import sharding
from tests.support.compilation import known_flags

ROOT = Path(__file__).parents[3]
MESHES = {"fsdp=8": 8, "fsdp=4,tensor=2": 8}


def shapes_of(name, **changes):
    return plans.parameters_of(LanguageModel(PUBLISHED[name], **changes))


def over(text):
    return sharding.abstract_mesh(**sharding.parse(text))


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_is_cut_into_eight_parts_that_make_up_the_whole(name, mesh):
    shapes = shapes_of(name)
    copied = sum(math.prod(x.shape) for path, x in jax.tree_util.tree_leaves_with_path(shapes) if "ln_" in str(path))
    on_all = MESHES[mesh] * sharding.shard_bytes(shapes, over(mesh)) // 4
    assert on_all - (MESHES[mesh] - 1) * copied == parameter_count(PUBLISHED[name])["total"]


def test_tables_say_how_each_parameter_is_cut():
    actual = sharding.specs(shapes_of("llama2-7b"), over("data=2,fsdp=2,tensor=2"))
    spec = jax.sharding.PartitionSpec
    assert actual["decoder"]["embedding"] == actual["head"] == spec("tensor", "fsdp")
    layers = actual["decoder"]["layers"]
    assert layers["attention"]["q"] == spec(None, "fsdp", "tensor", None)
    assert layers["attention"]["o"] == spec(None, "tensor", None, "fsdp")
    assert layers["mlp"]["down"] == spec(None, "tensor", "fsdp")
    assert layers["ln_1"]["scale"] == spec(None, None)


def test_moments_are_cut_as_their_parameters():
    plan = plans.Plan("sft", PUBLISHED["tiny-llama"])
    state = jax.eval_shape(plans.trainer_of(plan).init, jax.random.key(0))
    actual = sharding.specs(state, over("fsdp=4,tensor=2"))
    adam = actual.optimizer[1]
    assert adam.mu == adam.nu == actual.params["model"]
    assert adam.count == jax.sharding.PartitionSpec()


def test_a_dimension_that_cannot_be_cut_is_named():
    with pytest.raises(ValueError, match=r"decoder/layers/attention/k: dimension 2 \(kv_heads\) has 8 .* tensor=16"):
        sharding.specs(shapes_of("llama3-8b"), over("tensor=16"))
    with pytest.raises(ValueError, match=r"rows: dimension 0 \(batch\) has 12 entries, which data=2, fsdp=4"):
        plans.estimate(plans.Plan("sft", PUBLISHED["tiny-llama"], rows=12), over("data=2,fsdp=4"))


def test_a_large_array_that_no_table_knows_is_not_copied_silently():
    small, large = (jax.ShapeDtypeStruct((size, 4096), jnp.float32) for size in (64, 1 << 15))
    assert sharding.specs({"q_a": small}, over("fsdp=8"))["q_a"] == jax.sharding.PartitionSpec(None, None)
    with pytest.raises(ValueError, match="new_matrix of shape .* too large"):
        sharding.specs({"new_matrix": large}, over("fsdp=8"))


@pytest.mark.parametrize("text", ["fsdp", "fsdp=0", "fsdp=2,fsdp=2", "seeds=2", ""])
def test_a_mesh_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match="expected a mesh such as"):
        sharding.parse(text)


def test_a_mesh_wants_as_many_devices_as_there_are():
    with pytest.raises(ValueError, match="data=2, fsdp=2, tensor=1 needs 4 devices, got"):
        sharding.mesh(data=2, fsdp=2)


def test_a_plan_counts_what_each_stage_holds():
    config, mesh = PUBLISHED["llama2-7b"], over("fsdp=8")
    sft = plans.estimate(plans.Plan("sft", config), mesh)
    lag = plans.estimate(plans.Plan("ppo-lag", config), mesh)
    assert sft["moments"] - 2 * sft["parameters"] == 4  # the counter of Adam
    assert sft["frozen"] == 0
    # Actor and two critics learn; the reference and two judges do not, and scores have no output layer.
    head = 4 * parameter_count(config)["head"] // 8
    heads = 2 * 4 * (config.hidden_size + 1)
    assert lag["parameters"] == lag["frozen"] == 3 * sft["parameters"] - 2 * head + heads
    assert lag["gradients"] == sft["gradients"]
    halved = plans.estimate(plans.Plan("sft", config, param_dtype=jnp.bfloat16), mesh)
    assert 2 * halved["parameters"] == sft["parameters"]


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC", "JAX_COMPILATION_CACHE_DIR")}
    return (
        kept
        | {
            "JSAFE_CACHE_DIR": "",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": " ".join(known_flags(metadata.version("jaxlib"))),
        }
        | more
    )


@pytest.fixture(scope="module")
def on_mesh():
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.sharding_subprocess"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def close(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose([b[k] for k in a], [a[k] for k in a], rtol=2e-4, atol=2e-5, err_msg=str(list(a)))


@pytest.mark.parametrize("mesh", ["(8, 1, 1)", "(2, 2, 2)", "(1, 8, 1)"])
@pytest.mark.slow
def test_fine_tuning_on_a_mesh_has_the_numbers_of_one_device(on_mesh, mesh):
    actual = on_mesh["sft"]
    close(actual["alone"], actual[mesh]["rows"])
    assert actual[mesh]["apart"] < 1e-5
    assert all(row["gradient_norm"] * row["learning_rate"] > 1e-3 for row in actual["alone"])  # parameters moved


@pytest.mark.slow
def test_ppo_lag_on_a_mesh_has_the_numbers_of_one_device(on_mesh):
    actual = on_mesh["ppo_lag"]
    close(actual["alone"], actual["(2, 2, 2)"]["rows"])
    assert actual["(2, 2, 2)"]["apart"] < 1e-5
    assert actual["alone"][1]["multiplier"] != actual["alone"][0]["multiplier"]


@pytest.mark.slow
def test_each_device_holds_its_part_only(on_mesh):
    alone, spread = on_mesh["sft"]["(8, 1, 1)"]["shapes"], on_mesh["sft"]["(2, 2, 2)"]["shapes"]
    moments = [name for name in alone if "mu" in name and name.endswith("mlp/gate")]
    assert len(moments) == 1
    for name in ("0/model/decoder/layers/mlp/gate", *moments):
        assert alone[name] == [1, 2, 16, 32]
        assert spread[name] == [1, 2, 8, 16]
        assert on_mesh["sft"]["(1, 8, 1)"]["shapes"][name] == [1, 2, 2, 32]
    shapes = on_mesh["ppo_lag"]["(2, 2, 2)"]["shapes"]
    assert shapes["0/actor/decoder/embedding"] == shapes["0/critics/0/decoder/embedding"] == [1, 24, 8]


@pytest.mark.slow
def test_a_mesh_draws_the_same_tokens(on_mesh):
    alone, spread = on_mesh["tokens"]
    assert alone == spread
    assert len({tuple(row[8:]) for row in alone}) > 1


@pytest.mark.slow
def test_a_compiled_plan_holds_what_was_reckoned(on_mesh):
    estimate, actual = on_mesh["plan"]["estimate"], on_mesh["plan"]["compiled"]
    assert (
        0 <= actual["arguments"] - estimate["parameters"] - estimate["moments"] < 256
    )  # the key, counters, the learning rate
    assert actual["collectives"]["all-gather"] > 0
    # Gradients are the least that has to be set aside, and what is not cut would be far more.
    whole = 4 * parameter_count(PUBLISHED["tiny-llama"])["total"]
    assert estimate["gradients"] < actual["temporary"] < 4 * whole


def test_the_command_prints_the_memory_of_a_size(capsys):
    assert main.main(["rlhf", "plan", "llama2-7b", "--mesh", "fsdp=4,tensor=2", "--json"]) == 0
    actual = json.loads(capsys.readouterr().out)
    assert actual["bytes_per_device"] == plans.estimate(
        plans.Plan("sft", PUBLISHED["llama2-7b"]), over("fsdp=4,tensor=2")
    )
    assert main.main(["rlhf", "plan", "llama2-8b"]) == 2
    assert "did you mean 'llama3-8b'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"processes": 2}, "need --coordinator"),
        ({"coordinator": "h:1", "processes": 2, "process": 0}, "need --mesh"),
        ({"coordinator": "h:1", "processes": 3, "process": 0, "mesh": "fsdp=4"}, "3 processes cannot share"),
    ],
)
def test_several_processes_need_coordinator_mesh_and_ranks(flags, message):
    with pytest.raises(CommandError, match=message):
        configure_machine(Machine(), Processes(**flags))


@pytest.mark.parametrize("parsed", [("h:1", 2, 2), ("h:1", None, 0), ("h", 2, 0), ("auto", 2, None)])
def test_a_process_that_is_none_of_them_is_refused(parsed):
    with pytest.raises(ValueError, match="coordinator"):
        runtime.join(*parsed)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "sft.jsonl"
    rows = synthetic.make(seed=0, answers=1, pairs=1)["sft"][:48]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(texts, where, *more):
    actual = ["rlhf", "sft", "--model", "tiny", "--vocabulary", "320", "--length", "64", "--data", str(texts), "--skip"]
    return [*actual, "--batch-size", "16", "--epochs", "2", "--run-dir", str(where), "--json", *more]


def losses(where):
    rows = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows]


def test_two_processes_have_the_loss_of_one_and_the_first_one_writes(texts, tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert main.main(words(texts, alone)) == 0
    env = environment(JAX_DISABLE_MOST_OPTIMIZATIONS="true")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    many = ["--platform", "cpu", "--mesh", "data=2,fsdp=2", "--coordinator", address, "--processes", "2"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "experiments.cli.main", *words(texts, both, *many, "--process", str(number))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=ROOT,
        )
        for number in range(2)
    ]
    try:
        output = [process.communicate(timeout=900) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], output[0][1][-3000:] + output[1][1][-3000:]
    np.testing.assert_allclose(losses(both), losses(alone), atol=1e-5)
    assert len(losses(both)) > 3
    first, second = (json.loads(text) for text, _ in output)
    assert first["model"] == str(both / "model")
    assert "model" not in second
    one, other = ((w / "model" / "model.safetensors").stat().st_size for w in (alone, both))
    assert one == other
    record = json.loads((both / "run.json").read_text())
    assert record["num_devices"] == 4
    assert record["status"] == "finished"
