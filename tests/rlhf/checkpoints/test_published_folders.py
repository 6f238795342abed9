"""Model folders as other tools write them: each is read with its own meaning, or refused by name."""

import json
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rlhf.checkpoints import model_folder
from rlhf.checkpoints.weight_files import load_config
from rlhf.data.beavertails import CATEGORIES
from rlhf.evaluation.moderation import open_moderation_model
from rlhf.judges.score_normalizer import EPSILON
from rlhf.models import LanguageModel, ScoreModel
from rlhf.tokenizer.train_bpe import learn_tokenizer

TEXTS = ["How do I oil the door?", "read the label first", "let it dry overnight"] * 3
LONG = "read the label first " * 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder.fresh("nano", learn_tokenizer(TEXTS, 280, tmp_path_factory.mktemp("tokens")), seed=3)


@pytest.fixture
def folder(model, tmp_path):
    model_folder.save_model(tmp_path, model)
    (tmp_path / "generation_config.json").unlink()
    return tmp_path


def change(path, **entries):
    """Set entries of a JSON file; `...` removes one."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    content |= entries
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def change_tensors(folder, **changes):
    path = folder / "model.safetensors"
    save_file({**load_file(path), **{name.replace("__", "."): value for name, value in changes.items()}}, path)


def silently(folder, **options):
    """Open a folder; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model_folder.open_model(folder, **options)


# Tokenizers.


@pytest.mark.parametrize("stored", ["truncation", "padding", "dropout"])
def test_settings_stored_with_a_tokenizer_do_not_change_texts(model, folder, stored):
    expected = model.tokenizer.encode(LONG)
    content = json.loads((folder / "tokenizer.json").read_text())
    if stored == "truncation":
        content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    elif stored == "padding":
        content["padding"] = {"strategy": {"Fixed": 999}, "direction": "Left", "pad_to_multiple_of": None,
                              "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}  # fmt: skip
    else:
        content["model"]["dropout"] = 0.9
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert silently(folder).tokenizer.encode(LONG) == expected


def renamed(folder):
    """Give the tokenizer special tokens with names that are no defaults, and remove the files that state them."""
    text = (folder / "tokenizer.json").read_text()
    for name in ("s", "/s", "pad"):
        text = text.replace(f'"<{name}>"', f'"<|{name}|>"')
    (folder / "tokenizer.json").write_text(text)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)


def test_a_lone_tokenizer_file_has_the_special_tokens_of_the_configuration(model, folder):
    renamed(folder)
    tokens = silently(folder).tokenizer
    assert (tokens.bos, tokens.eos, tokens.eos_text) == (model.tokenizer.bos, model.tokenizer.eos, "<|/s|>")
    assert tokens.encode("oil<|/s|>", start=False)[-1] == tokens.eos
    change(folder / "config.json", eos_token_id=...)
    with pytest.raises(ValueError, match="needs an end-of-text token, got none named '</s>'"):
        model_folder.open_model(folder)


@pytest.mark.parametrize("as_object", [False, True])
def test_special_tokens_come_from_the_older_file_too(model, folder, as_object):
    renamed(folder)
    change(folder / "config.json", eos_token_id=None, bos_token_id=...)
    names = {"eos_token": "<|/s|>", "bos_token": "<|s|>"}
    named = {kind: {"content": text} if as_object else text for kind, text in names.items()}
    change(folder / "special_tokens_map.json", **named)
    tokens = silently(folder).tokenizer
    assert (tokens.bos, tokens.eos) == (model.tokenizer.bos, model.tokenizer.eos)
    change(folder / "special_tokens_map.json", eos_token=["</s>"])
    with pytest.raises(ValueError, match="special_tokens_map.json: eos_token must be a text"):
        model_folder.open_model(folder)


# Special ids.


@pytest.mark.parametrize("absent", [..., None])
def test_the_end_of_text_comes_from_the_generation_configuration_then_from_the_tokenizer(model, folder, absent):
    change(folder / "config.json", eos_token_id=absent)
    assert silently(folder).config.ends == (model.tokenizer.eos,)
    change(folder / "generation_config.json", eos_token_id=[7, 9])
    with pytest.warns(UserWarning, match=r"eos_token_id is 7/9 in generation_config.json, \d+ in .*; 7, 9 is used"):
        opened = model_folder.open_model(folder)
    assert opened.config.ends == (7, 9) and load_config(folder).ends == (7, 9)
    assert (opened.tokenizer.eos, opened.tokenizer.other_ends) == (7, (9,))
    assert opened.tokenizer.eos_text == opened.tokenizer.backend.text_of(7)


@pytest.mark.parametrize("kind", ["bos", "pad"])
def test_files_that_disagree_about_an_id_are_reported(folder, kind):
    change(folder / "config.json", **{f"{kind}_token_id": 5})
    change(folder / "generation_config.json", **{f"{kind}_token_id": 6})
    with pytest.warns(UserWarning, match=f"{kind}_token_id is 5 in config.json, 6 in generation_config.json.*; 5 is"):
        opened = model_folder.open_model(folder)
    assert getattr(opened.config, f"{kind}_id") == getattr(opened.tokenizer, kind) == 5


