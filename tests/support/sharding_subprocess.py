"""Figures of eight virtual devices for `test_sharding`, computed in a separate process and printed as JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import runtime

runtime.configure("cpu", 8, cache=False)
jax.config.update("jax_disable_most_optimizations", True)

from jsafe.population import keys_for, make_population  # noqa: E402
from rlhf.data.encoding import Prompts, Supervised  # noqa: E402
from rlhf.generation.generate import SamplingConfig, generate  # noqa: E402
from rlhf.models import PUBLISHED, LanguageModel, ModelConfig, ScoreModel  # noqa: E402
from rlhf.parallel import plan as plans  # noqa: E402
from rlhf.parallel import sharding  # noqa: E402
from rlhf.reinforcement.judge import score_judge  # noqa: E402
from rlhf.reinforcement.policy_trainer import reinforcement_trainer  # noqa: E402
from rlhf.reinforcement.problem import ReinforcementProblem  # noqa: E402
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig  # noqa: E402
from rlhf.training import objectives  # noqa: E402
from rlhf.training.supervised_trainer import TrainingConfig, supervised_trainer  # noqa: E402

CONFIG = ModelConfig(
    vocab_size=48, hidden_size=16, intermediate_size=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=4,
    init_std=0.3,
)  # fmt: skip
ACTOR, SCORER = LanguageModel(CONFIG, remat=True), ScoreModel(CONFIG)
DRAWN = np.random.default_rng(0)
IDS = DRAWN.integers(3, 48, (32, 8)).astype(np.int32)
MASK = np.arange(8)[None] >= DRAWN.integers(0, 4, (32, 1))


def params_of(model, seed):
    return jax.device_get(model.init(jax.random.key(seed), IDS[:2], MASK[:2])["params"])


ACTOR_PARAMS = params_of(ACTOR, 0)
JUDGES = tuple(params_of(SCORER, seed) for seed in (1, 2))


def sft():
    data = Supervised(IDS, np.where(MASK, IDS, -100), MASK)
    options = TrainingConfig(batch_size=16, accumulation=2, learning_rate=1e-2, epochs=2, remat=True)
    return supervised_trainer("sft", ACTOR_PARAMS, data, objectives.supervised(ACTOR), options)


def ppo_lag():
    options = ReinforcementConfig(
        prompts_per_iteration=16, batch_size=8, iterations=4, cost_limit=(0.0,), actor_learning_rate=1e-3,
        critic_learning_rate=1e-3, cost_window=16, ptx_coefficient=1.0,
    )  # fmt: skip
    reward, cost = (score_judge(SCORER, params) for params in JUDGES)
    problem = ReinforcementProblem(
        ACTOR, ACTOR_PARAMS, Prompts(IDS, MASK), reward, (cost,), (SCORER, SCORER), JUDGES,
        ptx=Supervised(IDS, np.where(MASK, IDS, -100), MASK),
    )  # fmt: skip
    return reinforcement_trainer("ppo-lag", problem, options, SamplingConfig(max_new_tokens=4))


def go(make, sizes, iterations=2):
    """Metrics of each iteration, the last state on the host, and which part of it one device holds."""
    layout = sharding.layout(sharding.mesh(**sizes)) if sizes else None
    population = make_population(make(), 1, layout=layout)  # one member without a layout: one device
    state = population.init(keys_for(3, 1))
    rows = []
    for _ in range(iterations):
        state, metrics, _ = population.step(state)
        rows.append({k: float(v[0]) for k, v in jax.device_get(metrics).items()})
    held = jax.tree_util.tree_flatten_with_path((state.params, state.optimizer))[0]
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.sharding.shard_shape(x.shape) for path, x in held
    }
    return rows, [np.asarray(x) for _, x in held], shapes


def spread(one, other):
    return max(float(np.max(np.abs(a - b))) for a, b in zip(one, other, strict=True) if a.size)


def answers(sizes):
    """Tokens drawn for eight prompts."""

    def draw(params, ids, mask):
        sampling = SamplingConfig(max_new_tokens=6)
        return generate(ACTOR, {"params": params}, jax.random.key(1), ids, mask, sampling, pad=0)

    prompts = (jnp.asarray(IDS[:8]), jnp.asarray(MASK[:8]))
    if sizes is None:
        return draw(ACTOR_PARAMS, *prompts)
    over = sharding.mesh(**sizes)
    cut = jax.tree.map(lambda spec: jax.sharding.NamedSharding(over, spec), sharding.specs(ACTOR_PARAMS, over))

    def draw_on_mesh(params, ids, mask):
        with jax.sharding.use_abstract_mesh(over.abstract_mesh):
            return draw(params, *sharding.constrain_rows((ids, mask)))

    return jax.jit(draw_on_mesh)(jax.device_put(ACTOR_PARAMS, cut), *prompts)


result = {}
kinds = {"sft": (sft, [(8, 1, 1), (2, 2, 2), (1, 8, 1)]), "ppo_lag": (ppo_lag, [(2, 2, 2)])}
for kind, (make, meshes) in kinds.items():
    rows, values, _ = go(make, None)
    result[kind] = {"alone": rows}
    for shape in meshes:
        sizes = dict(zip(sharding.AXES, shape, strict=True))
        other_rows, other_values, shapes = go(make, sizes)
        result[kind][str(shape)] = {"rows": other_rows, "apart": spread(values, other_values), "shapes": shapes}
result["tokens"] = [np.asarray(answers(s).ids).tolist() for s in (None, {"data": 2, "fsdp": 2, "tensor": 2})]
plan = plans.Plan("sft", PUBLISHED["tiny-llama"], rows=8, length=32)
over = sharding.mesh(fsdp=4, tensor=2)
result["plan"] = {"estimate": plans.estimate(plan, over), "compiled": plans.compiled(plan, over)._asdict()}
print(json.dumps(result))
