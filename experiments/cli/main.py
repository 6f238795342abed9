"""The command `jsafe`: what it understands. What each command does stands in a module of its own.

JAX is imported by those modules, not here, so `jsafe --help` answers at once and bad options are refused at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from experiments.cli.argument_types import integer, key_value, not_negative, positive
from experiments.cli.result import INTERRUPTED, CommandError, Outcome, note, to_json
from experiments.cli.stdout import StrayOutput

USER_ERROR, INTERNAL_ERROR = 2, 1


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _device_count(text: str) -> int | None:
    return None if text == "auto" else positive(text)


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--platform", choices=("cpu", "cuda", "tpu", "rocm"), help="where to compute (default: what JAX finds)"
    )
    group.add_argument(
        "--devices",
        type=_device_count,
        default=None,
        metavar="N|auto",
        help="devices to spread seeds over; on a CPU these are virtual ones (default: auto)",
    )
    group.add_argument(
        "--debug", action="store_true", help="show the full traceback of an error (or set JSAFE_DEBUG=1)"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a machine-readable summary on stdout")


def _add_physics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--physics",
        choices=("mujoco", "mjx", "warp"),
        help="simulator behind the environment (default: the one for this platform)",
    )
    parser.add_argument(
        "--override",
        action="append",
        type=key_value,
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the environment, for example Hazards.num=4; may be repeated",
    )


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything `jsafe train` takes, except the hyper-parameters of the algorithm."""
    parser.add_argument("algorithm", nargs="?", metavar="ALGO", help="name of the algorithm, see `jsafe algorithms`")
    parser.add_argument("env", nargs="?", metavar="ENV", help="id of the environment, see `jsafe envs`")
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with the run in DIR, exactly where it stopped"
    )
    parser.add_argument(
        "--seeds", type=positive, metavar="N", help="independent runs, trained side by side (default 1)"
    )
    parser.add_argument("--seed", type=integer, metavar="ROOT", help="root seed that all others come from (default 0)")
    parser.add_argument(
        "--total-steps",
        type=positive,
        metavar="N",
        help="environment steps of each seed, rounded up to whole iterations (default 1_000_000)",
    )
    parser.add_argument(
        "--minutes",
        type=not_negative,
        metavar="M",
        help="stop after about M minutes of training (compilation apart), even before --total-steps",
    )
    parser.add_argument(
        "--preset", metavar="P", help="published hyper-parameters to start from, see `jsafe algorithms`"
    )
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="where to write (default runs/ALGO-ENV-TIME)")
    parser.add_argument("--checkpoint-every", type=positive, metavar="N", help="iterations between checkpoints")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_physics(parser)
    _add_json(parser)
    _add_runtime(parser)


def _add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="folder of a run")
    parser.add_argument(
        "--episodes", type=positive, default=100, metavar="N", help="episodes of each seed (default 100)"
    )
    parser.add_argument("--seed", type=integer, default=0, metavar="ROOT", help="root seed of the test episodes")
    parser.add_argument(
        "--policy",
        choices=("both", "deterministic", "stochastic"),
        default="both",
        help="act with the mean action, a sampled one, or report on each (default both)",
    )
    _add_physics(parser)
    _add_json(parser)
    _add_runtime(parser)


