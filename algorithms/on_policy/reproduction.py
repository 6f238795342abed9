"""Steps of an iteration in which published libraries differ from the papers, chosen once when a trainer is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from algorithms.on_policy.config import CostAdvantageConfig, OnPolicyConfig
from jsafe import running_statistics
from jsafe.episode_stats import EpisodeSums, EpisodeWindow, means, running_mean_costs
from jsafe.spaces import Box

Recent = tuple[dict[str, jax.Array], jax.Array]
"""`(means of recent episodes, as from jsafe.episode_stats.means, episode costs [C] to compare with the limits)`."""

RecentEpisodes = Callable[[EpisodeWindow, EpisodeWindow, EpisodeSums, jax.Array], Recent]
"""`(window before the iteration, window after it, sums over episodes, iteration) -> Recent`."""

FinalObservation = Callable[[Any, Any, jax.Array], Any]
"""`(normalised next observations, raw ones, truncated [T, N]) -> observations to bootstrap from`."""


class Scaling(NamedTuple):
    """Scaling of rewards and costs.

    Attributes:
        init: `number of signals -> statistics`.
        apply: `(statistics, rewards [T, N], costs [T, N, C]) -> (statistics, rewards, costs)`.
    """

    init: Callable[[int], Any]
    apply: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array, jax.Array]]


def recent_episodes(config: OnPolicyConfig) -> RecentEpisodes:
    """Means of the window; with `smooth_costs_twice` a mean of mean costs, 0 in the first iteration (SafePO)."""

    def window_means(before: EpisodeWindow, after: EpisodeWindow, sums: EpisodeSums, iteration: jax.Array) -> Recent:
        del before, iteration
        recent = means(after, sums)
        return recent, recent["cost"]

    def smoothed_twice(before: EpisodeWindow, after: EpisodeWindow, sums: EpisodeSums, iteration: jax.Array) -> Recent:
        return means(after, sums), jnp.where(iteration == 0, 0.0, running_mean_costs(before, sums))

    twice = isinstance(config, CostAdvantageConfig) and config.smooth_costs_twice
    return smoothed_twice if twice else window_means


def final_observation(config: OnPolicyConfig) -> FinalObservation:
    """Normalised observation; with `raw_final_observation` the raw one at a time limit (SafePO)."""

    def raw_where_truncated(observed: Any, raw: Any, truncated: jax.Array) -> Any:
        def select(observed: jax.Array, raw: jax.Array) -> jax.Array:
            where = truncated.reshape(*truncated.shape, *(1,) * (raw.ndim - truncated.ndim))
            return jnp.where(where, raw.astype(observed.dtype), observed)

        return jax.tree.map(select, observed, raw)

    return raw_where_truncated if config.raw_final_observation else lambda observed, raw, truncated: observed


def scaling(config: OnPolicyConfig) -> Scaling:
    """Return the scaling of rewards and costs: none, or by their running deviation (as OmniSafe for some methods)."""
    bounded = isinstance(config, CostAdvantageConfig)
    scale_costs = isinstance(config, CostAdvantageConfig) and config.normalize_costs
    if not (config.normalize_rewards or scale_costs):
        return Scaling(lambda signals: (), lambda scales, rewards, costs: (scales, rewards, costs))

    def apply(scales: Any, rewards: jax.Array, costs: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        raw = jnp.concatenate([rewards[..., None], costs], axis=-1) if bounded else rewards[..., None]
        scaled = running_statistics.apply(scales, raw, config.observation_clip)
        rewards = scaled[..., 0] if config.normalize_rewards else rewards
        costs = scaled[..., 1:] if scale_costs else costs
        return running_statistics.update(scales, raw), rewards, costs

    return Scaling(lambda signals: running_statistics.init(Box(signals)), apply)
