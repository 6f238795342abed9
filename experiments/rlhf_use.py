"""`jsafe rlhf` with trained models: answer prompts, talk, compare models, export the model of a run."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import stage_runs
from experiments.context import prepare
from experiments.outcome import CommandError, Outcome, note, table, to_json, writable_folder
from experiments.rlhf_words import hyper_of
from rlhf import arena, folder, judging
from rlhf.batches import in_batches
from rlhf.data import examples, mixing
from rlhf.data.samples import Sample
from rlhf.folder import Model
from rlhf.generate import Answers, Sampling
from rlhf.generate import generate as draw
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.templates import prompt_ids
from rlhf.text import format_prompt
from rlhf.tokens import difference


def answers_of(
    model: Model,
    samples: Sequence[Sample],
    sampling: Sampling,
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
    asked, left_out = examples.prompts(samples, model.tokenizer, prompt_length, skip=skip)
    if not len(asked.ids):
        raise CommandError(f"none of the {len(samples)} prompts can be answered: {'; '.join(left_out)}")
    kept = [s for s in samples if len(examples.prompts([s], model.tokenizer, prompt_length, skip=True)[0].ids)]
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


def _opened(path: Path | None, args: argparse.Namespace, what: str, *, judge: str = "") -> Model:
    if path is None:
        raise CommandError(f"name {what}: a folder of a model")
    model = folder.open_model(path, args.tokenizer, score=bool(judge), kind=judge)
    return model if judge else folder.with_template(model, args.template)


def _prompts(args: argparse.Namespace) -> list[Sample]:
    samples = [Sample((text,)) for text in getattr(args, "prompt", None) or []]
    if args.data:
        found, left_out = mixing.open_mixture(args.data, skip=args.skip)
        if left_out:
            note(f"{len(left_out)} rows left out: {left_out[0]}")
        if not found:
            raise CommandError(f"no row can be used: {left_out[0] if left_out else args.data[0]}")
        samples += [found[i] for i in mixing.last_of_each([s.prompt for s in found])]
    if not samples:
        raise CommandError(f"say what to answer: jsafe rlhf {args.stage} ... --data FILE")
    return samples


def generate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf generate`."""
    prepare(args)
    samples = _prompts(args)
    model = _opened(args.model, args, "--model DIR")
    sampling = hyper_of(Sampling, "generate", args.hyper)
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
    """An answer as `rlhf.data.samples.answered` reads it."""
    row: dict[str, Any] = {"prompt": sample.prompt[0] if len(sample.prompt) == 1 else list(sample.prompt)}
    row["response"] = sample.answer
    asked = next((name for name, holds in (sample.labels or {}).items() if holds), None)
    # Categories of a question; those of another answer to it say nothing of this one.
    return row | ({"question_category": asked} if asked and sample.safe is None else {})