def _add_render(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="DIR", help="folder of a run")
    parser.add_argument("--seed", type=integer, default=0, metavar="S", help="which trained seed acts (default 0)")
    parser.add_argument("--episode-seed", type=integer, default=0, metavar="S", help="seed of the episode shown")
    parser.add_argument("--steps", type=positive, metavar="N", help="control steps to show (default: a whole episode)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="FILE.gif or FILE.mp4 (default DIR/episode.gif)")
    parser.add_argument(
        "--view",
        choices=("auto", "top", "mujoco"),
        default="auto",
        help="MuJoCo's renderer or the flat top view (default: MuJoCo's where a GL backend exists)",
    )
    parser.add_argument(
        "--size", type=positive, default=480, metavar="PIXELS", help="width of the picture (default 480)"
    )
    parser.add_argument("--stochastic", action="store_true", help="sample the actions instead of taking their mean")
    _add_physics(parser)
    _add_json(parser)
    _add_runtime(parser)


def _add_throughput(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("env", metavar="ENV", help="id of the environment, see `jsafe envs`")
    parser.add_argument(
        "--num-envs", type=positive, default=256, metavar="N", help="environments side by side (default 256)"
    )
    parser.add_argument(
        "--steps", type=positive, default=100, metavar="T", help="control steps in one timed piece (default 100)"
    )
    parser.add_argument(
        "--repeats", type=positive, default=7, metavar="R", help="timed pieces; the median counts (default 7)"
    )
    parser.add_argument("--seed", type=integer, default=0, metavar="ROOT", help="root seed")
    parser.add_argument("--no-floor", dest="floor", action="store_false", help="do not measure the bare MuJoCo loop")
    _add_physics(parser)
    _add_json(parser)
    _add_runtime(parser)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench"), metavar="DIR", help="where bench.json and bench.md go"
    )
    parser.add_argument("--quick", action="store_true", help="fewer environments and shorter pieces")
    parser.add_argument(
        "--seeds", type=positive, default=4, metavar="N", help="seeds in the training measurement (default 4)"
    )
    parser.add_argument("--only", choices=("throughput", "training", "algorithms"), help="one part of the benchmark")
    _add_json(parser)
    _add_runtime(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders of runs; several are compared")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the first DIR")
    parser.add_argument(
        "--no-animation", dest="animation", action="store_false", help="leave out the film of the policy"
    )
    parser.add_argument("--episodes", type=positive, metavar="N", help="also evaluate each run over N episodes first")
    parser.add_argument(
        "--curves", type=Path, metavar="FILE", help="also write the curves of the first DIR as comma-separated values"
    )
    parser.add_argument(
        "--every", type=positive, default=1, metavar="N", help="with --curves: every Nth iteration (default 1)"
    )
    _add_json(parser)
    _add_runtime(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run-dir", type=Path, default=Path("runs/demo"), metavar="DIR", help="where to write (default runs/demo)"
    )
    parser.add_argument(
        "--minutes", type=not_negative, default=5.0, metavar="M", help="minutes of training (default 5)"
    )
    parser.add_argument(
        "--env", default="SafetyPointGoal1-v0", metavar="ENV", help="environment (default SafetyPointGoal1-v0)"
    )
    parser.add_argument("--seeds", type=positive, default=4, metavar="N", help="seeds (default 4)")
    _add_json(parser)
    _add_runtime(parser)


def _add_listing(parser: argparse.ArgumentParser) -> None:
    _add_json(parser)
    _add_runtime(parser)


def _add_published(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders of runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table there, as Markdown")
    parser.add_argument(
        "--with",
        type=Path,
        metavar="FILE",
        dest="earlier",
        help="rows of other runs, as an earlier --json printed them",
    )
    _add_json(parser)


def _add_optimum(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="ALGO", help="which algorithms (default: all)")
    parser.add_argument("--case", action="append", metavar="NAME", help="which problem; may be repeated (default: all)")
    parser.add_argument("--iterations", type=positive, default=400, metavar="N", help="of training (default 400)")
    parser.add_argument("--seed", type=integer, default=0, metavar="ROOT", help="root seed (default 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table there, as Markdown")
    _add_json(parser)
    _add_runtime(parser)


def _add_algorithms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="list the hyper-parameters of this one instead, with each preset's"
    )
    _add_listing(parser)


COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "train": (
        "train an algorithm on an environment, or go on with a run",
        "experiments.commands.train:train",
        add_train_arguments,
    ),
    "eval": ("run test episodes with the policies of a run", "experiments.commands.eval:evaluate", _add_eval),
    "render": ("film an episode", "experiments.commands.render:render", _add_render),
    "report": (
        "write a self-contained HTML page about one or several runs",
        "experiments.commands.report:report",
        _add_report,
    ),
    "demo": ("train, evaluate and report in about five minutes", "experiments.commands.demo:demo", _add_demo),
    "envs": ("list the environments", "experiments.commands.listings:envs", _add_listing),
    "algorithms": (
        "list the algorithms, or the hyper-parameters of one",
        "experiments.commands.listings:algorithms",
        _add_algorithms,
    ),
    "optimum": (
        "train algorithms where the optimum is known exactly, and say how near they come",
        "experiments.commands.optimum:optimum",
        _add_optimum,
    ),
    "published": (
        "put what runs reached beside what OmniSafe published",
        "experiments.commands.published:published",
        _add_published,
    ),
    "rlhf": (
        "safe reinforcement learning from human feedback, on language models",
        "",  # each of its stages has a function of its own
        lambda parser: None,
    ),
    "sketch": (
        "models of drawings: train them, draw with them",
        "",  # likewise
        lambda parser: None,
    ),
    "throughput": (
        "measure environment steps per second, beside the bare simulator",
        "experiments.commands.throughput:throughput",
        _add_throughput,
    ),
    "bench": ("the speed tables of the documentation, measured here", "experiments.commands.bench:bench", _add_bench),
}


