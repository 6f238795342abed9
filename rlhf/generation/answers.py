"""Responses and completions of a trained model, batch by batch in one compiled program."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.padded_batches import in_batches
from rlhf.checkpoints.model_folder import Model
from rlhf.data import encoding
from rlhf.data.schemas import Example
from rlhf.generation.generate import Answers, SamplingConfig, generate
from rlhf.models.heads import LanguageModel, last_token


def _sampler(model: Model, sampling: SamplingConfig, dtype: str) -> Callable[[int, int, Any, Any], Answers]:
    """Return a compiled `(seed, batch number, ids, mask) -> answers`."""
    language_model = LanguageModel(model.config, dtype)
    pad = model.tokenizer.pad

    @jax.jit
    def sample(params: Any, key: jax.Array, ids: jax.Array, mask: jax.Array) -> Answers:
        return generate(language_model, {"params": params}, key, ids, mask, sampling, pad=pad)

    return lambda seed, number, ids, mask: sample(
        model.params, jax.random.fold_in(jax.random.key(seed), number), ids, mask
    )


def answer_prompts(
    model: Model,
    rows: Sequence[Example],
    sampling: SamplingConfig,
    *,
    seed: int = 0,
    prompt_length: int = 64,
    batch_size: int = 16,
    skip: bool = False,
    dtype: str = "float32",
) -> tuple[list[Example], Answers]:
    """Example a response to each prompt.

    Args:
        model: a language model.
        rows: prompts; their responses are replaced.
        sampling: sampling settings.
        seed: seed of the samples.
        prompt_length: maximum number of tokens of a prompt.
        batch_size: number of prompts in a batch.
        skip: leave out prompts that are too long, with a warning.
        dtype: type of activations.

    Returns:
        The rows with their responses, and prompts with responses as arrays `[N, L]`.

    Raises:
        ValueError: a prompt is too long and `skip` is not set, or no prompt can be answered.
    """
    prompts = encoding.prompts(rows, model.tokenizer, prompt_length, skip=skip)
    reasons = "; ".join(prompts.left_out)
    if not prompts.rows:
        raise ValueError(f"none of the {len(rows)} prompts can be answered: {reasons}")
    if prompts.left_out:
        warnings.warn(f"{len(rows) - len(prompts.rows)} prompts left out: {reasons}", stacklevel=2)
    sample = _sampler(model, sampling, dtype)
    ids, mask = [], []
    for number, (part, count) in enumerate(in_batches(prompts.batch, batch_size)):
        answers = sample(seed, number, *part)
        ids.append(np.asarray(answers.ids)[:count])
        mask.append(np.asarray(answers.mask)[:count])
    drawn = Answers(np.concatenate(ids), np.concatenate(mask), np.int32(sampling.max_new_tokens))  # type: ignore[arg-type]
    texts = [
        model.tokenizer.decode(row[prompt_length:][seen[prompt_length:]].tolist())
        for row, seen in zip(np.asarray(drawn.ids), np.asarray(drawn.mask), strict=True)
    ]
    answered = [row._replace(response=text, other_response=None) for row, text in zip(prompts.rows, texts, strict=True)]
    return answered, drawn


def to_json_row(row: Example) -> dict[str, Any]:
    """Return a response as `rlhf.data.schemas.answered` reads it."""
    fields: dict[str, Any] = {"prompt": row.prompt[0] if len(row.prompt) == 1 else list(row.prompt)}
    fields["response"] = row.response
    category = next((name for name, holds in (row.labels or {}).items() if holds), None)
    # Categories of a question; those of a labelled response do not apply to a new one.
    return fields | ({"question_category": category} if category and row.safe is None else {})


def pad_texts(model: Model, texts: Sequence[str], length: int, *, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Tokenise texts as ids `[N, L]` and mask, padded on one side; longer texts lose their beginning."""
    ids = np.full((len(texts), length), model.tokenizer.pad, np.int32)
    mask = np.zeros((len(texts), length), bool)
    truncated = 0
    for number, text in enumerate(texts):
        tokens = model.tokenizer.encode(text)
        truncated += len(tokens) > length
        tokens = tokens[-length:]
        columns = slice(length - len(tokens), None) if left else slice(0, len(tokens))
        ids[number, columns], mask[number, columns] = tokens, True
    if truncated:
        message = f"{truncated} of {len(texts)} prompts are longer than {length} tokens and lose their beginning"
        warnings.warn(message, stacklevel=3)
    return ids, mask


@functools.partial(jax.jit, static_argnums=0)
def _next_logits(language_model: LanguageModel, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Compiled once for all models of a configuration, such as the checkpoints of one run."""
    hidden, _ = language_model.apply({"params": params}, ids, mask, method=LanguageModel.hidden)
    last = jnp.take_along_axis(hidden, last_token(mask)[:, None, None], axis=1)[:, 0]
    return jnp.asarray(language_model.apply({"params": params}, last, method=LanguageModel.logits))


def next_token_logits(
    model: Model, length: int, batch_size: int, dtype: str = "float32"
) -> Callable[[Sequence[str]], np.ndarray]:
    """Return `texts -> [N, V]`, logits of the token after each text."""
    logits = functools.partial(_next_logits, LanguageModel(model.config, dtype), model.params)

    def apply(texts: Sequence[str]) -> np.ndarray:
        arrays = pad_texts(model, texts, length, left=False)
        return np.concatenate([np.asarray(logits(*part))[:count] for part, count in in_batches(arrays, batch_size)])

    return apply


def completions(
    model: Model, sampling: SamplingConfig, length: int, batch_size: int, seed: int, dtype: str = "float32"
) -> Callable[[Sequence[str]], list[str]]:
    """Return `texts -> texts`, the model's continuation of each text."""
    sample = _sampler(model, sampling, dtype)

    def apply(texts: Sequence[str]) -> list[str]:
        outputs = []
        for number, (part, count) in enumerate(in_batches(pad_texts(model, texts, length, left=True), batch_size)):
            answers = sample(seed, number, *part)
            for row, seen in zip(np.asarray(answers.ids)[:count], np.asarray(answers.mask)[:count], strict=True):
                outputs.append(model.tokenizer.decode(row[length:][seen[length:]].tolist()))
        return outputs

    return apply
