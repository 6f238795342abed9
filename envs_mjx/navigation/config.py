"""Description of one environment: robot, things and task. Frozen and hashable, without arrays."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax

from envs_mjx.navigation.objects import Objects, Rectangle

T = TypeVar("T", bound=Objects)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LidarConfig:
    """The pseudo lidar.

    Attributes:
        num_bins: sectors of the full turn.
        max_dist: metres at which a reading reaches zero; None for the exponential reading.
        exp_gain: decay per metre of the exponential reading.
        alias: True if a reading also leaks into the two neighbouring sectors, in proportion to its place in its own.
    """

    num_bins: int = 16
    max_dist: float | None = 3.0
    exp_gain: float = 1.0
    alias: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.num_bins, int) or self.num_bins < 3:
            raise ValueError(f"lidar_conf.num_bins must be a whole number of at least 3, got {self.num_bins!r}")
        if self.max_dist is not None and not self.max_dist > 0:
            raise ValueError(f"lidar_conf.max_dist must be above 0 metres or None, got {self.max_dist!r}")
        if not self.exp_gain > 0:
            raise ValueError(f"lidar_conf.exp_gain must be above 0 per metre, got {self.exp_gain!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Definition of an environment.

    Attributes:
        id: registered name.
        agent: key of `envs_mjx.agents.AGENTS`.
        task: key of `envs_mjx.navigation.tasks.TASKS`.
        objects: the things in the arena in the reference's order (ghosts and fixtures, free bodies, driven bodies).
        extents: the arena, `(x_min, y_min, x_max, y_max)` in metres.
        agent_placements: rectangles for the robot's start; None for the extents.
        agent_locations: fixed start of the robot (the first entry); empty to draw it.
        agent_keepout: clearance of the robot's start, metres.
        agent_rot: fixed initial heading in radians; None draws it from [0, 2 pi).
        num_steps: time limit in steps.
        lidar: the lidar.
        reward_clip: bound on the absolute value of a step's reward; None for no bound.
    """

    id: str
    agent: str
    task: str
    objects: tuple[Objects, ...]
    extents: Rectangle = (-2.0, -2.0, 2.0, 2.0)
    agent_placements: tuple[Rectangle, ...] | None = None
    agent_locations: tuple[tuple[float, float], ...] = ()
    agent_keepout: float = 0.4
    agent_rot: float | None = None
    num_steps: int = 1000
    lidar: LidarConfig = LidarConfig()
    reward_clip: float | None = 10.0

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.extents
        if not (x0 < x1 and y0 < y1):
            raise ValueError(f"placements_conf.extents must be (x_min, y_min, x_max, y_max), got {self.extents}")
        if not isinstance(self.num_steps, int) or self.num_steps < 1:
            raise ValueError(f"num_steps must be a whole number of at least 1, got {self.num_steps!r}")
        if not self.agent_keepout >= 0:
            raise ValueError(f"agent.keepout must be at least 0 metres, got {self.agent_keepout!r}")
        if self.reward_clip is not None and not self.reward_clip > 0:
            raise ValueError(f"reward_conf.reward_clip must be above 0 or None, got {self.reward_clip!r}")

    def find(self, name: str) -> Objects | None:
        """The class of things called `name`, or None."""
        return next((o for o in self.objects if o.name == name), None)

    def require(self, cls: type[T]) -> T:
        """The class of things `cls`.

        Raises:
            ValueError: if the environment has none.
        """
        things = next((o for o in self.objects if isinstance(o, cls)), None)
        if things is None:
            raise ValueError(f"{self.id} needs {cls.name}, and has none. Add {cls.__name__} to its objects.")
        return things

    def of_kind(self, *kinds: str) -> tuple[Objects, ...]:
        """All classes of things of the given kinds, in order."""
        return tuple(o for o in self.objects if o.kind in kinds)

    def start_objects(self, key: jax.Array) -> dict[str, Any]:
        """Persistent state of every class of things that has one, after a reset.

        The first such class gets `key` itself, each later one a key folded from the one before.
        """
        states: dict[str, Any] = {}
        for things in self.objects:
            state = things.start(key)
            if state is not None:
                states[things.name] = state
                key = jax.random.fold_in(key, len(states))
        return states

    def advance_objects(self, states: dict[str, Any]) -> dict[str, Any]:
        """Persistent states one control step later."""
        return {things.name: things.advance(states[things.name]) for things in self.objects if things.name in states}
