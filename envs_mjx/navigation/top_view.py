"""Scene description of a navigation environment, for the renderers in `envs_mjx.render`."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs_mjx.navigation.state import Data
from envs_mjx.navigation.world import World


def scene(world: World, data: Data) -> list[dict[str, Any]]:
    """The things of one unbatched state.

    Returns:
        One item for each thing, in the form of `envs_mjx.render.top_view_renderer`. Things without a body also have
        `ghost_height`, their half-height in MuJoCo's pictures. The agent comes last.
    """
    view, agent = world.view(data), world.agent
    items = []
    for things in world.config.objects:
        points = np.asarray(view.points[things.name])
        items += things.draw(points, world.yaws(data, things), data.objects.get(things.name))
    rotation = np.asarray(view.rotation)
    return [
        *items,
        {
            "kind": "agent",
            "position": np.asarray(view.position[:2]).tolist(),
            "yaw": float(np.arctan2(rotation[1, 0], rotation[0, 0]) + agent.front_yaw),
            "size": agent.radius,
            "shape": "circle",
            "rgba": list(agent.rgba),
        },
    ]
