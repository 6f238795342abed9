"""Model FLOPs are what XLA counts of the same program, whose products they are."""

import jax
import jax.numpy as jnp
import pytest

from rlhf.data.encoding import Supervised
from rlhf.generation.generate import SamplingConfig, generate
from rlhf.models import LanguageModel, ModelConfig, ScoreModel
from rlhf.parallel import flops
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training import objectives

# One layer and one token: XLA counts what a loop does once, whatever the number of its turns.
CONFIG = ModelConfig(
    vocab_size=512, hidden_size=64, intermediate_size=192, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=16
)
ROWS, LENGTH = 4, 32
IDS, MASK = jnp.zeros((ROWS, LENGTH), jnp.int32), jnp.ones((ROWS, LENGTH), bool)
LANGUAGE, SCORES = LanguageModel(CONFIG), ScoreModel(CONFIG)


def params_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), IDS, MASK)["params"]


def learn(params):
    batch = Supervised(IDS, IDS, MASK)
    return jax.grad(lambda p: objectives.supervised(LANGUAGE)(p, batch).loss)(params)


def draw(params):
    return generate(
        LANGUAGE, {"params": params}, jax.random.key(0), IDS, MASK, SamplingConfig(max_new_tokens=1), pad=0
    ).ids


@pytest.mark.parametrize(
    ("program", "model", "formula"),
    [
        (lambda p: LANGUAGE.apply({"params": p}, IDS)[0], LANGUAGE, flops.language(CONFIG, ROWS, LENGTH)),
        (lambda p: SCORES.apply({"params": p}, IDS, MASK).scores, SCORES, flops.scores(CONFIG, ROWS, LENGTH)),
        (learn, LANGUAGE, flops.LEARNING * flops.language(CONFIG, ROWS, LENGTH)),
        (draw, LANGUAGE, flops.generation(CONFIG, ROWS, LENGTH, 1)),
    ],
    ids=["language", "scores", "learning", "generation"],
)
def test_xla_counts_the_same_to_ten_percent(program, model, formula):
    """XLA also counts sums, norms and the softmax, which are a few percent here and less in larger models."""
    counted = jax.jit(program).lower(params_of(model)).cost_analysis()["flops"]
    assert 1.0 <= counted / formula < 1.1


def test_an_iteration_of_ppo_is_the_sum_of_its_passes():
    """Eight answers: drawn; read by actor, reference, judge and critic; learned from twice by actor and critic."""
    options = ReinforcementConfig(prompts_per_iteration=8, batch_size=4, update_iterations=2)
    actual = flops.reinforcement(CONFIG, 1, options, 10, SamplingConfig(max_new_tokens=6), 0)
    read, scores_only = flops.language(CONFIG, 8, 16), flops.scores(CONFIG, 8, 16)
    assert actual == flops.generation(CONFIG, 8, 10, 6) + 2 * read + 2 * scores_only + 2 * 3 * (read + scores_only)
