"""The simulators behind an environment, all with the same three functions (`envs_mjx.physics.base.Physics`)."""

from envs_mjx.physics.base import BACKENDS, Physics, Sensed, check, make

__all__ = ["BACKENDS", "Physics", "Sensed", "check", "make"]
