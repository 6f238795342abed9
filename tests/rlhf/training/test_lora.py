"""Low-rank adapters: nothing at first, a merged weight in the end, and the chain rule in between."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jsafe
from jsafe.supervised import LossOutput
from rlhf.adapters import lora, peft
from rlhf.adapters.lora import LoraConfig
from rlhf.checkpoints import weight_files as weights
from rlhf.config import TrainingConfig
from rlhf.data.encoding import Prompts
from rlhf.generation.generate import SamplingConfig, generate
from rlhf.models import LanguageModel, ModelConfig, ScoreModel, low_rank, parameter_count
from rlhf.models.low_rank import LowRank
from rlhf.parallel import memory
from rlhf.reinforcement.judge import score_judge
from rlhf.reinforcement.policy_trainer import reinforcement_trainer
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training.supervised_trainer import supervised_trainer
from tests.support.random_models import params_of

CONFIG = ModelConfig(
    vocab_size=40, hidden_size=24, intermediate_size=40, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=6,
    init_std=0.2,
)  # fmt: skip
MODEL = LanguageModel(CONFIG)
OPTIONS = LoraConfig(lora_rank=3, lora_alpha=6.0)
IDS = np.random.default_rng(1).integers(0, 40, (3, 9), np.int32)
SAMPLING = SamplingConfig(max_new_tokens=8)
BASE = params_of(MODEL)


def is_adapter(leaf):
    return isinstance(leaf, LowRank)


def drawn(seed=2, options=OPTIONS):
    """Adapters that do change something."""
    rng, adapters = np.random.default_rng(seed), jax.eval_shape(lambda: lora.fresh(jax.random.key(0), BASE, options))

    def draw(x):
        bound = np.prod(x.a.shape[1:-1]) ** -0.5
        a, b = rng.uniform(-bound, bound, x.a.shape), rng.normal(0.0, 0.3, x.b.shape)
        return dataclasses.replace(x, a=a.astype(np.float32), b=b.astype(np.float32))

    return jax.tree.map(draw, adapters, is_leaf=is_adapter)


@jax.jit
def logits(params):
    return MODEL.apply({"params": params}, IDS)[0]


def test_fresh_adapters_change_nothing_at_all():
    adapters = jax.jit(lambda: lora.fresh(jax.random.key(0), BASE, OPTIONS))()
    np.testing.assert_array_equal(logits(lora.joined(BASE, adapters)), logits(BASE))
    assert {name for name, _ in lora.adapters(adapters)} == set(lora.MATRICES)
    for name, adapter in lora.adapters(adapters):
        inputs = np.prod(adapter.a.shape[1:-1])
        # Uniform within 1 / sqrt(inputs): the deviation is that over sqrt(3).
        assert np.std(adapter.a) == pytest.approx(inputs**-0.5 / 3**0.5, rel=0.25), name


@pytest.mark.parametrize("matrices", ["q,v", "o", "down,gate", ",".join(lora.MATRICES)])
def test_merged_weights_say_what_base_and_adapters_say(matrices):
    adapters = drawn(options=dataclasses.replace(OPTIONS, lora_matrices=matrices))
    whole = lora.merged(lora.joined(BASE, adapters))
    assert jax.tree.structure(whole) == jax.tree.structure(BASE)
    actual = logits(lora.joined(BASE, adapters))
    assert np.abs(actual - logits(BASE)).max() > 0.01
    np.testing.assert_allclose(actual, logits(whole), rtol=1e-5, atol=1e-5)


def test_answers_drawn_with_a_cache_are_those_of_the_merged_weights():
    params = lora.joined(BASE, drawn())
    seen = np.ones(IDS.shape, bool)
    draw = jax.jit(lambda p: generate(MODEL, {"params": p}, jax.random.key(0), IDS, seen, SAMPLING, pad=0))
    output = [draw(p) for p in (params, lora.merged(params), BASE)]
    np.testing.assert_array_equal(output[0].ids, output[1].ids)
    assert (np.asarray(output[0].ids) != np.asarray(output[2].ids)).any()


def test_gradients_follow_from_those_of_the_merged_weights():
    """With W + s A B and the gradient G of the sum: dA = s G B', dB = s A' G, in NumPy for each matrix and layer."""
    targets = np.eye(40, dtype=np.float32)[np.roll(IDS, -1, axis=1)]

    def loss(params):
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits(params)) * targets, axis=-1))

    adapters = drawn()
    actual = jax.device_get(jax.jit(jax.grad(lambda part: loss(lora.joined(BASE, part))))(adapters))
    whole = jax.device_get(jax.jit(jax.grad(loss))(lora.merged(lora.joined(BASE, adapters))))
    gradients = dict(lora.adapters(actual))
    for name, adapter in lora.adapters(adapters):
        part, axes = lora.MATRICES[name]
        for layer in range(CONFIG.num_layers):
            g = whole["decoder"]["layers"][part][name][layer]
            g = g.reshape(np.prod(g.shape[:axes]), -1)
            a, b = adapter.a[layer].reshape(len(g), 3), adapter.b[layer].reshape(3, -1)
            assert np.abs(g).max() > 1e-6
            np.testing.assert_allclose(gradients[name].a[layer].reshape(a.shape), 2.0 * g @ b.T, rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(gradients[name].b[layer].reshape(b.shape), 2.0 * a.T @ g, rtol=1e-3, atol=1e-6)


def test_parameters_are_counted_exactly():
    adapters = jax.eval_shape(lambda: lora.fresh(jax.random.key(0), BASE, OPTIONS))
    assert lora.parameter_count(CONFIG, OPTIONS) == sum(leaf.size for leaf in jax.tree.leaves(adapters))


def test_no_copy_is_made_of_what_is_frozen():
    params = lora.joined(BASE, drawn())
    held = {id(leaf) for leaf in jax.tree.leaves(params)}
    assert all(id(leaf) in held for leaf in jax.tree.leaves(BASE))
    assert lora.joined({}, BASE) == BASE and lora.fresh(jax.random.key(0), BASE, LoraConfig()) == {}


def test_matrices_that_do_not_exist_are_refused():
    for name in ("q,head", ""):
        with pytest.raises(ValueError, match="lora_matrices must be some of q,k,v,o,gate,up,down"):
            LoraConfig(lora_rank=2, lora_matrices=name)


SCORER = ScoreModel(CONFIG)
SEEN = np.ones(IDS.shape, bool)
REWARD, COST = (params_of(SCORER, seed) for seed in (5, 6))


def size(tree):
    """Bytes of the arrays of a tree."""
    return sum(np.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


TEXTS_AND_SCORES = (
    np.random.default_rng(3).integers(0, 40, (8, 9), np.int32),
    np.linspace(-2, 2, 8, dtype=np.float32),
)
"""Texts and what they are to be scored; eight of each can be learned by heart."""


def squared_error(params, batch):
    error = SCORER.apply({"params": params}, batch[0], jnp.ones_like(batch[0], bool)).end_scores[:, 0] - batch[1]
    return LossOutput(jnp.mean(error**2), {})


def test_supervised_training_moves_adapters_and_heads_and_nothing_below_them():
    options = TrainingConfig(epochs=40, batch_size=8, learning_rate=0.02, schedule="constant", lora_rank=4)
    trainer = supervised_trainer("test", REWARD, TEXTS_AND_SCORES, squared_error, options)
    state, metrics = jax.jit(lambda key: jsafe.run(trainer, key, 40))(jax.random.key(0))
    assert metrics["loss"][0] > 1.0 and metrics["loss"][-1] < 0.1
    trained = state.params["model"]
    assert set(trained) == {"decoder", "score_head", "score_bias"} and set(trained["decoder"]) == {"layers"}
    jax.tree.map(np.testing.assert_array_equal, state.frozen, {"decoder": REWARD["decoder"]})
    # Two moments of what is trained, and a count: nothing of the size of the weights.
    assert size(state.optimizer) == 2 * size(trained) + 4
    assert size(trained) == 4 * (lora.parameter_count(CONFIG, options) + 24 + 1)
    assert np.abs(trained["score_head"] - REWARD["score_head"]).max() > 0.01
    for _, adapter in lora.adapters(trained):
        assert (np.abs(adapter.b).max(axis=(-1, -2)) > 0).all()


def ppo_lag(options, params=(BASE, REWARD, COST)):
    actor, reward, cost = params
    prompts = Prompts(np.full((16, 2), 3, np.int32), np.ones((16, 2), bool))
    judges = score_judge(SCORER, reward), (score_judge(SCORER, cost),)
    problem = ReinforcementProblem(MODEL, actor, prompts, *judges, (SCORER, SCORER), (reward, cost))
    return reinforcement_trainer("ppo-lag", problem, options, SamplingConfig(max_new_tokens=4))


REINFORCEMENT = ReinforcementConfig(
    prompts_per_iteration=16, answers_per_prompt=2, batch_size=32, actor_learning_rate=0.02,
    actor_weight_decay=0.0, critic_learning_rate=0.01, cost_limit=(100.0,), kl_coefficient=0.02, schedule="constant",
)  # fmt: skip


def test_actor_and_reference_are_one_copy_and_so_are_critics_and_judges():
    """Bytes of the state, from shapes: six copies of weights and six of moments become three and adapters."""
    models = size(BASE) + size(REWARD) + size(COST)
    full = jax.eval_shape(ppo_lag(REINFORCEMENT).init, jax.random.key(0))
    assert size(full.frozen) == models and size(full.params) == models
    assert size(full.optimizer) == 2 * models + 3 * 4
    options = dataclasses.replace(REINFORCEMENT, lora_rank=1)
    low = jax.eval_shape(ppo_lag(options).init, jax.random.key(0))
    trained = 4 * (3 * lora.parameter_count(CONFIG, options) + 2 * (24 + 1))
    assert size(low.frozen) == models and size(low.params) == trained
    assert size(low.optimizer) == 2 * trained + 3 * 4
    shared = jax.eval_shape(ppo_lag(options, (BASE, REWARD, REWARD)).init, jax.random.key(0))
    assert size(shared.frozen) == size(BASE) + size(REWARD)
    needs = {
        name: memory.reinforcement(CONFIG, 3, 2, chosen, 2, SamplingConfig(max_new_tokens=4))
        for name, chosen in (("full", REINFORCEMENT), ("low", options))
    }
    each, adapters = 4 * parameter_count(CONFIG)["total"], 4 * lora.parameter_count(CONFIG, options)
    assert needs["full"]["parameters"] == 6 * each and needs["full"]["moments"] == 6 * each
    assert needs["low"]["parameters"] == 3 * each + 3 * adapters and needs["low"]["moments"] == 6 * adapters


def test_ppo_lag_with_adapters_begins_at_the_reference_and_rises_too():
    actual = {}
    for rank in (0, 4):
        trainer = ppo_lag(dataclasses.replace(REINFORCEMENT, lora_rank=rank))
        state, metrics = jax.jit(lambda key, t=trainer: jsafe.run(t, key, 20))(jax.random.key(4))
        actual[rank] = jax.tree.map(np.asarray, metrics)
        before = jax.jit(lambda key, t=trainer: t.init(key).frozen)(jax.random.key(4))
        jax.tree.map(np.testing.assert_array_equal, state.frozen, before)
    full, low = actual[0], actual[4]
    assert full["kl"][0] == low["kl"][0] == 0.0 and low["kl"][-1] > 0.01
    # Both start from one policy with one key, so the first answers and their scores and values are equal.
    for name in ("return", "cost", "critic_loss_0", "critic_loss_1"):
        assert low[name][0] == pytest.approx(full[name][0], rel=1e-4), name
    for metrics in (full, low):
        assert metrics["return"][-5:].mean() > metrics["return"][0] + 0.4
        assert metrics["critic_loss_1"][-5:].mean() < 0.5 * metrics["critic_loss_1"][0]


def test_critics_learn_first_and_the_weight_of_the_divergence_falls_by_one_factor():
    options = dataclasses.replace(
        REINFORCEMENT, actor_delay=2, iterations=6, kl_coefficient=0.2, last_kl_coefficient=0.025
    )
    trainer = ppo_lag(options)
    step = jax.jit(trainer.step)
    state = jax.jit(trainer.init)(jax.random.key(4))
    weights = []
    for number in range(7):
        new, metrics = step(state)
        for part, rests in (("actor", number < 2), ("critics", False)):
            pairs = zip(*(jax.tree.leaves(s.params[part]) for s in (state, new)), strict=True)
            assert all(np.array_equal(x, y) for x, y in pairs) == rests, part
        assert all(not np.any(x) for x in jax.tree.leaves(new.optimizer["actor"])) == (number < 2)
        weights.append(float(metrics["kl_coefficient"]))
        state = new
    np.testing.assert_allclose(weights, [0.2, 0.2, 0.2, 0.1, 0.05, 0.025, 0.025], rtol=1e-5)
    # The weight of the divergence is all that differs between two runs; equal weights give equal parameters.
    other = ppo_lag(dataclasses.replace(options, actor_delay=0, last_kl_coefficient=0.0))
    same = ppo_lag(dataclasses.replace(options, actor_delay=0, last_kl_coefficient=0.2))
    ended = [jax.jit(lambda key, t=t: jsafe.run(t, key, 2)[0].params)(jax.random.key(4)) for t in (other, same)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), *ended)
    with pytest.raises(ValueError, match=r"last_kl_coefficient must be at most the kl_coefficient 0.02, got 0.1"):
        dataclasses.replace(REINFORCEMENT, last_kl_coefficient=0.1)
    with pytest.raises(ValueError, match="actor_delay must be below iterations, 6, got 6"):
        dataclasses.replace(options, actor_delay=6)
    with pytest.raises(ValueError, match="actor_delay must be 0 for estimator"):
        dataclasses.replace(REINFORCEMENT, estimator="group", actor_delay=1)


def test_adapter_dropout_keeps_the_mean_output():
    """Against PEFT's formula, `W x + s B A (m * x) / keep`, and the mean over masks."""

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            w = self.param("w", nn.initializers.zeros, (5, 2))
            return low_rank.adapted(self, "w", x, x @ w)

    rng = np.random.default_rng(0)
    w, a, b = rng.normal(size=(5, 2)), rng.normal(size=(1, 5, 3)), rng.normal(size=(1, 3, 2))
    x = np.float32(rng.normal(size=(4000, 5)))
    stacked = {"w_lora": low_rank.LowRank(a, b, 0.5)}
    output = []

    def drawn_by(number, x):
        one = jax.tree.map(lambda leaf: leaf[0], lora.dropped_out(stacked, jax.random.key(number), 0.25)["w_lora"])
        return one, np.asarray(Layer().apply({"params": {"w": w, "w_lora": one}}, x))

    for number in (0, 1):
        one, actual = drawn_by(number, x)
        output.append(actual)
        mask = np.asarray(jax.random.bernoulli(one.key, 0.75, x.shape))
        assert abs(mask.mean() - 0.75) < 0.02
        np.testing.assert_allclose(output[-1], x @ w + 0.5 * (mask * x / 0.75) @ a[0] @ b[0], rtol=1e-4, atol=1e-4)
    assert np.abs(output[0] - output[1]).max() > 0.1
    plain = x @ w + 0.5 * x @ a[0] @ b[0]
    _, often = drawn_by(2, np.repeat(x[:3], 4000, axis=0))
    np.testing.assert_allclose(often.reshape(3, 4000, 2).mean(axis=1), plain[:3], atol=0.1)


