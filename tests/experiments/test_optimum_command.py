"""`jsafe optimum`: the table, and refusals."""

import json

from experiments.cli import main


def test_the_command_prints_its_table_as_json_and_markdown(tmp_path, capsys):
    out = tmp_path / "table.md"
    assert main.main(["optimum", "cpo", "pcpo", "--case", "finite_two_costs", "--iterations", "2", "--json",
                     "--out", str(out)]) == 0  # fmt: skip
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["algorithm"] for row in rows] == ["cpo", "pcpo"] and rows[1]["verdict"] == "not claimed"
    assert rows[0]["verdict"] == "misses" and len(rows[0]["return"]) == 5 and len(rows[0]["cost"]) == 2
    lines = out.read_text().splitlines()
    assert lines[0].startswith("| algorithm |") and len(lines) == 4


def test_a_place_that_cannot_be_written_is_refused_before_training(capsys, tmp_path):
    assert main.main(["optimum", "cpo", "--out", str(tmp_path / "none" / "table.md")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_unknown_cases_are_refused_by_name(capsys):
    assert main.main(["optimum", "cpo", "--case", "finit"]) == 2
    assert "did you mean finite" in capsys.readouterr().err.replace("'", "")
