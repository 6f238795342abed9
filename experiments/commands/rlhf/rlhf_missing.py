"""What a stage needs and lacks, told before anything is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.outcome import CommandError
from rlhf import folder
from rlhf.data import mixing


def refuse_missing(args: argparse.Namespace) -> None:
    """Name all files and folders that are not there at once; a single one is told where it is read.

    Raises:
        CommandError: two or more are missing.
    """
    named = [text for key in ("data", "eval_data", "ptx_data") for text in getattr(args, key, None) or ()]
    if args.stage == "pretrain":
        lacks = [f"there is no file {name}" for name in named if not Path(name).exists()]
    else:
        lacks = mixing.missing(named)
    if args.model is not None and str(args.model) not in (*folder.PRESETS, *folder.PUBLISHED):
        lacks += folder.missing(Path(args.model), args.tokenizer and Path(args.tokenizer))
    judges = [getattr(args, "reward_model", None), *(getattr(args, "cost_model", None) or ())]
    lacks += [line for place in judges if place is not None for line in folder.missing(Path(place), None)]
    if len(lacks) > 1:
        raise CommandError(f"cannot begin: {'; '.join(lacks)}")
