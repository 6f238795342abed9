"""`jsafe rlhf flagged`: how many answers moderation models flag, and how far judges agree."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, table, to_json, writable_folder
from experiments.cli.training_run import names_of
from rlhf.adapters import peft
from rlhf.checkpoints import model_folder
from rlhf.checkpoints.model_folder import Model
from rlhf.data import beavertails, encoding, mixture
from rlhf.data.files import read_rows
from rlhf.data.schemas import Sample
from rlhf.evaluation import preference_accuracy
from rlhf.models.heads import ScoreModel

PEOPLE = "labels of the data"


def flagged(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf flagged`."""
    if not args.data:
        raise CommandError(
            "name the answers: jsafe rlhf flagged MODEL --data FILE, as `jsafe rlhf generate --out` writes"
        )
    if not 0.0 < args.threshold < 1.0:
        raise CommandError(f"--threshold must be between 0 and 1, got {args.threshold}")
    prepare(args)
    samples, left_out = mixture.open_mixture(args.data, skip=args.skip)
    said = verdicts_of(args.verdicts, len(samples)) if args.verdicts else {}
    if said and left_out:
        raise CommandError(f"{left_out[0]}: verdicts belong to rows, so none may be left out")
    models = [_opened(place, args.tokenizer) for place in args.models]
    length = args.length or 512
    usable = [all(_readable(sample, model, length) for model in models) for sample in samples]
    if not all(usable):
        first = samples[usable.index(False)]
        if not args.skip:
            raise CommandError(f"{first.source}: no answer, or a prompt that leaves no room for one in {length} tokens")
        note(f"{usable.count(False)} rows left out that have no answer or no room for one")
    samples = [sample for sample, use in zip(samples, usable, strict=True) if use]
    said = {name: row[usable] for name, row in said.items()}
    if not samples:
        raise CommandError("none of the rows has an answer to read")
    names = names_of(args.models)
    found = {}
    for name, model in zip(names, models, strict=True):
        note(f"{name} reads {len(samples)} answers ...")
        found[name] = probabilities_of(model, samples, length, args.batch_size, args.dtype)
    data = compared(samples, found, said, args.threshold)
    if args.out is not None:
        writable_folder(args.out.parent)
        args.out.write_text(to_json(data))
    return Outcome(data, summary(data))


def _opened(place: Path, tokenizer: Path | None) -> Model:
    size, described = (
        len(beavertails.CATEGORIES),
        place / (model_folder.OWN if peft.is_adapter(place) else "config.json"),
    )
    if described.is_file() and json.loads(described.read_text()).get("score_dim") != size:
        raise CommandError(f"{place} is no moderation model: expected {size} scores, one for each category")
    return model_folder.open_model(place, tokenizer, score=True)


def _bare(sample: Sample) -> Sample:
    """The sample without what people said of it, which a model need not know."""
    return sample._replace(labels={}, safe=None)


def _readable(sample: Sample, model: Model, length: int) -> bool:
    names = beavertails.CATEGORIES
    return bool(len(encoding.labelled([_bare(sample)], names, model.tokenizer, length, skip=True)[0].ids))


def probabilities_of(
    model: Model, samples: Sequence[Sample], length: int, batch_size: int = 16, dtype: str = "float32"
) -> np.ndarray:
    """`[N, 14]`, what a moderation model thinks of answers to their prompts."""
    names = beavertails.CATEGORIES
    read, _ = encoding.labelled([_bare(s) for s in samples], names, model.tokenizer, length)
    scorer = ScoreModel(model.config, len(names), dtype=dtype)
    logits = preference_accuracy.score_texts(scorer, model.params, read.ids, read.mask, batch_size)
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def verdicts_of(path: Path, rows: int) -> dict[str, np.ndarray]:
    """What other judges say, by name: `[N]` bool, True for a harmful answer.

    Args:
        path: a row for each answer in the order of the answers, a column for each judge: true, false, 1 or 0.
        rows: N.

    Raises:
        ValueError: the number of rows is another, or a value is no verdict; the message names file, row and judge.
    """
    found = read_rows(path)
    if len(found) != rows:
        raise ValueError(f"{path} must have a row for each of the {rows} answers, got {len(found)}")
    known = {"true": True, "1": True, "false": False, "0": False}

    def read(number: int, name: str) -> bool:
        value = str(found[number].get(name)).lower()
        if value not in known:
            raise ValueError(f"{path}, row {number}: {name!r} must be true or false, got {found[number].get(name)!r}")
        return known[value]

    return {name: np.array([read(i, name) for i in range(rows)], bool) for name in (found[0] if found else ())}


def compared(
    samples: Sequence[Sample], found: dict[str, np.ndarray], said: dict[str, np.ndarray], threshold: float
) -> dict[str, Any]:
    """The figures of moderation models on the same answers, and the agreement of all judges.

    Args:
        samples: answers, N; with categories and without a verdict, these are the categories of the questions.
        found: `[N, 14]` probabilities by model.
        said: `[N]` bool by other judges.
        threshold: above which a category counts as found.
    """
    groups = [s.prompt for s in samples]
    asked = [next((k for k, holds in (s.labels or {}).items() if holds), "") for s in samples]
    of_questions = all(asked) and all(s.safe is None for s in samples)
    data: dict[str, Any] = {"answers": len(samples), "prompts": len(set(groups)), "threshold": threshold, "models": {}}
    verdicts = dict(said)
    for name, probabilities in found.items():
        held = probabilities > threshold
        verdicts[name] = np.asarray(held.any(axis=1))
        row: dict[str, Any] = {"flagged": preference_accuracy.share(verdicts[name], groups)._asdict()}
        row["by_category"] = {
            category: preference_accuracy.share(held[:, k], groups)._asdict()
            for k, category in enumerate(beavertails.CATEGORIES)
        }
        if of_questions:
            row["flagged_by_question"] = beavertails.flagged_share(probabilities, asked, threshold)
        data["models"][name] = row
    if all(s.safe is not None for s in samples):
        verdicts[PEOPLE] = np.array([not s.safe for s in samples])
        data["labels"] = beavertails.statistics(samples)
    if len(verdicts) > 1:
        pairs = beavertails.agreement(verdicts)
        data["agreement"] = [{"judges": list(judges), "share": value} for judges, value in pairs.items()]
    return data


def summary(data: dict[str, Any]) -> str:
    """The figures as a table for people."""

    def text(share: dict[str, float]) -> str:
        return f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})"

    models = data["models"]
    rows = [["flagged", *(text(row["flagged"]) for row in models.values())]]
    rows += [[name, *(text(row["by_category"][name]) for row in models.values())] for name in beavertails.CATEGORIES]
    said = f"{data['answers']} answers to {data['prompts']} prompts; a category counts above {data['threshold']:g}\n"
    said += table(["share of answers", *models], rows)
    first = next(iter(models.values()))
    if "flagged_by_question" in first:
        rows = [
            [name, *(f"{row['flagged_by_question'][name]:.3f}" for row in models.values())]
            for name in first["flagged_by_question"]
        ]
        said += "\n\n" + table(["flagged, by category of the question", *models], rows)
    if "agreement" in data:
        rows = [[*pair["judges"], f"{pair['share']:.3f}"] for pair in data["agreement"]]
        said += "\n\n" + table(["judge", "judge", "agree on"], rows)
    return said
