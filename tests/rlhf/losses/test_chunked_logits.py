"""Losses from chunks of tokens: the value and the gradient of the plain ones, in less memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.chat_templates.safe_rlhf import IGNORED
from rlhf.data.encoding import Supervised
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.losses import chunked_logits, language_model
from rlhf.models import PUBLISHED, LanguageModel, ModelConfig
from rlhf.parallel import memory
from rlhf.training import objectives
from tests.support import random_models

PLAIN = ModelConfig(
    vocab_size=96, hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=16
)
CONFIGS = {
    "plain": PLAIN,
    "tied": dataclasses.replace(PLAIN, tied=True),
    "unit rows and max-z": dataclasses.replace(PLAIN, family="baichuan", norm_head=True, z_loss_weight=2e-4),
    "tied unit rows": dataclasses.replace(PLAIN, norm_head=True, tied=True, z_loss_weight=0.1),
}
ROWS, LENGTH = 3, 12
RNG = np.random.default_rng(0)
IDS = RNG.integers(3, 96, (ROWS, LENGTH)).astype(np.int32)
MASK = np.arange(LENGTH) < np.array([[12], [7], [9]])


def params_of(config):
    """Larger than at the start of a training, so that the gradient of the largest logit matters."""
    actual = random_models.params_of(LanguageModel(config))
    return jax.tree.map(lambda x: 8 * x if x.ndim == 2 else x, actual)


def texts():
    labels = np.where(MASK & (np.arange(LENGTH) > 3), IDS, IGNORED)
    return Supervised(IDS, labels, MASK)


def pairs():
    other = np.where(np.arange(LENGTH) > 4, IDS[::-1], IDS)
    sign = np.ones(ROWS, np.float32)
    return PreferenceBatch(IDS, other, MASK, MASK, sign, -sign)


def assert_same(first, second):
    """To rounding: sums are taken in another order."""
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(first))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6 * scale), first, second)


# One column; and five, which do not divide the eleven.
@pytest.mark.parametrize(("name", "tokens"), [("plain", 1), *((name, 15) for name in CONFIGS)])
def test_chunks_change_neither_loss_nor_gradient(name, tokens):
    config = CONFIGS[name]
    params = params_of(config)
    whole, chunked = (LanguageModel(config, loss_chunk=n) for n in (0, tokens))
    for make, batch in (
        (objectives.supervised, texts()),
        (objectives.dpo, objectives.with_reference(whole, jax.tree.map(lambda x: 0.5 * x, params), pairs())),
    ):

        def actual(model, make=make, batch=batch):
            return jax.device_get(jax.jit(jax.value_and_grad(lambda p: make(model)(p, batch).loss))(params))

        assert_same(actual(whole), actual(chunked))
    ask = jax.jit(language_model.log_probs, static_argnums=0)
    ours, theirs = (ask(m, params, IDS, MASK) for m in (whole, chunked))
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_the_three_numbers_of_a_token():
    """By hand, Baichuan 2's example: h = (1, 2) and unit rows (.6, .8), (1, 0), (0, -1) give logits 2.2, 1, -2."""
    hidden, layer = np.array([[[1.0, 2.0]]], np.float32), np.array([[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]], np.float32)
    ask = jax.jit(lambda *inputs: chunked_logits.from_hidden(*inputs, 1, largest=True))
    output = ask(hidden, layer, np.array([[1]]))
    assert [float(x[0, 0]) for x in output] == pytest.approx([1.0, np.log(np.exp([2.2, 1.0, -2.0]).sum()), 2.2])


def test_chunks_are_counted_in_what_a_run_needs():
    config = PUBLISHED["baichuan2-7b"]
    whole, chunked = (memory.activations(config, 4, 512, chunk=n) for n in (0, 256))
    assert whole - chunked == 2 * (4 * 512 - 256) * 125_696 * 4


def test_the_compiler_sets_less_memory_aside():
    """2 x 512 tokens of a vocabulary of 8192: the logits are 32 MB, and a chunk of 64 tokens a sixteenth of that."""
    config = dataclasses.replace(PLAIN, vocab_size=8192, head_dim=8)
    ids = jax.ShapeDtypeStruct((2, 512), jnp.int32)
    batch = Supervised(ids, ids, jax.ShapeDtypeStruct((2, 512), bool))
    params = jax.eval_shape(LanguageModel(config).init, jax.random.key(0), ids)["params"]
    used = []
    for tokens in (0, 64):
        loss = objectives.supervised(LanguageModel(config, loss_chunk=tokens))
        gradient = jax.jit(jax.grad(lambda p, b, loss=loss: loss(p, b).loss))
        used.append(gradient.lower(params, batch).compile().memory_analysis().temp_size_in_bytes)
    saved = memory.activations(config, 2, 512) - memory.activations(config, 2, 512, chunk=64)
    assert used[0] - used[1] > 0.4 * saved
