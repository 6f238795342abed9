"""The supervised stages: their order of rows, their optimiser, and what they do with what is not a number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.supervised import LossOutput
from rlhf.training.adamw import decayed
from rlhf.training.schedules import schedule
from rlhf.training.supervised_trainer import TrainingConfig, count_updates, supervised_trainer


def test_the_cosine_schedule_has_the_published_values():
    factor = schedule("cosine", 1000, 0.03)
    actual = [2e-5 * float(factor(jnp.int32(step))) for step in (1, 15, 30, 515, 1000)]
    np.testing.assert_allclose(actual, [6.667e-7, 1e-5, 2e-5, 1e-5, 0.0], rtol=1e-3, atol=1e-12)


def test_other_schedules_at_their_corners():
    linear, flat = schedule("linear", 10, 0.2), schedule("constant_with_warmup", 10, 0.2)
    assert [float(linear(jnp.int32(s))) for s in (0, 1, 2, 6, 10)] == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert [float(flat(jnp.int32(s))) for s in (0, 1, 2, 9)] == [0.0, 0.5, 1.0, 1.0]
    assert float(schedule("constant", 10, 0.9)(jnp.int32(0))) == 1.0  # no warm-up, as published
    with pytest.raises(ValueError, match="schedule must be one of"):
        schedule("step", 10)


DATA = {"x": np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32), "y": np.arange(23, dtype=np.float32)}
PARAMS = {"w": np.ones(3, np.float32), "ln_1": np.full(3, 2.0, np.float32)}
OPTIONS = TrainingConfig(
    epochs=3, batch_size=4, learning_rate=0.1, schedule="linear", warmup_ratio=0.2, weight_decay=0.1, max_grad_norm=1.0
)


def squares(params, batch):
    error = batch["x"] @ (params["w"] * params["ln_1"]) - batch["y"]
    return LossOutput(jnp.mean(error**2), {"worst": jnp.max(jnp.abs(error))}, error[:, None])


def adamw_by_hand(batches):
    """AdamW with the bound on the gradient's norm and the schedule, in NumPy; norms of layers do not decay."""
    params = {k: v.astype(np.float64) for k, v in PARAMS.items()}
    first, second = ({k: np.zeros(3) for k in params} for _ in range(2))
    for number, rows in enumerate(batches):
        x, y = DATA["x"][rows].astype(float), DATA["y"][rows]
        error = x @ (params["w"] * params["ln_1"]) - y
        slope = 2 * x.T @ error / len(rows)
        gradient = {"w": slope * params["ln_1"], "ln_1": slope * params["w"]}
        size = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
        rate = 0.1 * (number / 3 if number < 3 else 1 - (number - 3) / 12)
        for k, g in gradient.items():
            g = g * min(1.0, 1.0 / size)
            first[k] = 0.9 * first[k] + 0.1 * g
            second[k] = 0.95 * second[k] + 0.05 * g**2
            step = first[k] / (1 - 0.9 ** (number + 1)) / (np.sqrt(second[k] / (1 - 0.95 ** (number + 1))) + 1e-8)
            params[k] = params[k] - rate * (step + (0.1 * params[k] if k == "w" else 0.0))
    return params


@pytest.mark.parametrize("accumulation", [1, 2])
def test_updates_are_adamw_on_each_epochs_own_order(accumulation):
    options = dataclasses.replace(OPTIONS, accumulation=accumulation)
    trainer = supervised_trainer("fit", PARAMS, DATA, squares, options, momentum=0.9)
    assert count_updates(23, options) == 15 and trainer.info.config["updates"] == 15
    key = jax.random.key(3)
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 15))(key)
    orders = [np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), 23)) for epoch in range(3)]
    batches = [order[i : i + 4] for order in orders for i in range(0, 20, 4)]
    assert all(len(set(order.tolist())) == 23 for order in orders)
    expected = adamw_by_hand(batches)
    for name in PARAMS:
        np.testing.assert_allclose(state.params["model"][name], expected[name], rtol=2e-4, err_msg=name)
    np.testing.assert_allclose(metrics["epoch"][-1], 3.0)
    assert int(state.algo.count) == 60 and metrics["worst"].shape == (15,)


def test_biases_and_norms_of_layers_do_not_decay():
    tree = {"decoder": {"layers": {"ln_1": {"scale": 1}, "ln_2": {"scale": 1}, "mlp": {"up": 1}}, "ln_f": {"scale": 1}}}
    actual = decayed({**tree, "score_head": 1, "score_bias": 1})
    assert actual["decoder"]["layers"] == {"ln_1": {"scale": False}, "ln_2": {"scale": False}, "mlp": {"up": True}}
    assert actual["decoder"]["ln_f"]["scale"] and actual["score_head"] and not actual["score_bias"]


def test_an_update_that_is_not_finite_changes_nothing_and_is_counted():
    bad = {**DATA, "y": np.where(np.arange(23) == 5, np.nan, DATA["y"]).astype(np.float32)}
    trainer = supervised_trainer("fit", PARAMS, bad, squares, OPTIONS, momentum=0.9)
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 15))(jax.random.key(3))
    lost = np.isnan(metrics["loss"])
    assert 1 <= lost.sum() <= 3 and int(state.skipped) == lost.sum()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.optimizer, state.algo)))


def test_a_population_over_step_sizes_gives_what_each_member_gives_alone():
    trainer = supervised_trainer("fit", PARAMS, DATA, squares, OPTIONS)
    rates = jnp.array([0.1, 0.01])
    run = jax.jit(lambda rate: jsafe.run(trainer, jax.random.key(1), 10, {"learning_rate": rate})[1]["loss"])
    both = jax.jit(jax.vmap(run))(rates)
    np.testing.assert_allclose(both, [run(rates[0]), run(rates[1])], rtol=1e-4)
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_a_run_resumes_exactly(tmp_path):
    trainer = supervised_trainer("fit", PARAMS, DATA, squares, OPTIONS, momentum=0.9)
    whole = jsafe.fit(trainer, iterations=12, progress=False)
    jsafe.fit(trainer, iterations=5, run_dir=tmp_path / "run", progress=False)
    parts = jsafe.fit(trainer, iterations=12, run_dir=tmp_path / "run", resume=True, progress=False)
    for a, b in zip(jax.tree.leaves(whole.state.params), jax.tree.leaves(parts.state.params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 30}, "batch_size must be at most the number of rows, 23, got 30"),
        ({"accumulation": 3}, "batch_size 4 must be a multiple of accumulation 3"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        ({"schedule": "step"}, "schedule must be one of"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be greater than 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        supervised_trainer("fit", PARAMS, DATA, squares, dataclasses.replace(OPTIONS, **changes))
    with pytest.raises(ValueError, match=r"arrays of one length, got \[22, 23\]"):
        supervised_trainer("fit", PARAMS, {**DATA, "y": DATA["y"][1:]}, squares, OPTIONS)