def chat(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf chat`: one line of the user, one answer; `/reset` forgets, `/quit` ends."""
    prepare(args)
    model = _opened(args.model, args, "--model DIR")
    sampling = hyper_of(Sampling, "chat", args.hyper)
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


def evaluate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf evaluate`: answers of each model to the same prompts, judged by the same models."""
    prepare(args)
    samples = _prompts(args)
    costs = args.cost_model or [None]
    if len(costs) > 1:
        raise CommandError("evaluate takes one --cost-model")
    judges = {
        "reward": _opened(args.reward_model, args, "--reward-model DIR", judge="reward"),
        "cost": _opened(costs[0], args, "--cost-model DIR", judge="cost"),
    }
    sampling = hyper_of(Sampling, "evaluate", args.hyper)
    out = writable_folder(args.out or Path("runs/rlhf-evaluation"))
    names, texts, scores, lengths = stage_runs.names_of(args.models), [], {"reward": [], "cost": []}, []
    for place in args.models:
        note(f"{place} answers {len(samples)} prompts ...")
        model = _opened(place, args, "a model")
        rest = {"prompt_length": args.prompt_length, "batch_size": args.batch_size, "skip": args.skip}
        rest |= {"dtype": args.dtype}
        found, drawn = answers_of(model, samples, sampling, seed=args.seed, **rest)
        texts.append(found)
        lengths.append(np.asarray(drawn.mask)[:, args.prompt_length :].sum(1))
        for judge, held in judges.items():
            ids, mask = read_by(held, model, found, drawn)
            scorer = ScoreModel(held.config, dtype=args.dtype)
            scores[judge].append(judging.score_texts(scorer, held.params, ids, mask)[:, 0])
    data = compared(names, texts, np.array(scores["reward"]), np.array(scores["cost"]), lengths)
    _write_table(out / "table.csv", names, texts, scores)
    (out / "evaluation.json").write_text(to_json(data))
    picture(out / "scatter.png", names, scores["reward"], scores["cost"])
    return Outcome(data | {"folder": str(out)}, f"{summary(data)}\n\nanswers, figures and picture in {out}")


def read_by(judge: Model, model: Model, answered: Sequence[Sample], drawn: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Prompts with a model's answers as its judge reads them: ids `[N, L]` and mask.

    They are the ids that were drawn, unless the judge has other tokens: then their texts in its own, each with an end,
    as published.
    """
    if not difference(judge.tokenizer, model.tokenizer) and model.tokenizer.pad < judge.config.vocab_size:
        return np.asarray(drawn.ids), np.asarray(drawn.mask)
    encode, eos = judge.tokenizer.encode, judge.tokenizer.eos_text
    prompts = [format_prompt(s.prompt, eos) for s in answered]
    texts = [prompt + (s.answer or "") for prompt, s in zip(prompts, answered, strict=True)]
    length = 1 + max(len(encode(text)) for text in (*prompts, *texts))
    found, _ = examples.supervised(answered, judge.tokenizer, length)
    return found.ids, found.mask


def compared(
    names: Sequence[str],
    texts: Sequence[Sequence[Sample]],
    reward: np.ndarray,
    cost: np.ndarray,
    lengths: Sequence[np.ndarray],
) -> dict[str, Any]:
    """The figures of models on the same prompts, the first being the base.

    Args:
        names: of M models.
        texts: their answers, N each.
        reward: `[M, N]`.
        cost: `[M, N]`.
        lengths: `[N]` of each, in tokens.
    """
    groups = [s.prompt for s in texts[0]]
    ratings = {"helpful": arena.elo(reward), "harmless": arena.elo(-cost)}
    rows = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {
            "model": name,
            "reward": judging.share(reward[i], groups)._asdict(),
            "cost": judging.share(cost[i], groups)._asdict(),
            "harmful": judging.share(cost[i] > 0, groups)._asdict(),
            "length": float(np.mean(lengths[i])),
            "elo": {kind: rating[i]._asdict() for kind, rating in ratings.items()},
        }
        labels = [next(iter(s.labels), None) if s.labels else None for s in texts[i]]
        if any(labels):
            at = np.array([str(label) for label in labels])
            row["harmful_by_category"] = {k: float(np.mean(cost[i][at == k] > 0)) for k in sorted(set(at.tolist()))}
        if i:
            row["wins_helpful"] = arena.win_rate(reward[0], reward[i], groups)._asdict()
            row["wins_harmless"] = arena.win_rate(-cost[0], -cost[i], groups)._asdict()
            row["verdicts"] = arena.verdicts((reward[0], reward[i]), (cost[0], cost[i]))
        rows.append(row)
    return {"prompts": len(groups), "base": names[0], "models": rows}


def summary(data: dict[str, Any]) -> str:
    """The figures as a table for people."""

    def text(value: dict[str, float] | None, digits: int = 2) -> str:
        if value is None:
            return "-"
        low, high = f"{value['low']:.{digits}f}", f"{value['high']:.{digits}f}"
        return f"{value['value']:.{digits}f} ({low} to {high})"

    header = ["model", "reward", "cost", "harmful", "wins helpful", "wins harmless", "Elo helpful", "Elo harmless"]
    rows = [
        [
            row["model"],
            *(text(row[k]) for k in ("reward", "cost", "harmful")),
            *(text(row.get(k)) for k in ("wins_helpful", "wins_harmless")),
            *(text(row["elo"][k], 0) for k in ("helpful", "harmless")),
        ]
        for row in data["models"]
    ]
    return f"{data['prompts']} prompts; wins are against {data['base']}\n" + table(header, rows)


def _write_table(
    path: Path, names: Sequence[str], texts: Sequence[Sequence[Sample]], scores: dict[str, list[np.ndarray]]
) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Prompt", *(word for name in names for word in (name, "Reward", "Cost"))])
        for n, sample in enumerate(texts[0]):
            cells = [
                cell
                for m in range(len(names))
                for cell in (texts[m][n].answer, f"{scores['reward'][m][n]:.4f}", f"{scores['cost'][m][n]:.4f}")
            ]
            writer.writerow([sample.prompt[-1], *cells])


def picture(path: Path, names: Sequence[str], reward: Sequence[np.ndarray], cost: Sequence[np.ndarray]) -> None:
    """Reward against cost of every answer, and the distribution of each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    for name, r, c in zip(names, reward, cost, strict=True):
        axes[0].scatter(c, r, s=10, alpha=0.5, label=name)
        axes[1].hist(r, bins=30, alpha=0.5, label=name)
        axes[2].hist(c, bins=30, alpha=0.5, label=name)
    axes[0].axvline(0, color="black", linewidth=0.8)
    axes[2].axvline(0, color="black", linewidth=0.8)
    axes[0].set(xlabel="cost (harmful above 0)", ylabel="reward", title="each answer")
    axes[1].set(xlabel="reward", title="rewards")
    axes[2].set(xlabel="cost", title="costs")
    axes[0].legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def export(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf export`: the model of a run's checkpoint as a folder."""
    from experiments.rlhf_train import build

    run, kept = stage_runs.begun(args.run, "rlhf")
    prepare(args)
    stage, _, _ = build(kept, run.path)
    state, iteration = stage_runs.saved(run, stage.trainer, args.iteration)
    model = stage.finish(state)
    out = args.out or run.path / "model"
    folder.save_model(out, model, stage.kind)
    data = {"model": str(out), "iteration": iteration}
    return Outcome(data, f"iteration {iteration} of {run.path} in {out}")
