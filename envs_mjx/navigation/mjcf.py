"""MuJoCo model of a navigation environment: one for each configuration, whatever the layout.

Positions of things are state (`qpos` for free bodies, mocap poses for fixtures), never part of the model.

The recordings of the reference were made with MuJoCo 2.3.3. Two choices make today's MuJoCo agree with them to
rounding: the box-box collider, that of 3.3.7 (`envs_mjx.physics.collider_table` installs it in later releases),
and the collision pipeline (`nativeccd` off: cylinder-box pairs use the old algorithm). `make parity` prints the
remaining errors.
"""

from __future__ import annotations

import dataclasses
import functools

import mujoco
import numpy as np

from envs_mjx.agents import AGENTS
from envs_mjx.agents.agent import NO_LENGTH, Contacts
from envs_mjx.navigation.config import Config
from envs_mjx.navigation.objects import ObjectContacts, Objects
from envs_mjx.physics import collider_table
from envs_mjx.physics.backend import PhysicsModel

SUBSTEPS = 10  # physics steps in a control step, for every robot

# Categories of contact. A thing shows its category in `contype`; `conaffinity` lists the categories that can touch it.
# The robot shows none, so its parts never meet each other (in the reference they may but cannot reach).
_FLOOR, _BOX, _BALL, _PILLAR, _BALL_FOR_WHEELS, _BOX_FOR_WHEELS = (1 << i for i in range(6))


def _mask(shows: int = 0, feels: int = 0) -> str:
    return f'contype="{shows}" conaffinity="{feels}"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Colliders:
    """Collision shapes in place of the reference's.

    Attributes:
        wheel_sides: 0 to keep wheels as cylinders; otherwise boxes meet them as prisms of that many sides. A prism of n
            sides lies within `1 - cos(pi / n)` of the radius.
        round_pillars: True if pillars stay cylinders; otherwise they are capsules whose straight part covers the height
            of the cylinder, which is the same shape from the side.
        search_balls: True if balls and cylinders (wheels and buttons, the car's rear ball and pillars) meet by
            iterative search, as in the MuJoCo of the reference, instead of by today's closed form
            (`envs_mjx.agents.agent.ball_as_capsule`).
        boxes_meet: True if free boxes touch each other.
    """

    wheel_sides: int = 0
    round_pillars: bool = True
    search_balls: bool = True
    boxes_meet: bool = True


COLLIDERS = {
    "exact": Colliders(),
    "fast": Colliders(wheel_sides=8, round_pillars=False, search_balls=False, boxes_meet=False),
}
"""Collision shapes by profile."""


@dataclasses.dataclass(frozen=True)
class Body:
    """One body of the model that belongs to a class of things.

    Attributes:
        name: name in the model.
        things: its class.
        number: index within its class.
    """

    name: str
    things: Objects
    number: int


def bodies_of(config: Config, *kinds: str) -> tuple[Body, ...]:
    """Bodies of all things of the given kinds, in the order of the configuration."""
    suffix = {"driven": "obj"}
    return tuple(
        Body(things.body_name(i) + suffix.get(things.kind, ""), things, i)
        for things in config.of_kind(*kinds)
        for i in range(things.num)
    )


def touchable_of(config: Config) -> tuple[Body, ...]:
    """Bodies whose contacts with the robot are reported, in the order of the contact flags."""
    return tuple(b for b in bodies_of(config, "fixture", "free", "driven") if b.things.is_touch_sensed)


def mocap_of(config: Config) -> tuple[Body, ...]:
    """Bodies with a mocap pose, in the order of `mocap_pos`; driven ones come first."""
    return bodies_of(config, "driven") + bodies_of(config, "fixture")


def mjcf(config: Config, colliders: Colliders, *, contact_sensors: bool = True) -> str:
    """MJCF text of the world of `config`.

    Args:
        config: the environment.
        colliders: collision shapes.
        contact_sensors: True to count contacts with sensors that match whole subtrees (MuJoCo C has them).
    """
    agent = AGENTS[config.agent]
    flags = "".join(
        f'<contact name="touch_{b.name}" subtree1="agent" body2="{b.name}" data="found" num="1"/>'
        for b in (touchable_of(config) if contact_sensors else ())
    )
    welds = _welds(config)
    return f"""
<mujoco model="{config.id}">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{agent.timestep}" ccd_iterations="50"><flag nativeccd="disable" island="disable"/></option>
  {collider_table.MARK}
  <default>{agent.defaults}</default>
  <asset>
    <texture name="floor" type="2d" builtin="checker" width="100" height="100"
      rgb1="0.72 0.74 0.76" rgb2="0.82 0.84 0.86"/>
    <material name="floor" texture="floor" texrepeat="10 10"/>
    {agent.assets(colliders.wheel_sides)}
    <texture name="sky" type="skybox" builtin="gradient" width="64" height="64" rgb1="0.6 0.75 0.9" rgb2="0.95 0.97 1"/>
  </asset>
  <worldbody>
    <light directional="true" dir="0 0 -1" diffuse="0.8 0.8 0.8" castshadow="false"/>
    <camera name="fixedfar" pos="0 -5 5" zaxis="0 -1 1"/>
    <geom name="floor" type="plane" size="3.5 3.5 0.1" material="floor" {_mask(_FLOOR)}/>
    {_agent_body(config, colliders)}{_free_bodies(config, colliders)}{_fixtures(config, colliders)}
  </worldbody>
  {f"<equality>{welds}</equality>" if welds else ""}
  <actuator>{agent.actuators}</actuator>
  <sensor>{agent.sensors}{flags}</sensor>
</mujoco>"""


