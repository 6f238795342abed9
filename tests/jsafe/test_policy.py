"""A policy read back from a run acts as the one that was trained."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.policy import load_policies
from jsafe.runs.checkpoint import CheckpointError
from jsafe.runs.record import RunError
from jsafe.spaces import Box
from tests.support.toy_trainer import SPEC, make_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, jsafe.FitResult]:
    folder = tmp_path_factory.mktemp("policy") / "run"
    return folder, jsafe.fit(make_tiny(), seeds=2, iterations=30, run_dir=folder, checkpoint_every=10, sinks=())


def by_hand(state: jsafe.TrainState, seed: int, obs: np.ndarray) -> np.ndarray:
    """Normalise, clip, and one hidden layer, in NumPy."""
    stats, layers = state.algo.normalizer, state.params["policy"]["mean"]
    x = np.clip((obs - np.asarray(stats.mean)[seed]) / np.asarray(stats.std)[seed], -5, 5)
    leaves = jax.tree.map(lambda p: np.asarray(p)[seed], layers)
    hidden = np.tanh(x @ leaves["layer_0"]["kernel"] + leaves["layer_0"]["bias"])
    return hidden @ leaves["layer_1"]["kernel"] + leaves["layer_1"]["bias"]


def test_deterministic_action_is_the_trained_mean_with_normalisation(trained: tuple[Path, jsafe.FitResult]) -> None:
    folder, result = trained
    obs = np.array([[0.5, -40.0, 2.0], [0.0, 0.1, -0.3]])
    for seed in (0, 1):
        policy = jsafe.load_policy(folder, seed=seed)
        assert (policy.spec, policy.iteration) == (SPEC, 30)
        np.testing.assert_allclose(policy(obs), by_hand(result.state, seed, obs), rtol=1e-4, atol=1e-6)
    assert not np.allclose(jsafe.load_policy(folder, seed=0)(obs), policy(obs))


def test_single_and_batched_numpy_and_jax_observations_agree(trained: tuple[Path, jsafe.FitResult]) -> None:
    policy = jsafe.load_policy(trained[0])
    batch = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    actions = policy(batch)
    assert isinstance(actions, np.ndarray) and actions.shape == (4, 2, 2) and actions.dtype == np.float32
    single = policy(batch[3, 1])
    np.testing.assert_allclose(single, actions[3, 1], rtol=1e-5, atol=1e-6)
    from_jax = policy(jnp.asarray(batch))
    assert isinstance(from_jax, jax.Array)
    np.testing.assert_array_equal(from_jax, actions)


def test_sampled_actions_have_the_deviation_of_the_gaussian(trained: tuple[Path, jsafe.FitResult]) -> None:
    folder, result = trained
    policy = jsafe.load_policy(folder, seed=1)
    obs = np.tile(np.array([0.3, -0.2, 0.1]), (20_000, 1))
    samples = policy(obs, jax.random.key(0))
    np.testing.assert_allclose(samples.mean(0), policy(obs[0]), atol=0.03)
    log_std = np.asarray(result.state.params["policy"]["log_std"])[1]
    np.testing.assert_allclose(samples.std(0), np.exp(log_std), rtol=0.03)
    np.testing.assert_array_equal(samples, policy(obs, jax.random.key(0)))
    assert np.abs(samples).max() > 1.0  # beyond the bounds: the environment clips, not the policy


def test_apply_is_pure_and_maps_over_all_seeds(trained: tuple[Path, jsafe.FitResult]) -> None:
    folder, _ = trained
    policies = load_policies(folder)
    obs = jnp.array([0.1, 0.2, 0.3])
    both = jax.jit(jax.vmap(lambda p, n: policies.apply(p, n, obs, None)))(policies.params, policies.normalizer)
    for seed in range(policies.seeds):
        np.testing.assert_allclose(both[seed], jsafe.load_policy(folder, seed)(obs), rtol=1e-5, atol=1e-6)


def test_earlier_checkpoint_gives_the_earlier_policy(trained: tuple[Path, jsafe.FitResult]) -> None:
    folder, _ = trained
    early, late = jsafe.load_policy(folder, iteration=10), jsafe.load_policy(folder)
    assert early.iteration == 10
    assert not np.allclose(early(np.ones(3)), late(np.ones(3)))
    with pytest.raises(CheckpointError, match=r"no checkpoint of iteration 11.*\[10, 20, 30\]"):
        jsafe.load_policy(folder, iteration=11)


def test_wrong_size_seed_or_folder_is_refused_by_name(trained: tuple[Path, jsafe.FitResult], tmp_path: Path) -> None:
    folder, _ = trained
    policy = jsafe.load_policy(folder)
    for wrong in (np.zeros(4), np.zeros((3, 2)), 1.0):
        with pytest.raises(ValueError, match="observations must be of size 3 in the last axis, got shape"):
            policy(wrong)
    for seed in (-1, 2):
        with pytest.raises(ValueError, match=f"seeds 0 to 1, got seed {seed}"):
            jsafe.load_policy(folder, seed=seed)
    with pytest.raises(RunError, match="no run at"):
        jsafe.load_policy(tmp_path)


def test_trainer_without_a_policy_is_refused(tmp_path: Path) -> None:
    tiny = make_tiny()
    plain = tiny._replace(info=jsafe.TrainerInfo(**{**vars(tiny.info), "policy": None}))
    jsafe.fit(plain, iterations=1, run_dir=tmp_path, sinks=())
    with pytest.raises(RunError, match="tiny trains no policy"):
        jsafe.load_policy(tmp_path)


def test_networks_of_your_own_are_loaded_by_their_description(trained: tuple[Path, jsafe.FitResult], tmp_path: Path):
    tiny = make_tiny()
    plain = tiny._replace(info=jsafe.TrainerInfo(**{**vars(tiny.info), "policy": None}))
    jsafe.fit(plain, seeds=2, iterations=30, run_dir=tmp_path, sinks=())
    mine, obs = jsafe.load_policy(tmp_path, seed=1, policy=tiny.info.policy), np.ones(3)
    np.testing.assert_array_equal(mine(obs), jsafe.load_policy(trained[0], seed=1)(obs))


def test_policy_without_normalisation_takes_observations_as_they_are() -> None:
    spec = jsafe.PolicySpec(
        observation=Box(2),
        action=Box(1, low=-1.0, high=1.0),
        kwargs={"hidden_sizes": (3,)},
        normalize_observations=False,
    )
    network = spec.build()
    params = network.init(jax.random.key(1))
    obs = np.array([300.0, -0.01], np.float32)
    acting = network.apply(params, jnp.asarray(obs))
    np.testing.assert_allclose(jsafe.Policy(spec, params, ())(obs), acting.mean, rtol=1e-6)
