"""Language models against formulas, published counts, and themselves with and without a cache."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.checkpoints.weight_files import language_model_tensors, load_config
from rlhf.models import (
    PUBLISHED,
    Decoder,
    LanguageModel,
    ModelConfig,
    ScoreModel,
    empty_cache,
    from_hf,
    last_token,
    parameter_count,
    to_hf,
)
from rlhf.models.attention import alibi_slopes, rotate, rotations
from rlhf.models.decoder import RMSNorm
from rlhf.models.heads import unit_rows
from tests.conftest import ROOT
from tests.support.random_models import params_of

META = ROOT.parent / "shared" / "data" / "rlhf" / "hf_meta"

SMALL = ModelConfig(
    vocab_size=61, hidden_size=24, intermediate_size=40, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=4
)
KINDS = {
    "shared keys": SMALL,
    "alibi": dataclasses.replace(SMALL, num_kv_heads=6, position="alibi", norm_head=True, family="baichuan"),
    "tied": dataclasses.replace(SMALL, tied=True),
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def model(request):
    """A model, its parameters (wider than at the start, so that positions matter), and a compiled apply."""
    module = LanguageModel(request.param)
    params = {"params": params_of(module)}
    params = jax.tree.map(lambda p: p * 8 if p.ndim > 1 else p, params)
    return module, params, jax.jit(module.apply)


def ids_of(batch, length, seed=0):
    return np.random.default_rng(seed).integers(0, SMALL.vocab_size, (batch, length), np.int32)


PUBLISHED_COUNTS = {
    "llama-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "baichuan2-7b": 7_505_973_248,
    "baichuan2-13b": 13_896_668_160,
}
WITHOUT_EMBEDDINGS = {"12m": 11.51, "52m": 51.56, "108m": 108.01, "308m": 307.60, "835m": 835.00, "1.6b": 1565.60}


@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_published_sizes_have_the_published_number_of_parameters(name):
    config = PUBLISHED[name]
    assert parameter_count(config)["total"] == PUBLISHED_COUNTS[name]
    shapes = jax.eval_shape(LanguageModel(config).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == PUBLISHED_COUNTS[name]


def test_the_published_index_of_baichuan_13b_counts_two_bytes_for_each_parameter():
    assert 2 * parameter_count(PUBLISHED["baichuan2-13b"])["total"] == 27_793_336_320


@pytest.mark.skipif(not META.is_dir(), reason=f"the published configuration is not at {META}")
def test_the_published_index_names_the_tensors_that_are_read_and_no_others():
    config = from_hf(json.loads((META / "config.json").read_text()))
    assert config == PUBLISHED["baichuan2-13b"]
    index = json.loads((META / "pytorch_model.bin.index.json").read_text())
    assert index["metadata"]["total_size"] == 2 * parameter_count(config)["total"]
    narrow = dataclasses.replace(config, **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size"), 8))
    narrow = dataclasses.replace(narrow, num_heads=1, num_kv_heads=1, head_dim=8)
    shapes = jax.eval_shape(LanguageModel(narrow).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    ours = {name for name, _ in language_model_tensors(narrow, params)}
    assert ours == {name for name in index["weight_map"] if not name.endswith("rotary_emb.inv_freq")}


@pytest.mark.parametrize("size, millions", [*WITHOUT_EMBEDDINGS.items(), ("3b", 3019.33)])
def test_models_of_the_scaling_law_have_the_printed_sizes(size, millions):
    parts = parameter_count(PUBLISHED[f"baichuan2-scaling-{size}"])
    assert (parts["layers"] + parts["norm"]) / 1e6 == pytest.approx(millions, abs=0.0051)


@pytest.mark.parametrize("name", PUBLISHED)
def test_configurations_survive_the_way_to_hugging_face_and_back(name):
    assert from_hf(to_hf(PUBLISHED[name])) == PUBLISHED[name]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "yarn"),
        ({"model_type": "baichuan", "vocab_size": 64_000}, "vocab_size 64000 is that of Baichuan 1"),
    ],
)
def test_models_that_are_not_built_are_refused_by_key(changes, message):
    with pytest.raises(ValueError, match=message):
        from_hf(to_hf(PUBLISHED["llama3-8b"]) | changes)


def test_all_ids_that_end_an_answer_are_known(tmp_path):
    """Llama 3's instructed models name some in either file."""
    output = to_hf(PUBLISHED["llama3-8b"]) | {"eos_token_id": [128_001, 128_008]}
    (tmp_path / "config.json").write_text(json.dumps(output))
    assert load_config(tmp_path).ends == (128_001, 128_008)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [128_009, 128_001]}))
    actual = load_config(tmp_path)
    assert actual.ends == (128_001, 128_008, 128_009) == from_hf(to_hf(actual)).ends
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": "</s>"}')
    with pytest.raises(ValueError, match="generation_config.json: eos_token_id must be a whole number or a list"):
        load_config(tmp_path)


