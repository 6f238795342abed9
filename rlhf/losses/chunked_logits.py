"""What a loss needs to know of logits, without holding all of them.

With a vocabulary of 64 to 125 thousand tokens, the float32 logits `[B, L, V]` of a batch are the largest array of a
step, several times over in the gradient. Three numbers of each token are enough for every loss; they are computed for a
few columns at a time, and the logits of these columns once more for the gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Predictions(NamedTuple):
    """What the logits of T columns say of the tokens that follow, `[B, T]` float32 each.

    Attributes:
        chosen: logit of the token that follows.
        log_sum: logarithm of the sum of the exponentials of all logits.
        largest: the largest logit, None where nobody asked.
    """

    chosen: jax.Array
    log_sum: jax.Array
    largest: jax.Array | None = None

    @property
    def log_probs(self) -> jax.Array:
        """`[B, T]`, log-probability of the token that follows."""
        return self.chosen - self.log_sum


def whole(logits: jax.Array, following: jax.Array, *, largest: bool = False) -> Predictions:
    """From logits `[B, T, V]` and the tokens `[B, T]` that follow, on request with the largest logit."""
    wide = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(wide, following[..., None], axis=-1)[..., 0]
    return Predictions(chosen, jax.nn.logsumexp(wide, axis=-1), jnp.max(wide, axis=-1) if largest else None)


def chunked(
    hidden: jax.Array, output_layer: jax.Array, following: jax.Array, tokens: int, *, largest: bool = False
) -> Predictions:
    """The same from hidden states, with the logits of about `tokens` tokens at once.

    Chunks are columns of all rows, so that rows may lie on different devices.

    Args:
        hidden: `[B, T, H]`, behind the last norm.
        output_layer: `[V, H]`, as the logits use it, with unit rows if the model has them.
        following: `[B, T]`, ids.
        tokens: of a chunk, at least one column.
        largest: whether to tell the largest logit.
    """
    rows, length, width = hidden.shape
    columns = min(max(tokens // rows, 1), length)
    count = -(-length // columns)
    over = count * columns - length
    hidden = jnp.pad(hidden, ((0, 0), (0, over), (0, 0))).reshape(rows, count, columns, width)
    following = jnp.pad(following, ((0, 0), (0, over))).reshape(rows, count, columns)

    @jax.checkpoint
    def chunk(layer: jax.Array, part: jax.Array, wanted: jax.Array) -> Predictions:
        logits = jnp.einsum("bth,vh->btv", part, layer, preferred_element_type=jnp.float32)
        return whole(logits, wanted, largest=largest)

    _, found = jax.lax.scan(
        lambda carry, inputs: (carry, chunk(output_layer, *inputs)),
        None,
        (jnp.swapaxes(hidden, 0, 1), jnp.swapaxes(following, 0, 1)),
    )
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(rows, -1)[:, :length], found)
