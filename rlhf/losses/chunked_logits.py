"""Three numbers per token that every loss is computed from, without all logits in memory.

With a vocabulary of 64 to 125 thousand tokens, the float32 logits `[B, L, V]` of a batch are the largest array of a
step, and the backward pass needs several of that size. Every loss needs only three numbers per token. They are computed
for a few columns at a time, and the logits of these columns are recomputed in the backward pass.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Predictions(NamedTuple):
    """Predictions of T target tokens, `[B, T]` float32 each.

    Attributes:
        target: logit of the target token.
        log_sum: logarithm of the sum of the exponentials of all logits.
        largest: the largest logit, None if it was not requested.
    """

    target: jax.Array
    log_sum: jax.Array
    largest: jax.Array | None = None

    @property
    def log_probs(self) -> jax.Array:
        """`[B, T]`, log-probability of the target token."""
        return self.target - self.log_sum


def from_logits(logits: jax.Array, targets: jax.Array, *, largest: bool = False) -> Predictions:
    """Predictions from logits `[B, T, V]` of the targets `[B, T]`, with the largest logit on request."""
    wide = logits.astype(jnp.float32)
    target = jnp.take_along_axis(wide, targets[..., None], axis=-1)[..., 0]
    return Predictions(target, jax.nn.logsumexp(wide, axis=-1), jnp.max(wide, axis=-1) if largest else None)


def from_hidden(
    hidden: jax.Array, output_layer: jax.Array, targets: jax.Array, tokens: int, *, largest: bool = False
) -> Predictions:
    """Predictions from hidden states, with the logits of about `tokens` tokens in memory at once.

    Chunks are columns of all rows, so rows may be on different devices.

    Args:
        hidden: `[B, T, H]`, after the last norm.
        output_layer: `[V, H]`, as used for the logits, with unit rows if the model has them.
        targets: `[B, T]`, ids.
        tokens: size of a chunk, rounded to columns, at least one.
        largest: include the largest logit.
    """
    rows, length, width = hidden.shape
    columns = min(max(tokens // rows, 1), length)
    count = -(-length // columns)
    over = count * columns - length
    hidden = jnp.pad(hidden, ((0, 0), (0, over), (0, 0))).reshape(rows, count, columns, width)
    targets = jnp.pad(targets, ((0, 0), (0, over))).reshape(rows, count, columns)

    @jax.checkpoint
    def chunk(layer: jax.Array, part: jax.Array, part_targets: jax.Array) -> Predictions:
        logits = jnp.einsum("bth,vh->btv", part, layer, preferred_element_type=jnp.float32)
        return from_logits(logits, part_targets, largest=largest)

    _, chunks = jax.lax.scan(
        lambda carry, inputs: (carry, chunk(output_layer, *inputs)),
        None,
        (jnp.swapaxes(hidden, 0, 1), jnp.swapaxes(targets, 0, 1)),
    )
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(rows, -1)[:, :length], chunks)
