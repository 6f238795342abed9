"""Teacher-forced replay of recordings of the reference: one control step from each recorded state.

A recording (`$JSAFE_GOLDEN`, format in its README) is turned into a batch of `Data`, one entry for each recorded step,
and the whole batch is stepped once. Nothing here is part of the package; it is an oracle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from envs_mjx import make
from envs_mjx.agents import AGENTS
from envs_mjx.navigation.env import Navigation
from envs_mjx.navigation.layout import plan
from envs_mjx.navigation.levels import configs
from envs_mjx.navigation.objects import ButtonsState
from envs_mjx.navigation.state import Data
from jsafe.constrained import combine

REGISTRY = configs()


def env_id(path: pathlib.Path) -> str:
    """The environment a recording belongs to."""
    return path.name.split("_seed")[0]


def recordings(folder: pathlib.Path) -> list[pathlib.Path]:
    """All recordings in `folder` of environments that are registered."""
    return sorted(p for p in folder.glob("*.npz") if env_id(p) in REGISTRY)


def _yaw(quat: np.ndarray) -> np.ndarray:
    return 2 * np.arctan2(quat[..., 3], quat[..., 0])


def _to_world(agent: str, qpos, qvel, body_pos, body_quat):
    """Recorded coordinates in ours: the reference writes the point's start pose into the model."""
    qpos, qvel = qpos.copy(), qvel.copy()
    if agent == "Point":
        yaw = _yaw(body_quat)
        c, s = np.cos(yaw), np.sin(yaw)
        for a, offset in ((qpos, body_pos), (qvel, np.zeros_like(body_pos))):
            x, y = a[:, 0].copy(), a[:, 1].copy()
            a[:, 0], a[:, 1] = offset[:, 0] + c * x - s * y, offset[:, 1] + s * x + c * y
        qpos[:, 2] += yaw
    return qpos, qvel


@dataclasses.dataclass
class Recording:
    """One recording as arrays over its steps: the state before, the action, and what the reference returned."""

    before: dict[str, np.ndarray]
    action: np.ndarray
    after: dict[str, np.ndarray]
    settled: np.ndarray


def load(path: pathlib.Path) -> Recording:
    """Read a recording of a registered environment."""
    config = REGISTRY[env_id(path)]
    with np.load(path) as f:
        d = {k: f[k] for k in f.files}
    steps = len(d["action"])
    names = {str(n): i for i, n in enumerate(d["body_names"])}
    p = plan(config)

    reset_step = d["reset_step"]
    episode = np.searchsorted(reset_step, np.arange(steps), side="right") - 1
    first = np.isin(np.arange(steps), reset_step)

    def before(name, reset_name=None):
        value = np.concatenate([d[name][:1], d[name][:-1]])
        value[first] = d[reset_name or f"reset_{name}"][episode[first]]
        return value

    qpos, qvel, time = before("qpos"), before("qvel"), before("time")
    # The distances that the next reward is compared with were taken before a state was injected.
    remembered = qpos.copy()
    for i, t in enumerate(d.get("teleport_step", ())):
        qpos[t], qvel[t] = d["teleport_qpos"][i], d["teleport_qvel"][i]
    body_pos = d["reset_model_body_pos"][episode]
    body_quat = d["reset_model_body_quat"][episode]
    agent_pose = body_pos[:, names["agent"]], body_quat[:, names["agent"]]
    remembered, _ = _to_world(config.agent, remembered, np.zeros_like(qvel), *agent_pose)
    qpos, qvel = _to_world(config.agent, qpos, qvel, *agent_pose)
    qpos_after, qvel_after = _to_world(config.agent, d["qpos"], d["qvel"], *agent_pose)

    layout = np.zeros((steps, len(p.names), 2))
    turn = np.zeros((steps, len(p.names), 2))
    recorded = {str(n): i for i, n in enumerate(d["layout_names"])}
    for i, name in enumerate(p.names):
        body = {"driven": f"{name}mocap"}.get(_kind(config, name), name)
        turn[:, i] = body_quat[:, names[body]][:, [0, 3]]
        if _kind(config, name) == "driven":  # the place it circles around is only in the layout
            layout[:, i] = d["reset_layout_xy"][episode, recorded[name]]
        else:
            layout[:, i] = body_pos[:, names[body], :2]
    goal = p.start.get("goal")
    goal_before = goal_after = None
    if goal is not None:
        goal_before, goal_after = before("goal_pos")[:, :2], d["goal_pos"][:, :2]
        layout[:, goal] = goal_before
    zeros = np.zeros(steps, np.int32)
    has_buttons = "goal_button" in d
    dt = AGENTS[config.agent].timestep * 10
    return Recording(
        before={
            "remembered": remembered,
            "qpos": qpos,
            "qvel": qvel,
            "layout": layout,
            "turn": turn,
            "steps": np.rint(time / dt).astype(np.int32),
            "goal_button": before("goal_button").astype(np.int32) if has_buttons else zeros,
            "timer": before("button_timer").astype(np.int32) if has_buttons else zeros,
        },
        action=d["action"],
        after={
            "qpos": qpos_after,
            "qvel": qvel_after,
            "obs": d["obs"],
            "reward": d["reward"],
            "cost_sum": d["cost"],
            "terminated": d["terminated"],
            "goal_met": d["goal_met"],
            "goal": goal_after if goal_after is not None else np.zeros((steps, 2)),
            "goal_button": d["goal_button"].astype(np.int32) if has_buttons else zeros,
            **{k.removeprefix("info__"): v for k, v in d.items() if k.startswith("info__cost_")},
        },
        settled=~first & ~np.isin(np.arange(steps), d.get("teleport_step", np.zeros(0, int))),
    )


