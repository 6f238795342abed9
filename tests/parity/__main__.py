"""`make parity`: replay every recording and print the largest errors, one line for each id and backend.

python -m tests.parity                         # MuJoCo C in float64 and float32
python -m tests.parity --backend mjx           # MJX, compiling each world once (minutes)
python -m tests.parity --only Goal1 --json
python -m tests.parity --engine .venv --engine .venv-oldest      # one column for each
python -m tests.parity --results 3.3.7.json 3.17.0.json          # the same from files that --json wrote
"""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

os.environ.setdefault("NPROC", "16")  # see "Two deadlocks" in docs/architecture.md; before jax starts

import numpy as np  # noqa: E402

from envs_mjx.physics import collider_table  # noqa: E402
from tests.conftest import golden_root  # noqa: E402
from tests.parity import replay, tables  # noqa: E402


def summary(errors: list[replay.Errors], settled_only: bool) -> tuple[int, dict[str, float]]:
    """Number of steps, and largest errors and 99.5 % quantiles over all recordings of one environment."""
    keep = [e.settled if settled_only else np.ones_like(e.settled) for e in errors]

    def joined(name):
        return np.concatenate([getattr(e, name)[k] for e, k in zip(errors, keep, strict=True)])

    row: dict[str, float] = {}
    for name in ("reward", "lidar", "state"):
        row[name] = float(joined(name).max())
        row[f"{name}_995"] = max(
            float(np.quantile(getattr(e, name)[k], 0.995)) for e, k in zip(errors, keep, strict=True)
        )
    row["sensors"] = float(np.quantile(joined("sensors"), 0.995))
    row["cost"], row["events"] = int(joined("cost").sum()), int(joined("events").sum())
    return len(joined("reward")), row


def replays(files: Sequence[Path], backend: str, profile: str) -> Iterator[tables.Result]:
    """Replay recordings in this process, one environment and precision after the other."""
    by_id = collections.defaultdict(list)
    for path in files:
        by_id[replay.env_id(path)].append(path)
    engine = f"{collider_table.describe(backend)}, jax {metadata.version('jax')}"
    for env_id, paths in by_id.items():
        for x64 in (True, False) if backend == "mujoco" else (False,):
            began = time.perf_counter()
            env = replay.environment(paths[0], backend, profile)
            longest = max(len(replay.load(p).action) for p in paths)
            errors = [replay.compare(p, env, replay.replay(p, env, x64=x64, pad_to=longest)) for p in paths]
            steps, figures = summary(errors, settled_only=backend != "mujoco")
            name = f"{backend} {'f64' if x64 else 'f32'}" + (" fast" if profile == "fast" else "")
            yield tables.Result(env_id, engine, name, steps, figures, round(time.perf_counter() - began, 1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("mujoco", "mjx", "warp"), default="mujoco")
    parser.add_argument("--profile", choices=("exact", "fast"), default="exact")
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names, any of which must match")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line of the table")
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        type=Path,
        metavar="PYTHON",
        help="interpreter or virtual environment to measure with, instead of this one (repeatable)",
    )
    parser.add_argument(
        "--results", nargs="*", default=[], type=Path, metavar="FILE", help="files that --json wrote earlier"
    )
    return parser


def _compare_engines(args: argparse.Namespace) -> int:
    chosen = ["--backend", args.backend, "--profile", args.profile, *(["--only", *args.only] if args.only else [])]
    try:
        results = [result for path in args.results for result in tables.read(path)]
        results += [result for engine in args.engine for result in tables.measure(engine, chosen)]
        print("\n".join(r.to_json() for r in results) if args.json else tables.comparison(results))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the exit status is 1 when no recording was found or an engine failed."""
    args = _parser().parse_args(argv)
    if args.engine or args.results:
        return _compare_engines(args)
    folder = Path(golden_root())
    files = [p for p in replay.recordings(folder) if not args.only or any(part in p.name for part in args.only)]
    if not files:
        print(f"no recordings of registered environments in {folder} (set JSAFE_GOLDEN)", file=sys.stderr)
        return 1
    for i, result in enumerate(replays(files, args.backend, args.profile)):
        if not args.json and i == 0:
            print(f"engine: {result.engine}\n{tables.heading()}")
        print(result.to_json() if args.json else tables.line(result), flush=True)
    if not args.json:
        print("99.5 %: the worst recording's quantile. sensors/range: 99.5 % quantile, relative to the recorded range.")
        if args.backend != "mujoco":
            print("Steps right after a reset or an injected state are left out (contacts at distance exactly zero).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
