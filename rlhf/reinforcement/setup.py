"""Reinforcement stages from files and folders: the actor, its judges, and the arrays they share."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path

from rlhf import preflight
from rlhf.adapters import peft
from rlhf.checkpoints import model_folder, weight_files
from rlhf.checkpoints.model_folder import Model
from rlhf.config import SamplingConfig
from rlhf.data import dataset, mixture
from rlhf.data.schemas import named_columns
from rlhf.parallel import memory
from rlhf.reinforcement.build import PromptData, ReinforcementModels, reinforcement_stage, shaped_judge
from rlhf.reinforcement.method_presets import METHODS
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from rlhf.training.recipes import Recipe, data_digest, log_adapters

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReinforcementSetup:
    """Models, data and settings of a reinforcement stage.

    Attributes:
        method: one of `METHODS`.
        model: folder of the actor.
        reward_model: folder of the reward model.
        cost_models: folders of cost models. `ppo` and `reward-shaping` take one at most; `ppo` only reports it.
        data: files, folders, or `NAME:SHARE:PATH`, whose prompts are answered.
        ptx_data: the same with human-written responses for the PTX loss.
        tokenizer: folder or file; None for the actor's own.
        template: conversation template; None for that of the actor's family.
        prompt_length: maximum number of tokens of a prompt.
        skip: leave out unusable rows.
        columns: pairs of a field of a schema and the column of the files that it is read from.
        remat: recompute activations in the backward pass.
        cost_weight: weight of the cost in reward shaping.
        config: hyper-parameters.
        sampling: settings of the responses.
    """

    method: str
    model: Path
    reward_model: Path
    cost_models: tuple[Path, ...] = ()
    data: tuple[str, ...]
    ptx_data: tuple[str, ...] = ()
    tokenizer: Path | None = None
    template: str | None = None
    prompt_length: int = 64
    skip: bool = False
    columns: tuple[tuple[str, str], ...] = ()
    remat: bool = False
    cost_weight: float = 1.0
    config: ReinforcementConfig
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ValueError: an unknown method, missing or superfluous cost models, or a PTX weight without texts.
        """
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method != "ppo" and not self.cost_models:
            raise ValueError(f"{self.method} needs --cost-model, the folder of a cost model")
        if self.method != "ppo-lag" and len(self.cost_models) > 1:
            raise ValueError(f"{self.method} takes one --cost-model, got {len(self.cost_models)}")
        if self.config.ptx_coefficient and not self.ptx_data:
            raise ValueError("ptx_coefficient has no effect without ptx_data. Use --ptx-data FILE")

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of all models, the actor first."""
        return (self.model, self.reward_model, *self.cost_models)


def reinforcement_recipe(setup: ReinforcementSetup) -> Recipe:
    """Open the models and the data of a reinforcement stage.

    Raises:
        FileNotFoundError: a folder lacks pieces; the message names all of them.
    """
    if missing := [line for path in setup.folders for line in model_folder.missing(path, setup.tokenizer)]:
        raise FileNotFoundError(f"cannot start: {'; '.join(missing)}")
    load = functools.partial(mixture.load_mixture, skip=setup.skip, columns=named_columns(setup.columns))
    rows, skipped = load(setup.data)
    ptx_rows, more = load(setup.ptx_data) if setup.ptx_data else (None, [])
    _log_memory(setup)
    models = _models(setup, *_open_models(setup))
    prompts = dataset.unique_prompts(rows)
    if len(prompts) < len(rows):
        LOG.info("%d rows repeat a prompt and are left out", len(rows) - len(prompts))
    data = PromptData(prompts, ptx_rows, setup.prompt_length, setup.skip)
    stage = reinforcement_stage(setup.method, models, data, setup.config, setup.sampling, remat=setup.remat)
    return Recipe(stage, None, data_digest(stage), skipped + more)


def _models(setup: ReinforcementSetup, actor: Model, judges: list[Model]) -> ReinforcementModels:
    """Return the models of a method: which judges it learns from, and which it only reports."""
    reward, costs = judges[0], judges[1:]
    if setup.method == "ppo":
        return ReinforcementModels(actor, reward, watched={"cost": costs[0]} if costs else {})
    if setup.method == "reward-shaping":
        shaped = shaped_judge(reward, costs[0], setup.cost_weight, setup.config.dtype)
        return ReinforcementModels(actor, shaped, critics=[reward], watched={"return": reward, "cost": costs[0]})
    return ReinforcementModels(actor, reward, costs)


def _open_models(setup: ReinforcementSetup) -> tuple[Model, list[Model]]:
    """Open actor and judges; equal arrays are held once."""
    kinds = ("", "reward", *["cost"] * len(setup.cost_models))
    adapters = setup.config.lora_rank > 0
    models = [
        model_folder.open_model(path, setup.tokenizer, score=bool(kind), kind=kind, adapters=adapters)
        for path, kind in zip(setup.folders, kinds, strict=True)
    ]
    actor, *judges = model_folder.shared(models)
    return model_folder.with_template(actor, setup.template), judges


def _base_folder(path: Path) -> Path:
    """Folder of the weights of a model, which adapters only refer to."""
    return _base_folder(peft.base_of(path)) if peft.is_adapter(path) else path


def _log_memory(setup: ReinforcementSetup) -> None:
    """Log the estimated memory of the stage."""
    options = setup.config
    bases = [_base_folder(path) for path in setup.folders]
    config = weight_files.load_config(bases[0])
    preflight.warn_of_positions(config, setup.prompt_length + setup.sampling.max_new_tokens)
    copies = len({path.resolve() for path in bases}) if options.lora_rank else len(bases)
    critics = 0 if options.estimator == "group" else 1 + len(setup.cost_models) if setup.method == "ppo-lag" else 1
    parts = memory.reinforcement(config, copies, critics, options, setup.prompt_length, setup.sampling)
    LOG.info(memory.describe(parts))
    log_adapters(config, options)
