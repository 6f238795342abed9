"""The built-in networks of the on-policy family."""

from __future__ import annotations

from algorithms.on_policy.config import OnPolicyConfig
from algorithms.on_policy.interfaces import Networks
from jsafe import Env, PolicySpec
from jsafe.networks.mlp import make_policy, make_value


def policy_spec(env: Env, config: OnPolicyConfig) -> PolicySpec:
    """Describe how to rebuild the built-in policy for an environment."""
    return PolicySpec(
        observation_size=env.spec.observation_size,
        action_low=env.spec.action_low,
        action_high=env.spec.action_high,
        hidden_sizes=config.hidden_sizes,
        activation=config.activation,
        normalize_observations=config.normalize_observations,
        observation_clip=config.observation_clip,
        num_actions=env.spec.num_actions,
        squash=config.squash,
        initial_log_std=config.initial_log_std,
        fixed_scale=env.spec.fixed_scale,
        torso=config.torso,
        history=config.history,
        recurrent_size=config.recurrent_size,
        image_shape=config.image_shape,
    )


def default_networks(env: Env, config: OnPolicyConfig) -> Networks:
    """Make the built-in networks, three of the same shape."""
    spec = policy_spec(env, config)
    value = make_value(spec, config.initializer)
    return Networks(policy=make_policy(spec, config.initializer), reward_value=value, cost_value=value)
