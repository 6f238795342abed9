"""CMDPs on MuJoCo: the environments of Safety-Gymnasium as pure, compiled functions."""

from envs_mjx.navigation import Navigation
from envs_mjx.override_text import parse_overrides
from envs_mjx.physics import BACKENDS, default_backend
from envs_mjx.registry import ids, make

__all__ = ["BACKENDS", "Navigation", "default_backend", "ids", "make", "parse_overrides"]
