"""Learning-rate schedules over the updates of a run, as defined by Hugging Face."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlhf.config import SCHEDULES


def schedule(kind: str, total: int, warmup_ratio: float = 0.0) -> Callable[[jax.Array], jax.Array]:
    """Return a function from the update, counted from 0, to a factor `[]` on the learning rate.

    `cosine` and `linear` rise linearly over the first `warmup_ratio` of the updates, then fall to 0 at the last.
    `constant` has no warm-up for any ratio.

    Args:
        kind: one of `SCHEDULES`.
        total: updates of the run.
        warmup_ratio: fraction of them in which the factor rises.

    Raises:
        ValueError: another kind, or numbers out of range.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {kind!r}")
    if total < 1 or not 0.0 <= warmup_ratio <= 1.0:
        raise ValueError(f"total must be at least 1 and warmup_ratio within 0 and 1, got {total} and {warmup_ratio}")
    warmup = int(warmup_ratio * total)

    def factor(update: jax.Array) -> jax.Array:
        now = jnp.asarray(update, jnp.float32)
        if kind == "constant":
            return jnp.ones_like(now)
        rising = now / max(warmup, 1)
        progress = jnp.clip((now - warmup) / max(total - warmup, 1), 0.0, 1.0)
        falling = {
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
            "linear": 1.0 - progress,
            "constant_with_warmup": jnp.ones_like(now),
        }[kind]
        return jnp.where(now < warmup, rising, falling)

    return factor
