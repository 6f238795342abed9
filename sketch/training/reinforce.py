"""REINFORCE on whole drawings, with a KL penalty from the initial generator.

Each update samples a batch with the newest parameters, computes its rewards, and raises the probability of drawings
with more reward than the mean of the batch (Williams 1992). A row-wise KL divergence from the initial generator and a
floor of the pen entropy prevent mode collapse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsafe import host_data
from sketch.data import strokes
from sketch.data.strokes import Drawings
from sketch.models import sketch_rnn
from sketch.models.discriminator import TrainedDiscriminator, recognisability
from sketch.models.mixture import Mixture, log_density, pen_loss
from sketch.models.predictor import Predictor, TrainedPredictor, guidance
from sketch.models.sketch_rnn import Params, SketchRNN, SketchRNNConfig
from sketch.sampling import sample
from sketch.sampling.guided_sampling import GuidedSampler, sample_guided
from sketch.sampling.sample import CONVENTIONS, Samples
from sketch.training.drawing_trainer import LearningProblem, LossOutput, Stage, descent_trainer
from sketch.training.sketch_rnn_training import frame_on_host
from sketch.training.training_configs import ReinforceConfig

ExtraInputs = Callable[[Drawings], Float[Array, "batch time extra"]]
Reward = Callable[[Drawings], Float[Array, " batch"]]
Draw = Callable[..., Samples]


def tempered(predicted: Mixture, temperature: float, convention: str = "paper") -> Mixture:
    """Return the distribution from which `sample.sample` draws at a temperature above 0."""
    discrete, deviation = CONVENTIONS[convention](jnp.float32(temperature))
    return predicted._replace(
        pen=predicted.pen / discrete,
        weight=predicted.weight / discrete,
        log_deviation=predicted.log_deviation + jnp.log(deviation),
    )


def counted_rows(rows: Float[Array, "batch time 5"]) -> Float[Array, "batch time"]:
    """Mask of the rows that the generator sampled: all rows of a drawing and its first end row."""
    over = rows[..., 4] > 0
    return (jnp.cumsum(over, axis=1) - over == 0).astype(jnp.float32)


def row_log_probability(predicted: Mixture, rows: Float[Array, "batch time 5"]) -> Float[Array, "batch time"]:
    """Log probability of each sampled row, 0 for others; the offset of the end row does not count."""
    real = 1.0 - rows[..., 4]
    return counted_rows(rows) * (real * log_density(predicted, rows[..., :2]) - pen_loss(predicted, rows[..., 2:]))


def row_divergence(new: Mixture, old: Mixture) -> Float[Array, "*batch"]:
    """Upper bound of the KL divergence between two distributions of a row.

    The divergence of mixtures has no closed form. The joint divergence of component and offset bounds it, and is close
    while the components correspond. It is 0 for equal distributions.
    """

    def categorical(logits: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
        logs = jax.nn.log_softmax(logits)
        share = jnp.exp(logs)
        return share, jnp.sum(share * (logs - jax.nn.log_softmax(others)), axis=-1)

    _, pen = categorical(new.pen, old.pen)
    share, weight = categorical(new.weight, old.weight)
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
    """Normalise rewards to mean 0 and variance 1 over the batch; all 0 if they are equal.

    The batch mean replaces a running mean: it belongs to the newest parameters and needs no state.
    """
    centred = rewards - jnp.mean(rewards)
    deviation = jnp.std(rewards)
    return jnp.where(deviation > 1e-6, centred / jnp.maximum(deviation, 1e-6), 0.0)


def plain_draw(config: SketchRNNConfig, length: int, options: ReinforceConfig) -> Draw:
    """Return a sampler `(params, key, z) -> Samples` of the generator alone; without an encoder it takes no z."""
    temperature = jnp.full(options.batch_size, options.temperature)

    def draw(params: Params, key: jax.Array, z: jax.Array | None = None) -> Samples:
        return sample.sample(config, params, key, temperature, length, z=z, convention=options.convention)

    return draw


class Guide(NamedTuple):
    """Sampling with extra inputs, and their recomputation for the gradient.

    Attributes:
        draw: `(params, key, z) -> Samples`.
        extra_inputs: extra inputs of each row of drawings in units of the canvas.
    """

    draw: Draw
    extra_inputs: ExtraInputs


def predictor_guide(start: SketchRNN, predictor: TrainedPredictor, options: ReinforceConfig) -> Guide:
    """Return the guide of a generator with a predictor.

    The predictor must be deterministic (see `sketch.models.predictor.deterministic`), because the canvas is evaluated
    again for the gradient.
    """
    temperature, network = jnp.full(options.batch_size, options.temperature), Predictor(predictor.size)

    def draw(params: Params, key: jax.Array, z: jax.Array | None = None) -> Samples:
        model = start._replace(params=params)
        sampler = GuidedSampler(model, predictor, start.max_length, convention=options.convention)
        return sample_guided(sampler, key, temperature, z=z)

    def extra_inputs(drawings: Drawings) -> jax.Array:
        weights = host_data.loaded(predictor.params, jax.random.key(0))

        def suggest(canvas: jax.Array, last: jax.Array, number: jax.Array) -> jax.Array:
            del number
            suggestion = network.apply(weights, canvas, last, jax.random.key(0), method="likely")
            return suggestion.embedding  # type: ignore[union-attr]

        return guidance(predictor.size, suggest, drawings)

    return Guide(draw, extra_inputs)


def recognisability_reward(discriminator: TrainedDiscriminator, at_once: int = 1) -> Reward:
    """Return the log odds of a discriminator as a reward."""
    log_odds = recognisability(discriminator.size, at_once)

    def reward(drawings: Drawings) -> jax.Array:
        return log_odds(host_data.loaded(discriminator.params, jax.random.key(0)), drawings)

    return reward


def reinforce_stage(
    start: SketchRNN,
    reward: Reward | TrainedDiscriminator,
    train: Sequence[np.ndarray],
    options: ReinforceConfig,
    guide: Guide | None = None,
    *,
    framed: bool = False,
) -> Stage:
    """Build the stage that reinforces a generator; the result has the newest parameters.

    Args:
        start: initial generator, from which the KL divergence is computed.
        reward: reward of finished drawings in units of the canvas, or a discriminator for its log odds.
        train: people's drawings for `likelihood_weight`, stroke-3 in units of the canvas.
        options: hyper-parameters.
        guide: sampling with extra inputs, for a generator that has some; sampling must use the temperature of the
            options.
        framed: frame the drawings, for a generator that was trained on framed drawings.

    Raises:
        ValueError: if there are extra inputs without a guide or a guide without extra inputs, fewer drawings than a
            batch, or a `likelihood_weight` for a model with an encoder.
    """
    config, scale = start.config, start.scale_factor
    if bool(config.extra_inputs) != (guide is not None):
        needs = "needs a guide" if guide is None else "cannot use a guide"
        raise ValueError(f"a generator with {config.extra_inputs} extra inputs {needs}")
    if options.likelihood_weight and config.conditional:
        raise ValueError("likelihood_weight needs a generator without an encoder, got one with an encoder")
    reward_fn = recognisability_reward(reward) if isinstance(reward, TrainedDiscriminator) else reward
    data = strokes.pad(train)
    problem = LearningProblem(
        lambda _: jax.tree.map(jnp.asarray, start.params),
        reinforce_loss(start, reward_fn, options, guide),
        lambda params, rows, key: LossOutput(jnp.float32(0)),  # no validation set
        frame_on_host(data) if framed else data,
    )
    recorded = {**config.config(), "scale_factor": scale, "max_length": start.max_length}
    trainer = descent_trainer("reward", problem, options, shown=("reward", "kl"), config=recorded)

    def finish(state: Any) -> SketchRNN:
        return start._replace(params=jax.tree.map(np.asarray, state.params["model"]))

    return Stage(trainer, options.iterations, finish)


class Rollout(NamedTuple):
    """Sampled drawings and their rewards; no gradient passes through.

    Attributes:
        rows: `[B, N, 5]` in the unit of the generator.
        z: `[B, latent]`, None without an encoder.
        rewards: `[B]`.
        extra: `[B, N, extra_inputs]`, None without extra inputs.
    """

    rows: jax.Array
    z: jax.Array | None
    rewards: jax.Array
    extra: jax.Array | None


def sample_rollout(
    start: SketchRNN, reward: Reward, options: ReinforceConfig, guide: Guide | None, params: Params, key: jax.Array
) -> Rollout:
    """Sample a batch with the newest parameters and compute its rewards."""
    config = start.config
    draw = plain_draw(config, start.max_length, options) if guide is None else guide.draw
    latent_key, key = jax.random.split(key)
    z = jax.random.normal(latent_key, (options.batch_size, config.latent_size)) if config.conditional else None
    rows = draw(jax.lax.stop_gradient(params), key, *(() if z is None else (z,))).rows
    drawings = strokes.scaled(strokes.batch_from_stroke5(rows), start.scale_factor)
    rewards = reward(drawings)
    extra = None if guide is None else guide.extra_inputs(drawings)
    rows, rewards, extra = jax.lax.stop_gradient((rows, rewards, extra))
    return Rollout(rows, z, rewards, extra)


def reinforce_loss(
    start: SketchRNN, reward: Reward, options: ReinforceConfig, guide: Guide | None
) -> Callable[..., LossOutput]:
    """Policy loss, KL divergence from the initial generator, pen entropy below its floor, and likelihood loss."""
    config = start.config

    def likelihood(params: Params, batch: Drawings) -> jax.Array:
        extra = None if guide is None else guide.extra_inputs(batch)
        rows = strokes.batch_to_stroke5(strokes.scaled(batch, 1.0 / start.scale_factor))
        return sketch_rnn.reconstruction(sketch_rnn.decode(config, params, rows, None, extra), rows).per_point

    def loss(params: Params, batch: Drawings, key: jax.Array, _: jax.Array, hyper: dict[str, Any]) -> LossOutput:
        rows, z, rewards, extra = sample_rollout(start, reward, options, guide, params, key)
        counted = counted_rows(rows)
        count = jnp.sum(counted)
        new = sketch_rnn.decode(config, params, rows, z, extra)
        old = sketch_rnn.decode(config, host_data.loaded(start.params, key), rows, z, extra)
        log_probability = row_log_probability(tempered(new, options.temperature, options.convention), rows)
        policy = -jnp.sum(advantages(rewards)[:, None] * log_probability) / count
        divergence = jnp.sum(counted * row_divergence(new, old)) / count
        entropy = pen_entropy(new, counted)
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
        return LossOutput(total, metrics)

    return loss


def pen_entropy(predicted: Mixture, counted: Float[Array, "batch time"]) -> jax.Array:
    """Mean entropy of the pen state over the counted rows, in nats."""
    logs = jax.nn.log_softmax(predicted.pen)
    return -jnp.sum(counted[..., None] * jnp.exp(logs) * logs) / jnp.sum(counted)
