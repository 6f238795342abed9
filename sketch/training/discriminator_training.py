"""Training of the discriminator on positives, negatives and corrupted positives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsafe import host_data
from sketch.data import augment, strokes
from sketch.data.corruptions import corrupt
from sketch.data.strokes import Drawings
from sketch.models.discriminator import (
    DiscriminatorConfig,
    Params,
    TrainedDiscriminator,
    init,
    logits,
    recognisability,
    render,
)
from sketch.training.drawing_trainer import LearningProblem, LossOutput, Stage, descent_trainer
from sketch.training.training_configs import DiscriminatorTrainingConfig

CORRUPTED = "corrupted"
"""Kind of the negatives that are made from the positives."""

Negatives = Mapping[str, Sequence[np.ndarray]]
"""Drawings of each kind of negatives, stroke-3 in any unit."""


def area_under_curve(positive: Float[Array, " many"], negative: Float[Array, " more"]) -> jax.Array:
    """Probability that a positive ranks above a negative; ties count half (Mann and Whitney 1947)."""
    ordered = jnp.sort(negative)
    below = jnp.searchsorted(ordered, positive, side="left") + jnp.searchsorted(ordered, positive, side="right")
    return jnp.mean(below / (2.0 * len(negative)))


def discriminator_stage(
    positives: Sequence[np.ndarray],
    negatives: Negatives,
    valid_positives: Sequence[np.ndarray],
    valid_negatives: Negatives,
    size: DiscriminatorConfig,
    options: DiscriminatorTrainingConfig,
    *,
    start: TrainedDiscriminator | None = None,
) -> Stage:
    """Build the training stage of a discriminator from drawings, stroke-3 in any unit.

    Every kind of negatives has the same weight, and all negatives together have the weight of the positives. Corrupted
    positives are one more kind, made in every update.

    Args:
        positives: recognisable drawings.
        negatives: drawings of each kind of negatives, such as other classes and a generator; may be empty.
        valid_positives: validation drawings, which choose the best parameters; empty to keep the last parameters.
        valid_negatives: validation drawings of the same kinds as `negatives`.
        size: sizes of the network; ignored with `start`.
        options: hyper-parameters.
        start: trained discriminator to start from.

    Raises:
        ValueError: if there are fewer positives than a batch, a kind is empty or has a reserved name, the kinds of
            training and validation differ, or there is exactly one validation drawing.
    """
    size = size if start is None else start.size
    has_validation = len(valid_positives) > 0
    valid_negatives = valid_negatives if has_validation else {}
    _check_kinds(negatives, valid_negatives if has_validation else None)
    if len(valid_positives) == 1:
        raise ValueError("validation corrupts drawings by one another and needs at least two positives, got one")
    parts = [positives, valid_positives, *negatives.values(), *valid_negatives.values()]
    longest = max((len(drawing) for part in parts for drawing in part), default=0)
    padded = {kind: strokes.pad(drawings, longest) for kind, drawings in negatives.items()}
    valid_padded = {kind: strokes.pad(drawings, longest) for kind, drawings in valid_negatives.items()}

    def initial(key: jax.Array) -> Params:
        return init(size, key) if start is None else jax.tree.map(jnp.asarray, start.params)

    problem = LearningProblem(
        initial,
        training_loss(size, padded, options),
        validation_loss(size, valid_padded, options),
        strokes.pad(positives, longest),
        strokes.pad(valid_positives, longest) if has_validation else None,
    )
    shown = ("accuracy", *(("valid_auc",) if has_validation else ()))
    recorded = {**size.config(), "kinds": [CORRUPTED, *negatives]}
    trainer = descent_trainer("discriminator", problem, options, shown=shown, config=recorded)

    def finish(state: Any) -> TrainedDiscriminator:
        return TrainedDiscriminator(size, jax.tree.map(np.asarray, state.params["best"]))

    return Stage(trainer, options.iterations, finish)


def training_loss(
    size: DiscriminatorConfig, negatives: Mapping[str, Drawings], options: DiscriminatorTrainingConfig
) -> Callable[..., LossOutput]:
    """Loss of a batch of positives against a random batch of negatives of every kind."""
    per_kind = max(options.batch_size // (len(negatives) + 1), 1)

    def loss(params: Params, batch: Drawings, key: jax.Array, *_: Any) -> LossOutput:
        corrupt_key, flip_key, dropout_key, *keys = jax.random.split(key, 3 + len(negatives))
        negative = {CORRUPTED: jax.tree.map(lambda leaf: leaf[:per_kind], corrupt(corrupt_key, batch))}
        for (kind, drawings), row_key in zip(negatives.items(), keys, strict=True):
            rows = jax.random.randint(row_key, (per_kind,), 0, len(drawings.lengths))
            negative[kind] = host_data.rows(drawings, rows)

        def log_odds(drawings: Drawings) -> jax.Array:
            images = render(size, augment.flip(flip_key, drawings, options.flip), options.at_once)
            return logits(size, params, images, dropout_key, options.dropout)

        return _compare(log_odds, batch, negative, options.label_smoothing)

    return loss


def validation_loss(
    size: DiscriminatorConfig, negatives: Mapping[str, Drawings], options: DiscriminatorTrainingConfig
) -> Callable[..., LossOutput]:
    """Loss of the validation set, without augmentation and dropout."""

    def validate(params: Params, positives: Drawings, _: jax.Array) -> LossOutput:
        # The same corruptions in every validation, so that the best parameters are not those of an easy sample.
        negative = {CORRUPTED: corrupt(jax.random.key(0), positives)}
        for kind, drawings in negatives.items():
            negative[kind] = host_data.rows(drawings, jnp.arange(len(drawings.lengths)))
        log_odds = recognisability(size, options.at_once)
        return _compare(lambda drawings: log_odds(params, drawings), positives, negative, options.label_smoothing)

    return validate


def _compare(
    log_odds: Callable[[Drawings], jax.Array], positive: Drawings, negative: Mapping[str, Drawings], smoothing: float
) -> LossOutput:
    """Apply the network to all drawings at once, in one program instead of one for each kind."""
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), positive, *negative.values())
    sizes = np.cumsum([len(part.lengths) for part in (positive, *negative.values())])
    first, *others = jnp.split(log_odds(together), sizes[:-1])
    return discriminator_loss(first, dict(zip(negative, others, strict=True)), smoothing)


def discriminator_loss(positive: jax.Array, negative: Mapping[str, jax.Array], smoothing: float) -> LossOutput:
    """Cross-entropy with smoothed labels, accuracy and area under the curve; all kinds of negatives weigh the same.

    Args:
        positive: log odds of the positives.
        negative: log odds of each kind of negatives.
        smoothing: distance of the targets from 0 and 1.
    """

    def mean_over_kinds(each: Callable[[jax.Array], jax.Array]) -> jax.Array:
        return jnp.mean(jnp.stack([each(odds) for odds in negative.values()]))

    def cross_entropy(odds: jax.Array, target: float) -> jax.Array:
        return -jnp.mean(target * jax.nn.log_sigmoid(odds) + (1.0 - target) * jax.nn.log_sigmoid(-odds))

    loss = 0.5 * cross_entropy(positive, 1.0 - smoothing)
    loss = loss + 0.5 * mean_over_kinds(lambda odds: cross_entropy(odds, smoothing))
    metrics = {
        "accuracy": 0.5 * jnp.mean(positive > 0) + 0.5 * mean_over_kinds(lambda odds: jnp.mean(odds <= 0)),
        "auc": mean_over_kinds(lambda odds: area_under_curve(positive, odds)),
        **{f"auc_{kind}": area_under_curve(positive, odds) for kind, odds in negative.items()},
    }
    return LossOutput(loss, metrics)


def _check_kinds(negatives: Mapping[str, Any], valid_negatives: Mapping[str, Any] | None) -> None:
    if CORRUPTED in negatives:
        raise ValueError(f"the kind {CORRUPTED!r} is reserved for corrupted positives; rename these negatives")
    if valid_negatives is not None and set(negatives) != set(valid_negatives):
        raise ValueError(
            f"the kinds of negatives must be the same in training and validation, got {sorted(negatives)} and "
            f"{sorted(valid_negatives)}"
        )
    for part in (negatives, valid_negatives or {}):
        for kind, drawings in part.items():
            if not len(drawings):
                raise ValueError(f"the kind {kind!r} of negatives needs at least one drawing, got none")
