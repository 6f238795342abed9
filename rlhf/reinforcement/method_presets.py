"""Hyper-parameters of the reinforcement methods: published settings. Imports nothing heavy."""

from __future__ import annotations

import dataclasses

from rlhf.reinforcement.reinforcement_config import PTX_COEFFICIENT, ReinforcementConfig

METHODS = ("ppo", "ppo-lag", "reward-shaping")

PUBLISHED: dict[str, ReinforcementConfig] = {
    "ppo": ReinforcementConfig(kl_coefficient=0.02),
    "ppo-lag": ReinforcementConfig(kl_coefficient=0.01),
    "reward-shaping": ReinforcementConfig(kl_coefficient=0.02),
}
"""Settings of the scripts of Safe RLHF (Dai et al. 2024)."""

_BAICHUAN2 = ReinforcementConfig(
    kl_coefficient=0.2,
    last_kl_coefficient=0.005,
    actor_delay=20,
    iterations=350,
    clip_ratio=0.1,
    actor_learning_rate=5e-6,
    critic_learning_rate=5e-6,
    schedule="constant",
    max_grad_norm=0.5,
)

BAICHUAN2: dict[str, ReinforcementConfig] = {"ppo": _BAICHUAN2, "ppo-lag": _BAICHUAN2}
"""Settings that Baichuan 2 was aligned with (arXiv 2309.10305), except for the decay of the KL weight (unpublished)."""


def reinforcement_config(method: str, preset: str | None = None, *, ptx: bool = False) -> ReinforcementConfig:
    """Return the default hyper-parameters of a method.

    Args:
        method: one of `METHODS`.
        preset: `"baichuan2"`, or None for the published settings.
        ptx: there are texts for the PTX loss, which then has its published weight.
    """
    config = BAICHUAN2[method] if preset == "baichuan2" else PUBLISHED[method]
    return dataclasses.replace(config, ptx_coefficient=PTX_COEFFICIENT) if ptx else config
