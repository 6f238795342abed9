"""Reinforcement raises the reward, and a large KL weight keeps the initial generator."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import jsafe
from sketch.data.strokes import batch_from_stroke5
from sketch.models import mixture, sketch_rnn
from sketch.models.mixture import Mixture
from sketch.models.sketch_rnn import SketchRNN, SketchRNNConfig
from sketch.sampling import sample
from sketch.training import reinforce
from sketch.training.reinforce import Guide, ReinforceConfig, reinforce_stage

CONFIG = SketchRNNConfig(conditional=False, decoder_size=8, mixtures=2)
OPTIONS = ReinforceConfig(
    iterations=3, updates=15, batch_size=32, learning_rate=0.02, temperature=1.0, kl_weight=0.0, entropy_floor=0.0
)
HUMAN = [np.tile(np.array([[3.0, 0, 0], [0, 3, 1]], np.float32), (3, 1))] * 32
START = SketchRNN(CONFIG, jax.tree.map(np.asarray, sketch_rnn.init(CONFIG, jax.random.key(0))), 3.0, 8)


def lifts(drawings):
    """Share of the rows after which the pen is lifted."""
    return jnp.sum(drawings.rows[..., 2], axis=1) / drawings.rows.shape[1]


def drawn(model, count=400):
    return sample.sample(model.config, model.params, jax.random.key(9), jnp.ones(count), model.max_length)


def learned(options, pay=lifts, **more):
    stage = reinforce_stage(START, pay, HUMAN, options, **more)
    fitted = jsafe.fit(stage.trainer, iterations=stage.iterations, progress=False)
    return fitted, stage.finish(jax.tree.map(lambda leaf: leaf[0], fitted.state))


def test_what_is_rewarded_is_drawn_more_and_a_divergence_that_costs_much_forbids_it():
    before = float(lifts(batch_from_stroke5(drawn(START).rows)).mean())
    free, model = learned(OPTIONS)
    held, same = learned(dataclasses.replace(OPTIONS, kl_weight=1e3))
    after, unmoved = (float(lifts(batch_from_stroke5(drawn(m).rows)).mean()) for m in (model, same))
    assert before < 0.4 and after > before + 0.2
    assert abs(unmoved - before) < 0.05 and held.metrics["kl"][-1, 0] < 0.01 < 0.1 < free.metrics["kl"][-1, 0]
    assert free.metrics["reward"][0, 0] < free.metrics["reward"][-1, 0]


def test_nothing_is_learned_from_rewards_that_are_all_alike():
    _, model = learned(dataclasses.replace(OPTIONS, iterations=1), lambda drawings: jnp.full(32, 7.0))
    for ours, theirs in zip(*map(jax.tree.leaves, (model.params, START.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_gradient_is_that_of_the_expected_reward():
    """Of drawings of one row only the first pen state counts, so that the expectation has a closed form."""
    pays = jnp.array([1.0, 3.0, -2.0])
    logits = jnp.array([0.3, -0.2, 0.1])

    def surrogate(pen, key):
        state = jax.random.categorical(key, logits, shape=(200_000,))
        rows = jnp.concatenate([jnp.zeros((200_000, 1, 2)), jax.nn.one_hot(state, 3)[:, None]], -1)
        flat = jnp.zeros((200_000, 1, 1))
        predicted = Mixture(jnp.broadcast_to(pen, (200_000, 1, 3)), flat, jnp.zeros((200_000, 1, 1, 2)),
                       jnp.zeros((200_000, 1, 1, 2)), flat)  # fmt: skip
        worth = pays[state]
        return jnp.mean(reinforce.advantages(worth) * reinforce.row_log_probability(predicted, rows)[:, 0]) * jnp.std(
            worth
        )

    result = jax.jit(jax.grad(surrogate))(logits, jax.random.key(0))
    share = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(result, share * (pays - share @ pays), atol=0.01)


def test_likelihood_of_rows_equals_that_of_the_sampler():
    result = drawn(START, 16)
    predicted = sketch_rnn.decode(CONFIG, START.params, result.rows)
    each = reinforce.row_log_probability(predicted, result.rows)
    np.testing.assert_allclose(each.sum(1), result.log_probability, rtol=1e-4, atol=1e-4)
    over = result.rows[..., 4] > 0
    lengths = np.where(over.any(1), np.argmax(over, axis=1) + 1, 8)
    np.testing.assert_array_equal(reinforce.counted_rows(result.rows).sum(1), lengths)


def random_mixture(seed, components=3):
    keys = jax.random.split(jax.random.key(seed), 5)
    shapes = [(3,), (components,), (components, 2), (components, 2), (components,)]
    return Mixture(*(0.5 * jax.random.normal(k, (1, *s)) for k, s in zip(keys, shapes, strict=True)))


@pytest.mark.parametrize("convention, discrete, variance", [("paper", 0.5, 0.5), ("javascript", 0.75, 0.5)])
def test_a_tempered_distribution_is_the_one_that_is_drawn_from(convention, discrete, variance):
    predicted = random_mixture(0)
    cold = reinforce.tempered(predicted, 0.5, convention)
    for ours, logits in ((cold.pen, predicted.pen), (cold.weight, predicted.weight)):
        np.testing.assert_allclose(jax.nn.softmax(ours), jax.nn.softmax(logits / discrete), rtol=1e-5)
    np.testing.assert_allclose(np.exp(2 * (cold.log_deviation - predicted.log_deviation)), variance, rtol=1e-5)


def normal_of(predicted, component):
    scale, rho = np.exp(predicted.log_deviation[0, component]), np.tanh(predicted.correlation[0, component])
    covariance = np.outer(scale, scale) * np.array([[1, rho], [rho, 1]])
    return np.asarray(predicted.mean[0, component], float), covariance.astype(float)


def test_the_divergence_of_single_normal_distributions_is_exact_and_of_mixtures_a_bound():
    one, two = random_mixture(1, 1), random_mixture(2, 1)
    (mean, cov), (base, base_cov) = normal_of(one, 0), normal_of(two, 0)
    inverse, away = np.linalg.inv(base_cov), base - mean
    normal = 0.5 * (
        np.trace(inverse @ cov) + away @ inverse @ away - 2 + np.log(np.linalg.det(base_cov) / np.linalg.det(cov))
    )
    pens = [np.asarray(jax.nn.softmax(m.pen[0]), float) for m in (one, two)]
    pen = np.sum(pens[0] * np.log(pens[0] / pens[1]))
    assert float(reinforce.row_divergence(one, two)[0]) == pytest.approx(normal + pen, rel=1e-4)

    new, old = random_mixture(3), random_mixture(4)
    rng, points = np.random.default_rng(0), []
    shares = np.asarray(jax.nn.softmax(new.weight[0]), float)
    for component, count in enumerate(rng.multinomial(20_000, shares / shares.sum())):
        points.append(rng.multivariate_normal(*normal_of(new, component), count))
    points = np.concatenate(points)

    def log_density(predicted):
        weights = np.asarray(jax.nn.softmax(predicted.weight[0]), float)
        parts = (w * multivariate_normal(*normal_of(predicted, i)).pdf(points) for i, w in enumerate(weights))
        return np.log(sum(parts))

    pens = [np.asarray(jax.nn.softmax(m.pen[0]), float) for m in (new, old)]
    measured = np.mean(log_density(new) - log_density(old)) + np.sum(pens[0] * np.log(pens[0] / pens[1]))
    assert 0 < measured < float(reinforce.row_divergence(new, old)[0]) + 0.02
    np.testing.assert_allclose(reinforce.row_divergence(new, new), 0.0, atol=1e-5)
    slope = jax.grad(lambda m: reinforce.row_divergence(m, new)[0])(new)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(slope)) < 1e-5
    assert mixture.output_size(3) == 21


def test_a_pen_without_entropy_is_pushed_back_to_the_floor():
    options = dataclasses.replace(OPTIONS, iterations=2, entropy_floor=1.05, entropy_weight=10.0)
    biased = START.params["output"] | {"bias": START.params["output"]["bias"] + np.eye(1, 15, 1, dtype=np.float32)[0]}
    start = START._replace(params=START.params | {"output": biased})
    stage = reinforce_stage(start, lambda drawings: jnp.zeros(32), HUMAN, options)
    result = jsafe.fit(stage.trainer, iterations=2, progress=False).metrics["pen_entropy"][:, 0]
    assert result[0] < result[1] and result[1] > 0.99


def test_a_generator_is_conditioned_on_its_own_strokes_only():
    wide = SketchRNNConfig(conditional=False, decoder_size=8, mixtures=2, extra_inputs=3)
    params = jax.tree.map(np.asarray, sketch_rnn.widened(CONFIG, START.params, 3))
    model, seen = START._replace(config=wide, params=params), []

    def extra_inputs(drawings):
        seen.append(drawings.rows.shape)
        return jnp.broadcast_to(jnp.cumsum(drawings.rows, axis=1), drawings.rows.shape)

    draw = reinforce.plain_draw(CONFIG, 8, OPTIONS)
    narrow = lambda params, key: draw(START.params, key)  # noqa: E731
    options = dataclasses.replace(OPTIONS, iterations=1, updates=2, likelihood_weight=0.5)
    stage = reinforce_stage(model, lifts, HUMAN, options, Guide(narrow, extra_inputs))
    state, metrics = jax.jit(stage.trainer.step)(stage.trainer.init(jax.random.key(0)))
    assert {shape[1] for shape in seen} == {8, 6} and np.isfinite(metrics["nll"])
    kernel = state.params["model"]["decoder"]["input"][5:8]
    assert np.abs(kernel).min(axis=1).max() > 0  # the extra inputs have nonzero kernels
    with pytest.raises(ValueError, match="a generator with 3 extra inputs needs a guide"):
        reinforce_stage(model, lifts, HUMAN, options)
    with pytest.raises(ValueError, match="a generator with 0 extra inputs cannot use a guide"):
        reinforce_stage(START, lifts, HUMAN, options, Guide(narrow, extra_inputs))


def test_a_generator_with_an_encoder_draws_from_its_prior():
    config = SketchRNNConfig(encoder_size=3, decoder_size=5, latent_size=2, mixtures=2)
    params = jax.tree.map(np.asarray, sketch_rnn.init(config, jax.random.key(0)))
    options = dataclasses.replace(OPTIONS, iterations=1, updates=1)
    stage = reinforce_stage(SketchRNN(config, params, 3.0, 8), lifts, HUMAN, options)
    state, _ = jax.jit(stage.trainer.step)(stage.trainer.init(jax.random.key(0)))
    assert np.abs(state.params["model"]["initial"]["kernel"] - params["initial"]["kernel"]).max() > 1e-3
    np.testing.assert_array_equal(state.params["model"]["mean"]["kernel"], params["mean"]["kernel"])
