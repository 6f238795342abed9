"""The compiled MuJoCo model of an environment: one for each configuration, whatever the layout.

Where things stand is state (`qpos` for free bodies, mocap poses for fixtures), never part of the model.

The recordings of the reference were made with MuJoCo 2.3.3. Two choices keep today's MuJoCo with them to rounding: the
version (3.3.7 is the last whose box-box collider is the one of 2.3.3; 3.4 and later place other contact points) and the
collision pipeline (`nativeccd` off: cylinder-box pairs go the old way). `make parity` prints what is left.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import mujoco

from envs_mjx.agents import AGENTS
from envs_mjx.agents.agent import NO_LENGTH, Contacts, ball_as_capsule
from envs_mjx.navigation.config import Config
from envs_mjx.navigation.objects import Objects

SUBSTEPS = 10  # physics steps in a control step, for every robot

# Who may touch whom. A thing shows what it is in `contype`, and `conaffinity` says what a geom can be touched by; the
# robot shows nothing, so its parts never meet each other (in the reference they may but cannot reach).
_FLOOR, _BOX, _BALL, _PILLAR, _BALL_FOR_WHEELS, _BOX_FOR_WHEELS = (1 << i for i in range(6))


def _mask(shows: int = 0, feels: int = 0) -> str:
    return f'contype="{shows}" conaffinity="{feels}"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Colliders:
    """Which collision shapes stand for the reference's.

    Attributes:
        wheel_sides: 0 to keep wheels as cylinders; otherwise boxes meet them as prisms of that many sides. A prism of n
            sides lies within `1 - cos(pi / n)` of the radius.
        round_pillars: whether pillars stay cylinders; otherwise they are capsules whose straight part covers the height
            of the cylinder, which is the same shape from the side.
        search_balls: whether balls and cylinders (wheels and buttons, the car's rear ball and pillars) meet by
            iterative search, as in the MuJoCo of the reference, instead of by today's closed form
            (`envs_mjx.agents.agent.ball_as_capsule`).
        boxes_meet: whether free boxes touch each other.
    """

    wheel_sides: int = 0
    round_pillars: bool = True
    search_balls: bool = True
    boxes_meet: bool = True


EXACT = Colliders()
FAST = Colliders(wheel_sides=8, round_pillars=False, search_balls=False, boxes_meet=False)


@dataclasses.dataclass(frozen=True)
class Body:
    """One body of the model that belongs to a class of things.

    Attributes:
        name: name in the model.
        things: its class.
        number: which of its class.
    """

    name: str
    things: Objects
    number: int


@dataclasses.dataclass(frozen=True)
class World:
    """The model and where to find things in it.

    Attributes:
        model: compiled model.
        free: bodies with a free joint in the order of `qpos`, after the robot's own coordinates.
        mocap: mocap bodies in the order of `mocap_pos`.
        touchable: bodies whose contact with the robot a task may ask about, in the order of the contact flags.
        sensors: observed sensor name to its slice of `sensordata`.
        flags: slice of `sensordata` that counts the contacts of `touchable`.
    """

    model: mujoco.MjModel
    free: tuple[Body, ...]
    mocap: tuple[Body, ...]
    touchable: tuple[Body, ...]
    sensors: dict[str, slice]
    flags: slice


def bodies_of(config: Config, *kinds: str) -> tuple[Body, ...]:
    """Bodies of all things of the given kinds, in the order of the configuration."""
    suffix = {"driven": "obj"}
    return tuple(
        Body(things.body_name(i) + suffix.get(things.kind, ""), things, i)
        for things in config.of_kind(*kinds)
        for i in range(things.num)
    )


def touchable_of(config: Config) -> tuple[Body, ...]:
    """Bodies whose contacts matter: what costs when touched, and every button, which may be the goal."""
    return tuple(
        b
        for b in bodies_of(config, "fixture", "free", "driven")
        if b.things.is_constrained or b.things.name == "buttons"
    )


def mjcf(config: Config, colliders: Colliders = EXACT, *, contact_sensors: bool = True) -> str:
    """MJCF text of the world of `config`.

    Args:
        config: the environment.
        colliders: which collision shapes to use.
        contact_sensors: whether to count contacts with sensors that match whole subtrees (MuJoCo C has them).
    """
    agent = AGENTS[config.agent]
    floor = _FLOOR if agent.touches_floor else 0
    wheel_ball = _BALL_FOR_WHEELS if colliders.search_balls else _BALL
    hull = floor | _BOX | _BALL | _PILLAR
    wheel_box = _BOX if not colliders.wheel_sides else 0
    parts = [
        agent.body(
            Contacts(
                hull=_mask(0, hull),
                wheel=_mask(0, floor | wheel_box | wheel_ball | _PILLAR),
                ball=_mask(0, hull & ~_PILLAR if colliders.search_balls else hull),
                prism=_mask(0, _BOX_FOR_WHEELS) if colliders.wheel_sides else None,
                ball_on_cylinder=_mask(0, _PILLAR) if colliders.search_balls else None,
            )
        )
    ]
    box = _mask(_BOX | _BOX_FOR_WHEELS, _FLOOR | _BALL | _PILLAR | (_BOX if colliders.boxes_meet else 0))
    for b in bodies_of(config, "free", "driven"):
        rgba = " ".join(map(str, b.things.rgba))
        geoms = b.things.geoms(b.number, f'{box} rgba="{rgba}"')
        z = b.things.size if b.things.kind == "driven" else b.things.height
        parts.append(f'<body name="{b.name}" pos="0 0 {z}"><freejoint name="{b.name}"/>{geoms}</body>')
    welds = []
    for b in bodies_of(config, "driven"):
        mocap = b.name.removesuffix("obj") + "mocap"
        parts.append(f'<body name="{mocap}" mocap="true" pos="0 0 {b.things.size}"/>')
        welds.append(f'<weld body1="{mocap}" body2="{b.name}" solref="0.02 1.5"/>')
    for b in bodies_of(config, "fixture"):
        rgba = " ".join(map(str, b.things.rgba))
        shows = _PILLAR if b.things.name == "pillars" else _BALL
        geoms = b.things.geoms(b.number, f'{_mask(shows)} rgba="{rgba}"')
        if b.things.name == "pillars" and not colliders.round_pillars:
            geoms = geoms.replace('type="cylinder"', 'type="capsule"')
        if b.things.name == "buttons" and agent.has_wheels and colliders.search_balls:
            geoms += ball_as_capsule(b.things.size, _mask(_BALL_FOR_WHEELS))
        parts.append(f'<body name="{b.name}" mocap="true" pos="0 0 {b.things.height}">{geoms}</body>')
    flags = "".join(
        f'<contact name="touch_{b.name}" subtree1="agent" body2="{b.name}" data="found" num="1"/>'
        for b in (touchable_of(config) if contact_sensors else ())
    )
    equality = f"<equality>{''.join(welds)}</equality>" if welds else ""
    return f"""
<mujoco model="{config.id}">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{agent.timestep}" ccd_iterations="50"><flag nativeccd="disable" island="disable"/></option>
  <default>{agent.defaults}</default>
  <asset>
    <texture name="floor" type="2d" builtin="checker" width="100" height="100"
      rgb1="0.72 0.74 0.76" rgb2="0.82 0.84 0.86"/>
    <material name="floor" texture="floor" texrepeat="10 10"/>
    {_prism(colliders.wheel_sides) if colliders.wheel_sides and agent.has_wheels else ""}
    <texture name="sky" type="skybox" builtin="gradient" width="64" height="64" rgb1="0.6 0.75 0.9" rgb2="0.95 0.97 1"/>
  </asset>
  <worldbody>
    <light directional="true" dir="0 0 -1" diffuse="0.8 0.8 0.8" castshadow="false"/>
    <camera name="fixedfar" pos="0 -5 5" zaxis="0 -1 1"/>
    <geom name="floor" type="plane" size="3.5 3.5 0.1" material="floor" {_mask(_FLOOR)}/>
    {"".join(parts)}
  </worldbody>
  {equality}
  <actuator>{agent.actuators}</actuator>
  <sensor>{agent.sensors}{flags}</sensor>
</mujoco>"""


def _prism(sides: int) -> str:
    """MJCF mesh of a wheel (radius 0.05, half-width 0.025, axis x) as a prism."""
    corners = [
        f"{x} {0.05 * math.cos(2 * math.pi * k / sides):.9f} {0.05 * math.sin(2 * math.pi * k / sides):.9f}"
        for x in (-0.025, 0.025)
        for k in range(sides)
    ]
    return f'<mesh name="wheel" vertex="{"  ".join(corners)}"/>'


@functools.cache
def build(config: Config, colliders: Colliders = EXACT, *, contact_sensors: bool = True) -> World:
    """Compile the world of `config` (once for each configuration and choice of arguments, those of `mjcf`)."""
    model = mujoco.MjModel.from_xml_string(mjcf(config, colliders, contact_sensors=contact_sensors))
    for b in bodies_of(config, "driven"):
        # Up to MuJoCo 2.3, with which the reference was recorded, the rotational rows of a weld were regularised with
        # the body's translational weight; since 3.0 with the rotational one. Nothing else reads this entry here: a
        # pyramidal contact takes its regularisation from its first row, which is translational.
        body = model.body(b.name).id
        model.body_invweight0[body, 1] = model.body_invweight0[body, 0]
    stands_for_ball = (model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE) & (model.geom_size[:, 1] == NO_LENGTH)
    model.geom_size[stands_for_ball, 1] = 0.0
    touchable = touchable_of(config)
    mocap = bodies_of(config, "driven") + bodies_of(config, "fixture")
    sensors = {
        name: slice(model.sensor(name).adr[0], model.sensor(name).adr[0] + model.sensor(name).dim[0])
        for name, _ in AGENTS[config.agent].observed
    }
    first = model.sensor(f"touch_{touchable[0].name}").adr[0] if touchable and contact_sensors else 0
    flags = slice(first, first + len(touchable) if contact_sensors else first)
    return World(model, bodies_of(config, "free", "driven"), mocap, touchable, sensors, flags)