def _agent_body(config: Config, colliders: Colliders) -> str:
    agent = AGENTS[config.agent]
    floor = _FLOOR if agent.touches_floor else 0
    wheel_ball = _BALL_FOR_WHEELS if colliders.search_balls else _BALL
    hull = floor | _BOX | _BALL | _PILLAR
    wheel_box = _BOX if not colliders.wheel_sides else 0
    return agent.body(
        Contacts(
            hull=_mask(0, hull),
            wheel=_mask(0, floor | wheel_box | wheel_ball | _PILLAR),
            ball=_mask(0, hull & ~_PILLAR if colliders.search_balls else hull),
            prism=_mask(0, _BOX_FOR_WHEELS) if colliders.wheel_sides else None,
            ball_on_cylinder=_mask(0, _PILLAR) if colliders.search_balls else None,
        )
    )


def _free_bodies(config: Config, colliders: Colliders) -> str:
    """Free and driven bodies, then the mocap bodies that pull the driven ones."""
    box = _mask(_BOX | _BOX_FOR_WHEELS, _FLOOR | _BALL | _PILLAR | (_BOX if colliders.boxes_meet else 0))
    parts = []
    for b in bodies_of(config, "free", "driven"):
        geoms = b.things.geoms(b.number, ObjectContacts(f'{box} rgba="{_rgba(b)}"'))
        parts.append(f'<body name="{b.name}" pos="0 0 {b.things.height}"><freejoint name="{b.name}"/>{geoms}</body>')
    for b in bodies_of(config, "driven"):
        parts.append(f'<body name="{_mocap_name(b)}" mocap="true" pos="0 0 {b.things.height}"/>')
    return "".join(parts)


def _fixtures(config: Config, colliders: Colliders) -> str:
    on_wheels = AGENTS[config.agent].has_wheels and colliders.search_balls
    parts = []
    for b in bodies_of(config, "fixture"):
        contacts = ObjectContacts(
            f'{_mask(_PILLAR if b.things.is_pillar else _BALL)} rgba="{_rgba(b)}"',
            _mask(_BALL_FOR_WHEELS) if on_wheels else None,
            colliders.round_pillars,
        )
        geoms = b.things.geoms(b.number, contacts)
        parts.append(f'<body name="{b.name}" mocap="true" pos="0 0 {b.things.height}">{geoms}</body>')
    return "".join(parts)


def _welds(config: Config) -> str:
    return "".join(
        f'<weld body1="{_mocap_name(b)}" body2="{b.name}" solref="0.02 1.5"/>' for b in bodies_of(config, "driven")
    )


def _mocap_name(body: Body) -> str:
    return body.name.removesuffix("obj") + "mocap"


def _rgba(body: Body) -> str:
    return " ".join(map(str, body.things.rgba))


@functools.cache
def build(config: Config, profile: str = "exact", *, contact_sensors: bool = True) -> PhysicsModel:
    """Compile the world of `config`, once for each configuration and choice of arguments.

    Args:
        config: the environment.
        profile: key of `COLLIDERS`.
        contact_sensors: as in `mjcf`.
    """
    agent = AGENTS[config.agent]
    collider_table.install()
    model = mujoco.MjModel.from_xml_string(mjcf(config, COLLIDERS[profile], contact_sensors=contact_sensors))
    for b in bodies_of(config, "driven"):
        # Up to MuJoCo 2.3, with which the reference was recorded, the rotational rows of a weld were regularised with
        # the body's translational weight; since 3.0 with the rotational one. Nothing else reads this entry here: a
        # pyramidal contact takes its regularisation from its first row, which is translational.
        body = model.body(b.name).id
        model.body_invweight0[body, 1] = model.body_invweight0[body, 0]
    is_ball = (model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE) & (model.geom_size[:, 1] == NO_LENGTH)
    model.geom_size[is_ball, 1] = 0.0
    touchable = touchable_of(config)
    sensors = [model.sensor(name) for name, _ in agent.observed]
    first = model.sensor(f"touch_{touchable[0].name}").adr[0] if touchable and contact_sensors else 0
    return PhysicsModel(
        model=model,
        observed=np.concatenate([np.arange(s.adr[0], s.adr[0] + s.dim[0]) for s in sensors]),
        sensor_sizes=tuple((name, int(s.dim[0])) for (name, _), s in zip(agent.observed, sensors, strict=True)),
        flags=slice(first, first + len(touchable) if contact_sensors else first),
        touchable=tuple(b.name for b in touchable),
        moving=len(bodies_of(config, "driven")),
        solver=agent.solver,
    )
