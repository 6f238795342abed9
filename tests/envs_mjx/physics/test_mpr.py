"""Contacts of cylinders in MJX against MuJoCo C, contact by contact."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from envs_mjx.navigation.levels import configs
from envs_mjx.navigation.mjcf import build
from envs_mjx.navigation.world import World
from envs_mjx.physics.mjx.collision import mpr
from envs_mjx.physics.mjx.collision.floor import plane_cylinder
from envs_mjx.physics.mjx.mjx_backend import make
from tests.support.collision_pairs import collide, turn, two_bodies

WHEEL, PILLAR, BALL = (0.05, 0.025, 0.0), (0.2, 0.5, 0.0), (0.05, 0.0, 0.0)
BOXES = ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2), (0.1, 0.1, 0.2), (0.05, 0.01, 0.05), (0.1, 0.1, 0.05))
# The pairs that occur: collider, sizes of either side.
KINDS = {
    "cylinder-box": (mpr.cylinder_box, (WHEEL, PILLAR), BOXES),
    "cylinder-cylinder": (mpr.cylinder_cylinder, (WHEEL,), (PILLAR, WHEEL)),
    "capsule-cylinder": (mpr.capsule_cylinder, (BALL, (0.1, 0.0, 0.0)), (PILLAR, WHEEL)),
}
PAIRS = 300
DEEPEST = 0.01
ASIDE = np.array([0.1, 0.03, -0.07])
AWAY = np.array([0.7, 0.3, -0.2])
LEVEL = np.array([np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0])


def _contacts_in_c(kind, tilt):
    """Random pairs, what C makes of them, and of them elsewhere.

    Returns:
        Pairs (pos, mat, size; each `[PAIRS, 2, ...]`); distance, position and frame of their contacts (`[PAIRS, ...]`);
        and the same for the pairs moved together by `ASIDE`, moved back.
    """
    rng = np.random.default_rng(0)
    model = two_bodies(*kind.split("-"))
    data = mujoco.MjData(model)
    _, firsts, seconds = KINDS[kind]
    pairs, contacts, aside = [], [], []
    while len(contacts) < PAIRS:
        sizes = np.array([firsts[rng.integers(len(firsts))], seconds[rng.integers(len(seconds))]])
        model.geom_size[:] = sizes
        model.geom_rbound[:], model.geom_aabb[:, 3:] = 1.0, 1.0  # hides nothing
        data.qpos[:3], data.qpos[3:7], data.qpos[10:] = (0.3, -0.7, 0.1), turn(rng, tilt), turn(rng, tilt)
        if tuple(sizes[0]) == WHEEL:  # it rolls: its axis is level
            mujoco.mju_mulQuat(data.qpos[3:7], data.qpos[3:7].copy(), LEVEL)
        reach = np.linalg.norm(sizes, axis=1).sum()
        data.qpos[7:10] = data.qpos[:3] + rng.uniform(-reach, reach, 3)
        mujoco.mj_fwdPosition(model, data)
        if (data.ncon and data.contact.dist[0] < -DEEPEST) or (not data.ncon and rng.random() < 0.97):
            continue
        pairs.append((data.geom_xpos.copy(), data.geom_xmat.reshape(2, 3, 3).copy(), sizes))
        contacts.append(_contact(data))
        data.qpos[:3] += ASIDE
        data.qpos[7:10] += ASIDE
        mujoco.mj_fwdPosition(model, data)
        dist, pos, frame = _contact(data)
        aside.append((dist, pos - ASIDE, frame))
    return tuple([np.stack(x) for x in zip(*rows, strict=True)] for rows in (pairs, contacts, aside))


def _contact(data):
    if not data.ncon:
        return np.array(1.0), np.zeros(3), np.eye(3)
    c = data.contact
    return np.array(c.dist[0]), c.pos[0].copy(), c.frame[0].reshape(3, 3).copy()


def _ours(kind, pairs, x64):
    return [x[:, 0] for x in collide(KINDS[kind][0], pairs, x64)]


def _error(ours, theirs):
    """Largest differences in distance and position (metres), and in the frame, of the pairs that touch in C."""
    touch = theirs[0] < 0
    where = np.maximum(np.abs(ours[0] - theirs[0]), np.abs(ours[1] - theirs[1]).max(axis=1))
    return where[touch], np.abs(ours[2] - theirs[2]).max(axis=(1, 2))[touch]


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("tilt", [0.003, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_cylinders_touch_where_they_do_in_mujoco_c(kind, tilt, x64):
    """Nearly all contacts agree to rounding; but the search comes by ties, and C itself differs when moved aside.

    Ties, such as a normal at right angles to an edge, lead to another path and another point within the tolerance.
    """
    pairs, theirs, aside = _contacts_in_c(kind, tilt)
    ours = _ours(kind, pairs, x64)
    shallow = (theirs[0] > -1e-6) & (theirs[0] < 0)
    np.testing.assert_array_equal((ours[0] < 0)[~shallow], (theirs[0] < 0)[~shallow])
    where, frame = _error(ours, theirs)
    where_c, frame_c = _error(aside, theirs)
    exact, spread = (1e-12, 1e-9) if x64 else (5e-7, 1e-6)
    assert np.median(where) <= exact
    if x64:
        assert np.median(frame) <= exact
    # As far as can be asked: no more than a few times as many, nor much further off, than C from itself.
    ties = 0.0 if x64 else 0.2
    assert np.mean(where > spread) <= ties + 3 * np.mean(where_c > spread)
    assert np.mean(frame > 1e-3) <= 0.1 * ties + 3 * np.mean(frame_c > 1e-3) + 0.01
    assert np.mean(where > 2e-4) <= 0.04


@pytest.mark.parametrize("x64", [True, False])
def test_wheels_stand_on_the_floor_as_in_mujoco_c(x64):
    rng = np.random.default_rng(0)
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><worldbody><geom type="plane" size="3 3 1"/>
        <body><freejoint/><geom type="cylinder" size="{WHEEL[0]} {WHEEL[1]}"/></body></worldbody></mujoco>"""
    )
    data = mujoco.MjData(model)
    pairs, contacts = [], []
    for _ in range(PAIRS):
        data.qpos[3:] = turn(rng, 0.05)
        if rng.random() < 0.8:  # it rolls
            mujoco.mju_mulQuat(data.qpos[3:], data.qpos[3:].copy(), LEVEL)
        down = abs(rng.uniform(-0.003, 0.0005))
        data.qpos[:3] = (0.3, -0.7, 0.0)
        mujoco.mj_kinematics(model, data)
        steep = abs(data.geom_xmat[1, 8])
        data.qpos[2] = WHEEL[0] * np.sqrt(1 - steep**2) + WHEEL[1] * steep - down
        mujoco.mj_fwdPosition(model, data)
        c = data.contact
        pairs.append((data.geom_xpos.copy(), data.geom_xmat.reshape(2, 3, 3).copy(), model.geom_size.copy()))
        contacts.append((c.dist.copy(), c.pos.copy()))
    dist, pos, _ = collide(plane_cylinder, [np.stack(x) for x in zip(*pairs, strict=True)], x64)
    seen = set()
    for i, (dist_c, pos_c) in enumerate(contacts):
        touch = dist[i] < (-1e-7 if not x64 else 0)
        deep = dist_c < (-1e-7 if not x64 else 0)
        assert touch.sum() == deep.sum()
        seen.add(int(deep.sum()))
        order, order_c = np.lexsort((pos[i][touch] @ AWAY,)), np.lexsort((pos_c[deep] @ AWAY,))
        tolerance = 1e-12 if x64 else 1e-6
        np.testing.assert_allclose(dist[i][touch][order], dist_c[deep][order_c], atol=tolerance)
        np.testing.assert_allclose(pos[i][touch][order], pos_c[deep][order_c], atol=tolerance)
    assert seen >= {1, 2, 3}


def test_shapes_that_share_their_centre_do_not_break_the_search():
    shape = [np.zeros((1, 2, 3)), np.tile(np.eye(3), (1, 2, 1, 1)), np.array([[WHEEL, BOXES[0]]])]
    dist, pos, frame = _ours("cylinder-box", shape, x64=False)
    assert dist[0] < 0
    assert np.isfinite(pos).all() and np.isfinite(frame).all()


def test_the_exact_profile_has_the_shapes_of_mujoco_c():
    config = configs()["SafetyCarPush1-v0"]
    exact, reference = make(World(config), "jax", "exact").compiled, build(config).model
    for name in ("geom_type", "geom_size", "geom_contype", "geom_conaffinity"):
        np.testing.assert_array_equal(getattr(exact, name), getattr(reference, name))
