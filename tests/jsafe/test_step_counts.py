"""Steps are counted exactly beyond what 32 bits hold."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.trainer import Trainer, count_units, exact_units
from tests.support.toy_trainer import make_tiny


def _large_iterations(each: int) -> Trainer:
    """The toy trainer, whose iterations count as `each` steps."""
    tiny = make_tiny()

    def step(state):
        after, metrics = tiny.step(state)
        return after, metrics | {"env_steps": count_units(after.iteration, each)}

    return Trainer(tiny.init, step, dataclasses.replace(tiny.info, units_per_step=each))


@pytest.mark.parametrize("each", [2**30, 2**31 + 7, 5_000_000_000])
def test_a_run_counts_steps_beyond_32_bits(tmp_path: Path, each: int):
    result = jsafe.fit(_large_iterations(each), iterations=6, run_dir=tmp_path / "run", progress=False, sinks=())
    expected = [each * i for i in range(1, 7)]
    assert result.metrics["env_steps"][:, 0].tolist() == expected
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["env_steps"] for row in rows] == expected


def test_several_iterations_in_one_program_count_alike(tmp_path: Path):
    result = jsafe.fit(_large_iterations(2**30), iterations=6, iterations_per_call=4, progress=False)
    assert result.metrics["env_steps"][:, 0].tolist() == [2**30 * i for i in range(1, 7)]


def test_a_count_inside_a_program_is_exact_up_to_32_bits_and_never_wraps():
    assert int(count_units(jnp.int32(107_375), 20_000)) == 2_147_500_000
    assert int(count_units(jnp.int32(500_000), 20_000)) == 2**32 - 1


def test_counts_that_are_no_multiple_of_the_iterations_stay_as_they_are():
    counted = np.array([[7], [9]], np.int32)
    assert exact_units(counted, np.array([1, 2]), 5).tolist() == [[7], [9]]


def test_iterations_beyond_32_bits_are_refused():
    with pytest.raises(ValueError, match="iterations must be at most"):
        jsafe.fit(make_tiny(), total_steps=10 * 2**31, progress=False)
