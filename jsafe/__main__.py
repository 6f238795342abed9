"""The command line, also as `python -m jsafe`, which no folder of a user on the path can replace in part."""

from __future__ import annotations

import importlib
import sys

from jsafe import siblings


def main() -> int:
    """Run `jsafe` with the words of the process, and return the exit code."""
    siblings.put_first()
    # By name: this package imports none of those that are built on it.
    return importlib.import_module("experiments.cli.main").main()


if __name__ == "__main__":
    sys.exit(main())
