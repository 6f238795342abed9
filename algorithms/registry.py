"""Look algorithms up by name, describe them, and bind them to an environment."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from algorithms.on_policy import config as options
from algorithms.on_policy import trainer
from algorithms.on_policy.catalogue import TABLE
from algorithms.on_policy.interfaces import Networks, value_names
from algorithms.transforms import budget_wrapper
from jsafe import Env, Trainer, total_cost
from jsafe import config as hyper
from jsafe.frame_stack import History

DEFAULT_PRESET = "paper"


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
    """Say what an algorithm is: `name`, `aliases`, `summary`, `paper`, `parts`, `default_preset`, `presets`, `options`.

    The parts are the names of `update`, `constraint` and `transform`, None for one it lacks. Each option is a dict with
    `name`, `type`, `default`, `help`, `traced`, `choices` and the bounds `low`, `high` and `above`.

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
        "parts": {
            axis: part.name if (part := getattr(row, axis)) else None for axis in ("update", "constraint", "transform")
        },
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
        ValueError: for an unknown algorithm or preset, a value out of range, an option that has no effect beside the
            others, or a constrained method on an environment without costs.
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
    _refuse_idle(options_given, chosen, env, networks is not None)
    check_limits(env, getattr(chosen, "cost_limit", None), name)
    if not isinstance(getattr(chosen, "cost_limit", None), tuple):
        env = total_cost(env)
    schedule = None
    if row.transform:
        env = row.transform.make(env, chosen)
        schedule = row.transform.schedule(env, chosen) if row.transform.schedule else None
    if chosen.history > 1:
        env = History(env, chosen.history)
        schedule = budget_wrapper.in_history(env, schedule) if schedule else None
    built_in = networks is None
    networks = trainer.default_networks(env, chosen) if networks is None else networks
    return trainer.build(
        algorithm=name,
        env=env,
        options=chosen,
        networks=networks,
        update=row.update.make(networks, value_names(env.spec.num_costs if row.constraint else 0), chosen),
        constraint=row.constraint,
        policy=trainer.policy_spec(env, chosen) if built_in else None,
        schedule=schedule,
    )


OF_NETWORKS = (
    "hidden_sizes", "activation", "initializer", "torso", "recurrent_size", "image_shape", "squash", "initial_log_std",
)  # fmt: skip
"""Options that describe the built-in networks."""


def _refuse_idle(given: Mapping[str, Any], chosen: options.OnPolicy, env: Env, own_networks: bool) -> None:
    """Refuse options that would change nothing: whoever gives them expects something of them."""
    idle = dict.fromkeys(OF_NETWORKS, "the networks are given") if own_networks else {}
    if env.spec.num_actions is not None:
        idle |= dict.fromkeys(("squash", "initial_log_std"), f"the actions of {env.spec.id} are discrete")
    if chosen.torso != "gru":
        idle |= {"recurrent_size": f"torso is {chosen.torso!r}, not 'gru'"}
    for option in given:
        if option in idle:
            raise ValueError(f"{option} has no effect: {idle[option]}")


def check_limits(env: Env, limits: Any, algorithm: str) -> None:
    """Refuse limits that do not match the costs of an environment.

    Raises:
        ValueError: the environment has no cost, or there are several limits but not one for each cost.
    """
    costs = env.spec.cost_names
    if limits is not None and not costs:
        raise ValueError(f"{algorithm} needs an environment with at least one cost, and {env.spec.id} has none")
    if isinstance(limits, tuple) and len(limits) != len(costs):
        raise ValueError(
            f"cost_limit must be one number for the total cost, or one for each of {env.spec.id}'s costs "
            f"({', '.join(costs)}), which makes {len(costs)}; got {len(limits)}"
        )


def rewrite(name: str, env: Env, config: Mapping[str, Any]) -> Env:
    """The environment as an algorithm rewrites it, for its policies to act in.

    Args:
        name: registered name or alias.
        env: the CMDP.
        config: recorded options, `TrainerInfo.config`; missing ones have their defaults.

    Returns:
        The rewritten environment, or `env` itself for an algorithm that does not rewrite it.
    """
    transform = TABLE[resolve(name)].transform
    if transform is None:
        return env
    own = [option["name"] for option in hyper.describe(transform.options)]
    return transform.make(env, transform.options(**{k: config[k] for k in own if k in config}))
