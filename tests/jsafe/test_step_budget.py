"""A run that is longer or shorter than the schedule of its trainer has a remark about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

import jsafe
from jsafe.trainer import Trainer
from tests.support.toy_trainer import make_tiny


def _scheduled(**settings: Any) -> Trainer:
    tiny = make_tiny()
    config: Mapping[str, Any] = {**tiny.info.config, **settings}
    return Trainer(tiny.init, tiny.step, dataclasses.replace(tiny.info, config=config))


@pytest.mark.parametrize(
    ("budget", "remark"), [(20, "step size is 0 from step 20 on"), (80, "falls to 50.0% of its start only")]
)
def test_a_run_of_another_length_than_the_schedule_has_a_remark(budget: int, remark: str):
    result = jsafe.fit(_scheduled(total_steps=budget, learning_rate_decay=True), total_steps=40, progress=False)
    assert len(result.notes) == 1 and remark in result.notes[0] and "total_steps=40" in result.notes[0]


def test_a_run_as_long_as_its_schedule_or_without_one_has_no_remark():
    for settings in (
        {"total_steps": 38, "learning_rate_decay": True},
        {"total_steps": 9, "learning_rate_decay": False},
    ):
        assert jsafe.fit(_scheduled(**settings), iterations=8, progress=False).notes == ()
