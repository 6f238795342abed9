"""A class of things in an arena: body, observation, cost, persistent state, layout numbers and drawing.

Four kinds, by their role in the physics:

- `ghost`: collides with nothing, so it is an array of positions and has no body (goals, hazards, circle, walls).
- `fixture`: never moves on its own but can be touched: a mocap body (buttons, pillars).
- `free`: a free joint (vases, push box).
- `driven`: a free body pulled along a path by a weld to a mocap body (gremlins).

Sizes are in metres. The numbers are those of Safety-Gymnasium 1.2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_mjx.navigation.state import View

Kind = Literal["ghost", "fixture", "free", "driven"]
Rectangle = tuple[float, float, float, float]
"""`(x_min, y_min, x_max, y_max)`."""


class ObjectContacts(NamedTuple):
    """Collision shapes of a thing, chosen by the model (`envs_mjx.navigation.mjcf`).

    Attributes:
        geom: contact attributes and colour of its geoms, as MJCF text.
        ball_on_wheels: contact attributes of the capsule that meets wheels in a ball's place; None for no such capsule.
        has_cylinders: True if a standing cylinder stays one; otherwise it is a capsule.
    """

    geom: str
    ball_on_wheels: str | None = None
    has_cylinders: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects:
    """One class of things in an arena.

    A subclass sets the class attributes and overrides what differs. A cost is a method `cost` and, if it is not a
    single one called `cost_<name>`, the property `cost_names`.

    Attributes:
        num: number of things.
        size: characteristic size (radius, or half-edge of a box).
        keepout: clearance radius in layouts.
        placements: rectangles to draw positions from; None for the arena's extents.
        locations: fixed positions of the first things, by number.
        is_constrained: True if touching or entering costs.
        is_lidar_observed: True if the class has a lidar block in the observation.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    plural: ClassVar[bool] = True
    rgba: ClassVar[tuple[float, float, float, float]]
    shape: ClassVar[Literal["circle", "box"]] = "circle"
    layer: ClassVar[int] = 4
    """Drawing order in the top view, from below upwards; the robot is above all."""
    ghost_height: ClassVar[float] = 0.005
    """Half-height of a ghost in MuJoCo's pictures, metres."""
    is_pillar: ClassVar[bool] = False
    """True for a fixture that is a standing cylinder; other fixtures are balls."""

    num: int = 1
    size: float = 0.1
    keepout: float = 0.0
    placements: tuple[Rectangle, ...] | None = None
    locations: tuple[tuple[float, float], ...] = ()
    is_constrained: bool = False
    is_lidar_observed: bool = True

    def __post_init__(self) -> None:
        cls = type(self)
        if not isinstance(self.num, int) or self.num < 1:
            raise ValueError(f"{cls.__name__}.num must be a whole number of at least 1, got {self.num!r}")
        if not self.size > 0:
            raise ValueError(f"{cls.__name__}.size must be above 0 metres, got {self.size!r}")
        if not self.keepout >= 0:
            raise ValueError(f"{cls.__name__}.keepout must be at least 0 metres, got {self.keepout!r}")
        if self.is_constrained and cls.cost is Objects.cost:
            raise ValueError(f"{cls.__name__}.is_constrained must be False: {self.name} has no cost")

    # -- body ----------------------------------------------------------------------------------------------------------

    def body_name(self, i: int) -> str:
        """Name of body `i`: the class name without its plural s, and a number."""
        return f"{self.name[:-1]}{i}" if self.plural else self.name

    @property
    def height(self) -> float:
        """z of the body's origin at rest."""
        return self.size

    def geoms(self, i: int, contacts: ObjectContacts) -> str:
        """MJCF geoms of body `i`; ghosts have none."""
        raise TypeError(f"{self.name} has no body")

    @property
    def is_touch_sensed(self) -> bool:
        """True if the environment reports contacts with the robot."""
        return self.is_constrained

    def path(self, t: jax.Array) -> jax.Array:
        """`[T, 3]` offsets of a driven body's target from its place at rest, `t [T]` seconds after the reset."""
        raise TypeError(f"{self.name} does not move on a path")

    # -- persistent state ----------------------------------------------------------------------------------------------

    def start(self, key: jax.Array) -> Any:
        """State of the class after a reset, a pytree; None for no state. `key` is a typed PRNG key."""
        return None

    def advance(self, state: Any) -> Any:
        """State of the class one control step later."""
        return state

    # -- cost and observation ------------------------------------------------------------------------------------------

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of its constraints, in the order of `State.cost`."""
        return (f"cost_{self.name}",) if self.is_constrained else ()

    def cost(self, view: View) -> dict[str, jax.Array]:
        """Raw cost `[]` of each constraint after a step; `State.cost` is the indicator `raw > 0`."""
        raise TypeError(f"{self.name} has no cost")

    def contacts_cost(self, view: View) -> jax.Array:
        """`[]` number of its things that the robot touches."""
        return jnp.sum(view.touched[self.name].astype(view.position.dtype))

    def is_visible(self, state: Any) -> jax.Array | None:
        """`[]` bool, whether the lidar detects the class; None for always."""
        return None

    # -- drawing -------------------------------------------------------------------------------------------------------

    def draw(self, points: np.ndarray, yaws: Sequence[float], state: Any) -> list[dict[str, Any]]:
        """Items of a scene, one for each thing (`envs_mjx.navigation.top_view.scene`).

        Args:
            points: `[num, 2]` positions.
            yaws: `[num]` headings, radians.
            state: persistent state of the class, or None.
        """
        common: dict[str, Any] = {
            "kind": self.body_name(0).rstrip("0123456789"),
            "size": self.size if self.shape == "circle" else [self.size, self.size],
            "shape": self.shape,
            "rgba": list(self.rgba),
            "layer": self.layer,
        }
        if self.kind == "ghost":
            common["ghost_height"] = self.ghost_height
        return [
            common | {"position": point.tolist(), "yaw": float(yaw)} for point, yaw in zip(points, yaws, strict=True)
        ]