def test_further_ends_of_an_answer_are_no_disagreement(model, folder):
    change(folder / "generation_config.json", eos_token_id=[9, model.tokenizer.eos])
    assert silently(folder).config.ends == (model.tokenizer.eos, 9)


@pytest.mark.parametrize("entry", [{"eos_token_id": 10**6}, {"eos_token_id": "2"}, {"eos_token_id": -1},
                                   {"bos_token_id": 10**6}, {"bos_token_id": 1.5}, {"pad_token_id": True}])  # fmt: skip
def test_ids_that_are_no_tokens_are_refused(folder, entry):
    change(folder / "config.json", **entry)
    with pytest.raises(ValueError, match=rf"config.json: {next(iter(entry))} must be"):
        model_folder.open_model(folder)


def test_an_exported_model_states_its_ends_for_generation(model, folder, tmp_path_factory):
    change(folder / "config.json", eos_token_id=...)
    change(folder / "generation_config.json", eos_token_id=[model.tokenizer.eos, 9], temperature=0.6)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    other = tmp_path_factory.mktemp("exported")
    model_folder.save_model(other, silently(folder))
    for name in ("config.json", "generation_config.json"):
        assert json.loads((other / name).read_text())["eos_token_id"] == [model.tokenizer.eos, 9]
    assert json.loads((other / "generation_config.json").read_text())["temperature"] == 0.6
    assert (other / "chat_template.jinja").read_text() == "{{ messages }}"


# Quantized and damaged weights.


@pytest.mark.parametrize("method", ["bitsandbytes", "compressed-tensors", "gptq", "awq", "fp8"])
@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_quantized_folders_are_refused_by_their_configuration(folder, key, method):
    change(folder / "config.json", **{key: {"quant_method": method}})
    with pytest.raises(ValueError, match=rf"config.json: {key} must be absent, got .* method '{method}'"):
        model_folder.open_model(folder)


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json", "hf_quant_config.json"])
def test_quantized_folders_are_refused_by_the_file_next_to_them(folder, name):
    (folder / name).write_text("{}")
    with pytest.raises(ValueError, match=f"quantized ones according to its {name}"):
        model_folder.open_model(folder)


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.int32, np.bool_, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
)
def test_weights_that_need_scales_are_refused(folder, kind):
    name = "model.layers.0.mlp.up_proj.weight"
    before = load_file(folder / "model.safetensors")[name]
    change_tensors(folder, **{name: before.astype(kind)})
    with pytest.raises(ValueError, match=rf"{name} must have a floating type of 16 bits or more"):
        model_folder.open_model(folder)


