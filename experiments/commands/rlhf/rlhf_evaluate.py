"""`jsafe rlhf evaluate`: models answer the same prompts, and judges say how they compare.

The divergence from the base is that of training: the mean over a model's own answers of how much likelier it finds
them than the base does, in nats of a whole answer.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.cli import training_run
from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, table, to_json, writable_folder
from experiments.commands.rlhf.rlhf_use import answers_of, opened, prompts_of
from experiments.commands.rlhf.rlhf_words import hyper_of
from jsafe.batching import in_batches
from rlhf.chat_templates.safe_rlhf import format_prompt
from rlhf.checkpoints.model_folder import Model
from rlhf.data import encoding
from rlhf.data.schemas import Sample
from rlhf.evaluation import head_to_head, preference_accuracy
from rlhf.generation.generate import Answers, SamplingConfig
from rlhf.losses import language_model
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.tokenizer.tokenizer import difference


def evaluate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf evaluate`: answers of each model to the same prompts, judged by the same models."""
    prepare(args)
    samples = prompts_of(args)
    judges = _judges(args)
    sampling = hyper_of(SamplingConfig, "evaluate", args.hyper)
    out = writable_folder(args.out or Path("runs/rlhf-evaluation"))
    names, texts, lengths, divergences = training_run.names_of(args.models), [], [], []
    scores: dict[str, list[np.ndarray]] = {name: [] for name in judges}
    base: Model | None = None
    for place in args.models:
        note(f"{place} answers {len(samples)} prompts ...")
        model = opened(place, args, "a model")
        base = base or model
        rest = {"prompt_length": args.prompt_length, "batch_size": args.batch_size, "skip": args.skip}
        rest |= {"dtype": args.dtype}
        found, drawn = answers_of(model, samples, sampling, seed=args.seed, **rest)
        texts.append(found)
        lengths.append(np.asarray(drawn.mask)[:, args.prompt_length :].sum(1))
        divergences.append(divergence(model, base, drawn, args.prompt_length, args.batch_size, args.dtype))
        for name, (_, held) in judges.items():
            ids, mask = read_by(held, model, found, drawn)
            scorer = ScoreModel(held.config, dtype=args.dtype)
            scores[name].append(preference_accuracy.score_texts(scorer, held.params, ids, mask)[:, 0])
    first = {kind: next(name for name, (own, _) in judges.items() if own == kind) for kind in ("reward", "cost")}
    reward, cost = (np.array(scores[first[kind]]) for kind in ("reward", "cost"))
    data = compared(names, texts, reward, cost, lengths, divergences)
    told = {name: (kind, np.array(scores[name])) for name, (kind, _) in judges.items()}
    data["judges"] = by_judge(names, told, [s.prompt for s in texts[0]])
    _write_table(out / "table.csv", names, texts, {name: table for name, (_, table) in told.items()}, first)
    (out / "evaluation.json").write_text(to_json(data))
    picture(out / "scatter.png", names, list(reward), list(cost))
    more = f"\n\n{verdicts_of(data['judges'])}" if len(judges) > 2 or len(names) > 2 else ""
    return Outcome(data | {"folder": str(out)}, f"{summary(data)}{more}\n\nanswers, figures and picture in {out}")


def _judges(args: argparse.Namespace) -> dict[str, tuple[str, Model]]:
    """Kind and model of each judge by name; the first reward and the first cost model are those of the table."""
    places = [("reward", place) for place in args.reward_model or []]
    places += [("cost", place) for place in args.cost_model or []]
    for kind in ("reward", "cost"):
        if not any(kind == own for own, _ in places):
            raise CommandError(f"name --{kind}-model DIR: a folder of a model; several may be given")
    names = training_run.names_of([place for _, place in places])
    return {
        name: (kind, opened(place, args, "", judge=kind)) for name, (kind, place) in zip(names, places, strict=True)
    }


def divergence(
    model: Model, base: Model, drawn: Answers, prompt_length: int, batch_size: int, dtype: str = "float32"
) -> np.ndarray | None:
    """How much likelier a model finds each of its answers than the base does.

    Args:
        model: that drew the answers.
        base: that it is compared with.
        drawn: prompts with answers, `[N, L]`.
        prompt_length: columns of the prompts.
        batch_size: texts at once.
        dtype: of matrix products.

    Returns:
        `[N]` in nats, sampling at temperature 1 or not; None if the two read other tokens.
    """
    if difference(model.tokenizer, base.tokenizer) or np.max(drawn.ids) >= base.config.vocab_size:
        return None
    told = []
    for own in (model, base):
        scorer = LanguageModel(own.config, dtype, loss_chunk=CHUNK)
        parts = [
            np.asarray(_log_probs(scorer, own.params, *part))[:count]
            for part, count in in_batches((np.asarray(drawn.ids), np.asarray(drawn.mask)), batch_size)
        ]
        told.append(np.concatenate(parts)[:, prompt_length - 1 :])
    new = np.asarray(drawn.mask)[:, prompt_length:]
    return np.sum(np.where(new, told[0] - told[1], 0.0), axis=1)


CHUNK = 1024
"""Tokens whose logits are held at once."""

_log_probs = jax.jit(language_model.log_probs, static_argnums=0)


