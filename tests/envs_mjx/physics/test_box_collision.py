"""Contacts of boxes in MJX against MuJoCo C, contact by contact."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from envs_mjx.physics.mjx.collision.box import box_box
from envs_mjx.physics.mjx.collision.floor import plane_box
from tests.support.collision_pairs import collide, turn, two_bodies

# Half-lengths that occur: robots' parts, vases and gremlins, push boxes, columns.
SIZES = (
    (0.05, 0.05, 0.05),
    (0.1, 0.1, 0.05),
    (0.05, 0.01, 0.05),
    (0.05, 0.03, 0.01),
    (0.1, 0.1, 0.1),
    (0.2, 0.2, 0.2),
    (0.0625, 0.0625, 0.125),
)
PAIRS = 400


def _contacts_in_c(rng, tilt, floor):
    """Random boxes (pos, mat, size; each `[PAIRS, 2, ...]`) and the contacts of MuJoCo C, `[(dist, pos, frame)]`."""
    plane = '<geom type="plane" size="3 3 1"/>' if floor else ""
    model = two_bodies("box", "box", plane)
    data = mujoco.MjData(model)
    boxes, contacts = [], []
    while len(contacts) < PAIRS:
        sizes = np.array([SIZES[i] for i in rng.integers(len(SIZES), size=2)])
        if floor:
            sizes = np.concatenate([[model.geom_size[0]], sizes])
            sizes[2], data.qpos[7:10] = sizes[1], (50.0, 0.0, 5.0)  # the second box is out of the way
        model.geom_size[:] = sizes
        model.geom_rbound[:] = np.linalg.norm(sizes, axis=1) * (sizes[:, 2] < 1)
        model.geom_aabb[:, 3:] = sizes
        data.qpos[:3], data.qpos[3:7], data.qpos[10:] = (0.3, -0.7, 0.1), turn(rng, tilt), turn(rng, tilt)
        if floor:
            data.qpos[2] = sizes[1, 2] - rng.uniform(-0.005, 0.005)
        else:
            reach = np.linalg.norm(sizes[:, :2], axis=1).sum()
            data.qpos[7:10] = data.qpos[:3] + rng.uniform(-reach, reach, 3)
        mujoco.mj_fwdPosition(model, data)
        contact = data.contact
        if not data.ncon and rng.random() < 0.9:  # some pairs without contact, not most
            continue
        if data.ncon and contact.dist.min() < -0.03:  # deeper than in any environment
            continue
        boxes.append((data.geom_xpos[:2].copy(), data.geom_xmat[:2].reshape(2, 3, 3).copy(), sizes[:2]))
        contacts.append((contact.dist.copy(), contact.pos.copy(), contact.frame.reshape(-1, 3, 3).copy()))
    pos, mat, size = (np.stack(x) for x in zip(*boxes, strict=True))
    return (pos, mat, size), contacts


def _differs(ours, theirs, tolerance):
    """True if two sets of contacts differ, in any order."""
    dist, pos, frame = ours
    touching = dist <= 0
    if touching.sum() != len(theirs[0]):
        return True
    if not touching.any():
        return False
    gaps = np.linalg.norm(pos[touching][:, None] - theirs[1], axis=-1)
    match = gaps.argmin(axis=1)
    error = max(
        gaps.min(axis=1).max(),
        np.abs(dist[touching] - theirs[0][match]).max(),
        0.01 * np.abs(frame[touching] - theirs[2][match]).max(),
    )
    return len(set(match)) < len(match) or error > tolerance


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("tilt", [0.003, 0.03, 1.0])
def test_boxes_touch_where_they_do_in_mujoco_c(tilt, x64):
    boxes, contacts = _contacts_in_c(np.random.default_rng(0), tilt, floor=False)
    ours = collide(lambda a, b: box_box(a, b, 8), boxes, x64)
    wrong = [_differs([x[i] for x in ours], theirs, 1e-9 if x64 else 3e-6) for i, theirs in enumerate(contacts)]
    # In float32 the best two of the fifteen axes can be too close to distinguish.
    assert np.sum(wrong) <= (0 if x64 else PAIRS // 200)


def test_upright_boxes_touch_where_they_do_in_mujoco_c():
    """Boxes with parallel axes meet in points that coincide up to rounding: nearly all pairs still agree."""
    boxes, contacts = _contacts_in_c(np.random.default_rng(0), 0.0, floor=False)
    ours = collide(lambda a, b: box_box(a, b, 8), boxes, True)
    wrong = [_differs([x[i] for x in ours], theirs, 1e-9) for i, theirs in enumerate(contacts)]
    assert np.mean(wrong) <= 0.01


@pytest.mark.parametrize("x64", [True, False])
def test_boxes_stand_on_the_floor_as_in_mujoco_c(x64):
    boxes, contacts = _contacts_in_c(np.random.default_rng(1), 0.01, floor=True)
    ours = collide(plane_box, boxes, x64)
    tolerance = 1e-9 if x64 else 1e-6
    wrong = [_differs([x[i] for x in ours], theirs, tolerance) for i, theirs in enumerate(contacts)]
    assert np.sum(wrong) <= (0 if x64 else PAIRS // 200)


def test_the_deepest_contacts_stay_when_there_are_more_than_slots():
    boxes, _ = _contacts_in_c(np.random.default_rng(0), 0.003, floor=False)
    every, _, _ = collide(lambda a, b: box_box(a, b, 12), boxes, True)
    kept, _, _ = collide(lambda a, b: box_box(a, b, 4), boxes, True)
    np.testing.assert_array_equal(kept, np.sort(every, axis=1)[:, :4])
