"""Help of `jsafe rlhf` is instant: it loads neither JAX nor NumPy."""

import subprocess
import sys

from experiments.commands.rlhf import COMMANDS
from tests.conftest import ROOT


def test_help_does_not_load_jax():
    code = "import sys; from experiments.cli.main import main; main(['rlhf', '--help']); "
    code += "".join(f"main(['rlhf', '{name}', '--help']); " for name in COMMANDS)
    code += "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
