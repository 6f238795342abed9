"""Overrides written as text, and the default simulator."""

from __future__ import annotations

import importlib.util

import jax
import pytest

import envs_mjx


@pytest.mark.parametrize(
    ("pairs", "overrides"),
    [
        ([("num_steps", "200")], {"num_steps": 200}),
        ([("Hazards.num", "4"), ("Hazards.size", "0.3")], {"Hazards": {"num": 4, "size": 0.3}}),
        ([("Hazards", "{'num': 4}"), ("Hazards.size", "0.3")], {"Hazards": {"num": 4, "size": 0.3}}),
        ([("Hazards", "null")], {"Hazards": None}),
        ([("lidar_conf.alias", "False")], {"lidar_conf.alias": False}),
        ([("lidar_conf.max_dist", "none")], {"lidar_conf.max_dist": None}),
        ([("agent.locations", "[(1, -1)]")], {"agent.locations": [(1, -1)]}),
        ([("name", "plain text")], {"name": "plain text"}),
        ([], {}),
    ],
)
def test_text_becomes_values(pairs, overrides):
    assert envs_mjx.parse_overrides(pairs) == overrides


def test_an_entry_of_a_removed_class_is_refused():
    with pytest.raises(ValueError, match=r"override Hazards\.num needs a dict of settings, got Hazards=None"):
        envs_mjx.parse_overrides([("Hazards", "null"), ("Hazards.num", "3")])


def test_parsed_overrides_make_the_environment():
    overrides = envs_mjx.parse_overrides([("Hazards.num", "3"), ("lidar_conf.num_bins", "8"), ("Vases", "null")])
    spec = envs_mjx.make("SafetyPointGoal1-v0", overrides=overrides).spec
    assert spec.observation_size == 12 + 2 * 8 and spec.cost_names == ("cost_hazards",)


@pytest.mark.parametrize(
    ("platform", "has_warp", "backend"),
    [("cpu", True, "mujoco"), ("gpu", True, "warp"), ("gpu", False, "mjx"), ("tpu", True, "mjx")],
)
def test_the_default_backend_is_the_fastest_of_the_platform(platform, has_warp, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if has_warp else None)
    assert envs_mjx.default_backend() == backend
    assert envs_mjx.make("SafetyPointGoal0-v0", physics=None).backend == backend