def test_rms_norm_of_one_to_four():
    norm = RMSNorm(1e-6)
    x = jnp.arange(1.0, 5.0)
    np.testing.assert_allclose(
        norm.apply(norm.init(jax.random.key(0), x), x), [0.365148, 0.730297, 1.095445, 1.460593], atol=1e-6
    )


def test_rotation_of_one_to_four_at_position_three():
    config = dataclasses.replace(SMALL, head_dim=4)
    cos, sin = rotations(config, jnp.array([[3]]))
    actual = rotate(jnp.arange(1.0, 5.0).reshape(1, 1, 1, 4), cos, sin)
    np.testing.assert_allclose(actual.ravel(), [-1.413353, 1.879118, -2.828857, 4.058191], atol=1e-5)


def test_slopes_of_forty_heads():
    slopes = alibi_slopes(40)
    np.testing.assert_allclose(slopes[[0, 1, 2, 3, 31]], [0.840896, 0.707107, 0.594604, 0.5, 0.00390625], rtol=1e-5)
    last = [0.917004, 0.771105, 0.648420, 0.545254, 0.458502, 0.385553, 0.324210, 0.272627]
    np.testing.assert_allclose(slopes[32:], last, atol=1e-6)
    np.testing.assert_allclose(alibi_slopes(8), 0.5 ** np.arange(1, 9))


def test_norm_head_scales_rows_of_the_output_layer_to_length_one():
    logits = unit_rows(jnp.array([[3.0, 4.0], [1.0, 0.0], [0.0, -2.0], [0.0, 0.0]])) @ jnp.array([1.0, 2.0])
    np.testing.assert_allclose(logits, [2.2, 1.0, -2.0, 0.0], atol=1e-6)


def test_norm_head_begins_uniform_and_other_output_layers_normal():
    """Within one over the square root of the hidden size, whose deviation is this width over that of three."""
    config = dataclasses.replace(KINDS["alibi"], vocab_size=4096)

    def head(config):
        init, ids = LanguageModel(config).init, jnp.zeros((1, 2), jnp.int32)
        return np.asarray(jax.jit(lambda key: init(key, ids)["params"]["head"])(jax.random.key(0)))

    width = 24**-0.5
    actual = head(config)
    assert 0.999 * width < np.abs(actual).max() <= width
    assert actual.std() == pytest.approx(width / 3**0.5, rel=0.01) and abs(actual.mean()) < 0.01 * width
    plain = head(dataclasses.replace(config, norm_head=False))
    assert plain.std() == pytest.approx(config.init_std, rel=0.01) and np.abs(plain).max() > 3 * config.init_std


def test_generation_token_by_token_equals_one_pass(model):
    module, params, apply = model
    ids = ids_of(2, 9)
    whole, _ = apply(params, ids)
    cache = empty_cache(module.config, 2, 12)
    first, cache = apply(params, ids[:, :4], None, cache)
    np.testing.assert_allclose(first, whole[:, :4], atol=1e-4)
    for column in range(4, 9):
        one, cache = apply(params, ids[:, column : column + 1], None, cache)
        np.testing.assert_allclose(one[:, 0], whole[:, column], atol=1e-4)


def test_padding_on_either_side_changes_nothing(model):
    _, params, apply = model
    ids = ids_of(1, 6)
    plain, _ = apply(params, ids)
    for before, after in ((3, 0), (0, 3), (2, 2)):
        padded = np.pad(ids, ((0, 0), (before, after)), constant_values=7)
        mask = np.pad(np.ones((1, 6), bool), ((0, 0), (before, after)))
        actual, _ = apply(params, padded, mask)
        np.testing.assert_allclose(actual[:, before : before + 6], plain, atol=1e-4)


def test_no_token_sees_what_comes_after_it(model):
    _, params, apply = model
    ids = ids_of(1, 8)
    changed = ids.copy()
    changed[0, 5] = (ids[0, 5] + 1) % SMALL.vocab_size
    before, after = apply(params, ids)[0], apply(params, changed)[0]
    np.testing.assert_allclose(before[:, :5], after[:, :5], atol=1e-5)
    assert np.abs(np.asarray(before - after))[:, 5:].max(axis=-1).min() > 1e-3


