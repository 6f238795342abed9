"""Help of `jsafe sketch`: instant, because no command loads JAX before it runs."""

import subprocess
import sys

from experiments.commands.sketch import COMMANDS
from tests.conftest import ROOT


def test_help_does_not_load_jax():
    lines = ["import sys", "from experiments.cli.main import main"]
    lines += [f"assert main(['sketch', {name!r}, '--help']) == 0" for name in COMMANDS]
    lines += ["sys.exit('jax' in sys.modules)"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
