"""What `jsafe rlhf STAGE` understands: the stages, what each is given, and its hyper-parameters as options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.cli import family
from experiments.cli.argument_types import integer, not_negative, positive
from experiments.cli.family import Command, Family
from experiments.cli.result import CommandError
from jsafe.config import Hyper
from rlhf.chat_templates.safe_rlhf import TEMPLATES
from rlhf.generation.generate import SamplingConfig
from rlhf.models.architecture import DTYPES, POOLINGS
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training.supervised_trainer import TrainingConfig

SHORT = 256
"""Longest text of models that begin from nothing; others take 512, as published."""

TOKENS, JUDGES_TOKENS = 4096, 16_384
"""Tokens that are learned; those of a model that scores answers are mostly whole words, each with a score."""


def tokens(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [positive(part) for part in text.split(",")]


_FOLDER, _FILE = {"type": Path, "metavar": "DIR"}, {"type": Path, "metavar": "FILE"}
_COUNT = {"type": positive, "metavar": "N"}
_NUMBER = {"type": not_negative, "metavar": "X"}
_TEXTS = {"action": "append", "metavar": "FILE"}
_SWITCH = {"action": "store_true"}
_TYPE = {"choices": tuple(DTYPES), "default": "float32"}

FLAGS: dict[str, dict[str, Any]] = {
    "model": {
        "default": "small",
        "metavar": "MODEL",
        "help": "folder of a model, or a size to begin from nothing: small (default), mini, tiny, nano or published",
    },
    "model-folder": {**_FOLDER, "help": "folder of the language model"},
    "reward-model": {**_FOLDER, "help": "folder of the reward model"},
    "reward-model-folder": {**_FOLDER, "action": "append", "help": "folder of a reward model; several may be given"},
    "cost-model": {**_FOLDER, "action": "append", "help": "folder of a cost model; several may be given"},
    "tokenizer": {
        "type": Path,
        "metavar": "PATH",
        "help": "folder or file (default: the model's)",
    },
    "template": {
        "choices": TEMPLATES,
        "help": "how conversations are put: as text with USER: and ASSISTANT:, or with Baichuan 2's role tokens "
        "(default: baichuan for a model of that family, else safe-rlhf)",
    },
    "vocabulary": {
        **_COUNT,
        "help": f"tokens of a tokenizer that is learned (default {TOKENS:,}; of reward and cost"
        f" models {JUDGES_TOKENS:,}, mostly whole words)",
    },
    "length": {**_COUNT, "help": f"longest text (default 512, {SHORT} for a small model from nothing)"},
    "prompt-length": {**_COUNT, "default": 64, "help": "longest prompt (default 64)"},
    "data": {**_TEXTS, "help": "what to read: a file, a folder, or NAME:SHARE:PATH; may be repeated"},
    "eval-data": {**_TEXTS, "help": "what to measure on afterwards, likewise"},
    "eval-share": {**_NUMBER, "help": "in place of --eval-data: share of the prompts to keep apart"},
    "ptx-data": {**_TEXTS, "help": "answers that people wrote, to learn beside with --ptx-coefficient"},
    "prompt": {"action": "append", "metavar": "TEXT", "help": "a prompt; may be repeated"},
    "skip": {**_SWITCH, "help": "leave rows out that cannot be used, and count them"},
    "warm-epochs": {
        "type": integer,
        "metavar": "N",
        "default": 0,
        "help": "passes over the texts as a language model first, for a model from nothing (default 0)",
    },
    "regularization": {**_NUMBER, "default": 0.001, "help": "weight of squared scores (default 0.001)"},
    "level": {
        "choices": ("sequence", "token"),
        "default": "sequence",
        "help": "compare whole answers, or every token from their first difference on",
    },
    "pooling": {
        "choices": POOLINGS,
        "help": "score an answer by its last token, as published, or by the mean of its tokens (default: mean for a "
        "model from nothing, else what the folder says)",
    },
    "word-scores": {
        "action": argparse.BooleanOptionalAction,
        "default": None,
        "help": "first fit a score of each token, to which the rest is learned beside (default: for a model from "
        "nothing; needs --pooling mean)",
    },
    "prefer": {
        "choices": ("better", "harmful"),
        "default": "better",
        "help": "which answer of a pair is to have the larger reward: the more helpful one, or the more harmful one, "
        "for a reward that pulls against the cost (default better)",
    },
    "no-baseline": {"dest": "baseline", "action": "store_false", "help": "do not fit a bag of words beside it"},
    "scale": {**_NUMBER, "default": 0.1, "help": "of the implied reward (default 0.1)"},
    "quirk": {**_SWITCH, "help": "sum the tokens that the published code sums, one late at both ends"},
    "weight": {**_NUMBER, "default": 1.0, "help": "of the cost (default 1)"},
    "remat": {**_SWITCH, "help": "compute activations anew for the gradient, to save memory"},
    "loss-chunk": {
        "type": integer,
        "default": 1024,
        "metavar": "N",
        "help": "tokens whose logits a loss holds at once, to save memory; 0 for the whole batch (default 1024)",
    },
    "batch-size": {**_COUNT, "default": 16, "help": "rows at once (default 16)"},
    "stage": {"dest": "of", "choices": ("sft", "ppo-lag"), "default": "sft", "help": "what to plan (default sft)"},
    "dtype": {**_TYPE, "help": "of activations and matrix products (default float32)"},
    "param-dtype": {**_TYPE, "help": "of parameters, gradients and moments (default float32, what the stages use)"},
    "compile": {
        **_SWITCH,
        "help": "also compile a step for a virtual mesh of CPUs, and show what the compiler reserves",
    },
    "save-at": {"type": tokens, "metavar": "N,N", "help": "keep the models after so many tokens, and the last one"},
    "save-every": {**_COUNT, "help": "keep a model whenever it has seen so many tokens more"},
    "harness": {
        **_FOLDER,
        "help": "multiple choice that each kept model is tried on, as --multiple-choice of harness",
    },
    "hold-out": {**_COUNT, "default": 1, "help": "runs of most compute to try the law on (default 1)"},
    "points": {
        "choices": ("frontier", "last", "all"),
        "default": "frontier",
        "help": "what to fit: losses that no cheaper one beats, the last of each run, or all",
    },
    "predict": {
        "action": "append",
        "metavar": "C",
        "help": "say the loss at C PFLOP, or at SIZE:TOKENS for a published size; may be repeated",
    },
    "stages": {"metavar": "A,B", "help": "stages to measure (default: all)"},
    "repeats": {**_COUNT, "default": 5, "help": "timed iterations, of which the median counts (default 5)"},
    "seed": {"type": integer, "default": 0, "metavar": "ROOT", "help": "root of all randomness (default 0)"},
    "run-dir": {**_FOLDER, "help": "where to write (default runs/rlhf-STAGE-TIME)"},
    "mesh": {
        "metavar": "AXES",
        "help": "spread the models over all devices: data=2,fsdp=2,tensor=2 (default: one device); batches are spread "
        "over data and fsdp, parameters over fsdp and tensor",
    },
    "coordinator": {
        "metavar": "HOST:PORT",
        "help": "start the same command in several processes; the first listens there (auto: the cluster says it)",
    },
    "processes": {**_COUNT, "help": "how many processes there are"},
    "process": {"type": integer, "metavar": "I", "help": "which of them this is, from 0 on; 0 alone writes"},
    "resume": {**_FOLDER, "help": "go on with the run in DIR, exactly where it stopped"},
    "checkpoint-every": {**_COUNT, "help": "iterations between checkpoints"},
    "quiet": {**_SWITCH, "help": "no progress line"},
    "out": {**_FILE, "help": "where the result goes"},
    "threshold": {**_NUMBER, "default": 0.4, "help": "above which a category counts as found (default 0.4)"},
    "verdicts": {
        **_FILE,
        "help": "what other judges say: a row for each answer, a column of true and false for each judge",
    },
    "multiple-choice": {**_FOLDER, "help": "folder with dev/SUBJECT.csv and test/SUBJECT.csv, as CMMLU and MMLU have"},
    "language": {"choices": ("en", "zh"), "default": "en", "help": "of the questions (default en)"},
    "gsm8k": {**_FILE, "help": "problems as JSON lines; the first four are solved, unless --solved names others"},
    "solved": {**_FILE, "help": "problems whose solutions come first"},
    "iteration": {**_COUNT, "help": "which checkpoint (default: the last)"},
    **family.EXPERIMENT,
    "iterations": {**_COUNT, "default": 60, "help": "of PPO and of PPO-Lag (default 60)"},
}
"""Everything a stage may be given beside hyper-parameters."""

POSITIONAL: dict[str, dict[str, Any]] = {
    "models": {
        **_FOLDER,
        "nargs": "+",
        "help": "folders of language models; the first is the base",
    },
    "curves": {
        "type": Path,
        "metavar": "RUN|CSV",
        "nargs": "+",
        "help": "runs of `jsafe rlhf pretrain` that were evaluated, or tables with the columns run, petaflops, loss",
    },
    "run": {**_FOLDER, "help": "folder of a run of `jsafe rlhf`"},
    "file": {
        "type": Path,
        "metavar": "FILE",
        "help": "a .toml file of steps, or the name of one of ours: three_rounds, limits",
    },
    "size": {"metavar": "MODEL", "help": "a published model, for example llama2-7b, or the folder of one"},
}

_MANY = ("mesh", "coordinator", "processes", "process")
_RUN = ("seed", "run-dir", "resume", "checkpoint-every", "quiet", *_MANY)
_TEXTS_ONLY = ("model", "tokenizer", "vocabulary", "length", "data", *_RUN)
_SUPERVISED = (*_TEXTS_ONLY, "eval-data", "eval-share", "skip", "template")
_PAIRS = (*_SUPERVISED, "warm-epochs", "regularization", "level", "pooling", "word-scores", "no-baseline")
_POLICY = ("model-folder", "tokenizer", "template")
_REINFORCED = (*_POLICY, "reward-model", "data", "ptx-data", "prompt-length", "skip", "remat", *_RUN)
_ANSWERS = ("tokenizer", "template", "dtype", "data", "skip", "prompt-length", "batch-size", "seed", "out")
_SFT, _RL = (TrainingConfig,), (ReinforcementConfig, SamplingConfig)
_OF_LIMITS = frozenset(
    ("cost_limit", "cost_window", *(f"multiplier_{name}" for name in ("init", "learning_rate", "max", "delay")))
)
"""Hyper-parameters of limits, which a stage without limits does not take."""
OF_CRITICS = frozenset({"critic_learning_rate", "clip_value", "gae_lambda"})
_TRAIN, _USE = "experiments.commands.rlhf.rlhf_train:train", "experiments.commands.rlhf.rlhf_use"


PUBLISHED = "safe-rlhf"
_BAICHUAN_SFT: dict[str, Any] = {
    **{"epochs": 4, "learning_rate": 2e-5, "schedule": "constant", "warmup_ratio": 0.0, "beta2": 0.98},
    **{"weight_decay": 1e-4, "dtype": "bfloat16"},
}
_BAICHUAN_PPO: dict[str, Any] = {
    **{"kl_coefficient": 0.2, "last_kl_coefficient": 0.005, "actor_delay": 20, "iterations": 350, "clip_ratio": 0.1},
    **{"actor_learning_rate": 5e-6, "critic_learning_rate": 5e-6, "schedule": "constant", "max_grad_norm": 0.5},
}
"""Settings that Baichuan 2 was aligned with (arXiv 2309.10305, and its code for fine-tuning), on the same losses; how
the weight of the divergence falls is not published."""


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "a whole Safe RLHF on a corpus made here, in about ten minutes",
        "experiments.commands.rlhf.rlhf_demo:demo",
        ("run-dir", "seed", "iterations"),
    ),
    "experiment": Command(
        "run stages that a file declares, each from the models before it; again to go on",
        "experiments.commands.rlhf.rlhf_experiment:experiment",
        ("file", *family.EXPERIMENT, "run-dir", "quiet"),
    ),
    "sft": Command(
        "fine-tune a language model on answers",
        _TRAIN,
        _SUPERVISED,
        _SFT,
        {"epochs": 3},
        presets={PUBLISHED: {"epochs": 3}, "baichuan2": _BAICHUAN_SFT},
    ),
    "reward": Command(
        "train a reward model on pairs of answers",
        _TRAIN,
        (*_PAIRS, "prefer"),
        _SFT,
        {"epochs": 2, "weight_decay": 0.1},
    ),
    "cost": Command(
        "train a cost model on pairs with safety labels", _TRAIN, _PAIRS, _SFT, {"epochs": 2, "weight_decay": 0.1}
    ),
    "ppo": Command(
        "reinforce a language model by a reward model; a cost model is watched only",
        _TRAIN,
        (*_REINFORCED, "cost-model"),
        _RL,
        {"kl_coefficient": 0.02},
        presets={PUBLISHED: {"kl_coefficient": 0.02}, "baichuan2": _BAICHUAN_PPO},
        hidden=_OF_LIMITS,
    ),
    "ppo-lag": Command(
        "the same with costs kept below their limits",
        _TRAIN,
        (*_REINFORCED, "cost-model"),
        _RL,
        {"kl_coefficient": 0.01},
        presets={PUBLISHED: {"kl_coefficient": 0.01}, "baichuan2": _BAICHUAN_PPO},
    ),
    "reward-shaping": Command(
        "the same with reward minus a fixed multiple of cost",
        _TRAIN,
        (*_REINFORCED, "cost-model", "weight"),
        _RL,
        {"kl_coefficient": 0.02},
        hidden=_OF_LIMITS,
    ),
    "dpo": Command(
        "direct preference optimisation on pairs of answers",
        _TRAIN,
        (*_SUPERVISED, "scale", "quirk"),
        _SFT,
        {"epochs": 2, "learning_rate": 1e-6, "weight_decay": 0.05},
    ),
    "moderation": Command(
        "train a classifier of answers by category of harm",
        _TRAIN,
        _SUPERVISED,
        _SFT,
        {"epochs": 4, "learning_rate": 1e-5, "weight_decay": 0.1},
    ),
    "pretrain": Command(
        "train a language model on plain text, and watch what it learns when",
        _TRAIN,
        (*_TEXTS_ONLY, "eval-data", "eval-share", "save-at", "save-every", "harness", "language"),
        _SFT,
        {"weight_decay": 0.1, "warmup_ratio": 0.01},
    ),
    "scaling": Command(
        "fit loss against compute, and say what more compute would bring",
        "experiments.commands.rlhf.rlhf_scaling:run",
        ("curves", "hold-out", "points", "predict", "out"),
    ),
    "generate": Command(
        "answer prompts",
        f"{_USE}:generate",
        ("model-folder", "prompt", *_ANSWERS),
        (SamplingConfig,),
        leaves="answers.jsonl",
    ),
    "chat": Command(
        "talk to a model in the terminal",
        f"{_USE}:chat",
        (*_POLICY, "dtype", "prompt-length", "seed"),
        (SamplingConfig,),
    ),
    "evaluate": Command(
        "compare language models by reward and cost models",
        "experiments.commands.rlhf.rlhf_evaluate:evaluate",
        ("models", "reward-model-folder", "cost-model", *_ANSWERS),
        (SamplingConfig,),
    ),
    "flagged": Command(
        "how many answers moderation models flag, and how far judges agree",
        "experiments.commands.rlhf.rlhf_moderate:flagged",
        (*("models", "tokenizer", "data", "skip", "length", "threshold", "verdicts"), *("dtype", "batch-size", "out")),
    ),
    "harness": Command(
        "multiple choice and GSM8K",
        "experiments.commands.rlhf.rlhf_harness:run",
        (
            *("model-folder", "tokenizer", "length", "multiple-choice", "language", "gsm8k", "solved"),
            *("dtype", "batch-size", "seed", "out"),
        ),
        (SamplingConfig,),
        {"temperature": 0.0, "max_new_tokens": 256},
    ),
    "plan": Command(
        "what a stage needs on each device of a mesh, before there is one",
        "experiments.commands.rlhf.rlhf_plan:plan",
        ("size", "stage", "mesh", "batch-size", "length", "prompt-length", "dtype", "param-dtype", "compile"),
    ),
    "bench": Command(
        "tokens per second and memory of each stage, beside the matrix products it cannot do without",
        "experiments.commands.rlhf.rlhf_bench:bench",
        ("model", "vocabulary", "length", "batch-size", "stages", "repeats", "remat", "loss-chunk", "seed", "out"),
    ),
    "export": Command(
        "write the model of a run in Hugging Face's layout", f"{_USE}:export", ("run", "out", "iteration")
    ),
}


FAMILY = Family("rlhf", "Safe reinforcement learning from human feedback, in JAX.", COMMANDS, FLAGS, POSITIONAL)


def parse(
    argv: Sequence[str], parser_class: type[argparse.ArgumentParser], finish: Callable[[argparse.ArgumentParser], None]
) -> argparse.Namespace:
    """Read the words after `jsafe rlhf`; see `experiments.cli.family.parse`."""
    return family.parse(FAMILY, argv, parser_class, finish)


def refuse_idle(args: argparse.Namespace) -> None:
    """Refuse options that change nothing beside the others.

    Raises:
        CommandError: the message names the flags.
    """
    given = vars(args)
    if given.get("eval_data") and given.get("eval_share"):
        raise CommandError("--eval-data says what to measure on: leave --eval-share out")
    of_critics = [flag for name, flag in args.explicit.items() if name in OF_CRITICS]
    if args.hyper.get("estimator") == "group" and of_critics:
        raise CommandError(f"--estimator group has no critics: leave {', '.join(of_critics)} out")


def hyper_of(cls: type[Hyper], stage: str, given: dict[str, Any], preset: str | None = None) -> Any:
    """Hyper-parameters of a class: its defaults, those of the stage or of its preset, and what was given."""
    return family.hyper_of(cls, COMMANDS[stage], given, preset)
