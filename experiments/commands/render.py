"""`jsafe render`: a film of one episode, by MuJoCo's renderer or from above."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from envs_mjx.render import mujoco_renderer, top_view_renderer
from envs_mjx.render.film import Caption, add_caption, outline, save_gif
from experiments.cli.argument_types import Count, File, Folder, Switch, Whole
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, Physics
from experiments.cli.stdout import note
from experiments.report.run_reader import Run, load_run
from jsafe.constrained import combine

TRAIL = 60
"""Frames for which the path of the agent stays visible."""


@dataclasses.dataclass(frozen=True)
class Episode:
    """What happened, moment by moment, from the start state to the last; `T + 1` moments.

    Attributes:
        env: the environment it happened in.
        states: `jsafe.cmdp.State` with leading axis `[T + 1]`.
        rewards: `[T + 1]`, 0 at the start.
        costs: `[T + 1]`, the total cost, 0 at the start.
    """

    env: Any
    states: Any
    rewards: np.ndarray
    costs: np.ndarray

    def __len__(self) -> int:
        return len(self.rewards)


@flags
class RenderRequest:
    """Settings of `jsafe render`.

    Attributes:
        run: Folder of a run.
        seed: Trained seed whose policy acts.
        episode_seed: Seed of the episode.
        steps: Control steps to show (default: a whole episode).
        out: FILE.gif or FILE.mp4 (default: RUN/episode.gif).
        view: Renderer of MuJoCo or flat view from above (default: MuJoCo where a GL backend exists).
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
    facts = film(
        run,
        seed=request.seed,
        target=target,
        pixels=request.size,
        frames=300,
        view="mujoco" if backend else "top",
        steps=request.steps,
        episode_seed=request.episode_seed,
        stochastic=request.stochastic,
        physics=request.physics.physics,
        overrides=request.physics.override,
        platform=request.machine.platform,
        devices=request.machine.devices,
    )
    facts |= {"gl": backend}
    text = (
        f"{target}: seed {request.seed}, {facts['steps']} steps, "
        f"return {facts['return']:.2f}, cost {facts['cost']:.4g} "
        f"({'MuJoCo renderer, ' + str(backend) if facts['view'] == 'mujoco' else 'top view'})"
    )
    return Result(facts, text)


