"""The table of algorithms: each row is a product of parts with its published hyper-parameters.

Presets:

- `paper` (the default): the method as its paper writes it, with the sizes and rates the benchmarks published for it.
  Episodes run on across iterations.
- `omnisafe`: as OmniSafe runs it. Every iteration starts from fresh resets.
- `safepo`: as SafePO runs it. Ten environments, one bound on the gradient of all networks together, and a mean over
  50 episodes.

A preset replaces defaults of the options class; what the user passes replaces both.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from algorithms import hyper
from algorithms.on_policy import loop, options
from algorithms.on_policy.constraints import LAGRANGE, PID_CONTROL
from algorithms.on_policy.parts import ConstraintPart, Networks, TransformPart, UpdatePart, value_names
from algorithms.on_policy.updates import clipped
from jsafe import Env, Trainer

DEFAULT_PRESET = "paper"


class Row(NamedTuple):
    """One on-policy algorithm.

    Attributes:
        aliases: other names, compared without case.
        summary: one sentence.
        paper: where the method comes from.
        update: how the policy is updated.
        constraint: how costs weigh on it, None for a method that does not look at them.
        transform: how the decision process is rewritten first, None if it is not.
        presets: name to replaced defaults.
    """

    aliases: tuple[str, ...]
    summary: str
    paper: str
    update: UpdatePart
    constraint: ConstraintPart | None = None
    transform: TransformPart | None = None
    presets: Mapping[str, Mapping[str, Any]] = {}


_OMNISAFE = {"reset_at_iteration_start": True}
_SAFEPO = {"num_envs": 10, "joint_grad_norm": True, "episode_window": 50}
_FIRST_ORDER_PRESETS = {"paper": {}, "omnisafe": _OMNISAFE, "safepo": _SAFEPO}

TABLE: dict[str, Row] = {
    "ppo": Row(
        aliases=("PPO",),
        summary="Clipped policy gradient that does not look at costs.",
        paper="Schulman et al. 2017, arXiv:1707.06347",
        update=clipped.PART,
        presets=_FIRST_ORDER_PRESETS,
    ),
    "ppo_lag": Row(
        aliases=("PPOLag", "PPO-Lag"),
        summary="PPO with a Lagrange multiplier that follows the cost by gradient steps.",
        paper="Ray, Achiam and Amodei 2019, Benchmarking safe exploration in deep reinforcement learning",
        update=clipped.PART,
        constraint=LAGRANGE,
        presets=_FIRST_ORDER_PRESETS,
    ),
    "cppo_pid": Row(
        aliases=("CPPOPID", "CPPO-PID", "ppo_pid"),
        summary="PPO with a multiplier set by a PID controller of the cost.",
        paper="Stooke, Achiam and Abbeel 2020, arXiv:2007.03964",
        update=clipped.PART,
        constraint=PID_CONTROL,
        presets=_FIRST_ORDER_PRESETS,
    ),
}


@functools.cache
def options_of(name: str) -> type[options.OnPolicy]:
    """The class of an algorithm's hyper-parameters: the union of those of its parts."""
    row = TABLE[name]
    parts = [part.options for part in (row.transform, row.constraint, row.update) if part is not None]
    made: Any = type(row.aliases[0], tuple(parts), {"__doc__": row.summary})
    return hyper.hyperparameters(made)


def names() -> tuple[str, ...]:
    """Registered names, sorted."""
    return tuple(sorted(TABLE))


def resolve(name: str) -> str:
    """Return the registered name behind a name or alias; case does not matter.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    by_alias = {alias.lower(): key for key, row in TABLE.items() for alias in (key, *row.aliases)}
    found = by_alias.get(str(name).lower())
    if found is None:
        near = hyper.nearest(str(name).lower(), by_alias)
        raise ValueError(f"unknown algorithm {name!r}{near} (known: {', '.join(names())})")
    return found


def describe(name: str) -> dict[str, Any]:
    """Say what an algorithm is: `name`, `aliases`, `summary`, `paper`, `default_preset`, `presets` and `options`.

    Each option is a dict with `name`, `type`, `default`, `help`, `traced` and `choices`.

    Raises:
        ValueError: for an unknown name.
    """
    name = resolve(name)
    row = TABLE[name]
    return {
        "name": name,
        "aliases": list(row.aliases),
        "summary": row.summary,
        "paper": row.paper,
        "default_preset": DEFAULT_PRESET,
        "presets": {k: dict(v) for k, v in row.presets.items()},
        "options": hyper.describe(options_of(name)),
    }


def make(
    name: str, env: Env, preset: str = DEFAULT_PRESET, *, networks: Networks | None = None, **options_given: Any
) -> Trainer:
    """Bind an algorithm to an environment.

    Args:
        name: registered name or alias, for example `"ppo_lag"` or `"PPOLag"`.
        env: the CMDP.
        preset: published hyper-parameters to start from.
        networks: function approximators to use instead of the built-in perceptrons.
        **options_given: hyper-parameters to replace, by name; see `describe`.

    Raises:
        ValueError: for an unknown algorithm or preset, a value out of range, or a constrained method on an
            environment without costs.
        TypeError: for an unknown option, or a value of the wrong type.
    """
    name = resolve(name)
    row = TABLE[name]
    if preset not in row.presets:
        near = hyper.nearest(str(preset), row.presets)
        raise ValueError(f"{name} has no preset {preset!r}{near} (presets: {', '.join(row.presets)})")
    known = options_of(name)
    hyper.refuse_unknown("option", options_given, [o["name"] for o in hyper.describe(known)], name)
    chosen = known(**{**row.presets[preset], **options_given})
    if row.transform:
        env = row.transform.make(env, chosen)
    built_in = networks is None
    networks = loop.default_networks(env, chosen) if networks is None else networks
    constraints = loop.count_constraints(env, chosen, name) if row.constraint else 0
    return loop.build(
        algorithm=name,
        env=env,
        options=chosen,
        networks=networks,
        update=row.update.make(networks, value_names(constraints), chosen),
        constraint=row.constraint,
        policy=loop.policy_spec(env, chosen) if built_in else None,
    )