def _version() -> str:
    try:
        return metadata.version("jsafe")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def build_parser() -> argparse.ArgumentParser:
    """The parser of `jsafe`, without the hyper-parameters (see `experiments.cli.config_flags`)."""
    parser = _Parser(
        prog="jsafe",
        description="Safe reinforcement learning in JAX: training, evaluation and reports as compiled programs.",
        epilog="Start with `jsafe demo`, or `jsafe train ppo_lag SafetyPointGoal1-v0 --seeds 4`.",
    )
    parser.add_argument("--version", action="version", version=f"jsafe {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (summary, _, add_arguments) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
        )
        if name == "train":
            command.epilog = "`jsafe train ALGO --help` also lists the hyper-parameters of that algorithm."
        add_arguments(command)
    return parser


def _warn(message: Warning | str, *_: object) -> None:
    """A warning as one line, without the place in the code that a user cannot do anything about."""
    note(f"jsafe: warning: {message}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line; for `train ALGO`, the hyper-parameters of that algorithm are options too."""
    if argv and argv[0] == "train":
        scout = _Parser(prog="jsafe train", add_help=False, allow_abbrev=False)
        add_train_arguments(scout)
        found, _ = scout.parse_known_args([token for token in argv[1:] if token not in ("-h", "--help")])
        if found.algorithm is not None and found.resume is None:
            with contextlib.redirect_stdout(StrayOutput()):
                hyper = importlib.import_module("experiments.cli.config_flags")
            return hyper.parse_train(argv[1:], found.algorithm, _Parser, add_train_arguments)
    if argv and argv[0] in ("rlhf", "sketch"):
        with contextlib.redirect_stdout(StrayOutput()):
            words = importlib.import_module(f"experiments.commands.{argv[0]}.{argv[0]}_words")
        return words.parse(argv[1:], _Parser, _add_listing)
    return build_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `jsafe`; those of the process by default.

    Returns:
        The exit code: 0 on success, 2 when the user can correct it, 1 for anything else, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv or os.environ.get("JSAFE_DEBUG", "") not in ("", "0")
    try:
        args = parse(argv)
        args.words = argv
        if args.command is None:
            build_parser().print_help()
            return USER_ERROR
        module, _, function = getattr(args, "function", COMMANDS[args.command][1]).partition(":")
        with contextlib.redirect_stdout(StrayOutput()), warnings.catch_warnings():
            warnings.showwarning = _warn
            outcome: Outcome = getattr(importlib.import_module(module), function)(args)
        print(to_json(outcome.data) if args.json else outcome.text, flush=True)
        return outcome.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USER_ERROR
    except KeyboardInterrupt:
        note("jsafe: stopped")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; writing on at interpreter shutdown would only complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _complain(error)


def _complain(error: Exception) -> int:
    """One line about an error, and the exit code for it."""
    ours = type(error).__module__.partition(".")[0] in (
        "jsafe",
        "envs_mjx",
        "algorithms",
        "rlhf",
        "sketch",
    )
    expected = ours or isinstance(error, CommandError | ValueError | LookupError | OSError)
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = " ".join(message.split()) or type(error).__name__
    if expected:
        note(f"jsafe: error: {line}")
        return USER_ERROR
    note(f"jsafe: error: {type(error).__name__}: {line[:500]} (--debug shows the traceback)")
    return INTERNAL_ERROR


if __name__ == "__main__":
    sys.exit(main())
