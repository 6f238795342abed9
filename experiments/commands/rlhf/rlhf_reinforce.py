"""Stages of reinforcement from what a command was given: the actor, its judges, and what they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.cli.result import CommandError, note
from experiments.commands.rlhf.rlhf_words import hyper_of
from rlhf.adapters import lora, peft
from rlhf.checkpoints import model_folder, weight_files
from rlhf.data import mixture
from rlhf.generation.generate import SamplingConfig
from rlhf.models.architecture import ModelConfig, parameter_count
from rlhf.parallel import memory
from rlhf.reinforcement.build import PromptData, ReinforcementModels, reinforcement_stage, shaped_judge
from rlhf.reinforcement.reinforcement_config import PTX_COEFFICIENT, ReinforcementConfig
from rlhf.training import stages

REINFORCEMENT = ("ppo", "ppo-lag", "reward-shaping")


def reinforcement(given: dict[str, Any]) -> tuple[stages.Stage, tuple[Any, ...], list[str]]:
    """The stage, nothing to measure on, and a line for each prompt or text that was left out.

    Raises:
        CommandError: a model is not named or lacks pieces; the message names all of them.
    """
    name = given["stage"]
    wanted = {"--model": given["model"], "--reward-model": given["reward_model"]}
    wanted |= {} if name == "ppo" else {"--cost-model": (given.get("cost_model") or [None])[0]}
    if name != "ppo-lag" and len(given.get("cost_model") or []) > 1:
        raise CommandError(f"{name} takes one --cost-model")
    if lacking := [flag for flag, value in wanted.items() if value is None]:
        raise CommandError(f"{name} needs {', '.join(lacking)}: folders of models")
    places = [Path(given["model"]), Path(given["reward_model"]), *map(Path, given.get("cost_model") or [])]
    own = given["tokenizer"] and Path(given["tokenizer"])
    if lacks := [line for place in places for line in model_folder.missing(place, own)]:
        raise CommandError(f"cannot begin: {'; '.join(lacks)}")
    found, left_out = mixture.open_mixture(given["data"], skip=given["skip"])
    found = [found[i] for i in mixture.last_of_each([s.prompt for s in found])]
    ptx, unread = mixture.open_mixture(given["ptx_data"], skip=given["skip"]) if given.get("ptx_data") else (None, [])
    options = reinforcement_options(given)
    sampling = hyper_of(SamplingConfig, name, given["hyper"])
    below = [_below(place) for place in places]
    config = weight_files.load_config(below[0])
    apart = len({place.resolve() for place in below}) if options.lora_rank else len(places)
    critics = 0 if options.estimator == "group" else len(places) - 1 if name == "ppo-lag" else 1
    needs = memory.reinforcement(config, apart, critics, options, given["prompt_length"], sampling)
    note(memory.describe(needs))
    say_adapters(config, options)
    kinds = ("", "reward", *["cost"] * (len(places) - 2))
    opened = [
        model_folder.open_model(at, own, score=bool(kind), kind=kind, adapters=options.lora_rank > 0)
        for at, kind in zip(places, kinds, strict=True)
    ]
    actor, *judges = model_folder.shared(opened)
    actor = model_folder.with_template(actor, given.get("template"))
    samples = PromptData(found, ptx, given["prompt_length"], given["skip"])
    if name == "reward-shaping":
        shaped = shaped_judge(judges[0], judges[1], given["weight"], options.dtype)
        watched = {"return": judges[0], "cost": judges[1]}
        models = ReinforcementModels(actor, shaped, critics=judges[:1], watched=watched)
    elif name == "ppo":
        models = ReinforcementModels(actor, judges[0], watched={"cost": judges[1]} if len(judges) > 1 else {})
    else:
        models = ReinforcementModels(actor, judges[0], judges[1:])
    stage = reinforcement_stage(name, models, samples, options, sampling, remat=given["remat"])
    return stage, (), left_out + unread


def _below(place: Path) -> Path:
    """The folder that holds the weights of a model, which is not its own if that holds adapters."""
    return _below(peft.base_of(place)) if peft.is_adapter(place) else place


def reinforcement_options(given: dict[str, Any]) -> ReinforcementConfig:
    """What was given; texts to learn beside have their published weight unless another is given.

    Raises:
        CommandError: a weight of texts, and no texts.
    """
    beside = {"ptx_coefficient": PTX_COEFFICIENT} if given.get("ptx_data") else {}
    options = hyper_of(ReinforcementConfig, given["stage"], beside | given["hyper"], given.get("preset"))
    if options.ptx_coefficient and not given.get("ptx_data"):
        raise CommandError("--ptx-coefficient is the weight of texts to learn beside: name them with --ptx-data FILE")
    return options


def say_adapters(config: ModelConfig, options: lora.LoraConfig) -> None:
    """Tell people how much is trained of how much, if adapters are."""
    if options.lora_rank:
        trained, whole = lora.parameter_count(config, options), parameter_count(config)["total"]
        note(f"adapters of rank {options.lora_rank}: {trained:,} parameters are trained beside {whole:,} of each model")