def _kind(config, name):
    return next((o.kind for o in config.objects if name in {o.body_name(i) for i in range(o.num)}), "agent")


@contextlib.contextmanager
def precision(x64: bool):
    """Compute in float64 or float32, for every thread: callbacks run on threads that a local setting does not reach."""
    was = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_x64", x64)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", was)


@functools.cache
def _stepper(env: Navigation, x64: bool):
    """Compiled step over a batch of injected states (one program for each environment and batch size)."""
    has_buttons = env.config.find("buttons") is not None
    goal_index = plan(env.config).start.get("goal")
    compiled = env.world.build()

    def one(before, action, goal, goal_button):
        dtype = before["qpos"].dtype
        remembered = before.pop("remembered")
        buttons = ButtonsState(goal=before.pop("goal_button"), timer=before.pop("timer"))
        data = Data(
            task=(),
            objects={"buttons": buttons} if has_buttons else {},
            sensors=jnp.zeros(len(compiled.observed), dtype),
            touched=jnp.zeros(len(compiled.touchable), bool),
            key=jax.random.key(0),
            **before,
        )
        data = data.replace(task=env.task.state(env.view(data.replace(qpos=remembered)), env.config))
        state = env.step(env.state(data, terminated=jnp.bool_(False)), action)
        after = state.data
        if env.task.moves_goal:  # new goals are random: show ours the recorded one
            after = after.replace(layout=after.layout.at[goal_index].set(goal))
        if env.task.moves_goal and has_buttons:
            pressed = after.objects["buttons"].replace(goal=goal_button)
            after = after.replace(objects=after.objects | {"buttons": pressed})
        return {
            "qpos": after.qpos,
            "qvel": after.qvel,
            "obs": env.observe(after),
            "reward": state.reward,
            "cost": state.cost,
            "cost_sum": combine(env.spec, state.cost),
            "terminated": state.terminated,
            "goal_met": state.metrics["goal_met"] > 0,
        }

    return jax.jit(jax.vmap(one))


def replay(path: pathlib.Path, env: Navigation, *, x64: bool, pad_to: int | None = None) -> dict[str, np.ndarray]:
    """Step every recorded state once.

    Args:
        path: the recording.
        env: the environment to judge.
        x64: whether to compute in float64.
        pad_to: batch size to fill up to, so that recordings of different length share one program.

    Returns:
        Our quantities over the steps of the recording, by name.
    """
    recording = load(path)
    steps = len(recording.action)
    pad = max((pad_to or steps), steps) - steps

    def prepare(a):
        a = np.concatenate([a, np.repeat(a[:1], pad, axis=0)])
        return jnp.asarray(a)

    with precision(x64):
        out = _stepper(env, x64)(
            {k: prepare(v) for k, v in recording.before.items()},
            prepare(recording.action),
            prepare(recording.after["goal"]),
            prepare(recording.after["goal_button"]),
        )
        return {k: np.asarray(v)[:steps] for k, v in out.items()}


@dataclasses.dataclass
class Errors:
    """Differences between a replay and its recording, over steps.

    Attributes:
        reward: `[steps]`.
        lidar: `[steps]` largest over the lidar entries; 0 without lidar.
        sensors: `[steps]` largest over the other observations, relative to the recorded range of each entry.
        sensors_absolute: `[steps]` the same, in the sensor's own unit.
        state: `[steps]` largest over qpos and qvel.
        cost: `[steps]` bool, any cost entry differs.
        events: `[steps]` bool, termination or success differs.
        settled: `[steps]` bool, not the first step after a reset or an injected state.
    """

    reward: np.ndarray
    lidar: np.ndarray
    sensors: np.ndarray
    sensors_absolute: np.ndarray
    state: np.ndarray
    cost: np.ndarray
    events: np.ndarray
    settled: np.ndarray


def compare(path: pathlib.Path, env: Navigation, ours: dict[str, np.ndarray]) -> Errors:
    """Differences between `ours` and the recording."""
    recording = load(path)
    after = recording.after
    widths = [n for _, n in env.spec.observation_layout]
    is_lidar = np.repeat([name.endswith("_lidar") for name, _ in env.spec.observation_layout], widths)
    obs = np.abs(ours["obs"] - after["obs"])
    sensors = obs[:, ~is_lidar]
    spread = np.ptp(after["obs"][:, ~is_lidar], axis=0)
    state = np.concatenate([np.abs(ours[k] - after[k]) for k in ("qpos", "qvel")], axis=1)
    cost = ours["cost_sum"] != after["cost_sum"]
    for i, name in enumerate(env.spec.cost_names):
        recorded = np.nan_to_num(after[name])  # absent while the buttons are switched off
        cost |= ours["cost"][:, i] != recorded
    return Errors(
        reward=np.abs(ours["reward"] - after["reward"]),
        lidar=obs[:, is_lidar].max(axis=1, initial=0.0),
        sensors=(sensors / np.maximum(spread, 1e-2)).max(axis=1),
        sensors_absolute=sensors.max(axis=1),
        state=state.max(axis=1),
        cost=cost,
        events=(ours["terminated"] != after["terminated"]) | (ours["goal_met"] != after["goal_met"]),
        settled=recording.settled,
    )


def environment(path: pathlib.Path, backend: str, profile: str = "exact") -> Navigation:
    """The environment of a recording on one backend."""
    return make(env_id(path), physics=backend, profile=profile)
