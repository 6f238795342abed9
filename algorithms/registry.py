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

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from algorithms import hyper
from algorithms.on_policy import first_order, loop, options
from algorithms.on_policy.parts import Networks, Update
from algorithms.on_policy.updates import clipped
from jsafe import Env, Trainer, multipliers
from jsafe.multipliers import Multiplier

DEFAULT_PRESET = "paper"

_OMNISAFE = {"reset_at_iteration_start": True}
_SAFEPO = {"num_envs": 10, "joint_grad_norm": True, "episode_window": 50}


class Row(NamedTuple):
    """One on-policy algorithm.

    Attributes:
        aliases: other names, compared without case.
        summary: one sentence.
        paper: where the method comes from.
        options: class of its hyper-parameters.
        update: `(networks, value names, options) -> Update`.
        multiplier: `options -> Multiplier`, None for a method without one.
        uses_cost: whether a cost value function is trained.
        presets: name to replaced defaults.
    """

    aliases: tuple[str, ...]
    summary: str
    paper: str
    options: type[options.OnPolicy]
    update: Callable[[Networks, tuple[str, ...], Any], Update]
    multiplier: Callable[[Any], Multiplier] | None
    uses_cost: bool
    presets: Mapping[str, Mapping[str, Any]]


def _clipped(networks: Networks, values: tuple[str, ...], chosen: options.FirstOrder) -> Update:
    return first_order.make(clipped.loss, networks, values, chosen)


def _lagrange(chosen: options.Lagrange) -> Multiplier:
    return multipliers.lagrange(chosen.multiplier_optimizer)


def _pid(chosen: options.PID) -> Multiplier:
    return multipliers.pid(chosen.pid_delay)


_FIRST_ORDER_PRESETS = {"paper": {}, "omnisafe": _OMNISAFE, "safepo": _SAFEPO}

TABLE: dict[str, Row] = {
    "ppo": Row(
        aliases=("PPO",),
        summary="Clipped policy gradient that does not look at costs.",
        paper="Schulman et al. 2017, arXiv:1707.06347",
        options=options.PPO,
        update=_clipped,
        multiplier=None,
        uses_cost=False,
        presets=_FIRST_ORDER_PRESETS,
    ),
    "ppo_lag": Row(
        aliases=("PPOLag", "PPO-Lag"),
        summary="PPO with a Lagrange multiplier that follows the cost by gradient steps.",
        paper="Ray, Achiam and Amodei 2019, Benchmarking safe exploration in deep reinforcement learning",
        options=options.PPOLag,
        update=_clipped,
        multiplier=_lagrange,
        uses_cost=True,
        presets=_FIRST_ORDER_PRESETS,
    ),
    "cppo_pid": Row(
        aliases=("CPPOPID", "CPPO-PID", "ppo_pid"),
        summary="PPO with a multiplier set by a PID controller of the cost.",
        paper="Stooke, Achiam and Abbeel 2020, arXiv:2007.03964",
        options=options.CPPOPID,
        update=_clipped,
        multiplier=_pid,
        uses_cost=True,
        presets=_FIRST_ORDER_PRESETS,
    ),
}


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
        "options": hyper.describe(row.options),
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
    hyper.refuse_unknown("option", options_given, [o["name"] for o in hyper.describe(row.options)], name)
    if row.uses_cost and env.spec.num_costs == 0:
        raise ValueError(f"{name} needs an environment with at least one cost, and {env.spec.id} has none")
    chosen = row.options(**{**row.presets[preset], **options_given})
    built_in = networks is None
    networks = loop.default_networks(env, chosen) if networks is None else networks
    values = ("reward_value", "cost_value") if row.uses_cost else ("reward_value",)
    return loop.build(
        algorithm=name,
        env=env,
        options=chosen,
        networks=networks,
        update=row.update(networks, values, chosen),
        values=values,
        multiplier=row.multiplier(chosen) if row.multiplier else None,
        policy=loop.policy_spec(env, chosen) if built_in else None,
    )
