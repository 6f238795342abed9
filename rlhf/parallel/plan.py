"""What a stage needs on each device of a mesh, before there is a mesh or a model: from shapes, or from the compiler."""

from __future__ import annotations

import collections
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh

from jsafe import Trainer
from jsafe.population import keys_for, make_population
from rlhf.data.encoding import Prompts, Supervised
from rlhf.generation.generate import SamplingConfig
from rlhf.models.architecture import ModelConfig
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.parallel import memory, sharding
from rlhf.reinforcement.judge import score_judge
from rlhf.reinforcement.policy_trainer import reinforcement_trainer
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training import objectives
from rlhf.training.supervised_trainer import TrainingConfig, supervised_trainer

STAGES = ("sft", "ppo-lag")
COLLECTIVES = re.compile(r" (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


class Plan(NamedTuple):
    """A stage of a size.

    Attributes:
        stage: one of `STAGES`.
        config: of every model: the actor, and in reinforcement a critic and a frozen model for reward and for cost, and
            the frozen reference.
        rows: of one gradient; in reinforcement also the prompts of an iteration.
        length: of texts; in reinforcement of prompt and answer.
        prompt_length: of prompts, for reinforcement.
        dtype: of activations and matrix products.
        param_dtype: of parameters, gradients and moments.
        loss_chunk: tokens whose logits are held at once, 0 for all.
    """

    stage: str
    config: ModelConfig
    rows: int = 16
    length: int = 512
    prompt_length: int = 64
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    loss_chunk: int = TrainingConfig().loss_chunk


def parameters_of(model: LanguageModel | ScoreModel) -> Any:
    """Shapes of a model's parameters."""
    ids = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    mask = jax.ShapeDtypeStruct((1, 2), jnp.bool_)
    return jax.eval_shape(model.init, jax.random.key(0), ids, mask)["params"]


def trainer_of(plan: Plan) -> Trainer:
    """The trainer of the stage, with shapes in place of weights: it can be traced and compiled, not run.

    Raises:
        ValueError: an unknown stage, or texts without room for an answer.
    """
    if plan.stage not in STAGES:
        raise ValueError(f"stage must be one of {STAGES}, got {plan.stage!r}")
    types = (plan.dtype, plan.param_dtype)
    actor = LanguageModel(plan.config, *types, remat=True, loss_chunk=plan.loss_chunk)
    if plan.stage == "sft":
        ids = np.zeros((plan.rows, plan.length), np.int32)
        loss = objectives.supervised(actor)
        options = TrainingConfig(batch_size=plan.rows, remat=True)
        return supervised_trainer("sft", parameters_of(actor), Supervised(ids, ids, ids == 0), loss, options)
    if plan.length <= plan.prompt_length:
        raise ValueError(f"length {plan.length} must exceed prompt_length {plan.prompt_length}")
    scorer = ScoreModel(plan.config, dtype=plan.dtype, param_dtype=plan.param_dtype, remat=True)
    ids = np.zeros((plan.rows, plan.prompt_length), np.int32)
    scores = parameters_of(scorer), parameters_of(scorer)  # two, since what is one object is kept once
    reward, cost = (score_judge(scorer, params) for params in scores)
    problem = ReinforcementProblem(
        actor, parameters_of(actor), Prompts(ids, ids == 0), reward, (cost,), (scorer, scorer), scores
    )
    config = ReinforcementConfig(prompts_per_iteration=plan.rows, batch_size=plan.rows)
    sampling = SamplingConfig(max_new_tokens=plan.length - plan.prompt_length)
    return reinforcement_trainer(plan.stage, problem, config, sampling)


def estimate(plan: Plan, over: Mesh | AbstractMesh) -> dict[str, int]:
    """Bytes on one device by purpose. Parameters, gradients and moments are exact, the rest is reckoned.

    Raises:
        ValueError: the mesh does not divide the model or the rows; the message names what.
    """
    state = jax.eval_shape(trainer_of(plan).init, jax.random.key(0))
    apart, tensor = over.shape["data"] * over.shape["fsdp"], over.shape["tensor"]
    sharding.partition("rows", (plan.rows,), ("batch",), over.shape)
    rows, size = plan.rows // apart, jnp.dtype(plan.dtype).itemsize
    # A chunk is columns of all rows, at least one, so that each device holds its rows' part of it.
    chunk = max(plan.loss_chunk // apart, rows) if plan.loss_chunk else 0
    learned = state.params["model" if plan.stage == "sft" else "actor"]
    layer = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], plan.dtype), learned["decoder"]["layers"])
    found = {
        "parameters": sharding.shard_bytes(state.params, over),
        "frozen": sharding.shard_bytes(state.frozen, over),
        "gradients": sharding.shard_bytes(learned, over),
        "moments": sharding.shard_bytes(state.optimizer, over),
        "activations": memory.activations(
            plan.config, rows, plan.length, remat=True, tensor=tensor, size=size, chunk=chunk
        ),
        # Two layers' weights at once where they are cut over fsdp: the one at work and the one that is fetched.
        "gathered": 2 * _bytes(layer) // tensor if over.shape["fsdp"] > 1 else 0,
    }
    if plan.stage == "ppo-lag":
        config = plan.config
        slots = rows * plan.length * config.num_layers * config.num_kv_heads * config.head_dim
        found["cache"] = 2 * slots * size // tensor
    return found


def _bytes(tree: Any) -> int:
    return sum(x.size * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


class Compiled(NamedTuple):
    """What the compiler says of one step.

    Attributes:
        arguments: bytes of the state on one device; the next state takes its place.
        temporary: bytes it sets aside beside it on one device.
        collectives: instructions by kind; those inside a loop over layers are counted once.
    """

    arguments: int
    temporary: int
    collectives: dict[str, int]


def compiled(plan: Plan, over: Mesh) -> Compiled:
    """Compile a step for a mesh; nothing is allocated there and nothing runs."""
    population = make_population(trainer_of(plan), 1, layout=sharding.layout(over))
    state = jax.eval_shape(population.init, keys_for(0, 1))
    made = population.step.lower(state).compile()
    sizes = made.memory_analysis()
    kinds = collections.Counter(COLLECTIVES.findall(made.as_text()))
    return Compiled(sizes.argument_size_in_bytes, sizes.temp_size_in_bytes, dict(sorted(kinds.items())))
