"""The search for banned phrases reports each kind of violation with its line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.project.banned_phrases import in_python, in_text, main

HERE = Path("module.py")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('x = 1\nraise ValueError("trained an' + 'ew")\n', 2),
        ("x = 1\n# The value goes on\n# from there.\n".replace("goes on\n# from", "goes " + "on\n# from"), 2),
        ('def f():\n    """What' + ' a function returns."""\n', 2),
        ("def f(x):\n    to" + "ld = x\n    return 1\n", 2),
        ("class Way" + ":\n    pass\n", 1),
    ],
    ids=["string", "comment across lines", "docstring", "variable", "class"],
)
def test_each_kind_of_violation_is_reported_with_its_line(source: str, line: int):
    (violation,) = in_python(HERE, source)
    assert violation.line == line


def test_plain_technical_english_passes():
    source = (
        'def resume(run):\n    """Resume a run from its checkpoint."""\n    # The held-out loss needs no gradient.\n'
    )
    assert not list(in_python(HERE, source))


def test_a_phrase_broken_across_lines_of_a_document_is_reported():
    (violation,) = in_text(HERE, "A first line.\nTrained from\nno" + "thing.")
    assert violation.line == 2


def test_the_command_fails_if_there_is_a_violation(tmp_path: Path, capsys: pytest.CaptureFixture):
    page = tmp_path / "page.md"
    page.write_text("Trained an" + "ew.")
    assert main([str(page)]) == 1 and "page.md:1" in capsys.readouterr().out
    page.write_text("Trained again.")
    assert main([str(page)]) == 0
