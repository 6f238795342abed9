"""The measured environment and the bare loop next to it simulate the same thing, and the figures fit together."""

from __future__ import annotations

import json

import mujoco
import numpy as np
import pytest

import envs_mjx
from envs_mjx.physics.state_transfer import PhysicsStates
from experiments.benchmarks import environment_speed
from experiments.benchmarks.bare_mujoco import CONTROL_HOLD_STEPS, SEGMENT, BareLoop
from experiments.benchmarks.environment_speed import measure
from experiments.benchmarks.speed_tables import markdown
from experiments.benchmarks.training_speed import UpdateFloor
from experiments.cli import main
from experiments.commands.throughput import describe


@pytest.fixture(scope="module")
def env() -> envs_mjx.Navigation:
    return envs_mjx.make("SafetyPointButton1-v0", physics="mujoco")


def test_bare_loop_steps_every_thread_through_its_states(monkeypatch: pytest.MonkeyPatch):
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint name='slide' type='slide'/><geom size='1'/></body></worldbody>"
        "<actuator><motor joint='slide' ctrlrange='-1 1'/></actuator></mujoco>"
    )
    empty = np.zeros((4, 0, 3))
    states = PhysicsStates(np.arange(4.0)[:, None], np.zeros((4, 1)), empty, np.zeros((4, 0, 4)))
    seen, stepped = [], []
    original = mujoco.mj_step

    def step(model: mujoco.MjModel, data: mujoco.MjData, nstep: int) -> None:
        seen.append(float(data.qpos[0]))
        stepped.append(nstep)
        original(model, data, nstep)

    monkeypatch.setattr(mujoco, "mj_step", step)
    loop = BareLoop(model, substeps=10, states=states, threads=1)
    assert loop.rate(0.02) > 0
    assert set(stepped) == {10 * CONTROL_HOLD_STEPS}, "ten physics steps in each control step"
    assert len(stepped) % SEGMENT == 0
    assert seen[: 4 * SEGMENT : SEGMENT] == [0.0, 1.0, 2.0, 3.0], "each segment starts from the next sampled state"


def test_figures_fit_together(env: envs_mjx.Navigation):
    result = measure(env, num_envs=4, steps=5, repeats=3)
    assert result["env_steps_per_second"] == pytest.approx(np.median(result["all_env_steps_per_second"]))
    assert result["physics_steps_per_second"] == pytest.approx(10 * result["env_steps_per_second"])
    assert result["floor_ratio"] == pytest.approx(result["env_steps_per_second"] / result["floor_env_steps_per_second"])
    assert result["run_seconds"] == pytest.approx(sum(4 * 5 / rate for rate in result["all_env_steps_per_second"]))
    assert result["compile_seconds"] > 0 and result["hardware"]["cores"] >= 1 and "jax" in result["versions"]
    assert "4 environments" in describe(result)
    page = markdown({"hardware": result["hardware"], "versions": result["versions"], "clock": "", "floor": "",
                     "throughput": [result]})  # fmt: skip
    assert f"| {result['floor_ratio']:.0%} |" in page


def test_update_floor_makes_every_product_of_every_minibatch():
    floor = UpdateFloor(2, 1, batch=8, updates=5, observation_size=6, hidden=(4,), outputs=(2, 1, 1))
    result = floor.program.cost_analysis()
    cost = result[0] if isinstance(result, list) else result
    assert cost is not None
    assert floor.seconds_of_a_pass(1) > 0
    before, after = floor.weights, floor.program(floor.weights)
    assert [leaf.shape for leaf in after] == [(2, 3, 4, 6), (2, 3, 2, 4)]
    # Forward 6x4 and 4x2, backward 4x2 twice and 6x4 once; two operations each, 8 samples, 2 seeds, 3 networks.
    once = 2 * 8 * 2 * 3 * (6 * 4 + 4 * 2 + 2 * 4 * 2 + 6 * 4)
    assert once <= cost["flops"] <= 1.2 * once * 5
    assert not np.array_equal(before[0], after[0])


def test_a_failed_case_is_in_the_table_and_in_the_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment_speed, "QUICK_CASES", (("SafetyPointGoal1-v0", "mujoco", (3, 4)),))
    monkeypatch.setattr(environment_speed, "make_env", lambda env_id, physics: None)
    row = {"env": "SafetyPointGoal1-v0", "physics": "mujoco", "num_envs": 4, "env_steps_per_second": 5.0}
    row |= {"floor_env_steps_per_second": None, "floor_ratio": None, "physics_steps_per_second": 50.0}
    row |= {"compile_seconds": 1.0}
    monkeypatch.setattr(environment_speed, "quiet_measure", lambda env, num_envs, **_: row if num_envs == 4 else None)
    words = ["bench", "--quick", "--only", "throughput", "--out", str(tmp_path), "--json"]
    assert main.main(words) == 1
    assert json.loads(capsys.readouterr().out)["failed"] == ["SafetyPointGoal1-v0, mujoco, 3 environments"]
    assert "Failed: SafetyPointGoal1-v0, mujoco, 3 environments." in (tmp_path / "bench.md").read_text()
