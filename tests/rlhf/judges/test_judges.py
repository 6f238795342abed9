"""Judges, critics and texts of reinforcement: mismatches are refused before training."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli import main
from rlhf.chat_templates.safe_rlhf import format_prompt
from rlhf.checkpoints import model_folder
from rlhf.data.schemas import Example
from rlhf.evaluation.compare import judge_tokens
from rlhf.generation.generate import Answers, SamplingConfig
from rlhf.models import LanguageModel, ScoreModel
from rlhf.reinforcement.build import PromptData, ReinforcementModels, reinforcement_stage
from rlhf.reinforcement.method_presets import reinforcement_config
from rlhf.reinforcement.reinforcement_config import PTX_COEFFICIENT, ReinforcementConfig
from rlhf.reinforcement.setup import ReinforcementSetup
from rlhf.tokenizer.tokenizer import difference, load_tokenizer
from rlhf.tokenizer.train_bpe import learn_tokenizer

PROMPTS = [Example(("oil the door",)), Example(("read it",))]
RUN = {"evaluate": "--out", "ppo": "--run-dir", "ppo-lag": "--run-dir", "reward-shaping": "--run-dir"}
OPTIONS = ReinforcementConfig(prompts_per_iteration=2, batch_size=2)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Two of one size, from different texts."""
    texts = {"doors": ["door oil door oil"] * 9, "labels": ["label read label read"] * 9}
    return [learn_tokenizer(lines, 262, tmp_path_factory.mktemp(name)) for name, lines in texts.items()]


