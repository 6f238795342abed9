"""A second family: a method of another kind goes through the same registry."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms import registry
from algorithms.spec import AlgorithmSpec
from jsafe import MetricSpec, Trainer, TrainerInfo, TrainState
from jsafe.config import Config, hyperparameters, option
from tests.support.toy_envs import PointMass


@hyperparameters
class MeanRewardConfig(Config):
    """Options of the toy method."""

    learning_rate: float = option("step size", default=0.5, traced=True, above=0)
    batch_size: int = option("rows of one step", default=2, low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfflineSpec(AlgorithmSpec):
    """An algorithm that learns from rows alone."""

    target: str = "mean"

    @property
    def parts(self):
        return {"target": self.target}


class OfflineFamily:
    """Estimate the mean of recorded rewards by stochastic gradient descent."""

    catalogue = {  # noqa: RUF012
        "mean_reward": OfflineSpec(
            aliases=("MeanReward",),
            summary="Mean of recorded rewards.",
            paper="none",
            presets={"paper": {}, "slow": {"learning_rate": 0.1}},
        )
    }

    def config_class(self, name):
        return MeanRewardConfig

    def idle_options(self, problem, config, *, own_networks):
        return {}

    def make(self, name, problem, config, *, encoders=None, networks=None, policy=None):
        rewards = jnp.asarray(problem.data, jnp.float32)

        def init(key, hyper=None):
            return TrainState(
                params=jnp.zeros(()), optimizer=(), algo=(), memory={"cursor": jnp.zeros((), jnp.int32)}, key=key,
                iteration=jnp.zeros((), jnp.int32), skipped=jnp.zeros((), jnp.int32),
                hyper=config.traced_arrays(hyper, name),
            )  # fmt: skip

        def step(state):
            cursor = state.memory["cursor"]
            rows = jax.lax.dynamic_slice(rewards, (cursor,), (config.batch_size,))
            error = jnp.mean(rows) - state.params
            state = state.replace(
                params=state.params + state.hyper["learning_rate"] * error,
                memory={"cursor": (cursor + config.batch_size) % len(rewards)},
                iteration=state.iteration + 1,
            )
            return state, {"loss": error * error, "rows": state.iteration * config.batch_size}

        info = TrainerInfo(
            algorithm=name, config=config.config(), traced=config.traced(), units_per_step=config.batch_size,
            unit="rows", metrics=(MetricSpec("loss", help="squared error", shown=True),),
        )  # fmt: skip
        return Trainer(init, step, info)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setitem(registry.FAMILIES, "offline", OfflineFamily())


def test_a_method_without_environment_trains_through_the_registry(offline):
    trainer = algorithms.make("MeanReward", None, data=[1.0, 1.0, 3.0, 3.0])
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 60))(jax.random.key(0))
    assert 1.5 < float(state.params) < 2.5 and metrics["rows"][-1] == 120
    assert trainer.info.problem is None and trainer.info.shown == ("loss",)


def test_names_presets_and_descriptions_cover_every_family(offline):
    assert {"mean_reward", "ppo_lag"} <= set(algorithms.names())
    facts = algorithms.describe("mean_reward")
    assert facts["parts"] == {"target": "mean"} and [o["name"] for o in facts["options"]] == list(
        MeanRewardConfig.names()
    )
    assert algorithms.configure("mean_reward", "slow").learning_rate == 0.1
    with pytest.raises(TypeError, match="mean_reward has no option 'batchsize'; did you mean 'batch_size'"):
        algorithms.make("mean_reward", None, batchsize=3)


def test_a_population_and_traced_options_work_for_another_family(offline):
    trainer = algorithms.make("mean_reward", None, data=np.ones(4))
    result = jsafe.fit(trainer, seeds=2, iterations=3, hyper={"learning_rate": [0.5, 1.0]}, progress=False)
    np.testing.assert_allclose(result.state.params, [0.875, 1.0])


def test_an_on_policy_method_needs_an_environment():
    with pytest.raises(ValueError, match="ppo needs an environment"):
        algorithms.make("ppo", None)


def test_complete_hyper_parameters_take_the_place_of_a_preset():
    config = algorithms.configure("ppo_lag", "omnisafe", cost_limit=3.0)
    trainer = algorithms.make("ppo_lag", PointMass(), config)
    assert trainer.info.config == algorithms.make("ppo_lag", PointMass(), "omnisafe", cost_limit=3.0).info.config
    with pytest.raises(TypeError, match="ppo needs a preset and options, or a PPO alone"):
        algorithms.make("ppo", PointMass(), config)
