"""What a stage needs and lacks, told before anything is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.cli.result import CommandError
from rlhf.checkpoints import model_folder
from rlhf.data import mixture


def refuse_missing(args: argparse.Namespace) -> None:
    """Name all files and folders that are not there at once; a single one is told where it is read.

    Raises:
        CommandError: two or more are missing.
    """
    named = [text for key in ("data", "eval_data", "ptx_data") for text in getattr(args, key, None) or ()]
    if args.stage == "pretrain":
        lacks = [f"there is no file {name}" for name in named if not Path(name).exists()]
    else:
        lacks = mixture.missing(named)
    if args.model is not None and str(args.model) not in (*model_folder.PRESETS, *model_folder.PUBLISHED):
        lacks += model_folder.missing(Path(args.model), args.tokenizer and Path(args.tokenizer))
    judges = [getattr(args, "reward_model", None), *(getattr(args, "cost_model", None) or ())]
    lacks += [line for place in judges if place is not None for line in model_folder.missing(Path(place), None)]
    if len(lacks) > 1:
        raise CommandError(f"cannot begin: {'; '.join(lacks)}")
