"""The supervised trainer: optimiser, best parameters, and updates that are not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from sketch.training.drawing_trainer import LearningProblem, LossOutput, TrainingConfig, descent_trainer

RNG = np.random.default_rng(0)
DATA = {"x": RNG.normal(size=(23, 3)).astype(np.float32), "y": np.arange(23, dtype=np.float32)}
OPTIONS = TrainingConfig(
    iterations=4, updates=5, batch_size=6, learning_rate=0.1, last_learning_rate=0.02, learning_rate_decay=0.9,
    gradient_clip=2.0,
)  # fmt: skip


def squares(params, batch, *_):
    error = batch["x"] @ params["w"] - batch["y"]
    return LossOutput(jnp.mean(error**2), {"worst": jnp.max(jnp.abs(error))})


def problem(**changes):
    return LearningProblem(lambda key: {"w": jax.random.normal(key, (3,))}, squares, squares, DATA)._replace(**changes)


def test_updates_are_adam_on_gradients_bounded_entry_by_entry():
    trainer, key = descent_trainer("fit", problem(), OPTIONS), jax.random.key(3)
    start = trainer.init(key)
    w, first, second = np.asarray(start.params["model"]["w"], float), np.zeros(3), np.zeros(3)
    clipped = 0
    for number in range(20):
        choice, _ = jax.random.split(jax.random.fold_in(start.key, number))
        rows = np.asarray(jax.random.choice(choice, 23, (6,), replace=False))
        assert len(set(rows.tolist())) == 6
        x, y = DATA["x"][rows].astype(float), DATA["y"][rows]
        slope = 2 * x.T @ (x @ w - y) / 6
        clipped += (np.abs(slope) > 2).any() and (np.abs(slope) < 2).any()
        slope = np.clip(slope, -2, 2)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        step = first / (1 - 0.9 ** (number + 1)) / (np.sqrt(second / (1 - 0.999 ** (number + 1))) + 1e-8)
        w = w - ((0.1 - 0.02) * 0.9**number + 0.02) * step
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 4))(key)
    np.testing.assert_allclose(state.params["model"]["w"], w, rtol=1e-4)
    np.testing.assert_array_equal(state.params["best"]["w"], state.params["model"]["w"])
    assert clipped and metrics["env_steps"].tolist() == [30, 60, 90, 120]
    assert metrics["learning_rate"][-1] == pytest.approx(0.08 * 0.9**19 + 0.02, rel=1e-5)


def test_the_parameters_that_did_best_on_the_validation_set_are_kept():
    # Training pulls w to 10; the validation set likes it best at 1.
    data, valid = {"y": np.full(8, 10.0, np.float32)}, {"y": np.ones(5, np.float32)}

    def loss(params, batch, *_):
        return LossOutput(jnp.mean((params["w"] - batch["y"]) ** 2))

    options = dataclasses.replace(OPTIONS, updates=1, learning_rate_decay=1.0)
    pulled = LearningProblem(lambda key: {"w": jnp.float32(0)}, loss, loss, data, valid)
    trainer = descent_trainer("fit", pulled, options)
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 25))(jax.random.key(0))
    assert abs(state.params["best"]["w"] - 1.0) < 0.1 < 1.0 < state.params["model"]["w"]
    best = int(np.argmin(metrics["valid_loss"])) + 1
    assert metrics["best_iteration"][-1] == best < 25 and state.algo.loss == metrics["valid_loss"].min()


def test_an_update_that_is_not_finite_changes_nothing_and_is_counted():
    bad = DATA | {"y": np.where(np.arange(23) == 5, np.nan, DATA["y"]).astype(np.float32)}
    state, metrics = jax.jit(lambda k: jsafe.run(descent_trainer("fit", problem(data=bad), OPTIONS), k, 4))(
        jax.random.key(3)
    )
    assert 0 < int(state.skipped) < 20 and int(state.skipped) == metrics["skipped"][-1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.optimizer, metrics["loss"])))


def test_a_population_over_step_sizes_gives_what_each_member_gives_alone():
    trainer = descent_trainer("fit", problem(), OPTIONS)
    rates = jnp.array([0.1, 0.03])
    run = jax.jit(lambda rate: jsafe.run(trainer, jax.random.key(1), 3, {"learning_rate": rate})[1]["loss"])
    both = jax.jit(jax.vmap(run))(rates)
    np.testing.assert_allclose(both, [run(rates[0]), run(rates[1])], rtol=1e-4)
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_a_run_resumes_exactly(tmp_path):
    trainer = descent_trainer("fit", problem(validation=DATA), OPTIONS)
    whole = jsafe.fit(trainer, iterations=4, progress=False)
    jsafe.fit(trainer, iterations=2, run_dir=tmp_path / "run", progress=False)
    parts = jsafe.fit(trainer, iterations=4, run_dir=tmp_path / "run", resume=True, progress=False)
    for a, b in zip(*(jax.tree.leaves((r.state.params, r.state.algo)) for r in (whole, parts)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 30}, "batch_size must be at most the number of drawings, 23, got 30"),
        ({"updates": 0}, "updates must be at least 1, got 0"),
        ({"learning_rate_decay": 1.5}, "learning_rate_decay must be at most 1"),
        ({"gradient_clip": 0.0}, "gradient_clip must be greater than 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        descent_trainer("fit", problem(), dataclasses.replace(OPTIONS, **changes))
    with pytest.raises(ValueError, match=r"validation must have arrays of one length, got \[22, 23\]"):
        descent_trainer("fit", problem(validation=DATA | {"y": DATA["y"][1:]}), OPTIONS)
    with pytest.raises(TypeError, match=r"fit has no traced option 'learning_rat'; did you mean 'learning_rate'\?"):
        descent_trainer("fit", problem(), OPTIONS).init(jax.random.key(0), {"learning_rat": 1.0})
