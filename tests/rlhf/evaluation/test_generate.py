"""Drawing answers: against repeated whole passes, and settings one by one."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.special

from rlhf.generation.generate import SamplingConfig, generate, shaped
from rlhf.models import LanguageModel
from tests.rlhf.models.test_models import KINDS, ids_of
from tests.support.random_models import params_of

jitted = jax.jit(generate, static_argnums=(0, 5), static_argnames=("pad",))


def wide(config, seed=0):
    module = LanguageModel(config)
    params = {"params": params_of(module, seed)}
    return module, jax.tree.map(lambda p: p * 8 if p.ndim > 1 else p, params)


@pytest.mark.parametrize("name", KINDS)
def test_greedy_answers_are_those_of_whole_passes_without_a_cache(name):
    """Two prompts of unlike length, padded on the left; no token sees the zeros that fill the passes up behind it."""
    module, params = wide(dataclasses.replace(KINDS[name], eos_id=60))
    ids = ids_of(2, 5, seed=3)
    mask = np.array([[True] * 5, [False, False, True, True, True]])
    result = jitted(
        module, params, jax.random.key(0), ids, mask, SamplingConfig(max_new_tokens=6, temperature=0.0), pad=0
    )
    whole_pass = jax.jit(module.apply)
    for row, begin in ((0, 0), (1, 2)):
        text = ids[row, begin:].tolist()
        for _ in range(6):
            logits, _ = whole_pass(params, np.array([text + [0] * (11 - len(text))]))
            text.append(int(np.argmax(logits[0, len(text) - 1])))
            if text[-1] == 60:
                break
        np.testing.assert_array_equal(result.ids[row, begin : begin + len(text)], text)


def test_answers_end_at_the_end_of_a_text_and_are_padded_behind_it():
    """The most likely token after a text of one model is taken as the end."""
    config = KINDS["tied"]
    module, params = wide(config)
    ids, mask = ids_of(1, 3), np.ones((1, 3), bool)
    long = jitted(
        module, params, jax.random.key(0), ids, mask, SamplingConfig(max_new_tokens=5, temperature=0.0), pad=9
    )
    second = int(long.ids[0, 4])
    ending = module.clone(config=dataclasses.replace(config, eos_id=second))
    result = jitted(
        ending, params, jax.random.key(0), ids, mask, SamplingConfig(max_new_tokens=5, temperature=0.0), pad=9
    )
    last = 3 + int(np.argmax(np.asarray(long.ids[0, 3:]) == second))
    assert result.ids[0].tolist() == [*long.ids[0, : last + 1].tolist(), *[9] * (7 - last)]
    assert result.mask[0].tolist() == [True] * (last + 1) + [False] * (7 - last)
    assert int(result.steps) == last - 2
    several = module.clone(config=dataclasses.replace(config, eos_id=63, other_eos_ids=(62, second)))
    again = jitted(
        several, params, jax.random.key(0), ids, mask, SamplingConfig(max_new_tokens=5, temperature=0.0), pad=9
    )
    assert again.ids.tolist() == result.ids.tolist() and int(again.steps) == int(result.steps)


LOGITS = np.log(np.array([[0.5, 0.25, 0.15, 0.1]], np.float32))
NONE = np.zeros((1, 4), bool)
compiled = jax.jit(shaped, static_argnums=2)


def left(sampling, logits=LOGITS, used=NONE):
    return scipy.special.softmax(compiled(logits, used, sampling), axis=-1)[0]


def test_settings_leave_what_they_say():
    np.testing.assert_allclose(left(SamplingConfig(max_new_tokens=1)), [0.5, 0.25, 0.15, 0.1], rtol=1e-5)
    np.testing.assert_allclose(left(SamplingConfig(max_new_tokens=1, top_k=2)), [2 / 3, 1 / 3, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(left(SamplingConfig(max_new_tokens=1, top_p=0.5)), [1, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(left(SamplingConfig(max_new_tokens=1, top_p=0.51)), [2 / 3, 1 / 3, 0, 0], rtol=1e-5)
    squared = np.array([0.5, 0.25, 0.15, 0.1]) ** 2
    np.testing.assert_allclose(
        left(SamplingConfig(max_new_tokens=1, temperature=0.5)), squared / squared.sum(), rtol=1e-5
    )


def test_temperature_comes_before_the_choice_of_likely_tokens():
    """At temperature 0.5 the first token alone has 0.72, at 1 it has 0.5."""
    result = left(SamplingConfig(max_new_tokens=1, temperature=0.5, top_p=0.7))
    np.testing.assert_allclose(result, [1, 0, 0, 0], rtol=1e-5)


def test_the_penalty_divides_positive_logits_and_multiplies_negative_ones():
    logits = np.array([[2.0, -1.0, 3.0, -2.0]], np.float32)
    result = compiled(
        logits, np.array([[True, True, False, False]]), SamplingConfig(max_new_tokens=1, repetition_penalty=2.0)
    )
    np.testing.assert_allclose(result, [[1.0, -2.0, 3.0, -2.0]])


def test_tokens_are_drawn_as_often_as_they_are_likely():
    """One prompt many times over: the first token's frequencies against the model's own probabilities."""
    module, params = wide(KINDS["shared keys"], seed=5)
    ids = np.tile(ids_of(1, 3), (4000, 1))
    drawn = jitted(
        module, params, jax.random.key(1), ids, np.ones_like(ids, bool), SamplingConfig(max_new_tokens=1), pad=0
    )
    expected = np.asarray(jax.nn.softmax(jax.jit(module.apply)(params, ids[:1])[0][0, -1]))
    counts = np.bincount(np.asarray(drawn.ids[:, 3]), minlength=len(expected)) / 4000
    np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(0.25 / 4000))
    assert np.abs(counts - expected).sum() < 0.15


@pytest.mark.parametrize(
    "setting",
    [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"repetition_penalty": 0.0}],
)
def test_settings_that_make_no_sense_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        SamplingConfig(**{"max_new_tokens": 1, **setting})
