"""What stands where, for drawing from above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from envs_mjx.agents import AGENTS

if TYPE_CHECKING:
    from envs_mjx.navigation.env import Navigation
    from jsafe.cmdp import State


def scene(env: Navigation, state: State) -> list[dict[str, Any]]:
    """The things of one unbatched state.

    Returns:
        For each thing `kind`, `position` (metres), `yaw` (radians), `size`, `shape` and `rgba`; the agent comes last.
    """
    data = state.data
    view = env.view(data)
    shown = []
    for things in env.config.objects:
        points = np.asarray(view.points[things.name])
        first = env.index(things.name)
        for i in range(things.num):
            size: Any = things.size if things.shape == "circle" else [things.size, things.size]
            yaw = float(2 * np.arctan2(data.turn[first + i, 1], data.turn[first + i, 0]))
            if things.name == "sigwalls":
                size, yaw = [0.05, things.size], (0.0 if i < 2 else np.pi / 2)
            elif things.kind in ("free", "driven"):
                adr = AGENTS[env.config.agent].nq + 7 * env.free_number(things.name, i)
                w, x, y, z = np.asarray(data.qpos[adr + 3 : adr + 7])
                yaw = float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
            rgba = list(things.rgba)
            if things.name == "buttons" and i == int(data.goal_button):
                rgba = [0.0, 0.8, 0.0, 1.0]
            kind = things.body_name(0).rstrip("0123456789")
            shown.append(
                {
                    "kind": kind,
                    "position": points[i].tolist(),
                    "yaw": yaw,
                    "size": size,
                    "shape": things.shape,
                    "rgba": rgba,
                }
            )
    rotation = np.asarray(view.rotation)
    heading = np.arctan2(rotation[1, 0], rotation[0, 0])
    heading += -np.pi / 2 if env.config.agent == "Car" else 0.0  # the car's front is its -y side
    shown.append(
        {
            "kind": "agent",
            "position": np.asarray(view.position[:2]).tolist(),
            "yaw": float(heading),
            "size": 0.1,
            "shape": "circle",
            "rgba": [0.74, 0.04, 0.18, 1.0],
        }
    )
    return shown
