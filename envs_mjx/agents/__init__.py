"""The robots: their bodies in MJCF, their sensors, and how their pose is read from the generalised coordinates."""

from envs_mjx.agents.agent import Agent
from envs_mjx.agents.car import CAR
from envs_mjx.agents.point import POINT

AGENTS: dict[str, Agent] = {"Point": POINT, "Car": CAR}

__all__ = ["AGENTS", "CAR", "POINT", "Agent"]