def by_judge(
    names: Sequence[str], told: dict[str, tuple[str, np.ndarray]], groups: Sequence[Any]
) -> list[dict[str, Any]]:
    """What each judge says of any two models.

    Args:
        names: of M models.
        told: by judge, its kind and its scores `[M, N]`; less is better where the kind is `cost`.
        groups: `[N]`, prompts.
    """
    rows = []
    for judge, (kind, scores) in told.items():
        liked = -scores if kind == "cost" else scores
        rating = head_to_head.elo(liked)
        models = []
        for i, name in enumerate(names):
            wins = {
                other: head_to_head.win_rate(liked[k], liked[i], groups)._asdict()
                for k, other in enumerate(names)
                if k != i
            }
            score = preference_accuracy.share(scores[i], groups)._asdict()
            models.append({"model": name, "score": score, "elo": rating[i]._asdict(), "wins_against": wins})
        rows.append({"judge": judge, "kind": kind, "models": models})
    return rows


def verdicts_of(judges: Sequence[dict[str, Any]]) -> str:
    """Win rates of any two models by judge, as a table for people."""
    names = [row["model"] for row in judges[0]["models"]]
    rows = [
        [f"{judge['judge']} ({judge['kind']})", row["model"], f"{row['score']['value']:.2f}"]
        + [f"{row['wins_against'][name]['value']:.2f}" if name in row["wins_against"] else "-" for name in names]
        for judge in judges
        for row in judge["models"]
    ]
    return "share of prompts on which a model wins against another\n" + table(
        ["judge", "model", "score", *(f"against {name}" for name in names)], rows
    )


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
    found, _ = encoding.supervised(answered, judge.tokenizer, length)
    return found.ids, found.mask


LENGTHS = (5, 50, 95)
"""Quantiles of the lengths of answers that are told, in per cent."""


def compared(
    names: Sequence[str],
    texts: Sequence[Sequence[Sample]],
    reward: np.ndarray,
    cost: np.ndarray,
    lengths: Sequence[np.ndarray],
    divergences: Sequence[np.ndarray | None] | None = None,
) -> dict[str, Any]:
    """The figures of models on the same prompts, the first being the base.

    Args:
        names: of M models.
        texts: their answers, N each.
        reward: `[M, N]`.
        cost: `[M, N]`.
        lengths: `[N]` of each, in tokens.
        divergences: `[N]` of each from the base, in nats; None where that is not known.
    """
    groups = [s.prompt for s in texts[0]]
    ratings = {"helpful": head_to_head.elo(reward), "harmless": head_to_head.elo(-cost)}
    rows = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {
            "model": name,
            "reward": preference_accuracy.share(reward[i], groups)._asdict(),
            "cost": preference_accuracy.share(cost[i], groups)._asdict(),
            "harmful": preference_accuracy.share(cost[i] > 0, groups)._asdict(),
            "length": float(np.mean(lengths[i])),
            "lengths": {f"{q}": float(np.quantile(lengths[i], q / 100)) for q in LENGTHS},
            "elo": {kind: rating[i]._asdict() for kind, rating in ratings.items()},
        }
        if divergences is not None and (found := divergences[i]) is not None:
            row["kl"] = preference_accuracy.share(found, groups)._asdict()
            row["kl_per_token"] = float(np.sum(found) / max(np.sum(lengths[i]), 1))
        labels = [next(iter(s.labels), None) if s.labels else None for s in texts[i]]
        if any(labels):
            at = np.array([str(label) for label in labels])
            row["harmful_by_category"] = {k: float(np.mean(cost[i][at == k] > 0)) for k in sorted(set(at.tolist()))}
        if i:
            row["wins_helpful"] = head_to_head.win_rate(reward[0], reward[i], groups)._asdict()
            row["wins_harmless"] = head_to_head.win_rate(-cost[0], -cost[i], groups)._asdict()
            row["verdicts"] = head_to_head.verdicts((reward[0], reward[i]), (cost[0], cost[i]))
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
    header += ["length", "KL"]
    rows = [
        [
            row["model"],
            *(text(row[k]) for k in ("reward", "cost", "harmful")),
            *(text(row.get(k)) for k in ("wins_helpful", "wins_harmless")),
            *(text(row["elo"][k], 0) for k in ("helpful", "harmless")),
            f"{row['length']:.1f}",
            f"{row['kl']['value']:.2f}" if "kl" in row else "-",
        ]
        for row in data["models"]
    ]
    return f"{data['prompts']} prompts; wins are against {data['base']}\n" + table(header, rows)


def _write_table(
    path: Path,
    names: Sequence[str],
    texts: Sequence[Sequence[Sample]],
    scores: dict[str, np.ndarray],
    first: dict[str, str],
) -> None:
    """Every prompt with the answers and scores `[M, N]` of the judges; the columns of the first two as published."""
    called = {name: next((kind.title() for kind, own in first.items() if own == name), name) for name in scores}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Prompt", *(word for name in names for word in (name, *called.values()))])
        for n, sample in enumerate(texts[0]):
            cells = [
                cell
                for m in range(len(names))
                for cell in (texts[m][n].answer, *(f"{table[m][n]:.4f}" for table in scores.values()))
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
