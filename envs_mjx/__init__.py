"""CMDPs on MuJoCo: the environments of Safety-Gymnasium as pure, compiled functions."""

from envs_mjx.navigation.env import Navigation
from envs_mjx.physics import BACKENDS
from envs_mjx.registry import ids, make

__all__ = ["BACKENDS", "Navigation", "ids", "make"]
