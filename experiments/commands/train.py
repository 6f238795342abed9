"""`jsafe train`: bind an algorithm to an environment, train, and summarise the run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from experiments.cli.algorithm_names import preset_of, resolve
from experiments.cli.app import Variant, current_words
from experiments.cli.argument_types import Count, Folder, NotNegative, Switch, Whole
from experiments.cli.config_flags import ConfigFlags, config_flags
from experiments.cli.devices import configure, make_env, read_overrides
from experiments.cli.errors import CommandError
from experiments.cli.request import flag_names, flags, positional, switch_names
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output, Physics
from experiments.cli.stdout import note

if TYPE_CHECKING:
    import jsafe

DEFAULT_STEPS = 1_000_000

CHANGEABLE = ("--total-steps", "--minutes", "--checkpoint-every", "--quiet", "--platform", "--devices")
"""Flags that may differ when a run is resumed."""


@flags
class TrainRequest:
    """Settings of `jsafe train`.

    Attributes:
        algorithm: Name of the algorithm, see `jsafe algorithms`.
        env: Id of the environment, see `jsafe envs`.
        resume: Folder of a run to resume, exactly where it stopped.
        seeds: Number of independent runs, trained side by side (default 1).
        seed: Root seed of all others (default 0).
        total_steps: Environment steps of each seed, rounded up to whole iterations (default 1_000_000).
        minutes: Time limit of training in minutes, without compilation; it may end before --total-steps.
        preset: Published hyper-parameters to start from, see `jsafe algorithms`.
        run_dir: Folder of the run (default runs/ALGO-ENV-TIME).
        checkpoint_every: Number of iterations between checkpoints.
        quiet: No progress bar.
        options: Hyper-parameters of the algorithm.
    """

    algorithm: Annotated[str | None, Parameter(metavar="ALGO")] = positional(default=None)
    env: str | None = positional(default=None)
    resume: Folder | None = None
    seeds: Count | None = None
    seed: Whole | None = None
    total_steps: Count | None = None
    minutes: NotNegative | None = None
    preset: str | None = None
    run_dir: Folder | None = None
    checkpoint_every: Count | None = None
    quiet: Switch = False
    options: Annotated[ConfigFlags, Parameter(parse=False)] = ConfigFlags()
    physics: Physics = Physics()
    machine: Machine = Machine()
    output: Output = Output()


def specialize(words: list[str]) -> Variant:
    """Return the form of the command with the hyper-parameters of the algorithm that the words name."""
    name = _algorithm_in(words)
    if name is None:
        _refuse_settings_of_a_resumed_run(words)
        return Variant(TrainRequest, usage="Usage: jsafe train ALGO ENV [OPTIONS]")
    import algorithms

    facts = algorithms.describe(name)
    help = f"{facts['summary'].rstrip('.')}. {facts['paper'].rstrip('.')}."
    return Variant(request_type(name), usage=f"Usage: jsafe train {name} ENV [OPTIONS]", help=help, words=(name,))


def request_type(name: str) -> type[TrainRequest]:
    """Return the settings of the command for an algorithm; the type of `options` has its hyper-parameters."""
    import algorithms
    from algorithms import registry

    facts = algorithms.describe(name)

    @config_flags(
        registry.config_class(name),
        presets=facts["presets"],
        default_preset=facts["default_preset"],
        hidden=flag_names(TrainRequest),
        about=f"Defaults are those of the preset {facts['default_preset']!r}; --preset chooses another.",
    )
    class AlgorithmFlags(ConfigFlags):
        """Hyper-parameters of one algorithm."""

    fields = {"__annotations__": {"options": AlgorithmFlags}, "options": AlgorithmFlags()}
    return flags(type("AlgorithmRequest", (TrainRequest,), {**fields, "__doc__": TrainRequest.__doc__}))


def _algorithm_in(words: Sequence[str]) -> str | None:
    """Return the algorithm of a command line: its first word that is neither a flag nor the value of one."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            return resolve(word)
        if word.startswith("--algorithm="):
            return resolve(word.partition("=")[2])
        if "=" not in word and not _is_switch(word):
            value = next(rest, None)
            if word == "--algorithm" and value is not None:
                return resolve(value)
    return None


def _is_switch(word: str) -> bool:
    """Return whether a flag takes no value."""
    name = word.removeprefix("--").replace("-", "_")
    if word in ("-h", "--help", "--version") or word.startswith("--no-"):
        return True
    if name in flag_names(TrainRequest):
        return name in switch_names(TrainRequest)
    return any(option["name"] == name and option["type"] == "bool" for option in _options())


def _options() -> list[dict[str, Any]]:
    """Return the descriptions of the hyper-parameters of all algorithms."""
    import algorithms

    return [option for known in algorithms.names() for option in algorithms.describe(known)["options"]]


def _refuse_settings_of_a_resumed_run(words: Sequence[str]) -> None:
    """Refuse hyper-parameters next to --resume, which are no flags without the name of an algorithm.

    Raises:
        CommandError: naming them.
    """
    named = [word.partition("=")[0] for word in words if word.startswith("--")]
    if "--resume" not in named:
        return
    known = {option["name"] for option in _options()} - flag_names(TrainRequest)
    settings = [flag for flag in named if flag.removeprefix("--").removeprefix("no-").replace("-", "_") in known]
    if settings:
        raise _fixed_in_a_resumed_run(settings)