def test_training_with_dropout_of_adapters_learns_and_differs():
    actual = {}
    for rate in (0.0, 0.3):
        options = TrainingConfig(
            epochs=40, batch_size=8, learning_rate=0.02, schedule="constant", lora_rank=4, lora_dropout=rate
        )
        trainer = supervised_trainer("test", REWARD, TEXTS_AND_SCORES, squared_error, options)
        actual[rate] = jax.jit(lambda key, t=trainer: jsafe.run(t, key, 40)[1]["loss"])(jax.random.key(0))
    assert actual[0.3][0] == actual[0.0][0] > 1.0  # at first an adapter adds nothing
    assert actual[0.3][-5:].mean() < 0.5 and np.abs(actual[0.3][5:] - actual[0.0][5:]).max() > 1e-3
    with pytest.raises(ValueError, match="lora_dropout changes nothing without a lora_rank"):
        TrainingConfig(lora_dropout=0.1)


@pytest.mark.parametrize("score", [False, True])
def test_the_tensors_for_peft_add_up_to_the_merged_model(score, tmp_path):
    """W + alpha / r B A with PEFT's names, shapes and orientation, against the tensors of the merged model."""
    base = REWARD if score else BASE
    trained = drawn() | ({"score_head": base["score_head"], "score_bias": base["score_bias"]} if score else {})
    peft.save(tmp_path, CONFIG, trained, "somewhere")
    output = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (output["peft_type"], output["r"], output["lora_alpha"]) == ("LORA", 3, 6.0)
    assert output["base_model_name_or_path"] == "somewhere" and "q_proj" in output["target_modules"]
    actual = load_file(tmp_path / "adapter_model.safetensors")
    if score:
        assert actual.pop("base_model.model.score_head.weight").shape == (1, 24)
        assert actual.pop("base_model.model.score_head.bias").shape == (1,)
    plain = dict(weights.decoder_tensors(CONFIG, base["decoder"]))
    whole = dict(weights.decoder_tensors(CONFIG, lora.merged(lora.joined(base, trained))["decoder"]))
    for name in plain:
        place = f"base_model.model.{name.removesuffix('.weight')}"
        if "_proj" not in name:
            np.testing.assert_array_equal(whole[name], plain[name])
            continue
        a, b = actual.pop(f"{place}.lora_A.weight"), actual.pop(f"{place}.lora_B.weight")
        np.testing.assert_allclose(plain[name] + 2.0 * b @ a, whole[name], rtol=1e-5, atol=1e-5)
    assert not actual


