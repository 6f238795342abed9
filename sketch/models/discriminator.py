"""A convolutional network that tells good drawings of one thing from whatever else is drawn: are they recognisable?

It looks through the soft raster, so that its judgement has a gradient with respect to every point. The sizes are those
that this project chose; of the paper (Pang et al. 2020) only the idea is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsafe import host_data
from jsafe.config import Hyper, hyperparameters, option
from sketch import raster
from sketch.data import augment, strokes
from sketch.data.corruptions import damaged
from sketch.data.next_stroke_data import view
from sketch.data.strokes import Drawings, real_rows
from sketch.models.matmul_conv import convolved
from sketch.training.drawing_trainer import Judgement, Problem, TrainingOptions, descent_trainer
from sketch.training.stages import Stage

Params = dict[str, Any]

DAMAGED = "damaged"
"""Name of the kind of negatives that is made from the positives."""


@hyperparameters
class DiscriminatorSize(Hyper):
    """Sizes of a discriminator."""

    side: int = option("pixels of the image it looks at, a multiple of 2 to the number of channels", default=64, low=4)
    channels: tuple[int, ...] = option(
        "of its convolutions, each of which halves the image", default=(32, 64, 128, 256)
    )
    spectral_norm: float = option("largest singular value of each layer", default=2.0, above=0)
    power_iterations: int = option("steps towards the largest singular value of each layer", default=8, low=1)

    def __post_init__(self) -> None:
        """Check each option, and that the image can be halved as often as there are convolutions."""
        super().__post_init__()
        if not self.channels or min(self.channels) < 1 or self.side % 2 ** len(self.channels):
            raise ValueError(f"side {self.side} must be a multiple of 2 to the number of channels {self.channels}")


@hyperparameters
class DiscriminatorOptions(TrainingOptions):
    """Hyper-parameters of its training."""

    iterations: int = option("of a whole run", default=40, low=1)
    updates: int = option("of the optimiser in one iteration, before a look at the validation set", default=50, low=1)
    batch_size: int = option("positives of one gradient; there are as many negatives", default=64, low=2)
    learning_rate_decay: float = option("share of the way that is left after an update", default=0.999, above=0, high=1)
    label_smoothing: float = option("how far the targets are from 0 and 1", default=0.1, low=0, high=0.49)
    dropout: float = option("probability that a feature is dropped", default=0.3, low=0, high=0.99)
    flip: float = option("probability that left and right are swapped", default=0.5, low=0, high=1)
    at_once: int = option(
        "drawings that are drawn together: one stays in the cache of a CPU, accelerators want more", default=1, low=1
    )


class DiscriminatorPreset(NamedTuple):
    """A size of discriminator and how it is trained."""

    size: DiscriminatorSize
    options: DiscriminatorOptions


PRESETS = {
    "full": DiscriminatorPreset(DiscriminatorSize(), DiscriminatorOptions()),
    "small": DiscriminatorPreset(
        DiscriminatorSize(side=32, channels=(16, 32, 64)),
        DiscriminatorOptions(iterations=20, learning_rate=2e-3, learning_rate_decay=0.997),
    ),
}
"""The described size, and one that a CPU trains in minutes."""


class TrainedDiscriminator(NamedTuple):
    """A trained discriminator.

    Attributes:
        size: its sizes.
        params: its parameters.
    """

    size: DiscriminatorSize
    params: Params


def init(size: DiscriminatorSize, key: jax.Array) -> Params:
    """Parameters at first; convolutions `[3, 3, in, out]` and a last layer `[features, 1]`."""
    glorot, params, inputs = jax.nn.initializers.glorot_uniform(), {}, 1
    keys = jax.random.split(key, len(size.channels) + 1)
    for number, (width, one) in enumerate(zip(size.channels, keys, strict=False)):
        params[f"conv_{number}"] = {"kernel": glorot(one, (3, 3, inputs, width)), "bias": jnp.zeros(width)}
        inputs = width
    features = (size.side // 2 ** len(size.channels)) ** 2 * inputs
    params["output"] = {"kernel": glorot(keys[-1], (features, 1)), "bias": jnp.zeros(1), "scale": jnp.ones(1)}
    return params


def largest_singular_value(matrix: Float[Array, "rows columns"], iterations: int) -> jax.Array:
    """An estimate from below of the spectral norm, by power iterations from a fixed vector.

    Its gradient takes the singular vectors as constants, which is exact where they are found (Miyato et al. 2018).
    """
    held = jax.lax.stop_gradient(matrix)

    def unit(vector: jax.Array) -> jax.Array:
        return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)

    begin = unit(jax.random.normal(jax.random.key(0), (matrix.shape[1],)))
    right = jax.lax.fori_loop(0, iterations, lambda _, v: unit(held.T @ unit(held @ v)), begin)
    return unit(held @ right) @ (matrix @ right)


def _normalised(layer: Params, size: DiscriminatorSize) -> jax.Array:
    """The kernel of a layer, a matrix `[inputs, outputs]`, with the spectral norm that is wanted."""
    kernel = layer["kernel"]
    norm = largest_singular_value(kernel.reshape(-1, kernel.shape[-1]), size.power_iterations)
    return kernel * (size.spectral_norm / jnp.maximum(norm, 1e-12))


def logits(
    size: DiscriminatorSize,
    params: Params,
    images: Float[Array, "batch side side"],
    key: jax.Array | None = None,
    dropout: float = 0.0,
) -> Float[Array, " batch"]:
    """Log odds that an image shows the thing.

    Args:
        size: of the network.
        params: its parameters.
        images: ink, 0 to 1.
        key: for dropout; None for none.
        dropout: probability that a feature is dropped.
    """
    x = images[..., None]
    for number in range(len(size.channels)):
        layer = params[f"conv_{number}"]
        x = jax.nn.relu(convolved(x, _normalised(layer, size), stride=2) + layer["bias"])
    x = x.reshape(len(x), -1)
    if key is not None and dropout:
        x = jnp.where(jax.random.bernoulli(key, 1.0 - dropout, x.shape), x / (1.0 - dropout), 0.0)
    last = params["output"]
    # The bound on each layer keeps slopes small; how sure the last one may be is for it to learn.
    return ((x @ _normalised(last, size)) * last["scale"] + last["bias"])[:, 0]


def look(size: DiscriminatorSize, drawings: Drawings, at_once: int = 1) -> Float[Array, "batch side side"]:
    """Drawings in any unit as a discriminator sees them: fitted into the box, longest side 255."""
    return raster.soft(jax.tree.map(jnp.asarray, drawings), view(size.side), at_once=at_once)


def recognisability(size: DiscriminatorSize, at_once: int = 1) -> Callable[[Params, Drawings], Float[Array, " batch"]]:
    """Log odds that drawings are recognisable, `(params, drawings in any unit) -> [B]`; a filter or a reward."""
    return lambda params, drawings: logits(size, params, look(size, drawings, at_once))


def soft_recognisability(
    size: DiscriminatorSize, at_once: int = 1
) -> Callable[[Params, Float[Array, "batch time 2"], Drawings], Float[Array, " batch"]]:
    """The same as a function of the offsets, `(params, offsets [B, N, 2], drawings) -> [B]`, to follow its gradient.

    Pen states and lengths are those of the drawings, and have no gradient.
    """
    judge = recognisability(size, at_once)

    def judged(params: Params, offsets: jax.Array, drawings: Drawings) -> jax.Array:
        return judge(params, drawings._replace(rows=jnp.concatenate([offsets, drawings.rows[..., 2:]], axis=-1)))

    return judged


def refined(
    size: DiscriminatorSize, steps: int, stride: float = 0.005, at_once: int = 1
) -> Callable[[Params, Drawings], tuple[Drawings, Float[Array, "batch 2"]]]:
    """Drawings moved point by point up the gradient of their recognisability through the soft raster.

    In each step the point that is to move furthest moves by `stride` of the drawing's longest side, others less, and
    the first point stays; which points there are and where the pen is lifted does not change. Of all steps the most
    recognisable drawing is kept, so none gets worse.

    Args:
        size: of the discriminator.
        steps: to take, at least one.
        stride: of a step, as a share of the longest side.
        at_once: see `sketch.raster.soft`.

    Returns:
        `(params, drawings in any unit) -> (drawings, log odds before and after [B, 2])`.
    """
    judge = soft_recognisability(size, at_once)

    def refine(params: Params, drawings: Drawings) -> tuple[Drawings, jax.Array]:
        drawings = jax.tree.map(jnp.asarray, drawings)
        real = real_rows(drawings)[..., None]
        places = jnp.cumsum(jnp.where(real, drawings.rows[..., :2], 0.0), axis=1)
        least, most = (jnp.where(real, places, fill) for fill in (jnp.inf, -jnp.inf))
        side = jnp.maximum(jnp.max(jnp.max(most, axis=1) - jnp.min(least, axis=1), axis=-1), 1e-6)[:, None, None]

        def offsets(places: jax.Array) -> jax.Array:
            return jnp.where(real, jnp.diff(places, axis=1, prepend=jnp.zeros_like(places[:, :1])), 0.0)

        def scored(places: jax.Array) -> tuple[jax.Array, jax.Array]:
            odds = judge(params, offsets(places), drawings)
            return jnp.sum(odds), odds

        def step(carry: Any, _: Any) -> tuple[Any, jax.Array]:
            places, best, most = carry
            (_, odds), slope = jax.value_and_grad(scored, has_aux=True)(places)
            better = odds > most
            best, most = jnp.where(better[:, None, None], places, best), jnp.where(better, odds, most)
            slope = jnp.where(real, slope, 0.0).at[:, 0].set(0.0)
            longest = jnp.max(jnp.linalg.norm(slope, axis=-1), axis=1)[:, None, None]
            return (places + stride * side * slope / jnp.maximum(longest, 1e-12), best, most), odds

        begun = (places, places, jnp.full(len(places), -jnp.inf))
        (last, best, most), on_the_way = jax.lax.scan(step, begun, None, length=steps)
        odds = scored(last)[1]
        better = odds > most
        best, most = jnp.where(better[:, None, None], last, best), jnp.where(better, odds, most)
        rows = jnp.concatenate([offsets(best), drawings.rows[..., 2:]], axis=-1)
        return drawings._replace(rows=rows), jnp.stack([on_the_way[0], most], axis=-1)

    return refine


def area_under_curve(positive: Float[Array, " many"], negative: Float[Array, " more"]) -> jax.Array:
    """Probability that a positive is above a negative, ties counting half (Mann and Whitney 1947)."""
    ordered = jnp.sort(negative)
    below = jnp.searchsorted(ordered, positive, side="left") + jnp.searchsorted(ordered, positive, side="right")
    return jnp.mean(below / (2.0 * len(negative)))


def discriminator_stage(
    positives: Sequence[np.ndarray],
    negatives: Mapping[str, Sequence[np.ndarray]],
    valid_positives: Sequence[np.ndarray],
    valid_negatives: Mapping[str, Sequence[np.ndarray]],
    size: DiscriminatorSize,
    options: DiscriminatorOptions,
    *,
    start: TrainedDiscriminator | None = None,
) -> Stage:
    """A discriminator from drawings, stroke-3 each in any unit.

    Every kind of negatives weighs the same, and all of them together as much as the positives. One more kind, damaged
    positives, is made while it trains.

    Args:
        positives: good drawings.
        negatives: other ones by kind, such as a generator's and drawings of other things; there may be no kind.
        valid_positives: to choose the best parameters by; none to take the last.
        valid_negatives: of the same kinds as `negatives`.
        size: of the network; that of `start` where it is given.
        options: hyper-parameters.
        start: a discriminator to go on from.

    Raises:
        ValueError: there are fewer positives than a batch, a kind has no drawings or a reserved name, the kinds of
            training and validation differ, or a validation set has one drawing.
    """
    size = size if start is None else start.size
    has_validation = len(valid_positives) > 0
    parts = [positives, valid_positives, *negatives.values(), *(valid_negatives.values() if has_validation else ())]
    _check_kinds(negatives, valid_negatives if has_validation else None)
    if len(valid_positives) == 1:
        raise ValueError("validation damages drawings with the help of one another, and there is only one positive")
    longest = max((len(d) for part in parts for d in part), default=0)
    data = strokes.pad(positives, longest)
    kinds = {kind: strokes.pad(drawings, longest) for kind, drawings in negatives.items()}
    valid_kinds = {kind: strokes.pad(drawings, longest) for kind, drawings in valid_negatives.items() if has_validation}
    share = max(options.batch_size // (len(kinds) + 1), 1)

    def judged(positive: Drawings, negative: Mapping[str, Drawings], opinion: Callable[[Drawings], jax.Array]) -> Any:
        # All drawings go through the network at once: one program instead of one for each kind.
        together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), positive, *negative.values())
        sizes = np.cumsum([len(part.lengths) for part in (positive, *negative.values())])
        first, *others = jnp.split(opinion(together), sizes[:-1])
        return _judgement(first, dict(zip(negative, others, strict=True)), options.label_smoothing)

    def loss(params: Params, batch: Drawings, key: jax.Array, *_: Any) -> Judgement:
        hurt, way, drop, *keys = jax.random.split(key, 3 + len(kinds))
        negative = {DAMAGED: jax.tree.map(lambda leaf: leaf[:share], damaged(hurt, batch))}
        for (kind, drawings), which in zip(kinds.items(), keys, strict=True):
            negative[kind] = host_data.rows(drawings, jax.random.randint(which, (share,), 0, len(drawings.lengths)))

        def opinion(drawings: Drawings) -> jax.Array:
            images = look(size, augment.flip(way, drawings, options.flip), options.at_once)
            return logits(size, params, images, drop, options.dropout)

        return judged(batch, negative, opinion)

    def validate(params: Params, rows: Drawings, _: jax.Array) -> Judgement:
        # The same damage each time, so that the best parameters are not those of an easy draw.
        negative = {DAMAGED: damaged(jax.random.key(0), rows)}
        for kind, drawings in valid_kinds.items():
            negative[kind] = host_data.rows(drawings, jnp.arange(len(drawings.lengths)))
        return judged(rows, negative, lambda drawings: recognisability(size, options.at_once)(params, drawings))

    begun = None if start is None else start.params
    problem = Problem(
        lambda key: init(size, key) if begun is None else jax.tree.map(jnp.asarray, begun),
        loss,
        validate,
        data,
        strokes.pad(valid_positives, longest) if has_validation else None,
    )
    shown = ("accuracy", *(("valid_auc",) if has_validation else ()))
    recorded = {**size.config(), "kinds": [DAMAGED, *kinds]}
    trainer = descent_trainer("discriminator", problem, options, shown=shown, config=recorded)

    def finish(state: Any) -> TrainedDiscriminator:
        return TrainedDiscriminator(size, jax.tree.map(np.asarray, state.params["best"]))

    return Stage(trainer, options.iterations, finish)


def _check_kinds(negatives: Mapping[str, Any], valid_negatives: Mapping[str, Any] | None) -> None:
    if DAMAGED in negatives:
        raise ValueError(f"the kind {DAMAGED!r} is made from the positives and cannot be given")
    if valid_negatives is not None and set(negatives) != set(valid_negatives):
        raise ValueError(
            f"the kinds of negatives must be the same in training and validation, got {sorted(negatives)} and "
            f"{sorted(valid_negatives)}"
        )
    for part in (negatives, valid_negatives or {}):
        for kind, drawings in part.items():
            if not len(drawings):
                raise ValueError(f"there are no negatives of the kind {kind!r}")


def _judgement(positive: jax.Array, negative: Mapping[str, jax.Array], smoothing: float) -> Judgement:
    """Cross-entropy with smoothed labels, the accuracy and the area under the curve; kinds of negatives weigh alike."""

    def kinds(each: Callable[[jax.Array], jax.Array]) -> jax.Array:
        return jnp.mean(jnp.stack([each(found) for found in negative.values()]))

    def crossed(found: jax.Array, target: float) -> jax.Array:
        return -jnp.mean(target * jax.nn.log_sigmoid(found) + (1.0 - target) * jax.nn.log_sigmoid(-found))

    loss = 0.5 * crossed(positive, 1.0 - smoothing) + 0.5 * kinds(lambda found: crossed(found, smoothing))
    metrics = {
        "accuracy": 0.5 * jnp.mean(positive > 0) + 0.5 * kinds(lambda found: jnp.mean(found <= 0)),
        "auc": kinds(lambda found: area_under_curve(positive, found)),
        **{f"auc_{kind}": area_under_curve(positive, found) for kind, found in negative.items()},
    }
    return Judgement(loss, metrics)
