"""Things with a free joint: the robot pushes them around."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_mjx.navigation.objects.object_class import ObjectContacts, Objects
from envs_mjx.navigation.state import View


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vases(Objects):
    """Light free boxes; touching one and moving one are two costs.

    Attributes:
        density: kg/m^3.
        velocity_threshold: m/s from which a vase counts as moving.
    """

    name = "vases"
    kind = "free"
    rgba = (0.0, 1.0, 1.0, 1.0)
    layer = 7
    shape = "box"
    size: float = 0.1
    keepout: float = 0.15
    density: float = 0.001
    velocity_threshold: float = 1e-4

    @property
    def height(self) -> float:
        return self.size - 4e-5  # sunk by the depth of the contact under its weight, so that it starts at rest

    def geoms(self, i: int, contacts: ObjectContacts) -> str:
        size = f"{self.size} {self.size} {self.size}"
        return f'<geom name="{self.body_name(i)}" type="box" size="{size}" density="{self.density}" {contacts.geom}/>'

    @property
    def cost_names(self) -> tuple[str, ...]:
        return ("cost_vases_contact", "cost_vases_velocity") if self.is_constrained else ()

    def cost(self, view: View) -> dict[str, jax.Array]:
        speed = view.speeds["vases"]
        return {
            "cost_vases_contact": self.contacts_cost(view),
            "cost_vases_velocity": jnp.sum(jnp.where(speed >= self.velocity_threshold, speed, 0.0)),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushBox(Objects):
    """The box to push: a cube of half-edge `size` with four corner posts.

    Attributes:
        density: kg/m^3.
    """

    name = "push_box"
    kind = "free"
    plural = False
    rgba = (1.0, 1.0, 0.0, 0.25)
    layer = 8
    shape = "box"
    size: float = 0.2
    keepout: float = 0.2
    density: float = 0.001

    def geoms(self, i: int, contacts: ObjectContacts) -> str:
        s, h = self.size, self.size / 2
        common = f'density="{self.density}" {contacts.geom}'
        posts = "".join(
            f'<geom name="col{k + 1}" type="box" size="{h} {h} {s}" pos="{a * s} {b * s} 0" {common}/>'
            for k, (a, b) in enumerate(((1, 1), (-1, 1), (1, -1), (-1, -1)))
        )
        return f'<geom name="push_box" type="box" size="{s} {s} {s}" {common}/>{posts}'
