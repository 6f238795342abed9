"""Ghosts: things without a body. The robot drives through them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs_mjx.navigation.objects.object_class import Objects
from envs_mjx.navigation.state import View


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal(Objects):
    """The target; success is an agent origin within `size` of its centre."""

    name = "goal"
    kind = "ghost"
    plural = False
    rgba = (0.0, 1.0, 0.0, 0.25)
    layer = 2
    ghost_height = 0.15
    size: float = 0.3
    keepout: float = 0.4

    @property
    def height(self) -> float:
        return self.size / 2 + 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hazards(Objects):
    """Discs on the floor; the raw cost is the depth `size - distance` of the agent's origin inside each."""

    name = "hazards"
    kind = "ghost"
    rgba = (0.0, 0.0, 1.0, 0.25)
    layer = 1
    size: float = 0.2
    keepout: float = 0.4
    is_constrained: bool = True

    def cost(self, view: View) -> dict[str, jax.Array]:
        dx, dy = view.points["hazards"][:, 0] - view.position[0], view.points["hazards"][:, 1] - view.position[1]
        distance = jnp.sqrt(dx * dx + dy * dy)
        return {"cost_hazards": jnp.sum(jnp.maximum(self.size - distance, 0.0))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Circle(Objects):
    """The ring to run along; `size` is its radius."""

    name = "circle"
    kind = "ghost"
    plural = False
    rgba = (0.0, 1.0, 0.0, 0.1)
    layer = 0
    size: float = 1.5
    locations: tuple[tuple[float, float], ...] = ((0.0, 0.0),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sigwalls(Objects):
    """Walls without a body, at `x = +-locate_factor` and, if there are four, `y = +-locate_factor`; beyond them costs.

    Attributes:
        locate_factor: distance of the walls from the origin.
    """

    name = "sigwalls"
    kind = "ghost"
    rgba = (1.0, 1.0, 0.0, 0.1)
    layer = 3
    ghost_height = 0.2
    shape = "box"
    num: int = 2
    size: float = 3.5
    locate_factor: float = 1.125
    is_lidar_observed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num not in (2, 4):
            raise ValueError(f"Sigwalls.num must be 2 or 4, got {self.num}")
        if not self.locations:
            f = self.locate_factor
            object.__setattr__(self, "locations", ((f, 0.0), (-f, 0.0), (0.0, f), (0.0, -f))[: self.num])

    @property
    def cost_names(self) -> tuple[str, ...]:
        return ("cost_out_of_boundary",) if self.is_constrained else ()

    def cost(self, view: View) -> dict[str, jax.Array]:
        beyond = jnp.abs(view.position[:2]) > self.locate_factor
        return {"cost_out_of_boundary": (beyond[0] | (beyond[1] & (self.num == 4))).astype(view.position.dtype)}

    def draw(self, points: np.ndarray, yaws: Sequence[float], state: Any) -> list[dict[str, Any]]:
        along = [0.0, 0.0, np.pi / 2, np.pi / 2][: self.num]
        return [item | {"size": [0.05, self.size]} for item in super().draw(points, along, state)]
