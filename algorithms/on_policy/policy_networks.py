"""The built-in networks of the on-policy family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from algorithms.on_policy.config import OnPolicyConfig
from algorithms.on_policy.interfaces import Networks
from jsafe import Env, PolicySpec
from jsafe.networks import actor_critic
from jsafe.networks.encoders import encoder_to_json

BODY = ("hidden_sizes", "activation", "initializer", "torso", "recurrent_size", "image_shape")
"""Options that policy and value functions share (`jsafe.networks.actor_critic.BodyConfig`)."""


def policy_spec(env: Env, config: OnPolicyConfig, encoders: Mapping[str, Any] | None = None) -> PolicySpec:
    """Describe the built-in policy for an environment.

    Args:
        env: the CMDP.
        config: hyper-parameters.
        encoders: name of a leaf of the observation to its encoder (`jsafe.networks.encoders`).
    """
    kwargs = {name: getattr(config, name) for name in BODY}
    if env.spec.num_actions is None:
        kwargs |= {"squash": config.squash, "initial_log_std": config.initial_log_std}
    if encoders:
        kwargs["encoders"] = {name: encoder_to_json(encoder) for name, encoder in encoders.items()}
    return PolicySpec(
        observation=env.spec.observation,
        action=env.spec.action,
        network=actor_critic.DEFAULT,
        kwargs=kwargs,
        normalize_observations=config.normalize_observations,
        observation_clip=config.observation_clip,
    )


def default_networks(env: Env, config: OnPolicyConfig, encoders: Mapping[str, Any] | None = None) -> Networks:
    """Build the policy of `policy_spec` (same arguments) and value functions of the same shape."""
    policy = policy_spec(env, config, encoders)
    body = {name: value for name, value in policy.kwargs.items() if name in (*BODY, "encoders")}
    value = actor_critic.make_value(policy.observation, **body)
    return Networks(policy=policy.build(), reward_value=value, cost_value=value)
