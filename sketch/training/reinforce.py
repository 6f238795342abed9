"""A generator learns from what finished drawings are worth: REINFORCE on whole sketches, held near where it began.

Each update draws a batch with the newest parameters, asks for its rewards, and makes drawings likelier that were worth
more than the others of the batch (Williams 1992). A divergence from the first generator, row by row, and a floor under
the entropy of the pen keep it from drawing one thing again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsafe import host_data
from jsafe.config import hyperparameters, option
from sketch.data import strokes
from sketch.data.strokes import Drawings
from sketch.models import sketch_rnn
from sketch.models.discriminator import TrainedDiscriminator, recognisability
from sketch.models.mixture import Mixture, log_density, pen_loss
from sketch.models.predictor import Predictor, TrainedPredictor, guidance
from sketch.models.sketch_rnn import Architecture, Params
from sketch.sampling import sample
from sketch.sampling.guided_sampling import draw_guided
from sketch.sampling.sample import CONVENTIONS, Drawn
from sketch.training.drawing_trainer import Judgement, Problem, TrainingOptions, descent_trainer
from sketch.training.stages import SketchRNN, Stage

Told = Callable[[Drawings], Float[Array, "batch time extra"]]
Reward = Callable[[Drawings], Float[Array, " batch"]]
Draw = Callable[..., Drawn]


@hyperparameters
class RewardOptions(TrainingOptions):
    """Hyper-parameters of learning from rewards."""

    iterations: int = option("of a whole run", default=40, low=1)
    updates: int = option("of the optimiser in one iteration", default=25, low=1)
    batch_size: int = option("drawings that are sampled for one gradient", default=128, low=2)
    learning_rate: float = option("step size of Adam at first", default=1e-4, traced=True, above=0)
    temperature: float = option("that drawings are sampled with", default=0.65, above=0)
    convention: str = option("what the temperature means", default="paper", choices=tuple(CONVENTIONS))
    kl_weight: float = option("of the divergence from the first generator", default=0.2, traced=True, low=0)
    entropy_floor: float = option("nats of the pen's state, mean over rows, below which it costs", default=0.1, low=0)
    entropy_weight: float = option("of each nat below the floor", default=1.0, low=0)
    likelihood_weight: float = option(
        "of the loss of people's drawings, which keeps what they know", default=0.0, low=0
    )


PRESETS = {
    "paper": RewardOptions(),
    "small": RewardOptions(iterations=10, updates=10, batch_size=64, learning_rate=3e-4),
}
"""A thousand updates, in the range that was described, and a size for a CPU."""


def tempered(predicted: Mixture, temperature: float, convention: str = "paper") -> Mixture:
    """The distribution that `sampling.sample` draws from at a temperature above 0."""
    discrete, deviation = CONVENTIONS[convention](jnp.float32(temperature))
    return predicted._replace(
        pen=predicted.pen / discrete,
        weight=predicted.weight / discrete,
        log_deviation=predicted.log_deviation + jnp.log(deviation),
    )


def counted_rows(rows: Float[Array, "batch time 5"]) -> Float[Array, "batch time"]:
    """1 for the rows that a generator chose: all of a drawing and the first that ends it; 0 behind."""
    over = rows[..., 4] > 0
    return (jnp.cumsum(over, axis=1) - over == 0).astype(jnp.float32)


def row_log_probability(predicted: Mixture, rows: Float[Array, "batch time 5"]) -> Float[Array, "batch time"]:
    """Of each row that was chosen, 0 for others; the offset of the row that ends a drawing does not count."""
    real = 1.0 - rows[..., 4]
    return counted_rows(rows) * (real * log_density(predicted, rows[..., :2]) - pen_loss(predicted, rows[..., 2:]))


def row_divergence(new: Mixture, old: Mixture) -> Float[Array, "*batch"]:
    """A bound from above on the divergence of one distribution of a row from another.

    That of mixtures has no closed form; this is the divergence of component and offset together, which is never less,
    and close to it while component i still does what it did in the old one. It is 0 where nothing has changed.
    """

    def chosen(logits: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
        logs = jax.nn.log_softmax(logits)
        share = jnp.exp(logs)
        return share, jnp.sum(share * (logs - jax.nn.log_softmax(others)), axis=-1)

    _, pen = chosen(new.pen, old.pen)
    share, weight = chosen(new.weight, old.weight)
    rho, base = jnp.tanh(new.correlation), jnp.tanh(old.correlation)
    free, base_free = 1.0 - rho**2, 1.0 - base**2
    ratio = jnp.exp(new.log_deviation - old.log_deviation)
    step = (new.mean - old.mean) * jnp.exp(-old.log_deviation)
    trace = ratio[..., 0] ** 2 + ratio[..., 1] ** 2 - 2.0 * base * rho * ratio[..., 0] * ratio[..., 1]
    away = step[..., 0] ** 2 + step[..., 1] ** 2 - 2.0 * base * step[..., 0] * step[..., 1]
    log_ratio = 2.0 * jnp.sum(old.log_deviation - new.log_deviation, axis=-1) + jnp.log(base_free) - jnp.log(free)
    normal = 0.5 * ((trace + away) / base_free - 2.0 + log_ratio)
    return pen + weight + jnp.sum(share * normal, axis=-1)


def advantages(rewards: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """Rewards with mean 0 and variance 1 over the batch; all 0 where they are all alike.

    The mean of the batch takes the place of a running mean: it knows the newest parameters, and needs no memory.
    """
    centred = rewards - jnp.mean(rewards)
    deviation = jnp.std(rewards)
    return jnp.where(deviation > 1e-6, centred / jnp.maximum(deviation, 1e-6), 0.0)


def plain_draw(config: Architecture, length: int, options: RewardOptions) -> Draw:
    """`(params, key, z) -> Drawn`: a batch with the generator alone; z is left out without an encoder."""
    temperature = jnp.full(options.batch_size, options.temperature)

    def draw(params: Params, key: jax.Array, z: jax.Array | None = None) -> Drawn:
        return sample.sample(config, params, key, temperature, length, z=z, convention=options.convention)

    return draw


def guided_draw(start: SketchRNN, predictor: TrainedPredictor, options: RewardOptions) -> tuple[Draw, Told]:
    """`draw` and `told` of `reward_stage` for a generator that a predictor guides.

    The predictor must give the same output for the same canvas, as `sketch.models.predictor.certain` does: the drawing
    is evaluated again for the gradient.
    """
    temperature, network = jnp.full(options.batch_size, options.temperature), Predictor(predictor.size)

    def draw(params: Params, key: jax.Array, z: jax.Array | None = None) -> Drawn:
        model = start._replace(params=params)
        how: dict[str, Any] = {"z": z, "convention": options.convention}
        return draw_guided(model, predictor, key, temperature, start.max_length, **how)

    def told(drawings: Drawings) -> jax.Array:
        weights = host_data.loaded(predictor.params, jax.random.key(0))

        def suggest(canvas: jax.Array, last: jax.Array, number: jax.Array) -> jax.Array:
            del number
            found = network.apply(weights, canvas, last, jax.random.key(0), method="likely")
            return found.embedding  # type: ignore[union-attr]

        return guidance(predictor.size, suggest, drawings)

    return draw, told


def recognisability_reward(discriminator: TrainedDiscriminator, at_once: int = 1) -> Reward:
    """How recognisable drawings are: the discriminator's log odds."""
    judge = recognisability(discriminator.size, at_once)

    def reward(drawings: Drawings) -> jax.Array:
        return judge(host_data.loaded(discriminator.params, jax.random.key(0)), drawings)

    return reward


