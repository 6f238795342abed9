"""Step sizes over the updates of a run, as Hugging Face's schedules define them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

SCHEDULES = ("cosine", "linear", "constant", "constant_with_warmup")


def schedule(kind: str, total: int, warmup_ratio: float = 0.0) -> Callable[[jax.Array], jax.Array]:
    """A factor `[]` on the step size for each update, counted from 0.

    `cosine` and `linear` rise linearly over the first `warmup_ratio` of the updates, then fall to 0 at the last.
    `constant` has no warm-up, whatever the ratio.

    Args:
        kind: one of `SCHEDULES`.
        total: updates of the run.
        warmup_ratio: part of them in which the factor rises.

    Raises:
        ValueError: for another kind, or numbers out of range.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {kind!r}")
    if total < 1 or not 0.0 <= warmup_ratio <= 1.0:
        raise ValueError(f"total must be at least 1 and warmup_ratio within 0 and 1, got {total} and {warmup_ratio}")
    warm = int(warmup_ratio * total)

    def factor(update: jax.Array) -> jax.Array:
        now = jnp.asarray(update, jnp.float32)
        if kind == "constant":
            return jnp.ones_like(now)
        rising = now / max(warm, 1)
        done = jnp.clip((now - warm) / max(total - warm, 1), 0.0, 1.0)
        falling = {
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * done)),
            "linear": 1.0 - done,
            "constant_with_warmup": jnp.ones_like(now),
        }[kind]
        return jnp.where(now < warm, rising, falling)

    return factor
