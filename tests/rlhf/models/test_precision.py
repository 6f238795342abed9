"""Activations in bfloat16: close to float32, able to learn, and float32 in everything that is kept."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from experiments.cli import app
from rlhf.checkpoints import model_folder
from rlhf.config import TrainingConfig
from rlhf.data import encoding
from rlhf.data.schemas import Example
from rlhf.generation.generate import SamplingConfig, generate
from rlhf.models import PUBLISHED, LanguageModel, ScoreModel
from rlhf.parallel import memory
from rlhf.reinforcement.build import PromptData, ReinforcementModels, reinforcement_stage
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.tokenizer.tokenizer import Tokenizer
from rlhf.training import supervised_stages
from tests.rlhf.data.test_encoding import Letters

LETTERS = Tokenizer(Path("letters"), Letters(), 140, 1, 2, 0, "</s>")
HALF = "bfloat16"


@pytest.fixture(scope="module")
def nano():
    return model_folder.fresh("nano", LETTERS)


def all_float32(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)} == {
        np.dtype(np.float32)
    }


def test_logits_in_bfloat16_are_near_those_in_float32(nano):
    wider = jax.tree.map(lambda p: p * 4 if p.ndim > 1 else p, nano.params)  # so that positions and layers matter
    ids = jnp.asarray(np.random.default_rng(0).integers(3, 140, (2, 12)))
    whole, half = (
        np.asarray(jax.jit(LanguageModel(nano.config, dtype).apply)({"params": wider}, ids)[0])
        for dtype in ("float32", HALF)
    )
    assert half.dtype == np.float32
    # Eight bits of mantissa, rounded some dozens of times.
    assert 0 < np.abs(half - whole).max() < 0.05 * np.abs(whole).max()


def test_fine_tuning_in_bfloat16_lowers_the_loss_and_keeps_float32(nano):
    rows = [Example((q,), a) for q, a in (("one", "two"), ("three", "four"), ("five", "six"), ("seven", "eight"))]
    options = TrainingConfig(dtype=HALF, batch_size=4, epochs=20, learning_rate=1e-2, schedule="constant")
    stage = supervised_stages.sft(nano, encoding.supervised(rows, nano.tokenizer, 64), options)
    state, curves = jax.jit(lambda key: jsafe.run(stage.trainer, key, stage.iterations))(jax.random.key(0))
    loss = np.asarray(curves["loss"])
    assert np.isfinite(loss).all() and loss[-1] < 0.7 * loss[0]
    assert all_float32(state.params) and all_float32(state.optimizer)
    assert all_float32(stage.finish(jax.device_get(state)).params)


def test_generation_and_reinforcement_keep_their_types_in_bfloat16(nano):
    """Traced, not run: loops refuse carries that change their type."""
    model, prompt = LanguageModel(nano.config, HALF), jnp.ones((2, 3), jnp.int32)
    traced = jax.make_jaxpr(
        lambda p: generate(
            model, {"params": p}, jax.random.key(0), prompt, prompt > 0, SamplingConfig(max_new_tokens=4), pad=0
        )
    )(nano.params)
    assert f"bf16[{nano.config.num_layers},2,7," in str(traced)  # keys and values, at half the memory
    judge = model_folder.with_scores(nano)
    options = ReinforcementConfig(
        dtype=HALF, prompts_per_iteration=2, batch_size=2, cost_limit=0.0, ptx_coefficient=1.0
    )
    samples = [Example((q,), "yes") for q in ("one", "two")]
    sampling = SamplingConfig(max_new_tokens=4)
    models, data = ReinforcementModels(nano, judge, [judge]), PromptData(samples, ptx=samples, prompt_length=60)
    stage = reinforcement_stage("ppo-lag", models, data, options, sampling)
    initial = jax.eval_shape(stage.trainer.init, jax.random.key(0))
    ended, _ = jax.eval_shape(stage.trainer.step, initial)
    assert all_float32(ended.params) and all_float32(ended.optimizer)
    assert jax.tree.map(lambda x: x.dtype, ended) == jax.tree.map(lambda x: x.dtype, initial)


def test_stages_take_a_type_and_reckon_with_it():
    def parsed(*words):
        return app.parse(["rlhf", *words]).request

    for stage in ("sft", "reward", "cost", "dpo", "moderation", "pretrain", "ppo", "ppo-lag", "reward-shaping"):
        assert parsed(stage, "--dtype", HALF).training.explicit() == {"dtype": HALF}
    for stage in ("chat", "harness"):
        assert parsed(stage, "--dtype", HALF).dtype == HALF
    for stage in (["generate"], ["evaluate", "a"]):
        assert parsed(*stage, "--dtype", HALF).responses.dtype == HALF
    with pytest.raises(ValueError, match="dtype"):
        TrainingConfig(dtype="float16")
    config, sizes = PUBLISHED["llama-7b"], (4, 512)
    whole, half = (memory.supervised(config, *sizes, chunk=64, dtype=dtype) for dtype in ("float32", HALF))
    assert whole["activations"] - half["activations"] == 32 * memory.KEPT_PER_LAYER * 4 * 512 * 4096 * 2
    assert {k: v for k, v in half.items() if k != "activations"} == {
        k: v for k, v in whole.items() if k != "activations"
    }
    assert ScoreModel(config, dtype=HALF).param_dtype == jnp.float32
