"""The README keeps its promises: its commands are understood and its Python runs."""

from __future__ import annotations

import re
import shlex

import jax
import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = [shlex.split(line, comments=True) for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("argv", [words[1:] for words in SHELL if words[:1] == ["jsafe"]], ids=shlex.join)
def test_every_command_of_the_readme_is_understood(argv: list[str]):
    from experiments.cli.main import parse

    assert parse(argv).name[0] == argv[0]


def test_every_make_target_of_the_readme_exists():
    mentioned = set(re.findall(r"\bmake ([a-z]+)\b", README))
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    assert {"demo", "test"} <= mentioned <= targets


def test_demo_and_test_are_the_first_commands_of_the_readme():
    assert SHELL[:2] == [["make", "demo"], ["make", "test"]]


def test_every_file_the_readme_links_to_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and all((ROOT / link).is_file() for link in links)


@pytest.mark.slow
def test_python_of_the_readme_runs():
    """The first two blocks, with one iteration of training in place of fifty; the third needs a finished run."""
    names: dict = {}
    exec(PYTHON[0], names)
    assert names["state"].cost.shape == (names["env"].spec.num_costs,)
    shortened = PYTHON[1].replace("iterations=50", "iterations=1")
    assert shortened != PYTHON[1]
    exec(shortened, names)
    assert names["curves"]["return"].shape == (4, 1)
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(names["final"].params))
