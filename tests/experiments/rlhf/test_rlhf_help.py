"""Help of `jsafe rlhf`: instant where a command has no hyper-parameters."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

LIGHT = ("demo", "experiment", "scaling", "flagged", "plan", "bench", "export")


@pytest.mark.parametrize("command", [(), *((name,) for name in LIGHT)], ids=["group", *LIGHT])
def test_help_does_not_load_jax(command):
    words = ["rlhf", *command, "--help"]
    code = f"import sys; from experiments.cli.main import main; main({words}); sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