def test_adapters_come_back_from_their_folder_and_others_are_refused(tmp_path):
    trained = drawn() | {"score_head": REWARD["score_head"], "score_bias": REWARD["score_bias"]}
    peft.save(tmp_path, CONFIG, trained, "somewhere")
    actual = peft.load(tmp_path, REWARD)
    jax.tree.map(np.testing.assert_array_equal, actual, trained)
    assert peft.base_of(tmp_path) == tmp_path / "somewhere"
    output, tensors = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    kept, config = tensors.read_bytes(), json.loads(output.read_text())

    def refusal(**changes):
        output.write_text(json.dumps(config | changes))
        with pytest.raises(ValueError) as error:  # noqa: PT011
            peft.load(tmp_path, REWARD)
        return str(error.value)

    assert "got LORA with use_dora" in refusal(use_dora=True)
    assert "got IA3" in refusal(peft_type="IA3")
    assert "needs a rank r of at least 1" in refusal(r=0)
    assert "lora_A.weight: expected the shape [4, 24], got [3, 24]" in refusal(r=4)
    held = load_file(tensors)
    save_file({k: v for k, v in held.items() if "layers.1.mlp.up_proj.lora_B" not in k}, tensors)
    assert "has no tensor base_model.model.model.layers.1.mlp.up_proj.lora_B.weight" in refusal()
    save_file(held | {"base_model.model.lm_head.weight": np.zeros(3)}, tensors)
    assert "unsupported tensors: base_model.model.lm_head.weight" in refusal()
    tensors.write_bytes(kept[: len(kept) // 2])
    assert str(tensors) in refusal()
    output.write_text(json.dumps(config | {"base_model_name_or_path": str(tmp_path)}))
    with pytest.raises(ValueError, match="names its own folder"):
        peft.base_of(tmp_path)
    for text, reason in (("[]", "must hold an object"), ("{", "is not JSON"), ("{}", "names no base_model")):
        output.write_text(text)
        with pytest.raises(ValueError, match=reason):
            peft.base_of(tmp_path)


def test_adapters_of_baichuan_are_not_written_for_peft(tmp_path):
    with pytest.raises(ValueError, match="family 'llama' only"):
        peft.save(tmp_path, dataclasses.replace(CONFIG, family="baichuan"), drawn(), "somewhere")


def test_options_of_adapters_without_a_rank_are_refused():
    with pytest.raises(ValueError, match="lora_alpha changes nothing without a lora_rank"):
        TrainingConfig(lora_alpha=8.0)
    with pytest.raises(ValueError, match="lora_matrices changes nothing without a lora_rank"):
        ReinforcementConfig(lora_matrices="q,v")
