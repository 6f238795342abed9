"""The simulators behind an environment, all with the same three functions (`envs_mjx.physics.backend.Physics`)."""

from envs_mjx.physics.backend import BACKENDS, Physics, Sensed, check, make

__all__ = ["BACKENDS", "Physics", "Sensed", "check", "make"]
