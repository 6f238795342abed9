"""`jsafe train`: bind an algorithm to an environment, run it, and say what came out and what to do next."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import algorithms
import jsafe
from experiments.cli.config_flags import complete, preset_of
from experiments.cli.config_flags import resolve as resolve_algorithm
from experiments.cli.devices import make_env, prepare, read_overrides
from experiments.cli.result import INTERRUPTED, CommandError, Outcome, note, seconds_text, writable_folder
from experiments.report.run_reader import load_run

DEFAULT_STEPS = 1_000_000


def train(args: argparse.Namespace) -> Outcome:
    """Run `jsafe train`."""
    return _resume(args) if args.resume is not None else _start(args)


def _start(args: argparse.Namespace) -> Outcome:
    complete(args)
    name = resolve_algorithm(args.algorithm)
    preset = preset_of(name, args.preset)
    options = dict(getattr(args, "hyper", {}))
    prepare(args)
    overrides = read_overrides(args.override)
    env = make_env(args.env, args.physics, overrides)
    total_steps = args.total_steps or DEFAULT_STEPS
    trainer = make_trainer(name, env, preset, total_steps, options)
    folder = args.run_dir or default_folder(name, args.env)
    if (folder / "run.json").exists():
        raise CommandError(f"{folder} already holds a run; go on with it: jsafe train --resume {folder}")
    extra = {
        "command": shlex.join(["jsafe", *getattr(args, "words", sys.argv[1:])]),
        "preset": preset,
        "options": options,
        "budget_steps": total_steps,
        "checkpoint_every": args.checkpoint_every,
        "environment": {"id": args.env, "physics": env.backend, "overrides": overrides},
        **getattr(args, "extra", {}),
    }
    writable_folder(folder)
    note(f"{name} on {args.env} ({env.backend}), writing to {folder}; compiling ...")
    result = jsafe.fit(
        trainer,
        seeds=args.seeds,
        seed=args.seed,
        total_steps=total_steps,
        run_dir=folder,
        checkpoint_every=args.checkpoint_every,
        callbacks=stop_after(args.minutes),
        progress=_progress(args),
        extra=extra,
    )
    return conclude(folder, result)


def _resume(args: argparse.Namespace) -> Outcome:
    if args.algorithm is not None or args.preset is not None or args.override or args.physics is not None:
        raise CommandError("--resume takes everything from the run: give no algorithm, environment, preset or physics")
    run = load_run(args.resume)
    prepare(args)
    facts = run.facts
    kept = facts.get("environment")
    if kept is None or "options" not in facts:
        raise CommandError(f"the run at {run.path} was not started by jsafe train; resume it in Python with jsafe.fit")
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in facts["options"].items()}
    env = make_env(kept["id"], kept["physics"], kept["overrides"])
    trainer = make_trainer(run.algorithm, env, facts["preset"], facts["budget_steps"], options)
    budget = facts["budget_steps"]
    if args.total_steps and args.total_steps > budget and trainer.info.config.get("learning_rate_decay"):
        raise CommandError(
            f"the policy's step size falls to 0 at {budget:,} steps in the run at {run.path}, so more would teach it "
            f"nothing: start a new run with --total-steps {args.total_steps:,}"
        )
    note(f"going on with {run.algorithm} on {run.env_id} in {run.path}; compiling ...")
    result = jsafe.fit(
        trainer,
        seeds=args.seeds,
        seed=args.seed,
        total_steps=args.total_steps,
        run_dir=run.path,
        resume=True,
        checkpoint_every=args.checkpoint_every or facts.get("checkpoint_every"),
        callbacks=stop_after(args.minutes),
        progress=_progress(args),
    )
    return conclude(run.path, result)


def make_trainer(name: str, env: Any, preset: str, total_steps: int, options: dict[str, Any]) -> jsafe.Trainer:
    """Bind an algorithm to an environment; schedules of an algorithm that has any run over `total_steps`."""
    known = {option["name"] for option in algorithms.describe(name)["options"]}
    schedule = {"total_steps": total_steps} if "total_steps" in known else {}
    try:
        return algorithms.make(name, env, preset, **{**schedule, **options})
    except TypeError as error:
        raise CommandError(str(error)) from error


def default_folder(algorithm: str, env_id: str) -> Path:
    """`runs/ALGO-ENV-TIME`, not yet taken."""
    base = Path("runs") / f"{algorithm}-{env_id}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [base, *(base.with_name(f"{base.name}-{number}") for number in range(2, 100))]
    return next((path for path in candidates if not path.exists()), base)


def stop_after(minutes: float | None) -> tuple[Any, ...]:
    """A callback for `jsafe.fit` that ends training at the iteration whose end is nearest to the time limit.

    Args:
        minutes: how long after the end of the first iteration, None for no limit; so compilation does not count.
    """
    if minutes is None:
        return ()
    ends: list[float] = []

    def is_over(iteration: int, state: Any, metrics: Any) -> bool:
        ends.append(time.monotonic())
        next_one = ends[-1] - ends[-2] if len(ends) > 1 else 0.0
        return ends[-1] - ends[0] + next_one / 2 >= 60 * minutes

    return (is_over,)


def conclude(folder: Path, result: jsafe.FitResult) -> Outcome:
    """What a finished or interrupted training has to say."""
    from experiments.commands.report import interval_text, summary, timing

    run = load_run(folder)
    numbers = summary(run)
    times = timing(run)
    steps = int(numbers["env_steps"])
    total = steps * max(1, len(run.seeds))
    rate = total / times["run_seconds"] if times["run_seconds"] else float("nan")
    data = {
        **numbers,
        "run_dir": str(folder),
        "status": result.status,
        "iterations": result.iterations,
        "cost_limit": run.cost_limit,
        "compile_seconds": times["compile_seconds"],
        "run_seconds": times["run_seconds"],
        "train_steps_per_second": rate,
        "checkpoints": str(folder / "checkpoints"),
        "metrics": str(folder / "metrics.jsonl"),
        "notes": list(result.notes),
    }
    limit = f" (limit {run.cost_limit:g})" if run.cost_limit is not None else ""
    state = "stopped at the time limit" if result.status == "stopped" else result.status
    lines = [
        f"{run.algorithm} on {run.env_id}: {state} after {steps:,} steps of each of {len(run.seeds)} seeds",
        f"  return      {interval_text(numbers['return'])}",
        f"  cost        {interval_text(numbers['cost'])}{limit}",
        "              mean over seeds and the last 5 % of the iterations, ± half the 95 % interval",
        f"  time        {seconds_text(times['run_seconds'] or 0)} of training at {rate:,.0f} steps per second, "
        f"{seconds_text(times['compile_seconds'] or 0)} of compilation",
        f"  written to  {folder} (checkpoints, metrics.jsonl, tensorboard)",
    ]
    if result.status != "finished":
        lines.append(f"  go on with  jsafe train --resume {folder}")
    lines.append(f"  next        jsafe eval {folder} | jsafe render {folder} | jsafe report {folder}")
    return Outcome(data, "\n".join(lines), exit_code=INTERRUPTED if result.status == "interrupted" else 0)


def _progress(args: argparse.Namespace) -> bool | None:
    return False if args.quiet else None if args.json else True
