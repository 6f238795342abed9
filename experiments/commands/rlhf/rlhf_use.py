"""`jsafe rlhf` with trained models: answer prompts, talk, export the model of a run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.cli import training_run
from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, writable_folder
from experiments.commands.rlhf.rlhf_words import hyper_of
from jsafe.batching import in_batches
from rlhf.chat_templates.chat_template import prompt_ids
from rlhf.checkpoints import model_folder
from rlhf.checkpoints.model_folder import Model
from rlhf.data import encoding, mixture
from rlhf.data.schemas import Sample
from rlhf.generation.generate import Answers, SamplingConfig
from rlhf.generation.generate import generate as draw
from rlhf.models.heads import LanguageModel


def answers_of(
    model: Model,
    samples: Sequence[Sample],
    sampling: SamplingConfig,
    *,
    seed: int = 0,
    prompt_length: int = 64,
    batch_size: int = 16,
    skip: bool = False,
    dtype: str = "float32",
) -> tuple[list[Sample], Answers]:
    """Answers to prompts, batch by batch in one compiled program.

    Returns:
        The samples with the texts of their answers, and prompts with answers as arrays `[N, L]`.

    Raises:
        CommandError: no prompt can be answered.
        ValueError: one cannot, and `skip` is not set.
    """
    asked, left_out = encoding.prompts(samples, model.tokenizer, prompt_length, skip=skip)
    if not len(asked.ids):
        raise CommandError(f"none of the {len(samples)} prompts can be answered: {'; '.join(left_out)}")
    kept = [s for s in samples if len(encoding.prompts([s], model.tokenizer, prompt_length, skip=True)[0].ids)]
    if left_out:
        note(f"{len(samples) - len(kept)} prompts left out: {'; '.join(left_out)}")
    language_model = LanguageModel(model.config, dtype)
    pad = model.tokenizer.pad

    @jax.jit
    def batch(params: Any, key: jax.Array, ids: jax.Array, mask: jax.Array) -> Answers:
        return draw(language_model, {"params": params}, key, ids, mask, sampling, pad=pad)

    ids, mask = [], []
    for number, (part, count) in enumerate(in_batches(asked, batch_size)):
        found = batch(model.params, jax.random.fold_in(jax.random.key(seed), number), *part)
        ids.append(np.asarray(found.ids)[:count])
        mask.append(np.asarray(found.mask)[:count])
    drawn = Answers(*(np.concatenate(x) for x in (ids, mask)), np.int32(sampling.max_new_tokens))  # type: ignore[arg-type]
    texts = [
        model.tokenizer.decode(np.asarray(row)[prompt_length:][np.asarray(seen)[prompt_length:]].tolist())
        for row, seen in zip(drawn.ids, drawn.mask, strict=True)
    ]
    return [s._replace(answer=text, other=None) for s, text in zip(kept, texts, strict=True)], drawn


def opened(path: Path | None, args: argparse.Namespace, what: str, *, judge: str = "") -> Model:
    """The model of a folder that was named, with the template that was asked for; a judge of that kind has its own."""
    if path is None:
        raise CommandError(f"name {what}: a folder of a model")
    model = model_folder.open_model(path, args.tokenizer, score=bool(judge), kind=judge)
    return model if judge else model_folder.with_template(model, args.template)


def prompts_of(args: argparse.Namespace) -> list[Sample]:
    """What a command is to answer, each prompt once."""
    samples = [Sample((text,)) for text in getattr(args, "prompt", None) or []]
    if args.data:
        found, left_out = mixture.open_mixture(args.data, skip=args.skip)
        if left_out:
            note(f"{len(left_out)} rows left out: {left_out[0]}")
        if not found:
            raise CommandError(f"no row can be used: {left_out[0] if left_out else args.data[0]}")
        samples += [found[i] for i in mixture.last_of_each([s.prompt for s in found])]
    if not samples:
        raise CommandError(f"say what to answer: jsafe rlhf {args.stage} ... --data FILE")
    return samples


def generate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf generate`."""
    prepare(args)
    samples = prompts_of(args)
    model = opened(args.model, args, "--model DIR")
    sampling = hyper_of(SamplingConfig, "generate", args.hyper)
    rest = {"prompt_length": args.prompt_length, "batch_size": min(args.batch_size, len(samples)), "skip": args.skip}
    rest |= {"dtype": args.dtype}
    found, _ = answers_of(model, samples, sampling, seed=args.seed, **rest)
    rows = [row_of(s) for s in found]
    if args.out is None:
        return Outcome({"answers": rows}, "\n\n".join(f"{s.prompt[-1]}\n{s.answer}" for s in found))
    writable_folder(args.out.parent)
    args.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return Outcome({"answers": len(rows), "file": str(args.out)}, f"{len(rows)} answers in {args.out}")


def row_of(sample: Sample) -> dict[str, Any]:
    """An answer as `rlhf.data.schemas.answered` reads it."""
    row: dict[str, Any] = {"prompt": sample.prompt[0] if len(sample.prompt) == 1 else list(sample.prompt)}
    row["response"] = sample.answer
    asked = next((name for name, holds in (sample.labels or {}).items() if holds), None)
    # Categories of a question; those of another answer to it say nothing of this one.
    return row | ({"question_category": asked} if asked and sample.safe is None else {})


def chat(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf chat`: one line of the user, one answer; `/reset` forgets, `/quit` ends."""
    prepare(args)
    model = opened(args.model, args, "--model DIR")
    sampling = hyper_of(SamplingConfig, "chat", args.hyper)
    note("say something; /reset forgets what was said, /regenerate answers again, /quit ends")
    turns: list[str] = []
    number = 0
    for line in sys.stdin:
        said = line.strip()
        if said in ("/quit", "/exit"):
            break
        if said in ("/reset", "/clear"):
            turns = []
            note("forgotten")
            continue
        if said == "/regenerate" and turns:
            turns.pop()
        elif said.startswith("/") or not said:
            note("commands: /reset /regenerate /quit")
            continue
        else:
            turns.append(said)
        fitting = turns
        while len(fitting) > 1 and _asked(model, fitting, args) > args.prompt_length:
            fitting = fitting[2:]
        if (length := _asked(model, fitting, args)) > args.prompt_length:
            note(f"too long: {length} tokens, and there is room for {args.prompt_length} (--prompt-length)")
            turns.pop()
            continue
        turns = fitting
        number += 1
        sample = Sample(tuple(turns))
        rest = {"prompt_length": args.prompt_length, "batch_size": 1, "dtype": args.dtype}
        found, _ = answers_of(model, [sample], sampling, seed=args.seed + number, **rest)
        turns.append(found[0].answer or "")
        print(turns[-1], file=sys.__stdout__, flush=True)
    return Outcome({"turns": number}, "")


def _asked(model: Model, turns: Sequence[str], args: argparse.Namespace) -> int:
    """Tokens of a conversation as the model is asked it."""
    return len(prompt_ids(turns, model.tokenizer, args.prompt_length))


def export(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf export`: the model of a run's checkpoint as a folder."""
    from experiments.commands.rlhf.rlhf_train import build

    run, kept = training_run.begun(args.run, "rlhf")
    prepare(args)
    stage, _, _ = build(kept, run.path)
    state, iteration = training_run.saved(run, stage.trainer, args.iteration)
    model = stage.finish(state)
    out = args.out or run.path / "model"
    model_folder.save_model(out, model, stage.kind)
    data = {"model": str(out), "iteration": iteration}
    return Outcome(data, f"iteration {iteration} of {run.path} in {out}")