@pytest.mark.parametrize("kind", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_weights_of_other_floating_types_are_read(model, folder, kind):
    tensors = {name: tensor.astype(kind) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    table = silently(folder).params["decoder"]["embedding"]
    np.testing.assert_array_equal(table, model.params["decoder"]["embedding"].astype(kind).astype(np.float32))


@pytest.mark.parametrize("value, kind", [(np.nan, "f4"), (np.inf, "f4"), (-np.inf, "f2"), (1e300, "f8")])
def test_weights_that_are_not_finite_are_refused(folder, value, kind):
    before = load_file(folder / "model.safetensors")["model.norm.weight"].astype(kind)
    before[3] = value
    change_tensors(folder, model__norm__weight=before)
    with pytest.raises(ValueError, match=r"model.norm.weight must have finite numbers"):
        model_folder.open_model(folder)


def test_tensors_that_a_layer_does_not_use_are_refused_and_others_reported(folder):
    change_tensors(folder, **{"model.layers.7.mlp.up_proj.weight": np.zeros(3, np.float32)})
    with pytest.warns(UserWarning, match="1 tensors are not used, for example model.layers.7"):
        model_folder.open_model(folder)
    change_tensors(folder, **{"model.layers.0.self_attn.q_proj.bias": np.zeros(32, np.float32)})
    with pytest.raises(ValueError, match="1 tensors that its layers do not use, for example .*q_proj.bias"):
        model_folder.open_model(folder)


# Configurations.


def test_an_output_layer_in_the_file_is_used_although_the_configuration_ties_it(model, folder):
    ids = jnp.array([[1, 5, 6]])
    table = model.params["decoder"]["embedding"]
    change_tensors(folder, lm_head__weight=table.copy())
    assert silently(folder).config.tied
    change_tensors(folder, lm_head__weight=2 * table)
    with pytest.warns(UserWarning, match="tie_word_embeddings is true, but lm_head.weight differs"):
        opened = model_folder.open_model(folder)
    logits, _ = LanguageModel(opened.config).apply({"params": opened.params}, ids)
    expected, _ = LanguageModel(model.config).apply({"params": model.params}, ids)
    np.testing.assert_allclose(logits, 2 * expected, rtol=1e-5)


@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_rotations_of_the_default_type_are_not_scaled(model, folder, key):
    change(folder / "config.json", rope_scaling={key: "default"})
    assert silently(folder).config == model.config
    change(
        folder / "config.json", rope_scaling=..., rope_theta=..., rope_parameters={key: "default", "rope_theta": 5e5}
    )
    assert silently(folder).config.rope_theta == 5e5
    change(folder / "config.json", rope_parameters={key: "yarn", "factor": 4.0})
    with pytest.raises(ValueError, match="config.json: rope_scaling must be of type 'llama3', got 'yarn'"):
        model_folder.open_model(folder)


@pytest.mark.parametrize(
    "entry",
    [{"partial_rotary_factor": 0.5}, {"sliding_window": 16}, {"attention_bias": True}, {"mlp_bias": True},
     {"hidden_act": "gelu"}, {"final_logit_softcapping": 30.0}, {"hidden_size": "32"}, {"num_attention_heads": 0},
     {"rms_norm_eps": float("nan")}, {"rope_theta": "x"}, {"vocab_size": ...}, {"model_type": "mamba"}],
)  # fmt: skip
def test_entries_that_change_the_model_are_refused_by_name(folder, entry):
    change(folder / "config.json", **entry)
    with pytest.raises(ValueError, match=r"config.json"):
        model_folder.open_model(folder)


# Score heads.


def classifier(folder, rows, **entries):
    """Turn a folder into one of a sequence classifier of transformers; return its head."""
    head = np.random.default_rng(1).normal(size=(rows, 32)).astype(np.float32)
    change_tensors(folder, score__weight=head)
    change(folder / "config.json", architectures=["LlamaForSequenceClassification"], **entries)
    return head


def test_a_trained_head_of_trl_is_read_instead_of_replaced(folder):
    head = classifier(folder, 1, id2label={"0": "LABEL_0"})
    opened = silently(folder, score=True, new_scores=1, kind="reward")
    np.testing.assert_array_equal(opened.params["score_head"], head.T)
    np.testing.assert_array_equal(opened.params["score_bias"], [0.0])
    with pytest.raises(ValueError, match="must be a language model, got a score model"):
        model_folder.open_model(folder)
    change(folder / "config.json", num_labels=3)
    with pytest.raises(ValueError, match="score.weight must have as many rows as num_labels 3, got 1"):
        model_folder.open_model(folder, score=True)


def test_a_new_head_next_to_one_of_another_library_is_reported(folder):
    change_tensors(folder, **{"v_head.summary.weight": np.ones((1, 32), np.float32)})
    with pytest.warns(UserWarning, match="a new score head is trained; v_head.summary.weight in its weights are not"):
        model_folder.open_model(folder, score=True, new_scores=1)


def test_the_labels_of_a_moderation_model_are_put_in_order(folder):
    names = CATEGORIES[::-1]
    head = classifier(folder, 14, id2label={str(i): name for i, name in enumerate(names)})
    np.testing.assert_array_equal(open_moderation_model(folder).params["score_head"], head[::-1].T)
    change(folder / "config.json", id2label={str(i): name for i, name in enumerate(CATEGORIES)})
    np.testing.assert_array_equal(open_moderation_model(folder).params["score_head"], head.T)
    change(folder / "config.json", id2label={str(i): f"toxic {i}" for i in range(14)})
    with pytest.raises(ValueError, match="id2label must have the 14 categories of BeaverTails"):
        open_moderation_model(folder)


@pytest.mark.parametrize("kind, center", [("reward", 3.0), ("cost", 0.0)])
def test_stored_normalisation_of_scores_is_applied(model, tmp_path, kind, center):
    scored = model_folder.with_scores(model, 1, seed=1)
    model_folder.save_model(tmp_path, scored, kind)
    change(tmp_path / "config.json", do_normalize=True, mean=[3.0], var=[4.0])
    with pytest.warns(UserWarning, match="do_normalize is true; its score head includes the normalisation"):
        opened = model_folder.open_model(tmp_path, score=True)
    ids, mask = jnp.array([[1, 5, 6]]), jnp.ones((1, 3), bool)
    raw, actual = (
        ScoreModel(m.config, 1).apply({"params": jax.tree.map(jnp.asarray, m.params)}, ids, mask).end_scores
        for m in (scored, opened)
    )
    np.testing.assert_allclose(actual, (raw - center) / (2.0 + EPSILON), rtol=1e-5)
    for entry in ({"var": [0.0]}, {"mean": [float("nan")]}, {"score_type": "critic"}):
        change(tmp_path / "config.json", **{"score_type": kind, "mean": [3.0], "var": [4.0]} | entry)
        with pytest.raises(ValueError, match="do_normalize needs"):
            model_folder.open_model(tmp_path, score=True)
