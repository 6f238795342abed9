"""What things cost. Raw costs have the reference's formulas; each is then put through the indicator `raw > 0`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.objects import Sigwalls, Vases
from envs_mjx.navigation.tasks.task import View


def raw_costs(view: View, timer: jax.Array, config: Config) -> dict[str, jax.Array]:
    """Raw cost of each constraint of `config` at one moment (Safety-Gymnasium 1.2, section "Costs").

    Args:
        view: the world after the step.
        timer: `[]` int32, steps for which buttons are still switched off.
        config: the environment.

    Returns:
        name to `[]`: metres inside hazards, number of contacts, m/s of moving vases, or 1 outside the walls.
    """
    costs: dict[str, jax.Array] = {}
    dtype = view.position.dtype
    for things in config.objects:
        if not things.is_constrained:
            continue
        if things.name == "hazards":
            dx, dy = view.points["hazards"][:, 0] - view.position[0], view.points["hazards"][:, 1] - view.position[1]
            d = jnp.sqrt(dx * dx + dy * dy)
            costs["cost_hazards"] = jnp.sum(jnp.maximum(things.size - d, 0.0))
        elif isinstance(things, Vases):
            costs["cost_vases_contact"] = jnp.sum(view.touched["vases"].astype(dtype))
            speed = view.speeds["vases"]
            costs["cost_vases_velocity"] = jnp.sum(jnp.where(speed >= things.velocity_threshold, speed, 0.0))
        elif isinstance(things, Sigwalls):
            beyond = jnp.abs(view.position[:2]) > things.locate_factor
            costs["cost_out_of_boundary"] = (beyond[0] | (beyond[1] & (things.num == 4))).astype(dtype)
        elif things.name == "buttons":
            wrong = view.touched["buttons"] & ~view.touched["is_goal_button"]
            costs["cost_buttons"] = jnp.where(timer == 0, jnp.sum(wrong.astype(dtype)), 0.0)
        elif things.name in ("pillars", "gremlins"):
            costs[f"cost_{things.name}"] = jnp.sum(view.touched[things.name].astype(dtype))
        else:
            raise ValueError(f"{things.name} has no cost; set is_constrained to False")
    return costs


def cost_names(config: Config) -> tuple[str, ...]:
    """Names of the constraints of `config`, in the order of `State.cost`."""
    return tuple(name for things in config.objects for name in things.cost_names)