def test_order_of_tokens_matters(model):
    _, params, apply = model
    ids = ids_of(1, 8)
    swapped = ids[:, [0, 2, 1, *range(3, 8)]]
    assert np.abs(np.asarray(apply(params, ids)[0] - apply(params, swapped)[0]))[:, -1].max() > 1e-3


def test_keys_shared_by_three_heads_are_keys_repeated_three_times():
    shared, own = LanguageModel(SMALL), LanguageModel(dataclasses.replace(SMALL, num_kv_heads=6))
    params = {"params": params_of(shared)}
    wide = jax.tree.map(lambda p: p, params)
    attention = wide["params"]["decoder"]["layers"]["attention"]
    for name in ("k", "v"):
        attention[name] = np.repeat(attention[name], 3, axis=2)
    ids = ids_of(2, 5)
    np.testing.assert_allclose(jax.jit(shared.apply)(params, ids)[0], jax.jit(own.apply)(wide, ids)[0], atol=1e-5)


def test_recomputed_layers_have_the_same_gradient(model):
    module, params, _ = model

    def gradient(module):
        return jax.device_get(jax.jit(jax.grad(lambda p: jnp.sum(module.apply(p, ids_of(1, 5))[0] ** 2)))(params))

    for a, b in zip(
        jax.tree.leaves(gradient(module)), jax.tree.leaves(gradient(module.clone(remat=True))), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max())


def test_end_scores_stand_at_the_last_token_that_is_not_padding():
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(last_token(mask), [1, 3, 1, 0])
    model = ScoreModel(SMALL, size=2)
    params = {"params": params_of(model)}
    actual = jax.device_get(jax.jit(model.apply)(params, ids_of(4, 4), mask))
    assert actual.scores.shape == (4, 4, 2) and actual.scores.dtype == np.float32
    np.testing.assert_array_equal(actual.end_scores[0], actual.scores[0, 1])
    hidden, _ = jax.jit(Decoder(SMALL).apply)({"params": params["params"]["decoder"]}, ids_of(4, 4), mask)
    by_hand = np.asarray(hidden)[1, 3] @ params["params"]["score_head"] + params["params"]["score_bias"]
    np.testing.assert_allclose(actual.end_scores[1], by_hand, atol=1e-6)


def test_pooled_scores_are_means_over_the_text_so_far():
    """By hand from the scores of each token, and padding anywhere changes nothing."""
    config = dataclasses.replace(SMALL, score_pooling="mean")
    ids, seen = np.random.default_rng(1).integers(3, 40, (1, 5), np.int32), np.ones((1, 5), bool)
    plain, pooled = ScoreModel(SMALL), ScoreModel(config)
    params = {"params": params_of(plain)}
    each = np.asarray(jax.jit(plain.apply)(params, ids, seen).scores)[0, :, 0]
    actual = jax.jit(pooled.apply)(params, ids, seen)
    by_hand = [each[: t + 1].mean() for t in range(5)]
    np.testing.assert_allclose(actual.scores[0, :, 0], by_hand, atol=1e-6)
    np.testing.assert_allclose(actual.end_scores[0, 0], each.mean(), atol=1e-6)
    left = jax.jit(pooled.apply)(params, np.pad(ids, ((0, 0), (2, 1))), np.pad(seen, ((0, 0), (2, 1))))
    np.testing.assert_allclose(left.end_scores[0, 0], each.mean(), atol=1e-5)
    shrunk = jax.jit(ScoreModel(dataclasses.replace(config, score_shrinkage=3.0)).apply)(params, ids, seen)
    np.testing.assert_allclose(shrunk.end_scores[0, 0], each.sum() / 8, atol=1e-6)
    marked = dataclasses.replace(config, score_after=(int(ids[0, 1]), int(ids[0, 2])))
    actual = jax.jit(ScoreModel(marked).apply)(params, ids, seen)
    by_hand = [*each[:3], each[3], each[3:5].mean()]
    np.testing.assert_allclose(actual.scores[0, :, 0], by_hand, atol=1e-6)
    assert from_hf(to_hf(marked)) == marked
    with pytest.raises(ValueError, match="score_pooling must be one of"):
        dataclasses.replace(SMALL, score_pooling="max")
