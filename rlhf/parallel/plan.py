"""Memory of a stage on each device of a mesh, from shapes or from the compiler, without a mesh or a model."""

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
from rlhf.config import SamplingConfig, TrainingConfig
from rlhf.data.encoding import Prompts, Supervised
from rlhf.models.architecture import ModelConfig
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.parallel import memory, sharding
from rlhf.reinforcement.judge import score_judge
from rlhf.reinforcement.policy_trainer import reinforcement_trainer
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training import objectives
from rlhf.training.supervised_trainer import supervised_trainer

STAGES = ("sft", "ppo-lag")
COLLECTIVES = re.compile(r" (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


class Plan(NamedTuple):
    """A stage with its sizes.

    Attributes:
        stage: one of `STAGES`.
        config: configuration of every model: the actor, and in reinforcement the frozen reference, and a critic and a
            frozen model for reward and for cost.
        rows: rows of one gradient; in reinforcement also the prompts of an iteration.
        length: length of texts; in reinforcement of prompt and answer.
        prompt_length: length of prompts, for reinforcement.
        dtype: type of activations and matrix products.
        param_dtype: type of parameters, gradients and moments.
        loss_chunk: tokens whose logits are in memory at once, 0 for all.
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
    """Trainer of the stage with shapes instead of weights: it can be traced and compiled, but not run.

    Raises:
        ValueError: the stage is unknown, or texts have no room for an answer.
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
    scores = parameters_of(scorer), parameters_of(scorer)  # two objects, because equal objects are stored once
    reward, cost = (score_judge(scorer, params) for params in scores)
    problem = ReinforcementProblem(
        actor, parameters_of(actor), Prompts(ids, ids == 0), reward, (cost,), (scorer, scorer), scores
    )
    config = ReinforcementConfig(prompts_per_iteration=plan.rows, batch_size=plan.rows)
    sampling = SamplingConfig(max_new_tokens=plan.length - plan.prompt_length)
    return reinforcement_trainer(plan.stage, problem, config, sampling)


def estimate(plan: Plan, over: Mesh | AbstractMesh) -> dict[str, int]:
    """Bytes on one device by purpose; parameters, gradients and moments are exact, the rest is an estimate.

    Raises:
        ValueError: the mesh does not divide the model or the rows; the message names the dimension.
    """
    state = jax.eval_shape(trainer_of(plan).init, jax.random.key(0))
    row_shards, tensor = over.shape["data"] * over.shape["fsdp"], over.shape["tensor"]
    sharding.partition("rows", (plan.rows,), ("batch",), over.shape)
    rows, size = plan.rows // row_shards, jnp.dtype(plan.dtype).itemsize
    # A chunk is columns of all rows, at least one, so each device has the part of its rows.
    chunk = max(plan.loss_chunk // row_shards, rows) if plan.loss_chunk else 0
    trained = state.params["model" if plan.stage == "sft" else "actor"]
    layer = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], plan.dtype), trained["decoder"]["layers"])
    parts = {
        "parameters": sharding.shard_bytes(state.params, over),
        "frozen": sharding.shard_bytes(state.frozen, over),
        "gradients": sharding.shard_bytes(trained, over),
        "moments": sharding.shard_bytes(state.optimizer, over),
        "activations": memory.activations(
            plan.config, rows, plan.length, remat=True, tensor=tensor, size=size, chunk=chunk
        ),
        # Weights of two layers at once if they are split over fsdp: the current layer and the prefetched one.
        "gathered": 2 * _bytes(layer) // tensor if over.shape["fsdp"] > 1 else 0,
    }
    if plan.stage == "ppo-lag":
        config = plan.config
        slots = rows * plan.length * config.num_layers * config.num_kv_heads * config.head_dim
        parts["cache"] = 2 * slots * size // tensor
    return parts


def _bytes(tree: Any) -> int:
    return sum(x.size * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


class Compiled(NamedTuple):
    """Memory and communication of one compiled step.

    Attributes:
        arguments: bytes of the state on one device; the next state reuses them.
        temporary: further bytes that it allocates on one device.
        collectives: number of instructions by kind; those inside a loop over layers count once.
    """

    arguments: int
    temporary: int
    collectives: dict[str, int]


def compiled(plan: Plan, over: Mesh) -> Compiled:
    """Compile a step for a mesh, without allocating or running anything there."""
    population = make_population(trainer_of(plan), 1, layout=sharding.layout(over))
    state = jax.eval_shape(population.init, keys_for(0, 1))
    executable = population.step.lower(state).compile()
    sizes = executable.memory_analysis()
    kinds = collections.Counter(COLLECTIVES.findall(executable.as_text()))
    return Compiled(sizes.argument_size_in_bytes, sizes.temp_size_in_bytes, dict(sorted(kinds.items())))
