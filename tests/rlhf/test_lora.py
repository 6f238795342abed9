"""Low-rank adapters: nothing at first, a merged weight in the end, and the chain rule in between."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf import lora
from rlhf.generate import Sampling, generate
from rlhf.lora import LoraOptions
from rlhf.models import LanguageModel, ModelConfig
from rlhf.models.low_rank import LowRank

CONFIG = ModelConfig(
    vocab_size=40, hidden_size=24, intermediate_size=40, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=6,
    init_std=0.2,
)  # fmt: skip
MODEL = LanguageModel(CONFIG)
OPTIONS = LoraOptions(lora_rank=3, lora_alpha=6.0)
IDS = jax.random.randint(jax.random.key(1), (3, 9), 0, 40)
SAMPLING = Sampling(max_new_tokens=8)
BASE = jax.device_get(MODEL.init(jax.random.key(0), IDS)["params"])


def is_adapter(leaf):
    return isinstance(leaf, LowRank)


def drawn(seed=2, options=OPTIONS):
    """Adapters that do change something."""
    adapters = lora.fresh(jax.random.key(seed), BASE, options)
    key = jax.random.key(seed + 1)
    return jax.tree.map(
        lambda x: dataclasses.replace(x, b=0.3 * jax.random.normal(key, x.b.shape)), adapters, is_leaf=is_adapter
    )


@jax.jit
def logits(params):
    return MODEL.apply({"params": params}, IDS)[0]


def test_fresh_adapters_change_nothing_at_all():
    adapters = lora.fresh(jax.random.key(0), BASE, OPTIONS)
    np.testing.assert_array_equal(logits(lora.joined(BASE, adapters)), logits(BASE))
    assert {name for name, _ in lora.adapters(adapters)} == set(lora.MATRICES)
    for name, adapter in lora.adapters(adapters):
        inputs = np.prod(adapter.a.shape[1:-1])
        # Uniform within 1 / sqrt(inputs): the deviation is that over sqrt(3).
        assert float(jnp.std(adapter.a)) == pytest.approx(inputs**-0.5 / 3**0.5, rel=0.25), name


@pytest.mark.parametrize("matrices", ["q,v", "o", "down,gate", ",".join(lora.MATRICES)])
def test_merged_weights_say_what_base_and_adapters_say(matrices):
    adapters = drawn(options=dataclasses.replace(OPTIONS, lora_matrices=matrices))
    whole = lora.merged(lora.joined(BASE, adapters))
    assert jax.tree.structure(whole) == jax.tree.structure(BASE)
    found = logits(lora.joined(BASE, adapters))
    assert float(jnp.max(jnp.abs(found - logits(BASE)))) > 0.01
    np.testing.assert_allclose(found, logits(whole), rtol=1e-5, atol=1e-5)


def test_answers_drawn_with_a_cache_are_those_of_the_merged_weights():
    params = lora.joined(BASE, drawn())
    seen = jnp.ones(IDS.shape, bool)
    draw = jax.jit(lambda p: generate(MODEL, {"params": p}, jax.random.key(0), IDS, seen, SAMPLING, pad=0))
    said = [draw(p) for p in (params, lora.merged(params), BASE)]
    np.testing.assert_array_equal(said[0].ids, said[1].ids)
    assert (np.asarray(said[0].ids) != np.asarray(said[2].ids)).any()


def test_gradients_follow_from_those_of_the_merged_weights():
    """With W + s A B and the gradient G of the sum: dA = s G B', dB = s A' G, in NumPy for each matrix and layer."""
    targets = jax.nn.one_hot(jnp.roll(IDS, -1, axis=1), 40)

    def loss(params):
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits(params)) * targets, axis=-1))

    adapters = drawn()
    found = jax.grad(lambda part: loss(lora.joined(BASE, part)))(adapters)
    whole = jax.device_get(jax.grad(loss)(lora.merged(lora.joined(BASE, adapters))))
    gradients = dict(lora.adapters(found))
    for name, adapter in lora.adapters(jax.device_get(adapters)):
        part, axes = lora.MATRICES[name]
        for layer in range(CONFIG.num_layers):
            g = whole["decoder"]["layers"][part][name][layer]
            g = g.reshape(np.prod(g.shape[:axes]), -1)
            a, b = adapter.a[layer].reshape(len(g), 3), adapter.b[layer].reshape(3, -1)
            assert np.abs(g).max() > 1e-6
            np.testing.assert_allclose(gradients[name].a[layer].reshape(a.shape), 2.0 * g @ b.T, rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(gradients[name].b[layer].reshape(b.shape), 2.0 * a.T @ g, rtol=1e-3, atol=1e-6)


def test_parameters_are_counted_exactly():
    adapters = lora.fresh(jax.random.key(0), BASE, OPTIONS)
    assert lora.parameter_count(CONFIG, OPTIONS) == sum(leaf.size for leaf in jax.tree.leaves(adapters))


def test_no_copy_is_made_of_what_is_frozen():
    params = lora.joined(BASE, drawn())
    held = {id(leaf) for leaf in jax.tree.leaves(params)}
    assert all(id(leaf) in held for leaf in jax.tree.leaves(BASE))
    assert lora.joined({}, BASE) == BASE and lora.fresh(jax.random.key(0), BASE, lora.FULL) == {}


def test_matrices_that_do_not_exist_are_refused():
    for name in ("q,head", ""):
        with pytest.raises(ValueError, match="lora_matrices must be some of q,k,v,o,gate,up,down"):
            LoraOptions(lora_rank=2, lora_matrices=name)
