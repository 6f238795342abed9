"""`jsafe rlhf STAGE` for the stages that train: from files to a model's folder, resumable at any iteration."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jsafe
from experiments.cli import training_run
from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, seconds_text, to_json, writable_folder
from experiments.cli.stdout import output_of_libraries_on_stderr
from experiments.commands.rlhf.rlhf_dynamics import Watch
from experiments.commands.rlhf.rlhf_measure import measure
from experiments.commands.rlhf.rlhf_missing import refuse_missing
from experiments.commands.rlhf.rlhf_reinforce import REINFORCEMENT, reinforcement, say_adapters
from experiments.commands.rlhf.rlhf_words import JUDGES_TOKENS, PUBLISHED, SHORT, TOKENS, hyper_of, refuse_idle
from jsafe import multihost
from jsafe.runs import resume as saved_state
from rlhf.adapters import lora, peft
from rlhf.chat_templates.chat_template import answer_marker
from rlhf.chat_templates.safe_rlhf import format_prompt
from rlhf.checkpoints import model_folder
from rlhf.checkpoints.model_folder import Model
from rlhf.data import encoding, mixture, plain_text, schemas
from rlhf.data.beavertails import CATEGORIES
from rlhf.judges import unigram_scores
from rlhf.parallel import memory, sharding
from rlhf.tokenizer.train_bpe import learn_tokenizer
from rlhf.training import stages
from rlhf.training.supervised_trainer import TrainingConfig

JUDGES = ("reward", "cost")
SCORED = {"reward": 1, "cost": 1, "moderation": len(CATEGORIES)}

_JUDGE = {"learning_rate": 1e-4, "batch_size": 64, "epochs": 1, "token_dropout": 0.6}
FROM_NOTHING: dict[str, dict[str, Any]] = {
    "warm": {"learning_rate": 2e-3, "batch_size": 64, "weight_decay": 0.1, "warmup_ratio": 0.05, "token_dropout": 0.1},
    "sft": {"learning_rate": 1e-3, "batch_size": 32, "epochs": 5},
    "pretrain": {"learning_rate": 2e-3, "batch_size": 32},
    "reward": _JUDGE,
    "cost": _JUDGE,
    "moderation": {"learning_rate": 1e-3, "batch_size": 32, "epochs": 5, "token_dropout": 0.3},
    "dpo": {"learning_rate": 1e-4, "batch_size": 32},
}
"""Settings of models that begin from nothing and are small, where they differ. Chosen for runs of minutes on two cores;
those of judges leave most to the scores of words, since what a decoder learns beside them from so few prompts does not
carry over to others (docs/safe_rlhf.md); the rest is not searched."""

_COMMAND = "run_dir resume words command function explicit debug json platform devices quiet"
OF_THE_MACHINE = frozenset([*_COMMAND.split(), "coordinator", "processes", "process"])
"""Options that a run does not keep; its mesh it keeps, and another may be given when it goes on."""

OPENINGS = 4
"""Tokens at the beginning of an answer that have scores of their own beside those of words."""

SHRINKAGE = 3.0
"""Tokens of score 0 beside an answer's, where scores are pooled, so that the shortest answers do not have the most
extreme scores."""


def train(args: argparse.Namespace) -> Outcome:
    """Run one stage, or go on with its run."""
    with output_of_libraries_on_stderr() if args.coordinator else contextlib.nullcontext():
        return _resume(args) if args.resume is not None else _begin(args)


def _begin(args: argparse.Namespace) -> Outcome:
    if not args.data:
        raise CommandError(f"say what to learn from: jsafe rlhf {args.stage} --data FILE")
    refuse_idle(args)
    refuse_missing(args)
    if args.coordinator and args.run_dir is None:
        raise CommandError("several processes need one --run-dir DIR, on a file system that all of them see")
    prepare(args)
    where = training_run.new_folder(args)
    given = {key: value for key, value in vars(args).items() if key not in OF_THE_MACHINE}
    given["hyper"] = args.hyper
    new = not where.exists()
    if multihost.is_first():
        writable_folder(where)
        for leftover in (
            "start",
            "tokenizer",
        ):  # of an attempt that ended before its run, perhaps with other options
            shutil.rmtree(where / leftover, ignore_errors=True)
    try:
        return _go(args, json.loads(to_json(given)), where, resume=False)
    except (CommandError, OSError, ValueError):
        if new and multihost.is_first() and not (where / "run.json").is_file():
            shutil.rmtree(where, ignore_errors=True)  # nothing began
        raise


def _resume(args: argparse.Namespace) -> Outcome:
    training_run.only_these_beside_resume(args, OF_THE_MACHINE - {"run_dir"} | {"mesh"})
    run, kept = training_run.begun(args.resume, "rlhf", args.stage)
    args.mesh = args.mesh or kept.get("mesh")
    prepare(args)
    return _go(args, kept, run.path, resume=True)


def _go(args: argparse.Namespace, given: dict[str, Any], where: Path, *, resume: bool) -> Outcome:
    began = time.monotonic()
    layout = sharding.layout(sharding.mesh(**sharding.parse(args.mesh))) if args.mesh else None
    shared = layout is not None and multihost.spans(layout.mesh)
    if shared and not multihost.is_first():
        multihost.wait("the model that the stage begins with is written")
    stage, held, left_out = build(given, where)
    if shared and multihost.is_first():
        multihost.wait("the model that the stage begins with is written")
    told = digest(stage, held)
    if given.setdefault("digest", told) != told:
        raise CommandError(f"the data are not those that the run at {where} was begun with: put them back")
    count = sum(stage.left_out.values()) + len(left_out)
    if count:
        reasons = [f"{number} x {reason}" for reason, number in stage.left_out.items()] + left_out[:3]
        note(f"{count} rows left out: {'; '.join(reasons)}")
    watch = None
    if given["stage"] == "pretrain" and (held or any(given.get(k) for k in ("save_at", "save_every", "harness"))):
        watch = Watch(given, where, stage, held[0] if held else None, _length(given))
    more: dict[str, Any] = {"callbacks": [watch] if watch else (), "layout": layout}
    ended = training_run.fitted(args, given, stage.trainer, stage.iterations, where, resume=resume, **more)
    result, data, lines = ended.result, ended.data, ended.lines
    data["left_out"] = stage.left_out | {line: 1 for line in left_out}
    if ended.stopped is not None:
        return ended.stopped
    state = training_run.last_state(result)
    model = stage.finish(state)
    if shared and not multihost.is_first():
        multihost.wait("the model is measured")  # a process that ends early would be missed by the others
        return Outcome(data, "\n".join([*lines, f"  process     {jax.process_index()}; the first one writes"]))
    model_folder.save_model(where / "model", model, stage.kind)
    data["model"] = str(where / "model")
    if stage.adapters is not None and model.config.family == "llama":
        start, source = where / "start", Path(given["model"])
        # Those of an actor of adapters take the place of its own.
        below = peft.base_of(source) if given["stage"] in REINFORCEMENT and peft.is_adapter(source) else source
        base = start if start.is_dir() else below
        model_folder.save_adapters(where / "adapter", model, stage.adapters(state), base, stage.kind)
        data["adapter"] = str(where / "adapter")
    if watch:
        points = watch.finish()
        data |= {"models": [str(where / "models" / p["model"]) for p in points], "curve": points}
        lines += _said(points[-1])
    elif held:
        note("measuring on what was kept apart ...")
        learned, kept = held
        found = measure(given, model, learned, kept, _length(given), lambda: _start(given, where, [], []))
        (where / "evaluation.json").write_text(to_json(found))
        data["evaluation"] = found
        data |= {name: found[name] for name in ("ranking_accuracy", "sign_accuracy", "baseline") if name in found}
        lines += _said(found)
    if shared:
        multihost.wait("the model is measured")
    data["seconds"] = time.monotonic() - began
    lines += [
        f"  last ten    {ended.shown}",
        f"  time        {seconds_text(data['seconds'])}",
        f"  model       {where / 'model'}",
    ]
    return Outcome(data, "\n".join(lines))


def _said(found: dict[str, Any]) -> list[str]:
    def text(share: dict[str, float]) -> str:
        return f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})"

    lines = []
    if shared := found.get("prompts_also_learned_from"):
        lines.append(f"  {shared} of these prompts were learned from too")
    beside = found.get("baseline") or {}
    for name, value in found.items():
        if isinstance(value, dict) and "low" in value:
            other = f"; bag of words {text(beside[name])}" if name in beside else ""
            lines.append(f"  {name.replace('_', ' ')}  {text(value)}{other}")
        elif isinstance(value, float):
            lines.append(f"  {name.replace('_', ' ')}  {value:.4f}")
    return lines


def digest(stage: stages.Stage, held: tuple[Any, ...]) -> str:
    """A short name of what a stage learns from and is measured on, by which a run that goes on knows it again."""
    found = hashlib.blake2b(stage.digest.encode(), digest_size=8)
    measured = held[-1] if held else ()
    if isinstance(measured, plain_text.Held):
        found.update((saved_state.digest(measured[:2]) or "").encode())
    else:  # the files may have moved, so where a sample comes from does not count
        found.update("".join(repr(sample._replace(source="")) for sample in measured).encode())
    return found.hexdigest()


def build(given: dict[str, Any], where: Path) -> tuple[stages.Stage, tuple[Any, ...], list[str]]:
    """A stage as it was asked for: the stage, what to measure it on, and the rows that files had to leave out.

    Args:
        given: what the command was given, as JSON holds it.
        where: folder of the run; a model that is made here is kept below it.
    """
    name = given["stage"]
    if name in REINFORCEMENT:
        return reinforcement(given)
    if name == "pretrain":
        texts, apart = (
            [text for path in given.get(which) or () for text in plain_text.read_texts(Path(path))]
            for which in ("data", "eval_data")
        )
        if given.get("eval_share") and not apart:
            learned, tested = mixture.split(len(texts), given["eval_share"])
            texts, apart = [texts[i] for i in learned], [texts[i] for i in tested]
        model = _start(given, where, texts, [])
        options = hyper_of(TrainingConfig, name, _small(given, name), given.get("preset"))
        held = (plain_text.held(apart, model.tokenizer, _length(given)),) if apart else ()
        return stages.pretraining(model, texts, options, length=_length(given)), held, []
    found, left_out = mixture.open_mixture(given["data"], skip=given["skip"])
    kept: list[schemas.Sample] = []
    if given.get("eval_data"):
        kept, more = mixture.open_mixture(given["eval_data"], skip=given["skip"])
        left_out += more
    elif given.get("eval_share"):
        prompts = sorted({s.prompt for s in found})
        _, tested = mixture.split(len(prompts), given["eval_share"])
        apart = {prompts[i] for i in tested}
        kept, found = [s for s in found if s.prompt in apart], [s for s in found if s.prompt not in apart]
    if given.get("prefer") == "harmful":
        found, kept = ([s._replace(better=None if s.safer is None else not s.safer) for s in x] for x in (found, kept))
    if not found:
        raise CommandError(f"no row can be used: {left_out[0] if left_out else given['data'][0]}")
    texts = sorted({format_prompt(s.prompt, "</s>") + (a or "") for s in found for a in (s.answer, s.other)})
    model = _start(given, where, texts, found)
    options = hyper_of(TrainingConfig, name, _small(given, name), given.get("preset"))
    rows = options.batch_size // options.accumulation
    needs = memory.supervised(model.config, rows, _length(given), options, options.loss_chunk, options.dtype)
    note(memory.describe(needs))
    say_adapters(model.config, options)
    rest: dict[str, Any] = {"length": _length(given), "skip": given["skip"]}
    if name in JUDGES:
        rest |= {"regularization": given["regularization"], "level": given["level"]}
        stage = stages.preference(name, model, found, options, **rest)
    elif name == "dpo":
        stage = stages.dpo(model, found, options, beta=given["scale"], published_off_by_one=given["quirk"], **rest)
    elif name == "moderation":
        stage = stages.moderation(model, found, CATEGORIES, options, **rest)
    else:
        stage = stages.sft(model, found, options, **rest)
    return stage, (found, kept) if kept else (), left_out


def _small(given: dict[str, Any], name: str) -> dict[str, Any]:
    """What was given, on top of the settings of small models where the model is one and none were chosen by name."""
    small = given["model"] in model_folder.PRESETS and given.get("preset") in (None, PUBLISHED)
    return {**(FROM_NOTHING.get(name, {}) if small else {}), **given["hyper"]}


def _length(given: dict[str, Any]) -> int:
    return given["length"] or (SHORT if given["model"] in model_folder.PRESETS else 512)


def _start(given: dict[str, Any], where: Path, texts: list[str], found: list[schemas.Sample]) -> Model:
    """The model a stage begins with: a folder, or one made here and kept below the run, so that it can be resumed."""
    name, size = given["stage"], SCORED.get(given["stage"], 0)
    source, tokenizer = Path(given["model"]), given.get("tokenizer") and Path(given["tokenizer"])

    def opened(path: Path, tokens: Path | None = None, new_scores: int = 0) -> Model:
        model = model_folder.open_model(path, tokens, score=bool(size), new_scores=new_scores)
        return model_folder.with_template(model, given.get("template"))

    if (where / "start" / "config.json").is_file():
        return opened(where / "start")
    if source.is_dir() or given["model"] not in (*model_folder.PRESETS, *model_folder.PUBLISHED):
        if given.get("warm_epochs"):
            raise CommandError("--warm-epochs is for a model that begins from nothing, not for a folder")
        model = _pooled(opened(source, tokenizer, size), given)
        if not given.get("word_scores"):
            return model
        model_folder.save_model(where / "start", _with_words(model, given, found), name)
        return opened(where / "start")
    if tokenizer is None:
        if given["model"] not in model_folder.PRESETS:
            raise CommandError(f"{given['model']} has no tokenizer of its own here: name one with --tokenizer PATH")
        number = given["vocabulary"] or (JUDGES_TOKENS if name in JUDGES else TOKENS)
        tokens = learn_tokenizer(texts, number, where / "tokenizer")
    else:
        tokens = model_folder.load_tokenizer(tokenizer)
    model = model_folder.with_template(model_folder.fresh(given["model"], tokens, given["seed"]), given.get("template"))
    model = _pooled(model, given, "mean" if size else "last")
    if name in JUDGES:
        epochs = given["warm_epochs"]
        if epochs:
            options = TrainingConfig(**{**FROM_NOTHING["warm"], "epochs": epochs})
            note(f"first a language model of the same texts, {epochs} epochs ...")
            answers = [schemas.Sample(s.prompt, a) for s in found for a in (s.answer, s.other) if a is not None]
            stage = stages.sft(model, list(dict.fromkeys(answers)), options, length=_length(given), skip=True)
            result = jsafe.fit(stage.trainer, iterations=stage.iterations, seed=given["seed"], progress=True)
            model = stage.finish(jax.tree.map(lambda leaf: leaf[0], result.state))
    if size:
        model = model_folder.with_scores(model, size, given["seed"])
        wanted = given.get("word_scores")
        if name in JUDGES and (model.config.score_pooling == "mean" if wanted is None else wanted):
            model = _with_words(model, given, found)
    model_folder.save_model(where / "start", model, name if size else "")
    return opened(where / "start")


def _with_words(model: Model, given: dict[str, Any], found: list[schemas.Sample]) -> Model:
    """The model with scores of tokens that are fitted to the pairs, and a head that adds nothing to them yet."""
    if model.config.score_pooling != "mean":
        raise CommandError("--word-scores needs --pooling mean: an answer's last token says nothing of its words")
    kind = given["stage"]
    by = {"reward": "better", "cost": "safer"}[kind]
    pairs, rows = encoding.pairs_and_prompts(found, model.tokenizer, _length(given), by=by, skip=given["skip"])
    config = dataclasses.replace(model.config, score_words=True, score_openings=OPENINGS)
    fitted = unigram_scores.fit(config, kind, pairs, rows, unigram_scores.spellings(model.tokenizer, config.vocab_size))
    note(f"scores of tokens fitted to {len(rows):,} pairs, weight of their squares {fitted.strength:g}")
    params = {**model.params, "score_bias": np.array([fitted.bias], np.float32)}
    params |= {"score_words": fitted.words[:, None], "score_openings": fitted.openings[:, None]}
    params["score_head"] = np.zeros_like(model.params["score_head"])
    return model._replace(config=config, params=params)


def _pooled(model: Model, given: dict[str, Any], default: str | None = None) -> Model:
    """The model with the pooling of scores that was asked for; its own, or `default`, if none was."""
    wanted = given.get("pooling") or default
    if wanted is None or wanted == model.config.score_pooling:
        return model
    changes: dict[str, Any] = {"score_pooling": wanted, "score_after": (), "score_shrinkage": 0.0}
    changes |= {"score_words": False, "score_openings": 0}
    if wanted == "mean":
        changes |= {"score_after": answer_marker(model.tokenizer), "score_shrinkage": SHRINKAGE}
    params = {name: part for name, part in model.params.items() if name not in lora.FIXED}
    return model._replace(config=dataclasses.replace(model.config, **changes), params=params)
