"""`jsafe rlhf harness`: multiple choice and GSM8K, answered by a model's folder."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, table, to_json, writable_folder
from experiments.commands.rlhf.rlhf_words import hyper_of
from jsafe.batching import in_batches
from rlhf.checkpoints import model_folder
from rlhf.checkpoints.model_folder import Model
from rlhf.evaluation import multiple_choice
from rlhf.generation.generate import Answers, SamplingConfig, generate
from rlhf.models.heads import LanguageModel, last_token


def encoded(model: Model, texts: Sequence[str], length: int, *, left: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Texts as ids `[N, L]` and mask, padded on one side; what is too long loses its beginning.

    Returns:
        Also how many were too long.
    """
    ids = np.full((len(texts), length), model.tokenizer.pad, np.int32)
    mask = np.zeros((len(texts), length), bool)
    cut = 0
    for number, text in enumerate(texts):
        found = model.tokenizer.encode(text)
        cut += len(found) > length
        found = found[-length:]
        place = slice(length - len(found), None) if left else slice(0, len(found))
        ids[number, place], mask[number, place] = found, True
    return ids, mask, cut


@functools.partial(jax.jit, static_argnums=0)
def _ask(language_model: LanguageModel, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Compiled once for all models of a configuration, such as those of one training."""
    hidden, _ = language_model.apply({"params": params}, ids, mask, method=LanguageModel.hidden)
    last = jnp.take_along_axis(hidden, last_token(mask)[:, None, None], axis=1)[:, 0]
    return jnp.asarray(language_model.apply({"params": params}, last, method=LanguageModel.logits))


def next_logits(model: Model, length: int, batch_size: int, dtype: str = "float32") -> multiple_choice.NextLogits:
    """Logits of the token after each text."""
    ask = functools.partial(_ask, LanguageModel(model.config, dtype))

    def of(texts: Sequence[str]) -> np.ndarray:
        ids, mask, cut = encoded(model, texts, length, left=False)
        if cut:
            note(f"{cut} of {len(texts)} prompts are longer than {length} tokens and lost their beginning")
        return np.concatenate([np.asarray(ask(model.params, *p))[:n] for p, n in in_batches((ids, mask), batch_size)])

    return of


def answers(
    model: Model, sampling: SamplingConfig, length: int, batch_size: int, seed: int, dtype: str = "float32"
) -> multiple_choice.Answer:
    """What the model writes after each text."""
    language_model = LanguageModel(model.config, dtype)
    pad = model.tokenizer.pad

    @jax.jit
    def ask(params: Any, key: jax.Array, ids: jax.Array, mask: jax.Array) -> Answers:
        return generate(language_model, {"params": params}, key, ids, mask, sampling, pad=pad)

    def of(texts: Sequence[str]) -> list[str]:
        ids, mask, cut = encoded(model, texts, length, left=True)
        if cut:
            note(f"{cut} of {len(texts)} prompts are longer than {length} tokens and lost their beginning")
        said = []
        for number, (part, count) in enumerate(in_batches((ids, mask), batch_size)):
            found = ask(model.params, jax.random.fold_in(jax.random.key(seed), number), *part)
            for row, seen in zip(np.asarray(found.ids)[:count], np.asarray(found.mask)[:count], strict=True):
                said.append(model.tokenizer.decode(row[length:][seen[length:]].tolist()))
        return said

    return of


def run(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf harness`."""
    if args.model is None or (args.multiple_choice is None and args.gsm8k is None):
        raise CommandError("name --model DIR, and --multiple-choice DIR or --gsm8k FILE")
    prepare(args)
    model = model_folder.open_model(args.model, args.tokenizer)
    length = args.length or min(2048, model.config.max_length)
    scores: dict[str, multiple_choice.Score] = {}
    if args.multiple_choice is not None:
        ask = next_logits(model, length, args.batch_size, args.dtype)
        found = multiple_choice.multiple_choice(ask, model.tokenizer, args.multiple_choice, language=args.language)
        scores |= {f"multiple choice, {name}": score for name, score in found.items()}
    if args.gsm8k is not None:
        problems = multiple_choice.read_problems(args.gsm8k)
        solved = multiple_choice.read_problems(args.solved) if args.solved else problems
        first = solved[: multiple_choice.GSM8K_SHOTS]
        problems = [p for p in problems if p not in first]
        sampling = hyper_of(SamplingConfig, "harness", args.hyper)
        ask = answers(model, sampling, length, args.batch_size, args.seed, args.dtype)
        scores["GSM8K"] = multiple_choice.gsm8k(ask, problems, first)
    rows = {
        name: {"accuracy": s.accuracy, "low": s.interval()[0], "high": s.interval()[1], "right": s.right, "of": s.count}
        for name, s in scores.items()
    }
    if args.out is not None:
        writable_folder(Path(args.out).parent)
        Path(args.out).write_text(to_json(rows))
    lines = [
        [name, f"{r['accuracy']:.3f}", f"{r['low']:.3f} to {r['high']:.3f}", str(r["of"])] for name, r in rows.items()
    ]
    return Outcome(
        {"model": str(args.model), "scores": rows}, table(["test", "accuracy", "interval", "questions"], lines)
    )
