"""Pictures by MuJoCo's own renderer, which needs a GL backend: `choose_backend` finds one."""

from __future__ import annotations

import copy
import importlib
import math
import os
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from envs_mjx.physics.state_transfer import PhysicsStates, put

PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(data)
print("drawn" if renderer.render().shape == (16, 16, 3) else "")
import os, sys
sys.stdout.flush()
os._exit(0)
"""
"""Program that draws one picture. It ends without clean-up, since some EGL drivers fail when a context is freed."""

PROBE_SECONDS = 60
HEADLESS_BACKENDS = ("egl", "osmesa")
CONTEXT_MODULES = ("mujoco.gl_context", "mujoco.rendering.classic.gl_context")
"""Modules that choose the GL context, in earlier and later releases of MuJoCo."""


def choose_backend() -> str | None:
    """Find a GL backend that draws without a display and select it for this process.

    `MUJOCO_GL`, if it is set, is the only candidate; otherwise EGL, then OSMesa. Each is tried in a process of its own,
    because a broken driver may crash.

    Returns:
        Name of the backend, or None if no candidate draws.
    """
    requested = os.environ.get("MUJOCO_GL")
    for backend in (requested,) if requested else HEADLESS_BACKENDS:
        if _draws(backend):
            os.environ["MUJOCO_GL"] = backend
            if not requested:  # MuJoCo reads the variable once, when it is imported
                importlib.reload(_context_module())
            return backend
    return None


def _context_module() -> types.ModuleType:
    """The module of MuJoCo that reads `MUJOCO_GL`, which a later release moved."""
    name = next(name for name in CONTEXT_MODULES if name in sys.modules)
    return sys.modules[name]


def _draws(backend: str) -> bool:
    environment = {**os.environ, "MUJOCO_GL": backend}
    command = [sys.executable, "-c", PROBE]
    try:
        probe = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "drawn" in probe.stdout


def frames(
    model: mujoco.MjModel,
    states: PhysicsStates,
    scenes: Sequence[Sequence[Mapping[str, Any]]],
    extents: Sequence[float],
    pixels: int,
) -> Iterator[np.ndarray]:
    """Draw moments of an episode.

    Args:
        model: the environment's model (`env.mj_model`).
        states: one for each moment.
        scenes: `env.scene` of each moment; its items without a body are added to the picture.
        extents: x_min, y_min, x_max, y_max of the arena in metres.
        pixels: width and height.

    Yields:
        RGB arrays `[pixels, pixels, 3]`, uint8.

    Raises:
        ValueError: for numbers of states and scenes that differ, or a size that is not positive.
    """
    if len(states.qpos) != len(scenes):
        raise ValueError(f"states and scenes must have equal lengths, got {len(states.qpos)} and {len(scenes)}")
    if pixels < 1:
        raise ValueError(f"pixels must be at least 1, got {pixels}")
    return _frames(model, states, scenes, overview(extents, scenes), pixels)


def _frames(
    model: mujoco.MjModel,
    states: PhysicsStates,
    scenes: Sequence[Sequence[Mapping[str, Any]]],
    camera: mujoco.MjvCamera,
    pixels: int,
) -> Iterator[np.ndarray]:
    model = copy.copy(model)
    # The frame buffer of a model is 640 pixels wide by default.
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, pixels)
    model.vis.global_.offheight = max(model.vis.global_.offheight, pixels)
    data = mujoco.MjData(model)
    with mujoco.Renderer(model, pixels, pixels) as renderer:
        for index, scene in enumerate(scenes):
            put(data, states, index)
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            for item in scene:
                if "ghost_height" in item:
                    add_ghost(renderer.scene, item)
            yield np.array(renderer.render())


def overview(extents: Sequence[float], scenes: Sequence[Sequence[Mapping[str, Any]]]) -> mujoco.MjvCamera:
    """A camera above the arena that also shows every position of the agent."""
    x_min, y_min, x_max, y_max = (float(value) for value in extents)
    agents = [item["position"] for scene in scenes for item in scene if item["kind"] == "agent"]
    low, high = np.min([(x_min, y_min), *agents], axis=0), np.max([(x_max, y_max), *agents], axis=0)
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (*(low + high) / 2, 0)
    camera.distance = 1.55 * float((high - low).max())
    camera.azimuth, camera.elevation = 90, -55
    return camera


def add_ghost(scene: mujoco.MjvScene, item: Mapping[str, Any]) -> None:
    """Append a flat cylinder or a wall to the geoms of a picture; nothing if the picture is full."""
    if scene.ngeom >= scene.maxgeom:
        return
    size = np.asarray(item["size"], float).reshape(-1)
    yaw = float(item.get("yaw", 0.0))
    height = float(item["ghost_height"])
    if item.get("shape", "circle") == "box":
        kind, extent = mujoco.mjtGeom.mjGEOM_BOX, (size[0], size[min(1, len(size) - 1)], height)
    else:
        kind, extent = mujoco.mjtGeom.mjGEOM_CYLINDER, (size[0], height, 0)
    cosine, sine = math.cos(yaw), math.sin(yaw)
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom],
        kind,
        np.asarray(extent, float),
        np.array([*np.asarray(item["position"], float).reshape(-1)[:2], height]),
        np.array([cosine, -sine, 0, sine, cosine, 0, 0, 0, 1]),
        np.asarray(item["rgba"], np.float32),
    )
    scene.ngeom += 1
