"""What each supervised stage minimises, as a loss of parameters and a batch: models meet `rlhf.losses.losses` here."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsafe.batching import in_batches
from rlhf.data.encoding import Array, Labelled, Preferences, Supervised
from rlhf.losses import chunked_logits, losses
from rlhf.losses.chunked_logits import Predictions
from rlhf.losses.losses import Pairs
from rlhf.models.heads import LanguageModel, ScoreModel, Scores
from rlhf.training.supervised_trainer import Judgement, Loss


def predicted(
    model: LanguageModel, params: Any, ids: Array, mask: Array, following: Array, *, largest: bool = False
) -> Predictions:
    """What a model says of the tokens `[B, L - 1]` that follow texts `[B, L]` column by column.

    All logits of texts meet their losses here, whole or in chunks of the model's `loss_chunk` tokens.
    """
    variables = {"params": params}
    if not model.loss_chunk or model.loss_chunk >= following.size:
        logits, _ = model.apply(variables, ids, mask)
        return chunked_logits.whole(logits[:, :-1], following, largest=largest)
    hidden, _ = model.apply(variables, ids, mask, method=LanguageModel.hidden)
    layer = jnp.asarray(model.apply(variables, method=LanguageModel.output_layer)).astype(model.dtype)
    return chunked_logits.chunked(hidden[:, :-1], layer, following, model.loss_chunk, largest=largest)


def language_model_loss(model: LanguageModel, params: Any, batch: Supervised, z_loss_weight: float = 0.0) -> jax.Array:
    """`rlhf.losses.losses.cross_entropy` of texts."""
    following = jnp.maximum(batch.labels[:, 1:], 0)
    said = predicted(model, params, batch.ids, batch.mask, following, largest=bool(z_loss_weight))
    return losses.cross_entropy(said, batch.labels, z_loss_weight)


def supervised(model: LanguageModel) -> Loss:
    """Cross-entropy of answers, and the max-z loss of models that have one. Batches are `Supervised`."""

    def loss(params: Any, batch: Supervised) -> Judgement:
        return Judgement(language_model_loss(model, params, batch, model.config.z_loss_weight), {})

    return loss


def scores_of(model: ScoreModel, params: Any, ids: Array, mask: Array) -> Scores:
    """What a score model says of texts `[B, L]`."""
    return cast(Scores, model.apply({"params": params}, ids, mask))


def _both(model: ScoreModel, params: Any, batch: Preferences) -> tuple[jax.Array, jax.Array, Pairs]:
    """Scores `[B, L]` of both answers, from one pass over all of them."""
    ids = jnp.concatenate([batch.better, batch.worse])
    mask = jnp.concatenate([batch.better_mask, batch.worse_mask])
    first, second = jnp.split(scores_of(model, params, ids, mask).scores[..., 0], 2)
    return first, second, Pairs(batch.better, batch.worse, batch.better_mask, batch.worse_mask)


def _ends(first: jax.Array, second: jax.Array, pairs: Pairs) -> jax.Array:
    at = [jnp.take_along_axis(s, e[:, None], axis=1) for s, e in zip((first, second), pairs.ends, strict=True)]
    return jnp.concatenate(at)


def reward(model: ScoreModel, *, regularization: float = 0.001, kind: str = "sequence") -> Loss:
    """Bradley and Terry's loss. Batches are `Preferences` by helpfulness."""

    def loss(params: Any, batch: Preferences) -> Judgement:
        better, worse, pairs = _both(model, params, batch)
        found, metrics = losses.reward_loss(better, worse, pairs, regularization=regularization, kind=kind)
        return Judgement(found, metrics, _ends(better, worse, pairs))

    return loss


def cost(model: ScoreModel, *, regularization: float = 0.001, kind: str = "sequence") -> Loss:
    """The pairwise loss and that of the sign. Batches are `Preferences` by harm, the less harmful answer first."""

    def loss(params: Any, batch: Preferences) -> Judgement:
        safer, unsafer, pairs = _both(model, params, batch)
        found, metrics = losses.cost_loss(
            safer, unsafer, pairs, batch.better_sign, batch.worse_sign, regularization=regularization, kind=kind
        )
        return Judgement(found, metrics, _ends(safer, unsafer, pairs))

    return loss


class WithReference(NamedTuple):
    """Pairs of answers, and what the frozen model says of their tokens.

    Attributes:
        pairs: by helpfulness.
        better: `[N, L - 1]`, log-probabilities of the better answers under the frozen model.
        worse: the same of the worse ones.
    """

    pairs: Preferences
    better: Array
    worse: Array


def log_probs(model: LanguageModel, params: Any, ids: Array, mask: Array) -> jax.Array:
    """Log-probabilities `[B, L - 1]` of tokens 1 to L - 1."""
    return predicted(model, params, ids, mask, ids[:, 1:]).log_probs


def with_reference(model: LanguageModel, params: Any, pairs: Preferences, batch_size: int = 16) -> WithReference:
    """Ask the frozen model once about every pair, so that it need not be kept beside the one that learns."""
    ask = jax.jit(log_probs, static_argnums=0)  # with parameters as arguments, so that none is compiled into it
    params, found = jax.device_put(params), []  # once, not with every batch
    for ids, mask in ((pairs.better, pairs.better_mask), (pairs.worse, pairs.worse_mask)):
        parts = [np.asarray(ask(model, params, *part))[:count] for part, count in in_batches((ids, mask), batch_size)]
        found.append(np.concatenate(parts) if parts else np.zeros((0, ids.shape[1] - 1), np.float32))
    return WithReference(pairs, *found)


def dpo(model: LanguageModel, *, scale: float = 0.1, exact: bool = True) -> Loss:
    """Direct preference optimisation. Batches are `WithReference`."""

    def loss(params: Any, batch: WithReference) -> Judgement:
        first = batch.pairs
        ids = jnp.concatenate([first.better, first.worse])
        mask = jnp.concatenate([first.better_mask, first.worse_mask])
        new = jnp.split(log_probs(model, params, ids, mask), 2)
        pairs = Pairs(first.better, first.worse, first.better_mask, first.worse_mask)
        reference = (batch.better, batch.worse)
        found, metrics = losses.dpo_loss((new[0], new[1]), reference, pairs, scale=scale, exact=exact)
        return Judgement(found, metrics)

    return loss


def moderation(model: ScoreModel) -> Loss:
    """Mean binary cross-entropy of all labels (Ji et al. 2023, BeaverTails). Batches are `Labelled`."""

    def loss(params: Any, batch: Labelled) -> Judgement:
        logits = scores_of(model, params, batch.ids, batch.mask).end_scores
        found = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, batch.labels))
        flagged = jnp.any(logits > 0.0, axis=-1) == jnp.any(batch.labels > 0.5, axis=-1)
        return Judgement(found, {"flagged_accuracy": jnp.mean(flagged)})

    return loss