def _fixed_in_a_resumed_run(settings: Sequence[str]) -> CommandError:
    return CommandError(
        f"--resume cannot be combined with {', '.join(settings)}: a resumed run keeps its settings and its folder. "
        f"Remove {'it' if len(settings) == 1 else 'them'}; these may change: {', '.join(CHANGEABLE)}"
    )


def run(request: TrainRequest) -> Result:
    """Run `jsafe train`."""
    return _start(request) if request.resume is None else _resume(request, request.resume)


def _start(request: TrainRequest) -> Result:
    if request.algorithm is None:
        raise CommandError("jsafe train needs an algorithm and an environment: jsafe train ALGO ENV, or --resume DIR")
    if request.env is None:
        raise CommandError(f"jsafe train needs an environment: jsafe train {request.algorithm} ENV (see jsafe envs)")
    import algorithms
    import jsafe
    from envs_mjx.physics import collider_table
    from experiments.report import training_summary

    name = resolve(request.algorithm)
    preset = preset_of(name, request.preset)
    options = request.options.explicit()
    configure(request.machine.platform, request.machine.devices)
    overrides = read_overrides(request.physics.override)
    env = make_env(request.env, request.physics.physics, overrides)
    total_steps = request.total_steps or DEFAULT_STEPS
    config = algorithms.configure(name, preset, env=env, total_steps=total_steps, **options)
    trainer = algorithms.make(name, env, config)
    folder = request.run_dir or default_folder(name, request.env)
    if (folder / "run.json").exists():
        raise CommandError(f"{folder} already holds a run; resume it: jsafe train --resume {shlex.quote(str(folder))}")
    extra = {
        "command": shlex.join(["jsafe", *current_words()]),
        "preset": preset,
        "options": options,
        "budget_steps": total_steps,
        "checkpoint_every": request.checkpoint_every,
        "environment": {"id": request.env, "physics": env.backend, "overrides": overrides},
        "engine": collider_table.describe(env.backend),
    }
    writable_folder(folder)
    note(f"{name} on {request.env} ({env.backend}), writing to {folder}; compiling ...")
    result = jsafe.fit(
        trainer,
        seeds=request.seeds,
        seed=request.seed,
        total_steps=total_steps,
        run_dir=folder,
        checkpoint_every=request.checkpoint_every,
        callbacks=_time_limit(request),
        progress=_progress(request),
        extra=extra,
    )
    return training_summary.conclude(folder, result)


def _resume(request: TrainRequest, folder: Path) -> Result:
    if settings := _fixed_settings(request):
        raise _fixed_in_a_resumed_run(settings)
    import algorithms
    import jsafe
    from experiments.report import training_summary
    from jsafe.runs.reader import load_run

    run = load_run(folder)
    configure(request.machine.platform, request.machine.devices)
    facts = run.facts
    settings = facts.get("environment")
    if settings is None or "options" not in facts:
        raise CommandError(f"the run at {run.path} was not started by jsafe train; resume it in Python with jsafe.fit")
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in facts["options"].items()}
    env = make_env(settings["id"], settings["physics"], settings["overrides"])
    budget = facts["budget_steps"]
    try:
        config = algorithms.configure(run.algorithm, facts["preset"], env=env, total_steps=budget, **options)
    except TypeError as error:
        raise CommandError(f"the run at {run.path} cannot be resumed: {error}") from error
    trainer = algorithms.make(run.algorithm, env, config)
    if request.total_steps and request.total_steps > budget and trainer.info.config.get("learning_rate_decay"):
        raise CommandError(
            f"the policy's step size falls to 0 at {budget:,} steps in the run at {run.path}, so more steps would "
            f"change nothing; start a new run with --total-steps {request.total_steps:,}"
        )
    note(f"resuming {run.algorithm} on {run.env_id} in {run.path}; compiling ...")
    result = jsafe.fit(
        trainer,
        seeds=request.seeds,
        seed=request.seed,
        total_steps=request.total_steps,
        run_dir=run.path,
        resume=True,
        checkpoint_every=request.checkpoint_every or facts.get("checkpoint_every"),
        callbacks=_time_limit(request),
        progress=_progress(request),
    )
    return training_summary.conclude(run.path, result)


def _fixed_settings(request: TrainRequest) -> list[str]:
    """Return the words and flags of a request that a resumed run has already."""
    words = {"ALGO": request.algorithm, "ENV": request.env, "--preset": request.preset, "--run-dir": request.run_dir}
    physics = {"--physics": request.physics.physics, "--override": request.physics.override or None}
    options = [f"--{name.replace('_', '-')}" for name in request.options.explicit()]
    return [*(name for name, value in {**words, **physics}.items() if value is not None), *options]


def default_folder(algorithm: str, env_id: str) -> Path:
    """Return the folder `runs/ALGO-ENV-TIME`, with a number if it exists."""
    base = Path("runs") / f"{algorithm}-{env_id}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [base, *(base.with_name(f"{base.name}-{number}") for number in range(2, 100))]
    return next((path for path in candidates if not path.exists()), base)


def _time_limit(request: TrainRequest) -> tuple[jsafe.TimeLimit, ...]:
    import jsafe

    return () if request.minutes is None else (jsafe.TimeLimit(60 * request.minutes),)


def _progress(request: TrainRequest) -> bool | None:
    return False if request.quiet else None if request.output.json else True
