"""`jsafe rlhf bench`: tokens per second and memory of each stage, beside the matrix products it cannot do without.

What the clock covers: one call of the trainer's compiled step, as `jsafe.fit` calls it, until the device has finished,
fetching the batch from the host included. What it does not: compilation, checkpoints, tokenizing. Tokens and weights
are random, texts have full length, and no answer ends early. The floor is the time of the stage's model FLOPs
(`rlhf.parallel.flops`) at the rate of one large matrix product in the same type, timed between the iterations.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, table, to_json, unknown, writable_folder
from experiments.commands.rlhf.rlhf_words import SHORT, TOKENS, hyper_of
from experiments.commands.throughput import machine_line
from jsafe import Trainer, population, runtime
from rlhf.checkpoints import model_folder, weight_files
from rlhf.data.beavertails import CATEGORIES
from rlhf.data.encoding import Labelled, Prompts, Supervised
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.generation.generate import SamplingConfig, generate
from rlhf.models import LanguageModel, ModelConfig, ScoreModel, parameter_count
from rlhf.parallel import flops, memory
from rlhf.reinforcement.judge import score_judge, shaped_judge
from rlhf.reinforcement.policy_trainer import reinforcement_trainer
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training import objectives, stages
from rlhf.training.supervised_trainer import TrainingConfig, supervised_trainer

FIRST_ID = 3
"""Random tokens begin behind the special ones."""

FLOOR = "one square matrix product in the type of the parameters, timed between the iterations; medians"


class Piece(NamedTuple):
    """What is timed.

    Attributes:
        program: `state -> (state, ...)`, jitted, the state that goes in being consumed.
        state: what it begins with.
        tokens: that one call works through.
        counted: which those are.
        flops: model FLOPs of one call.
    """

    program: Any
    state: Any
    tokens: int
    counted: str
    flops: int


class Case(NamedTuple):
    """Sizes of a benchmark.

    Attributes:
        config: of every model.
        rows: texts, pairs or prompts of one call.
        length: of a text; of a prompt and its answer together, half each.
        options: of supervised stages.
        seed: of weights and tokens.
    """

    config: ModelConfig
    rows: int
    length: int
    options: TrainingConfig
    seed: int

    @property
    def language_model(self) -> LanguageModel:
        """With the options of a training."""
        return LanguageModel(self.config, remat=self.options.remat, loss_chunk=self.options.loss_chunk)

    def ids(self, number: int, length: int) -> np.ndarray:
        """Random tokens `[number, length]`."""
        rng = np.random.default_rng(self.seed)
        return rng.integers(FIRST_ID, self.config.vocab_size, (number, length)).astype(np.int32)

    def params(self, size: int = 0) -> Any:
        """Random weights of a language model, or of a model with `size` scores."""
        ids = jnp.zeros((1, 2), jnp.int32)
        model = ScoreModel(self.config, size) if size else LanguageModel(self.config)
        inputs = (ids, jnp.ones((1, 2), bool)) if size else (ids,)
        return jax.tree.map(np.asarray, jax.jit(model.init)(jax.random.key(self.seed), *inputs)["params"])


def _trainer(trainer: Trainer, seed: int, tokens: int, counted: str, count: int) -> Piece:
    people = population.make_population(trainer, 1)
    return Piece(people.step, people.init(population.keys_for(seed, 1)), tokens, counted, count)


def _texts(case: Case, name: str) -> Piece:
    ids = case.ids(2 * case.rows, case.length)
    data = Supervised(ids, ids, np.ones(ids.shape, bool))
    loss = objectives.supervised(case.language_model)
    trainer = supervised_trainer(name, case.params(), data, loss, case.options)
    count = flops.LEARNING * flops.language(case.config, case.rows, case.length)
    return _trainer(trainer, case.seed, case.rows * case.length, "texts", count)


def _pairs(case: Case, name: str) -> Piece:
    better, worse = np.split(case.ids(4 * case.rows, case.length), 2)
    mask, sign = np.ones(better.shape, bool), np.ones(len(better), np.float32)
    data: Any = PreferenceBatch(better, worse, mask, mask, sign, -sign)
    momentum, count = None, flops.LEARNING * flops.scores(case.config, 2 * case.rows, case.length)
    if name == "dpo":
        model, params = case.language_model, case.params()
        data = objectives.with_reference(model, params, data, case.rows)
        loss = objectives.dpo(model)
        count = flops.LEARNING * flops.language(case.config, 2 * case.rows, case.length)
    else:
        make = {"reward": objectives.reward, "cost": objectives.cost}[name]
        loss, params = make(ScoreModel(case.config, remat=case.options.remat)), case.params(1)
        momentum = stages.MOMENTUM
    trainer = supervised_trainer(name, params, data, loss, case.options, momentum=momentum)
    return _trainer(trainer, case.seed, 2 * case.rows * case.length, "texts of both answers", count)


def _labelled(case: Case, name: str) -> Piece:
    ids, size = case.ids(2 * case.rows, case.length), len(CATEGORIES)
    data = Labelled(ids, np.ones(ids.shape, bool), np.zeros((len(ids), size), np.float32))
    loss = objectives.moderation(ScoreModel(case.config, size, remat=case.options.remat))
    trainer = supervised_trainer(name, case.params(size), data, loss, case.options)
    count = flops.LEARNING * flops.scores(case.config, case.rows, case.length, size)
    return _trainer(trainer, case.seed, case.rows * case.length, "texts", count)


def _endless(config: ModelConfig) -> ModelConfig:
    """The model whose texts end at a token that is never drawn, so that every answer has full length."""
    return dataclasses.replace(config, eos_id=-1, other_eos_ids=())


def _prompts(case: Case) -> tuple[Prompts, SamplingConfig]:
    ids = case.ids(case.rows, case.length // 2)
    return Prompts(ids, np.ones(ids.shape, bool)), SamplingConfig(max_new_tokens=case.length - case.length // 2)


def _reinforced(case: Case, name: str) -> Piece:
    prompts, sampling = _prompts(case)
    config = _endless(case.config)
    options = hyper_of(ReinforcementConfig, name, {"prompts_per_iteration": case.rows, "batch_size": case.rows})
    scorer, judged = ScoreModel(config, remat=case.options.remat), case.params(1)
    reward, costs = score_judge(scorer, judged), ()
    watched = {}
    if name == "ppo-lag":
        costs = (score_judge(scorer, judged),)
    elif name == "reward-shaping":
        watched = {"return": reward, "cost": score_judge(scorer, judged)}
        reward = shaped_judge(reward, score_judge(scorer, judged), 1.0)
    problem = ReinforcementProblem(
        case._replace(config=config).language_model,
        case.params(),
        prompts,
        reward,
        costs,
        critics=(scorer,) * (1 + len(costs)),
        critic_params=(judged,) * (1 + len(costs)),
        watched=watched,
    )
    trainer = reinforcement_trainer(name, problem, options, sampling)
    # What is watched are the scores that the shaped one is made of: the method needs them once.
    judges, start = (1 if name == "ppo" else 2), prompts.ids.shape[1]
    count = flops.reinforcement(config, judges, options, start, sampling, len(costs))
    return _trainer(trainer, case.seed, case.rows * case.length, "prompts and answers", count)


def _answers(case: Case, name: str) -> Piece:
    prompts, sampling = _prompts(case)
    model = LanguageModel(_endless(case.config))

    def step(state: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        params, key = state
        key, now = jax.random.split(key)
        drawn = generate(model, {"params": params}, now, prompts.ids, prompts.mask, sampling, pad=0)
        return (params, key), drawn.ids

    state = jax.device_put((case.params(), jax.random.key(case.seed)))
    new, start = sampling.max_new_tokens, prompts.ids.shape[1]
    count = flops.generation(case.config, case.rows, start, new)
    return Piece(jax.jit(step, donate_argnums=0), state, case.rows * new, "drawn", count)


STAGES: dict[str, Callable[[Case, str], Piece]] = {
    "sft": _texts,
    "pretrain": _texts,
    "reward": _pairs,
    "cost": _pairs,
    "dpo": _pairs,
    "moderation": _labelled,
    "ppo": _reinforced,
    "ppo-lag": _reinforced,
    "reward-shaping": _reinforced,
    "generate": _answers,
}


class Products:
    """The rate of matrix products of one machine, in FLOP per second."""

    def __init__(self, size: int, count: int = 4):
        """Compile `count` products of square matrices, each of which needs the last."""
        self.work = 2.0 * size**3 * count
        self.matrix = jnp.full((size, size), 1e-4, jnp.float32)
        chain = jax.jit(lambda x: jax.lax.fori_loop(0, count, lambda _, y: y @ x, x))
        self.program = chain.lower(self.matrix).compile()
        self.rate()

    def rate(self) -> float:
        """Time the products once."""
        clock = time.perf_counter()
        jax.block_until_ready(self.program(self.matrix))
        return self.work / (time.perf_counter() - clock)


def peak(compiled: Any, before: int | None) -> tuple[int, str]:
    """Largest memory of a program in bytes, and who says so.

    A device counts its largest use since the process began, so that it can only be asked about a program that needed
    more than those before it; the compiler's figure is what the program is given, takes in between and returns.
    """
    now = _device_peak()
    if now is not None and before is not None and now > before:
        return now, "device"
    found = compiled.memory_analysis()
    sizes = (found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes)
    return sum(sizes) - found.alias_size_in_bytes, "compiler"


def _device_peak() -> int | None:
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def measure(name: str, case: Case, products: Products, repeats: int) -> dict[str, Any]:
    """The figures of one stage, as `--json` prints them."""
    before = _device_peak()
    piece = STAGES[name](case, name)
    clock = time.perf_counter()
    compiled = piece.program.lower(piece.state).compile()
    compile_seconds = time.perf_counter() - clock
    state = jax.block_until_ready(compiled(piece.state))[0]
    spans, rates = [], []
    for _ in range(repeats):
        clock = time.perf_counter()
        state = jax.block_until_ready(compiled(state))[0]
        spans.append(time.perf_counter() - clock)
        rates.append(products.rate())
    seconds, rate = float(np.median(spans)), float(np.median(rates))
    bytes_at_most, said_by = peak(compiled, before)
    return {
        "stage": name,
        "tokens": piece.tokens,
        "counted": piece.counted,
        "tokens_per_second": piece.tokens / seconds,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "peak_bytes": bytes_at_most,
        "peak_from": said_by,
        "model_flops": piece.flops,
        "model_flops_per_token": piece.flops / piece.tokens,
        "model_flops_per_second": piece.flops / seconds,
        "floor_flops_per_second": rate,
        "floor_seconds": piece.flops / rate,
        "floor_ratio": piece.flops / rate / seconds,
        "all_seconds": spans,
        "all_floor_flops_per_second": rates,
    }


def bench(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf bench`."""
    names = [name.strip() for name in args.stages.split(",")] if args.stages else list(STAGES)
    for name in names:
        if name not in STAGES:
            raise unknown("stage", name, STAGES)
    prepare(args)
    place = Path(args.model)
    small = args.model in model_folder.PRESETS
    config = (
        weight_files.load_config(place)
        if place.is_dir()
        else model_folder.size_of(args.model, args.vocabulary or TOKENS)
    )
    length = args.length or (SHORT if small else 512)
    if length < 2:
        raise CommandError(f"--length must be at least 2, a token of a prompt and one of its answer, got {length}")
    options = TrainingConfig(batch_size=args.batch_size, remat=args.remat, loss_chunk=args.loss_chunk)
    case = Case(config, args.batch_size, length, options, args.seed)
    products = Products(1024 if jax.default_backend() == "cpu" else 8192)
    rows = []
    for name in names:
        note(f"{name} ...")
        rows.append(measure(name, case, products, args.repeats))
    data: dict[str, Any] = {
        "model": args.model,
        "parameters": parameter_count(config)["total"],
        "config": dataclasses.asdict(config),
        "batch_size": args.batch_size,
        "length": length,
        "remat": args.remat,
        "loss_chunk": args.loss_chunk,
        "repeats": args.repeats,
        "floor": FLOOR,
        "stages": rows,
        "hardware": runtime.describe_hardware(),
        "versions": runtime.versions(),
    }
    if args.out is not None:
        writable_folder(args.out.parent)
        args.out.write_text(to_json(data))
    return Outcome(data, describe(data))


def describe(data: dict[str, Any]) -> str:
    """The figures as a table for people."""
    header = ["stage", "tokens/s", "s", "compile s", "peak", "MFLOP/token", "GFLOP/s", "floor", "of floor"]
    lines = [
        [
            row["stage"],
            f"{row['tokens_per_second']:,.0f}",
            f"{row['seconds']:.3f}",
            f"{row['compile_seconds']:.1f}",
            memory.size(row["peak_bytes"]),
            f"{row['model_flops_per_token'] / 1e6:.2f}",
            f"{row['model_flops_per_second'] / 1e9:.1f}",
            f"{row['floor_flops_per_second'] / 1e9:.1f}",
            f"{row['floor_ratio']:.0%}",
        ]
        for row in data["stages"]
    ]
    said = " and ".join(sorted({row["peak_from"] for row in data["stages"]}))
    return (
        f"{data['model']}, {data['parameters']:,} parameters, {data['batch_size']} rows of {data['length']} tokens, "
        f"median of {data['repeats']} iterations\n{machine_line(data['hardware'])}\n\n{table(header, lines)}\n\n"
        f"peak memory as the {said} says; floor: {data['floor']}"
    )
