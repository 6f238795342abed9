"""The robots. A new one is a module with an `Agent` and its line in `AGENTS`."""

from envs_mjx.agents.agent import Agent
from envs_mjx.agents.car import CAR
from envs_mjx.agents.point import POINT

AGENTS: dict[str, Agent] = {agent.name: agent for agent in (POINT, CAR)}

__all__ = ["AGENTS", "CAR", "POINT", "Agent"]