def constant(model, *inputs):
    """Parameters of a model without its compilation: no number of them matters here."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    return jax.tree.map(lambda x: np.full(x.shape, 0.01, x.dtype), shapes)


@pytest.fixture(scope="module")
def actor(tokenizers):
    own = tokenizers[0]
    config = model_folder.size_of("nano", own.size)
    config = dataclasses.replace(config, bos_id=own.bos, eos_id=own.eos, pad_id=own.pad)
    return model_folder.Model(config, own, constant(LanguageModel(config), jnp.zeros((1, 2), jnp.int32)))


@pytest.fixture(scope="module")
def judge(actor):
    return model_folder.with_scores(actor)


@pytest.fixture(scope="module")
def places(actor, judge, tmp_path_factory):
    """Folders of the language model, of a reward model and of a cost model, and a file of prompts."""
    where = tmp_path_factory.mktemp("models")
    model_folder.save_model(where / "start", actor)
    for kind in ("reward", "cost"):
        model_folder.save_model(where / kind, judge, kind)
    (where / "rows.jsonl").write_text('{"prompt": "oil the door", "response": "read"}\n')
    return where


def stage(actor, reward, costs=(), options=OPTIONS, ptx=None, skip=False, **more):
    """Nothing of it is compiled."""
    models = ReinforcementModels(actor, reward, costs, **more)
    data = PromptData(PROMPTS, ptx=ptx, prompt_length=80, skip=skip)
    return reinforcement_stage("ppo", models, data, options, SamplingConfig(max_new_tokens=4))


def test_tokenizers_of_one_size_are_distinguished_by_their_tokens(tokenizers):
    first, second = tokenizers
    assert first.size == second.size == 262
    assert difference(first, load_tokenizer(first.path.parent)) == ""
    assert "has id" in difference(first, second)
    assert difference(first, first._replace(eos=5)) == f"eos is {first.eos} in the first and 5 in the second"
    assert difference(first, first._replace(pad=5)) == ""  # padding is masked


def test_a_judge_or_critic_of_other_tokens_is_refused(actor, judge, tokenizers):
    foreign = judge._replace(tokenizer=tokenizers[1])
    both = f"must have the actor's tokenizer, got {tokenizers[1].path} and the actor's {tokenizers[0].path}: "
    stage(actor, judge, (judge,), watched={"cost": judge})
    for reward, costs, more in [
        (foreign, (), {}),
        (judge, (foreign,), {}),
        (judge, (), {"critics": [foreign]}),
        (judge, (), {"watched": {"cost": foreign}}),
    ]:
        with pytest.raises(ValueError, match=both):
            stage(actor, reward, costs, **more)


def test_a_judge_without_an_embedding_of_the_padding_is_refused(actor, judge):
    padded = actor._replace(tokenizer=actor.tokenizer._replace(pad=262))
    with pytest.raises(ValueError, match="has no embedding of the padding id 262"):
        stage(model_folder.grown(padded), judge)


def test_a_comparison_gives_a_judge_of_other_tokens_the_texts_in_its_own(actor, judge, tokenizers):
    answered = [Example(("oil the door",), "door oil"), Example(("read it",), "")]
    drawn = Answers(np.ones((2, 3), np.int32), np.ones((2, 3), bool), np.int32(1))  # type: ignore[arg-type]
    ids, _ = judge_tokens(judge, actor, answered, drawn)
    assert ids is drawn.ids
    other = tokenizers[1]
    ids, mask = judge_tokens(judge._replace(tokenizer=other), actor, answered, drawn)
    for row, seen, sample in zip(ids, mask, answered, strict=True):
        text = format_prompt(sample.prompt, other.eos_text) + (sample.response or "")
        assert row[seen].tolist() == [*other.encode(text), other.eos]


def test_an_embedding_may_have_rows_to_spare_and_no_more(actor, tokenizers):
    first = tokenizers[0]
    fits = dataclasses.replace(actor.config, vocab_size=first.size + 1024)
    assert load_tokenizer(first.path.parent, fits).size == first.size
    with pytest.raises(ValueError, match="has 262 tokens and the model embeds 1287: they do not belong together"):
        load_tokenizer(first.path.parent, dataclasses.replace(fits, vocab_size=first.size + 1025))
    with pytest.raises(ValueError, match="has 262 tokens and llama-7b embeds 32000"):
        model_folder.fresh("llama-7b", first)


def test_a_model_of_many_scores_is_no_judge(actor, judge):
    """A moderation model has fourteen, of which the first would be taken."""
    moderation, language = model_folder.with_scores(actor, 14), actor
    for wrong, what in ((moderation, 14), (language, 0)):
        for reward, costs in ((wrong, ()), (judge, (wrong,))):
            with pytest.raises(ValueError, match=f"must give 1 score, got {what} from .*tokenizer.json"):
                stage(actor, reward, costs)


@pytest.mark.parametrize("command", ["evaluate", "ppo", "ppo-lag", "reward-shaping"])
def test_the_commands_refuse_a_folder_that_is_no_judge_or_another(places, command, capsys):
    start = [places / "start"] if command == "evaluate" else ["--model", places / "start"]
    words = [command, *start, "--data", places / "rows.jsonl", "--cost-model"]
    for cost, reward, message in [
        ("cost", "start", "start must be a reward model with a tensor score_head.weight, got none"),
        ("start", "reward", "start must be a cost model with a tensor score_head.weight, got none"),
        ("cost", "cost", "cost must be a reward model, got a cost model according to its config.json"),
        ("reward", "reward", "reward must be a cost model, got a reward model according to its config.json"),
    ]:
        words_of_case = [*words, places / cost, "--reward-model", places / reward, RUN[command], places / "out"]
        assert main.main(["rlhf", *map(str, words_of_case)]) == 2
        assert message in capsys.readouterr().err


def test_each_critic_has_the_configuration_of_its_own_model(actor, judge):
    """Judges of other sizes and of other poolings: their values are those of the models that they begin from."""
    wider = dataclasses.replace(actor.config, intermediate_size=32, score_pooling="mean", score_shrinkage=9.0)
    inputs = jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
    cost = judge._replace(config=wider, params=constant(ScoreModel(wider), *inputs))
    made = stage(actor, judge, (cost,))
    state = jax.eval_shape(made.trainer.init, jax.random.key(0))
    shapes = [critic["decoder"]["layers"]["mlp"]["up"].shape[-1] for critic in state.params["critics"]]
    assert shapes == [actor.config.intermediate_size, 32]
    jax.eval_shape(made.trainer.step, state)  # traced, not compiled


LEARNED = dataclasses.replace(OPTIONS, ptx_coefficient=16.0)


def test_unusable_ptx_texts_are_counted(actor, judge):
    rows = [Example(("oil",), "door"), Example(("read",), "label"), Example(("door " * 40,), "oil"), Example(("read",))]
    result = stage(actor, judge, options=LEARNED, ptx=rows, skip=True).left_out
    assert sorted(result.values()) == [1, 1] and all("(PTX texts)" in reason for reason in result)
    with pytest.raises(ValueError, match="leaves no room for an answer"):
        stage(actor, judge, options=LEARNED, ptx=rows)


def test_ptx_texts_and_their_weight_are_given_together(actor, judge):
    rows = [Example(("oil",), "door"), Example(("read",), "label")]
    with pytest.raises(ValueError, match="ptx_coefficient must be above 0 if there are texts for the PTX loss"):
        stage(actor, judge, ptx=rows)
    assert reinforcement_config("ppo-lag", ptx=True).ptx_coefficient == PTX_COEFFICIENT == 16.0
    assert reinforcement_config("ppo-lag").ptx_coefficient == 0.0
    folders = {"model": Path("actor"), "reward_model": Path("reward")}
    with pytest.raises(ValueError, match="ptx_coefficient has no effect without ptx_data"):
        ReinforcementSetup(method="ppo", **folders, data=("rows.json",), config=LEARNED)
