"""`jsafe render`: a film of one episode, by MuJoCo's renderer or from above."""

from __future__ import annotations

from typing import Literal

from experiments.cli.argument_types import Count, File, Folder, Switch, Whole
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, Physics
from experiments.cli.stdout import note


@flags
class RenderRequest:
    """Settings of `jsafe render`.

    Attributes:
        run: Folder of a run.
        seed: Trained seed whose policy acts.
        episode_seed: Seed of the episode.
        steps: Control steps to show (default a whole episode).
        out: FILE.gif or FILE.mp4 (default RUN/episode.gif).
        view: Renderer of MuJoCo or flat view from above (default MuJoCo where a GL backend exists).
        size: Width of the picture in pixels.
        stochastic: Sampled actions in place of their mean.
    """

    run: Folder = positional()
    seed: Whole = 0
    episode_seed: Whole = 0
    steps: Count | None = None
    out: File | None = None
    view: Literal["auto", "top", "mujoco"] = "auto"
    size: Count = 480
    stochastic: Switch = False
    physics: Physics = Physics()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: RenderRequest) -> Result:
    """Run `jsafe render`."""
    from envs_mjx.render import mujoco_renderer
    from experiments.cli.devices import configure
    from experiments.report.episode_film import film_episode, film_title, record_run
    from jsafe.runs.reader import load_run

    run = load_run(request.run)
    target = request.out or run.path / "episode.gif"
    if target.suffix not in (".gif", ".mp4"):
        raise CommandError(f"--out must end in .gif or .mp4, got {target}")
    backend = None
    if request.view != "top":
        backend = mujoco_renderer.choose_backend()
        if backend is None:
            if request.view == "mujoco":
                raise CommandError("MuJoCo finds no GL backend here (tried MUJOCO_GL=egl and osmesa); use --view top")
            note("no GL backend found, drawing the top view instead")
    configure(request.machine.platform, request.machine.devices)
    episode = record_run(
        run,
        request.seed,
        steps=request.steps,
        episode_seed=request.episode_seed,
        stochastic=request.stochastic,
        physics=request.physics.physics,
        overrides=request.physics.override,
    )
    title, view = film_title(run, request.seed), "mujoco" if backend else "top"
    facts = film_episode(episode, target, title=title, pixels=request.size, frames=300, view=view)
    facts |= {"gl": backend}
    text = (
        f"{target}: seed {request.seed}, {facts['steps']} steps, "
        f"return {facts['return']:.2f}, cost {facts['cost']:.4g} "
        f"({'MuJoCo renderer, ' + str(backend) if facts['view'] == 'mujoco' else 'top view'})"
    )
    return Result(facts, text)
