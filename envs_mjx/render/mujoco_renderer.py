"""MuJoCo's own renderer: whether this machine can use it, and frames of an episode drawn by it.

`choose_backend` has to run before `mujoco` is first imported, because MuJoCo reads `MUJOCO_GL` then.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PROBE = """
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
"""Draws a picture; ends at once, since some EGL drivers complain when a context is taken down."""

GHOSTS = ("goal", "hazard", "circle", "sigwall")
"""Kinds that nothing collides with: no bodies of the model, so they are added to the picture."""


def choose_backend() -> str | None:
    """Find a GL backend that draws without a display and select it for this process.

    `MUJOCO_GL`, if it is set, is the only candidate; otherwise EGL, then OSMesa. Each is tried in a process of its own,
    because a broken driver may crash rather than complain.

    Returns:
        Name of the backend, or None where there is none.
    """
    wanted = os.environ.get("MUJOCO_GL")
    for backend in (wanted,) if wanted else ("egl", "osmesa"):
        environment = {**os.environ, "MUJOCO_GL": backend}
        try:
            probe = subprocess.run(
                [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if "drawn" in probe.stdout:
            os.environ["MUJOCO_GL"] = backend
            return backend
    return None


def frames(
    model: Any,
    states: Any,
    scenes: Sequence[Sequence[Mapping[str, Any]]],
    extents: Sequence[float],
    pixels: int,
) -> Iterator[Any]:
    """Draw moments of an episode.

    Args:
        model: `mujoco.MjModel`.
        states: `envs_mjx.physics.state_transfer.PhysicsStates`, one for each moment.
        scenes: what `env.scene` says of each moment; the kinds in `GHOSTS` are added to the picture.
        extents: x_min, y_min, x_max, y_max of the arena in metres.
        pixels: width and height.

    Yields:
        RGB arrays `[pixels, pixels, 3]`, uint8.
    """
    import mujoco
    import numpy as np

    from envs_mjx.physics.state_transfer import put

    x_min, y_min, x_max, y_max = (float(value) for value in extents)
    agents = [item["position"] for scene in scenes for item in scene if item["kind"] == "agent"]
    low, high = np.min([(x_min, y_min), *agents], axis=0), np.max([(x_max, y_max), *agents], axis=0)
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (*(low + high) / 2, 0)
    camera.distance = 1.55 * float((high - low).max())
    camera.azimuth, camera.elevation = 90, -55
    # The frame buffer of a model is 640 wide unless the model says otherwise.
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, pixels)
    model.vis.global_.offheight = max(model.vis.global_.offheight, pixels)
    data = mujoco.MjData(model)
    with mujoco.Renderer(model, pixels, pixels) as renderer:
        for index, scene in enumerate(scenes):
            put(data, states, index)
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            for item in scene:
                if item["kind"] in GHOSTS:
                    _add_ghost(renderer.scene, item)
            yield np.array(renderer.render())


def _add_ghost(scene: Any, item: Mapping[str, Any]) -> None:
    """Append a flat cylinder or a wall to the geoms of the picture."""
    import mujoco
    import numpy as np

    if scene.ngeom >= scene.maxgeom:
        return
    size = np.asarray(item["size"], float).reshape(-1)
    yaw = float(np.asarray(item.get("yaw", 0.0)))
    height = {"goal": 0.15, "sigwall": 0.2}.get(item["kind"], 0.005)
    if item.get("shape", "circle") == "box":
        kind, extent = mujoco.mjtGeom.mjGEOM_BOX, (size[0], size[min(1, len(size) - 1)], height)
    else:
        kind, extent = mujoco.mjtGeom.mjGEOM_CYLINDER, (size[0], height, 0)
    cosine, sine = math.cos(yaw), math.sin(yaw)
    position = np.array([*np.asarray(item["position"], float).reshape(-1)[:2], height])
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom],
        kind,
        np.asarray(extent, float),
        position,
        np.array([cosine, -sine, 0, sine, cosine, 0, 0, 0, 1]),
        np.asarray(item["rgba"], np.float32),
    )
    scene.ngeom += 1