def reward_stage(
    start: SketchRNN,
    draw: Draw | None,
    reward: Reward | TrainedDiscriminator,
    train: Sequence[np.ndarray],
    options: RewardOptions,
    told: Told | None = None,
) -> Stage:
    """A generator that learns to draw what is worth more; the result is its newest parameters.

    Args:
        start: the generator to go on from, and to stay near to.
        draw: `(params, key) -> Drawn` gives a batch; `(params, key, z [B, latent])` where `start` has an encoder.
            What it draws should be as likely as `options.temperature` says. None for `plain_draw`.
        reward: of finished drawings in units of the canvas, or a discriminator whose log odds it is.
        train: people's drawings, stroke-3 in units of the canvas, for `likelihood_weight`.
        options: hyper-parameters.
        told: extra inputs of the generator for each row of drawings in units of the canvas; needed where it has some.

    Raises:
        ValueError: extra inputs and `told` or `draw` do not go together, there are fewer drawings than a batch, or
            `likelihood_weight` is asked for with an encoder.
    """
    config, scale = start.config, start.scale_factor
    if bool(config.extra_inputs) != (told is not None):
        raise ValueError(f"a generator with {config.extra_inputs} extra inputs must{_told(told)}")
    if config.extra_inputs and draw is None:
        raise ValueError("a generator with extra inputs needs a way to draw with them")
    if options.likelihood_weight and config.conditional:
        raise ValueError("likelihood_weight is for generators without an encoder")
    pay = recognisability_reward(reward) if isinstance(reward, TrainedDiscriminator) else reward
    sampled = plain_draw(config, start.max_length, options) if draw is None else draw
    data = strokes.pad(train)

    def predicted(params: Params, rows: jax.Array, z: jax.Array | None, extra: jax.Array | None) -> Mixture:
        return sketch_rnn.decode(config, params, rows, z, extra)

    def likelihood(params: Params, batch: Drawings) -> jax.Array:
        extra = told(batch) if told is not None else None
        rows = strokes.batch_to_stroke5(strokes.scaled(batch, 1.0 / scale))
        return sketch_rnn.reconstruction(predicted(params, rows, None, extra), rows).per_point

    def loss(params: Params, batch: Drawings, key: jax.Array, _: jax.Array, hyper: dict[str, Any]) -> Judgement:
        latent_key, key = jax.random.split(key)
        z = jax.random.normal(latent_key, (options.batch_size, config.latent_size)) if config.conditional else None
        rows = sampled(jax.lax.stop_gradient(params), key, *(() if z is None else (z,))).rows
        drawings = strokes.scaled(strokes.batch_from_stroke5(rows), scale)
        rewards = pay(drawings)
        extra = told(drawings) if told is not None else None
        rows, rewards, extra = jax.lax.stop_gradient((rows, rewards, extra))
        counted = counted_rows(rows)
        count = jnp.sum(counted)
        new = predicted(params, rows, z, extra)
        old = predicted(host_data.loaded(start.params, key), rows, z, extra)
        log_probability = row_log_probability(tempered(new, options.temperature, options.convention), rows)
        policy = -jnp.sum(advantages(rewards)[:, None] * log_probability) / count
        divergence = jnp.sum(counted * row_divergence(new, old)) / count
        logs = jax.nn.log_softmax(new.pen)
        entropy = -jnp.sum(counted[..., None] * jnp.exp(logs) * logs) / count
        total = policy + hyper["kl_weight"] * divergence
        total = total + options.entropy_weight * jnp.maximum(options.entropy_floor - entropy, 0.0)
        metrics = {
            "reward": jnp.mean(rewards),
            "kl": divergence,
            "pen_entropy": entropy,
            "rows": count / len(rows),
            "unfinished": 1.0 - jnp.mean(jnp.max(rows[..., 4], axis=1)),
        }
        if options.likelihood_weight:
            metrics["nll"] = likelihood(params, batch)
            total = total + options.likelihood_weight * metrics["nll"]
        return Judgement(total, metrics)

    problem = Problem(
        lambda _: jax.tree.map(jnp.asarray, start.params),
        loss,
        lambda params, rows, key: Judgement(jnp.float32(0)),  # there is no validation set to be chosen by
        data,
    )
    recorded = {**config.config(), "scale_factor": scale, "max_length": start.max_length}
    trainer = descent_trainer("reward", problem, options, shown=("reward", "kl"), config=recorded)

    def finish(state: Any) -> SketchRNN:
        return start._replace(params=jax.tree.map(np.asarray, state.params["model"]))

    return Stage(trainer, options.iterations, finish)


def _told(told: Any) -> str:
    return " be told these" if told is None else " not be told any"
