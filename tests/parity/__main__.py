"""`make parity`: replay every recording and print the largest errors, one line for each id and backend.

python -m tests.parity                         # MuJoCo C in float64 and float32
python -m tests.parity --backend mjx           # MJX, compiling each world once (minutes)
python -m tests.parity --only Goal1 --json
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import sys
import time

os.environ.setdefault("NPROC", "16")  # see "Two deadlocks" in docs/architecture.md; before jax starts

import numpy as np  # noqa: E402

from envs_mjx.physics import collider_table  # noqa: E402
from tests.conftest import golden_root  # noqa: E402
from tests.parity import replay  # noqa: E402

HEADINGS = {
    "reward": "reward max",
    "reward_995": "99.5 %",
    "lidar": "lidar max",
    "lidar_995": "99.5 %",
    "sensors": "sensors/range",
    "state": "state max",
    "state_995": "99.5 %",
    "cost": "cost wrong",
    "events": "events wrong",
}


def summary(errors: list[replay.Errors], settled_only: bool) -> dict[str, float]:
    """Largest errors and 99.5 % quantiles over all recordings of one environment."""
    keep = [e.settled if settled_only else np.ones_like(e.settled) for e in errors]

    def joined(name):
        return np.concatenate([getattr(e, name)[k] for e, k in zip(errors, keep, strict=True)])

    row: dict[str, float] = {"steps": len(joined("reward"))}
    for name in ("reward", "lidar", "state"):
        row[name] = float(joined(name).max())
        row[f"{name}_995"] = max(
            float(np.quantile(getattr(e, name)[k], 0.995)) for e, k in zip(errors, keep, strict=True)
        )
    row["sensors"] = float(np.quantile(joined("sensors"), 0.995))
    row["cost"], row["events"] = int(joined("cost").sum()), int(joined("events").sum())
    return row


def main() -> int:
    """Print the table; the exit status is 1 when no recording was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("mujoco", "mjx", "warp"), default="mujoco")
    parser.add_argument("--profile", choices=("exact", "fast"), default="exact")
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names, any of which must match")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line of the table")
    args = parser.parse_args()
    folder = pathlib.Path(golden_root())
    files = [p for p in replay.recordings(folder) if not args.only or any(part in p.name for part in args.only)]
    if not files:
        print(f"no recordings of registered environments in {folder} (set JSAFE_GOLDEN)", file=sys.stderr)
        return 1
    by_id = collections.defaultdict(list)
    for path in files:
        by_id[replay.env_id(path)].append(path)
    precisions = (True, False) if args.backend == "mujoco" else (False,)
    engine = collider_table.describe(args.backend)
    if not args.json:
        print(f"engine: {engine}")
        print(f"{'environment':22s} {'backend':14s} {'steps':>6s} " + " ".join(f"{h:>13s}" for h in HEADINGS.values()))
    for env_id, paths in by_id.items():
        for x64 in precisions:
            began = time.perf_counter()
            env = replay.environment(paths[0], args.backend, args.profile)
            longest = max(len(replay.load(p).action) for p in paths)
            errors = [replay.compare(p, env, replay.replay(p, env, x64=x64, pad_to=longest)) for p in paths]
            row = summary(errors, settled_only=args.backend != "mujoco")
            name = f"{args.backend} {'f64' if x64 else 'f32'}" + (" fast" if args.profile == "fast" else "")
            if args.json:
                seconds = time.perf_counter() - began
                facts = {"id": env_id, "engine": engine, "backend": name}
                print(json.dumps(facts | row | {"seconds": round(seconds, 1)}), flush=True)
            else:
                cells = " ".join(
                    f"{int(row[c]):13d}" if c in ("cost", "events") else f"{row[c]:13.1e}" for c in HEADINGS
                )
                print(f"{env_id:22s} {name:14s} {row['steps']:6.0f} {cells}", flush=True)
    if not args.json:
        print("99.5 %: the worst recording's quantile. sensors/range: 99.5 % quantile, relative to the recorded range.")
        if args.backend != "mujoco":
            print("Steps right after a reset or an injected state are left out (contacts at distance exactly zero).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
