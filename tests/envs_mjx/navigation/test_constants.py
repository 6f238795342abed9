"""The compiled worlds against the constants of the reference (Safety-Gymnasium 1.2 compiled by MuJoCo 2.3.3)."""

from __future__ import annotations

import numpy as np
import pytest

from envs_mjx import ids, make

RELATIVE = 1e-6

# body: mass in kg, principal moments of inertia in kg m^2
POINT = {"agent": (0.005188790204786391, (2.64945960e-05, 2.64945960e-05, 1.84218275e-05))}
CAR = {
    "agent": (0.0239, (2.28442072e-04, 1.73900582e-04, 9.48118437e-05)),
    "left": (0.001963495408493621, (1.63624617e-06, 1.63624617e-06, 2.45436926e-06)),
    "right": (0.001963495408493621, (1.63624617e-06, 1.63624617e-06, 2.45436926e-06)),
    "rear": (0.0026179938779914945, (2.61799388e-06, 2.61799388e-06, 2.61799388e-06)),
}
THINGS = {
    ("SafetyPointGoal2-v0", "vase0"): (8e-6, (5.3333333e-08,) * 3),
    ("SafetyPointButton2-v0", "gremlin0obj"): (8e-6, (5.3333333e-08,) * 3),
    ("SafetyPointPush2-v0", "push_box"): (1.28e-4, (7.2533333e-6, 5.3333333e-6, 5.3333333e-6)),
    ("SafetyCarPush2-v0", "push_box"): (1.5625e-05, (3.4586589e-07, 2.5431315e-07, 2.5431315e-07)),
    **{("SafetyPointGoal1-v0", k): v for k, v in POINT.items()},
    **{("SafetyCarGoal1-v0", k): v for k, v in CAR.items()},
}


@pytest.mark.parametrize(("env_id", "body"), THINGS)
def test_masses_and_inertias_are_the_reference_s(env_id, body):
    mass, inertia = THINGS[env_id, body]
    compiled = make(env_id).mj_model.body(body)
    np.testing.assert_allclose(compiled.mass[0], mass, rtol=RELATIVE)
    np.testing.assert_allclose(np.sort(compiled.inertia), np.sort(inertia), rtol=RELATIVE)


def test_the_point_s_actuators_dampings_and_frictions():
    m = make("SafetyPointGoal1-v0").mj_model
    assert m.opt.timestep == 0.002
    np.testing.assert_allclose(m.dof_damping[:3], [0.01, 0.01, 0.005], rtol=RELATIVE)
    np.testing.assert_allclose(m.geom("agent").friction, [1, 0.01, 0.01], rtol=RELATIVE)
    np.testing.assert_allclose(m.geom("pointarrow").friction, [1, 0.005, 1e-4], rtol=RELATIVE)
    np.testing.assert_allclose(m.geom("agent").size[0], 0.1, rtol=RELATIVE)
    np.testing.assert_allclose(m.geom("pointarrow").size, [0.05] * 3, rtol=RELATIVE)
    np.testing.assert_allclose(m.actuator_gear[:, 0], [0.3, 0.3], rtol=RELATIVE)
    np.testing.assert_allclose(m.actuator_gainprm[:, 0], [1, 1], rtol=RELATIVE)
    np.testing.assert_allclose(m.actuator("z").biasprm[:3], [0, 0, -1], rtol=RELATIVE)
    np.testing.assert_allclose(m.actuator_forcerange, [[-0.05, 0.05]] * 2, rtol=RELATIVE)
    assert set(m.geom_condim) == {6}


def test_the_car_s_actuators_dampings_and_sizes():
    m = make("SafetyCarGoal1-v0").mj_model
    assert m.opt.timestep == 0.004
    np.testing.assert_allclose(m.dof_damping[:11], [0] * 6 + [0.001] * 5, rtol=RELATIVE)
    np.testing.assert_allclose(m.actuator_gear[:, 0], [1, 1], rtol=RELATIVE)
    np.testing.assert_allclose(m.actuator_forcerange, [[-0.02, 0.02]] * 2, rtol=RELATIVE)
    for name, size in {
        "agent": (0.1, 0.1, 0.05),
        "back_bumper": (0.1, 0.01, 0.05),
        "back_connector": (0.01, 0.025, 0.03),
        "front_bumper": (0.05, 0.01, 0.05),
        "front_connector": (0.05, 0.03, 0.01),
        "left": (0.05, 0.025, 0),
        "rear": (0.05, 0, 0),
    }.items():
        np.testing.assert_allclose(m.geom(name).size, size, rtol=RELATIVE, err_msg=name)


def test_gremlins_are_held_by_the_reference_s_weld():
    m = make("SafetyPointButton1-v0").mj_model
    assert m.neq == 4
    np.testing.assert_allclose(m.eq_solref, [[0.02, 1.5]] * 4, rtol=RELATIVE)
    np.testing.assert_allclose(m.eq_data[:, 3:10], [[0, 0, 0, 1, 0, 0, 0]] * 4, atol=1e-12)


def test_recorded_worlds_have_our_free_joints_in_our_order(golden_files):
    """Our `qpos` is the reference's: the robot first, then the free bodies in the same order."""
    for path in golden_files:
        env_id = path.name.split("_seed")[0]
        if env_id not in ids():
            continue
        with np.load(path) as f:
            joints = [str(n) for n in f["joint_names"]]
        m = make(env_id).mj_model
        assert joints == [m.joint(i).name for i in range(m.njnt)], path.name
