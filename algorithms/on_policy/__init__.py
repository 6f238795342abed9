"""The on-policy family (`algorithms.spec.Family`): one training loop, and algorithms as products of parts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from algorithms.constraints import NO_CONSTRAINT
from algorithms.on_policy import trainer
from algorithms.on_policy.catalogue import CATALOGUE, OnPolicySpec
from algorithms.on_policy.config import CostAdvantageConfig, OnPolicyConfig
from algorithms.on_policy.interfaces import Networks, value_names
from algorithms.on_policy.policy_networks import default_networks, policy_spec
from algorithms.spec import NO_SCHEDULE, Problem, check_limits, combine_configs
from algorithms.transforms import budget_wrapper
from jsafe import Env, PolicySpec, Trainer, total_cost
from jsafe.config import Config
from jsafe.frame_stack import FrameStack

__all__ = ["Networks", "catalogue", "config_class", "idle_options", "make"]

catalogue = CATALOGUE

NETWORK_OPTIONS = (
    "hidden_sizes", "activation", "initializer", "torso", "recurrent_size", "image_shape", "squash", "initial_log_std",
)  # fmt: skip
"""Options that describe the built-in networks."""


@functools.cache
def _config_class(spec_key: tuple[str, str], parts: tuple[type[Config], ...]) -> type[Config]:
    return combine_configs(*spec_key, parts)


def config_class(name: str) -> type[Config]:
    """Class of the hyper-parameters of an algorithm, the union of those of its parts."""
    spec = catalogue[name]
    parts: tuple[type[Config], ...] = (spec.update.config,)
    if spec.constraint is not None:
        parts = (spec.constraint.config, CostAdvantageConfig, *parts)
    if spec.transform is not None:
        parts = (spec.transform.config, *parts)
    return _config_class((spec.aliases[0], spec.summary), parts)


def make(
    name: str,
    problem: Problem,
    config: OnPolicyConfig,
    *,
    encoders: Mapping[str, Any] | None = None,
    networks: Networks | None = None,
    policy: PolicySpec | None = None,
) -> Trainer:
    """Bind an algorithm to an environment.

    Args:
        name: registered name.
        problem: with an environment.
        config: an instance of `config_class(name)`.
        encoders: name of a leaf of the observation to its encoder (`jsafe.networks.encoders`), for the built-in
            networks; other leaves are flattened.
        networks: function approximators to use instead of the built-in ones.
        policy: description of `networks.policy` for the records of runs; without one it cannot be loaded.

    Raises:
        ValueError: without an environment, with recorded data, with limits that do not match the costs, with encoders
            next to networks, or with a description of networks that are not given.
    """
    spec: OnPolicySpec = catalogue[name]
    if problem.env is None:
        raise ValueError(f"{name} needs an environment")
    _refuse_data(problem)
    if policy is not None and networks is None:
        raise ValueError("policy has no effect: it describes networks, and none are given. Add networks=...")
    constraint = spec.constraint or NO_CONSTRAINT
    limits = constraint.limits(config.traced())
    check_limits(problem.env, limits, name)
    env: Env = problem.env if isinstance(limits, tuple) else total_cost(problem.env)
    schedule = NO_SCHEDULE
    if spec.transform is not None:
        env = spec.transform.make(env, config)
        schedule = spec.transform.schedule(env, config)
    if config.history > 1:
        env = FrameStack(env, config.history)
        schedule = budget_wrapper.in_frame_stack(env, schedule) if schedule is not NO_SCHEDULE else schedule
    if networks is None:
        networks, policy = default_networks(env, config, encoders), policy_spec(env, config, encoders)
    elif encoders:
        raise ValueError("encoders has no effect: the networks are given")
    values = value_names(0 if limits is None else env.spec.num_costs)
    return trainer.build(
        algorithm=name,
        env=env,
        config=config,
        networks=networks,
        values=values,
        update=spec.update.make(networks, values, config),
        constraint=constraint,
        schedule=schedule,
        policy=policy,
    )


def idle_options(problem: Problem, config: OnPolicyConfig, *, own_networks: bool) -> Mapping[str, str]:
    """Options without effect, given the other ones, with the reason.

    Raises:
        ValueError: with recorded data.
    """
    _refuse_data(problem)
    idle: dict[str, str] = {}
    if own_networks:
        idle |= dict.fromkeys(NETWORK_OPTIONS, "the networks are given")
    if problem.env is not None and problem.env.spec.num_actions is not None:
        idle |= dict.fromkeys(("squash", "initial_log_std"), f"the actions of {problem.env.spec.id} are discrete")
    if config.torso != "gru":
        idle |= {"recurrent_size": f"torso is {config.torso!r}, not 'gru'"}
    return idle


def _refuse_data(problem: Problem) -> None:
    if problem.data is not None:
        raise ValueError(
            f"data must be None for an on-policy algorithm, got {type(problem.data).__name__}. "
            "Remove it: the algorithm learns from its own episodes in the environment"
        )
