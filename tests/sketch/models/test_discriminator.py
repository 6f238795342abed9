"""The discriminator: norms, area under the curve, training, and the gradient of its log odds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from sketch.data import procedural
from sketch.data.strokes import pad, scaled
from sketch.models import discriminator
from sketch.models.discriminator import DiscriminatorConfig, TrainedDiscriminator
from sketch.sampling import refinement
from sketch.training import discriminator_training
from sketch.training.discriminator_training import DiscriminatorTrainingConfig, discriminator_stage

SIZE = DiscriminatorConfig(side=16, channels=(8, 16))
OPTIONS = DiscriminatorTrainingConfig(
    iterations=2, updates=80, batch_size=16, learning_rate=5e-3, learning_rate_decay=0.99, dropout=0.1
)
CATS, HOUSES = procedural.drawings("cat", 64), procedural.drawings("house", 64)


@pytest.fixture(scope="module")
def learned():
    stage = discriminator_stage(CATS[:48], {"house": HOUSES[:48]}, CATS[48:], {"house": HOUSES[48:]}, SIZE, OPTIONS)
    fitted = jsafe.fit(stage.trainer, iterations=stage.iterations, progress=False)
    return fitted, stage.finish(jax.tree.map(lambda leaf: leaf[0], fitted.state))


def test_power_iterations_find_the_largest_singular_value_and_its_gradient():
    matrix = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    left, values, right = np.linalg.svd(matrix.astype(float), full_matrices=False)
    result = jax.jit(lambda m: discriminator.largest_singular_value(m, 100))(matrix)
    assert float(result) == pytest.approx(values[0], rel=1e-5)
    slope = jax.jit(jax.grad(lambda m: discriminator.largest_singular_value(m, 100)))(matrix)
    np.testing.assert_allclose(slope, np.outer(left[:, 0], right[0]), atol=1e-3)
    few = float(discriminator.largest_singular_value(matrix, DiscriminatorConfig().power_iterations))
    assert 0.95 * values[0] < few < values[0] * (1 + 1e-5)


def test_every_layer_has_the_norm_that_is_wanted_whatever_its_parameters():
    params = discriminator.init(SIZE, jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (3, 16, 16))
    large = {k: layer | {"kernel": 7.0 * layer["kernel"]} for k, layer in params.items()}
    judge = jax.jit(lambda p: discriminator.logits(SIZE, p, images))
    np.testing.assert_allclose(judge(params), judge(large), rtol=1e-4)
    assert np.ptp(judge(params)) > 1e-3


def test_the_area_under_the_curve_counts_pairs_and_half_of_ties():
    rng = np.random.default_rng(1)
    positive, negative = rng.integers(0, 6, 23).astype(np.float32), rng.integers(-2, 5, 31).astype(np.float32)
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    assert float(discriminator_training.area_under_curve(positive, negative)) == pytest.approx(pairs.mean(), rel=1e-5)


def test_the_loss_weighs_kinds_alike_by_hand():
    positive, few, many = np.array([2.0, -1.0]), np.array([0.5]), np.array([-3.0, -1.0, 1.0, -2.0])

    def cost(x, target):
        share = 1 / (1 + np.exp(-x))
        return np.mean(-target * np.log(share) - (1 - target) * np.log(1 - share))

    result = discriminator_training.discriminator_loss(
        jnp.array(positive), {"few": jnp.array(few), "many": jnp.array(many)}, 0.1
    )
    expected = 0.5 * cost(positive, 0.9) + 0.25 * cost(few, 0.1) + 0.25 * cost(many, 0.1)
    assert float(result.loss) == pytest.approx(expected, rel=1e-5)
    assert float(result.metrics["accuracy"]) == pytest.approx(0.5 * 0.5 + 0.25 * 0.0 + 0.25 * 0.75)
    assert float(result.metrics["auc"]) == pytest.approx((0.5 + 6.5 / 8) / 2)


def test_it_learns_what_cats_are_and_what_is_wrong_with_damaged_ones(learned):
    fitted, model = learned
    assert fitted.metrics["valid_auc_house"][-1, 0] > 0.95
    assert fitted.metrics["valid_auc_corrupted"][-1, 0] > 0.7
    judge = jax.jit(discriminator.recognisability(model.size))
    fresh = [judge(model.params, pad(procedural.drawings(n, 24, seed=1), 120)) for n in ("cat", "house")]
    assert float(discriminator_training.area_under_curve(*fresh)) > 0.95


def test_neither_the_unit_nor_the_place_nor_the_padding_of_a_drawing_counts(learned):
    _, model = learned
    judge = jax.jit(discriminator.recognisability(model.size))
    plain = judge(model.params, pad(CATS[:4], 120))
    moved = [np.concatenate([d[:1] + [50, -70, 0], d[1:]]) for d in CATS[:4]]
    np.testing.assert_allclose(judge(model.params, scaled(pad(moved, 140), 0.03)), plain, atol=2e-3)


def test_the_gradient_of_its_judgement_is_that_of_finite_differences_and_leads_up(learned):
    _, model = learned
    judge = discriminator.soft_recognisability(model.size)
    drawings = jax.tree.map(jnp.asarray, pad(HOUSES[:4], 60))
    offsets = drawings.rows[..., :2]
    score = jax.jit(lambda x: jnp.sum(judge(model.params, x, drawings)))
    slope = jax.jit(jax.grad(score))(offsets)
    direction = slope / jnp.linalg.norm(slope)
    step = 0.5  # units of 255: rounding and the corners of the network both stay small
    measured = float(score(offsets + step * direction) - score(offsets - step * direction)) / (2 * step)
    assert measured == pytest.approx(float(jnp.linalg.norm(slope)), rel=0.05)
    risen = [float(score(offsets))]
    for _ in range(5):
        result = jax.jit(jax.grad(score))(offsets)
        offsets = offsets + 2.0 * result / jnp.linalg.norm(result)
        risen.append(float(score(offsets)))
    assert np.all(np.diff(risen) > 0)


def test_refined_drawings_are_as_recognisable_or_more_and_move_little(learned):
    _, model = learned
    drawings = pad([1000.0 * d * [1, 1, 1e-3] for d in HOUSES[:6]], 60)  # whatever the unit is
    refine = jax.jit(refinement.refine_drawings(model.size, 12, 0.01))
    result, odds = jax.tree.map(np.asarray, refine(model.params, drawings))
    judge = jax.jit(discriminator.recognisability(model.size))
    np.testing.assert_allclose(odds[:, 0], judge(model.params, drawings), atol=1e-3)
    np.testing.assert_allclose(odds[:, 1], judge(model.params, result), atol=2e-2)
    assert (odds[:, 1] >= odds[:, 0]).all() and np.mean(odds[:, 1] - odds[:, 0]) > 0.3
    np.testing.assert_array_equal(result.rows[..., 2], drawings.rows[..., 2])
    np.testing.assert_array_equal(result.lengths, drawings.lengths)
    for before, after, length in zip(drawings.rows, result.rows, drawings.lengths, strict=True):
        there, now = (np.cumsum(rows[:length, :2], axis=0) for rows in (before, after))
        moved = np.linalg.norm(now - there, axis=1) / np.ptp(there, axis=0).max()
        assert moved[0] < 1e-5 and 0 < moved.max() <= 12 * 0.01 + 1e-4
        assert not after[length:, :2].any()


def test_it_starts_from_another_model_and_refuses_unusable_data():
    initial = TrainedDiscriminator(SIZE, discriminator.init(SIZE, jax.random.key(3)))
    stage = discriminator_stage(CATS, {}, (), {}, DiscriminatorConfig(), OPTIONS, start=initial)
    state = stage.trainer.init(jax.random.key(0))
    for ours, theirs in zip(*map(jax.tree.leaves, (state.params["model"], initial.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    wrong = [
        (({"corrupted": HOUSES}, (), {}), "the kind 'corrupted' is reserved"),
        (({"house": []}, (), {}), "the kind 'house' of negatives needs at least one drawing"),
        (({"house": HOUSES}, CATS, {}), r"got \['house'\] and \[\]"),
        (({}, CATS[:1], {}), "needs at least two positives, got one"),
    ]
    for arguments, message in wrong:
        with pytest.raises(ValueError, match=message):
            discriminator_stage(CATS, *arguments, SIZE, OPTIONS)
    with pytest.raises(ValueError, match="batch_size must be at most the number of drawings, 64, got 65"):
        discriminator_stage(CATS, {}, (), {}, SIZE, dataclasses.replace(OPTIONS, batch_size=65))
    with pytest.raises(ValueError, match="side 30 must be a multiple"):
        DiscriminatorConfig(side=30)
