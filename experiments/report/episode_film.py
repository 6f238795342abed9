"""Films of single episodes, by MuJoCo's renderer or from above."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from envs_mjx.physics.state_transfer import physics_states
from envs_mjx.render import mujoco_renderer, top_view_renderer
from envs_mjx.render.film import Caption, add_caption, outline, save_gif
from experiments.cli.devices import environment_of
from experiments.cli.errors import CommandError
from experiments.cli.stdout import note
from jsafe.evaluate import EpisodeRecord, load_policy_set, record_episode
from jsafe.runs.reader import Run

TRAIL = 60
"""Frames for which the path of the agent stays visible."""


def record_run(
    run: Run,
    seed: int,
    *,
    steps: int | None = None,
    episode_seed: int = 0,
    stochastic: bool = False,
    physics: str | None = None,
    overrides: Any = (),
) -> EpisodeRecord:
    """Return an episode of a trained policy.

    Args:
        run: a run with a checkpoint.
        seed: whose policy acts.
        steps: control steps; None for a whole episode.
        episode_seed: seed of the layout.
        stochastic: sample actions.
        physics: simulator, None for the one of the run.
        overrides: changes to the environment.
    """
    env = environment_of(run, physics, overrides)
    return record_episode(env, load_policy_set(run.path, [seed]), steps, episode_seed, stochastic)


def film_title(run: Run, seed: int) -> str:
    """Environment, algorithm and seed, as a title of a film."""
    return f"{run.env_id}, {run.algorithm}, seed {seed}"


def film_episode(
    episode: EpisodeRecord, target: Path | Any, *, title: str, pixels: int = 400, frames: int = 200, view: str = "top"
) -> dict[str, Any]:
    """Write a film of an episode.

    Args:
        episode: what happened.
        target: a `.gif` or `.mp4` file, or a binary file object for a GIF.
        title: first line of every frame.
        pixels: width.
        frames: at most that many; a longer episode shows every n-th step.
        view: `top` or `mujoco`; where MuJoCo cannot draw, the top view takes its place, with a note.

    Returns:
        `file`, `view`, `steps`, `frames`, `return`, `cost`.
    """
    stride = max(1, -(-len(episode) // frames))
    drawn, used = _draw(episode, stride, pixels, view, title)
    seconds = max(0.03, stride * episode.env.spec.control_dt)
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


def _draw(episode: EpisodeRecord, stride: int, pixels: int, view: str, title: str) -> tuple[list[Image.Image], str]:
    """Frames of every `stride`-th moment, and the view that was used in the end."""
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
    episode: EpisodeRecord, moments: np.ndarray, scenes: list[Any], captions: list[Caption], pixels: int
) -> list[Image.Image]:
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
