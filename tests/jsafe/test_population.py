"""A population is its members: they do not depend on how many there are, nor on the devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsafe
from jsafe.population import keys_for, make_population
from tests.support.toy_trainer import make_tiny

ROOT = Path(__file__).resolve().parents[2]

TWO_DEVICES = """
import os, sys
os.environ["NPROC"] = sys.argv[3]
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_cpu_enable_async_dispatch", False)
import numpy as np
from jsafe.population import keys_for, make_population
from tests.support.toy_trainer import make_tiny

seen = []
trainer = make_tiny(host=lambda x: (seen.append(1), np.asarray(x) * 0.5)[1])
population = make_population(trainer, 4)
state = population.init(keys_for(7, 4), {"step_size": [0.1, 0.2, 0.3, 0.4]})
jax.block_until_ready(state)
compiled = []
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
for _ in range(4):
    state, metrics, health = population.step(state)
jax.block_until_ready(state)
assert sum(name.endswith("backend_compile_duration") for name in compiled) == 1, compiled
assert seen
leaves = jax.tree.leaves((state.params, state.algo.total, jax.random.key_data(state.key)))
np.savez(sys.argv[2], *leaves, devices=population.num_devices, spread=len(leaves[0].sharding.device_set))
"""


def test_seed_keeps_its_key_in_a_larger_population() -> None:
    few, many = jax.random.key_data(keys_for(3, 2)), jax.random.key_data(keys_for(3, 9))
    assert np.array_equal(few, many[:2])
    assert len({tuple(row) for row in many.tolist()}) == 9
    assert not np.array_equal(few, jax.random.key_data(keys_for(4, 2)))


def test_many_steps_compile_once_and_members_learn_what_they_would_alone() -> None:
    trainer = make_tiny()
    population = make_population(trainer, 3)
    state = population.init(keys_for(0, 3))
    for _ in range(5):
        state, metrics, _ = population.step(state)
    assert population.step._cache_size() == 1
    assert metrics["return"].shape == (3,)
    alone = trainer.init(keys_for(0, 3)[2])
    step = jax.jit(trainer.step)
    for _ in range(5):
        alone, _ = step(alone)
    for one, all_ in zip(jax.tree.leaves(alone.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(np.asarray(all_)[2], one, rtol=1e-5, atol=1e-6)


def test_hyper_gives_each_member_its_own_value() -> None:
    population = make_population(make_tiny(), 2)
    keys = jax.random.wrap_key_data(np.repeat(jax.random.key_data(keys_for(0, 1)), 2, axis=0))
    state, _, health = population.step(population.init(keys, {"step_size": np.array([0.0, 0.5])}))
    assert np.asarray(health.moved).tolist() == [False, True]
    assert np.asarray(state.hyper["step_size"]).tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("hyper", "words"),
    [
        ({"step_sise": 0.1}, "did you mean 'step_size'"),
        ({"sizes": 3}, "shapes the program"),
        ({"step_size": [0.1, 0.2, 0.3]}, r"shape \(2,\)"),
        ({"step_size": float("nan")}, "finite"),
    ],
)
def test_wrong_hyper_is_refused_by_name(hyper: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_population(make_tiny(), 2).init(keys_for(0, 2), hyper)


def test_no_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        keys_for(0, 0)
    with pytest.raises(ValueError, match="seeds must be at least 1, got -1"):
        make_population(make_tiny(), -1)


def _on_devices(folder: Path, devices: int, nproc: int) -> tuple[dict[str, np.ndarray], str]:
    out = folder / f"{devices}-{nproc}.npz"
    command = [sys.executable, "-c", TWO_DEVICES, str(devices), str(out), str(nproc)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(out)), done.stderr


def test_results_do_not_depend_on_the_number_of_devices(tmp_path: Path) -> None:
    safe = 4 * (os.cpu_count() or 1) + 8
    one, _ = _on_devices(tmp_path, 1, safe)
    two, _ = _on_devices(tmp_path, 2, safe)
    assert (int(one.pop("devices")), int(two.pop("devices"))) == (1, 2)
    assert (int(one.pop("spread")), int(two.pop("spread"))) == (1, 2)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_small_thread_pool_is_not_given_two_devices(tmp_path: Path) -> None:
    result, message = _on_devices(tmp_path, 2, 1)
    assert int(result["devices"]) == 1
    assert "NPROC" in message


@pytest.mark.parametrize("seeds", [1, 2])
def test_layout_changes_no_number_and_a_run_resumes_under_it(tmp_path, seeds):
    mesh = jax.make_mesh((1,), ("all",), axis_types=(AxisType.Auto,))
    layout = jsafe.Layout(mesh, lambda state: jax.tree.map(lambda _: PartitionSpec(), state))
    plain = jsafe.fit(make_tiny(), seeds=seeds, iterations=4)
    jsafe.fit(make_tiny(), seeds=seeds, iterations=2, run_dir=tmp_path, layout=layout, sinks=())
    again = jsafe.fit(make_tiny(), run_dir=tmp_path, resume=True, iterations=4, layout=layout, sinks=())
    assert plain.metrics.keys() == again.metrics.keys()
    for name, values in plain.metrics.items():
        np.testing.assert_allclose(again.metrics[name], values, rtol=1e-6, err_msg=name)


def test_devices_and_a_layout_exclude_each_other():
    mesh = jax.make_mesh((1,), ("all",), axis_types=(AxisType.Auto,))
    layout = jsafe.Layout(mesh, lambda state: jax.tree.map(lambda _: PartitionSpec(), state))
    with pytest.raises(ValueError, match="devices or a layout"):
        make_population(make_tiny(), 1, jax.devices()[:1], layout)