def film(
    run: Run,
    *,
    seed: int,
    target: Path | Any,
    pixels: int = 400,
    frames: int = 200,
    view: str = "top",
    steps: int | None = None,
    episode_seed: int = 0,
    stochastic: bool = False,
    physics: str | None = None,
    overrides: Any = (),
    platform: str | None = None,
    devices: int | None = None,
) -> dict[str, Any]:
    """Film a trained policy.

    Args:
        run: a run with a checkpoint.
        seed: whose policy acts.
        target: a `.gif` or `.mp4` file, or a binary file object for a GIF.
        pixels: width.
        frames: at most that many; a longer episode shows every n-th step.
        view: `top` or `mujoco`; when MuJoCo cannot draw after all, the top view is made and that is said.
        steps: control steps; None for a whole episode.
        episode_seed: seed of the layout.
        stochastic: sample actions.
        physics: simulator, None for the one of the run.
        overrides: changes to the environment.
        platform: where JAX computes.
        devices: number of JAX devices.

    Returns:
        `file`, `view`, `steps`, `frames`, `return`, `cost`.
    """
    from experiments.report.policies import env_of, load_policies, prepare_for

    prepare_for(platform, devices)
    env = env_of(run, physics, overrides)
    policies = load_policies(run, [seed])
    episode = play(env, policies, steps, episode_seed, stochastic)
    stride = max(1, -(-len(episode) // frames))
    title = f"{run.env_id}, {run.algorithm}, seed {seed}"
    drawn, used = _draw(episode, stride, pixels, view, title)
    seconds = max(0.03, stride * env.spec.control_dt)
    if isinstance(target, Path) and target.suffix == ".mp4":
        _save_mp4(drawn, target, seconds)
    else:
        try:
            save_gif(drawn, target, seconds, colours=96 if used == "top" else 256)
        except OSError as error:
            raise CommandError(f"cannot write {target}: {error.strerror or error}") from error
    return {
        "file": str(target) if isinstance(target, Path) else None,
        "view": used,
        "steps": len(episode) - 1,
        "frames": len(drawn),
        "return": float(episode.rewards.sum()),
        "cost": float(episode.costs.sum()),
    }


def play(env: Any, policies: Any, steps: int | None, episode_seed: int, stochastic: bool) -> Episode:
    """One episode of the first of `policies`, at most one time limit long, up to the termination if there is one."""
    import jax

    length = min(steps or env.spec.episode_length, env.spec.episode_length)
    explore = float(stochastic)
    seen = policies.view(env)

    def drawn(state: Any) -> Any:
        return state if seen is env else seen.inner(state)

    def step(carry: Any, key: jax.Array) -> tuple[Any, Any]:
        state = seen.step(
            carry, policies.act(jax.tree.map(lambda leaf: leaf[0], policies.params), carry.obs, key, explore)
        )
        return state, drawn(state)

    @jax.jit
    def run(key: jax.Array) -> tuple[Any, Any]:
        reset_key, act_key = jax.random.split(key)
        start = seen.reset(reset_key)
        return drawn(start), jax.lax.scan(step, start, jax.random.split(act_key, length))[1]

    start, rest = run(jax.random.key(episode_seed))
    states = jax.tree.map(lambda first, later: jax.numpy.concatenate([first[None], later]), start, rest)
    ended = np.flatnonzero(np.asarray(states.terminated)[1:])
    last = int(ended[0]) + 2 if len(ended) else length + 1
    states = jax.tree.map(lambda leaf: leaf[:last], states)
    return Episode(
        env, states, np.asarray(states.original_reward, float), np.asarray(combine(env.spec, states.cost), float)
    )


def _draw(episode: Episode, stride: int, pixels: int, view: str, title: str) -> tuple[list[Image.Image], str]:
    """Frames of every `stride`-th moment, and the view that was used in the end."""
    import jax

    env = episode.env
    moments = np.arange(0, len(episode), stride)
    scenes = [env.scene(jax.tree.map(lambda leaf, at=at: leaf[at], episode.states)) for at in moments]
    # A step with cost between two frames must not be lost: each frame shows the steps since the one before.
    costing = [episode.costs[max(0, at - stride + 1) : at + 1].sum() > 0 for at in moments]
    captions = [
        Caption(
            step=int(at),
            reward_sum=float(episode.rewards[: at + 1].sum()),
            cost_sum=float(episode.costs[: at + 1].sum()),
            costing=bool(flag),
            title=title,
        )
        for at, flag in zip(moments, costing, strict=True)
    ]
    if view == "mujoco":
        try:
            return _draw_mujoco(episode, moments, scenes, captions, pixels), "mujoco"
        except Exception as error:
            note(f"MuJoCo cannot draw here ({type(error).__name__}), drawing the top view instead")
    path = np.array([next(i["position"] for i in scene if i["kind"] == "agent") for scene in scenes], float)
    camera = top_view_renderer.camera(env.extents, pixels, paths=[path])
    return [
        top_view_renderer.draw_frame(scene, camera, caption, env.extents, trail=path[max(0, index - TRAIL) : index + 1])
        for index, (scene, caption) in enumerate(zip(scenes, captions, strict=True))
    ], "top"


def _draw_mujoco(
    episode: Episode, moments: np.ndarray, scenes: list[Any], captions: list[Caption], pixels: int
) -> list[Image.Image]:
    import jax

    from envs_mjx.physics.state_transfer import physics_states

    data = jax.tree.map(lambda leaf: leaf[moments], episode.states.data)
    states = physics_states(episode.env, data)
    arrays = mujoco_renderer.frames(episode.env.mj_model, states, scenes, episode.env.extents, pixels)
    pictures = [Image.fromarray(array) for array in arrays]
    return [
        add_caption(outline(picture) if caption.costing else picture, caption)
        for picture, caption in zip(pictures, captions, strict=True)
    ]


def _save_mp4(drawn: list[Image.Image], target: Path, seconds_per_frame: float) -> None:
    import imageio.v2 as imageio

    try:
        # Video codecs want even sides.
        even = [np.asarray(image)[: image.height // 2 * 2, : image.width // 2 * 2] for image in drawn]
        imageio.mimwrite(target, even, fps=round(1 / seconds_per_frame), macro_block_size=1)  # type: ignore[call-overload]
    except (ImportError, ValueError) as error:
        raise CommandError(f"writing {target} needs pip install 'jsafe[video]'; or choose a .gif ({error})") from error
