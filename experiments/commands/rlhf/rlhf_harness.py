"""`jsafe rlhf harness`: multiple choice and GSM8K."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from experiments.cli.argument_types import Count, File, Folder, Whole
from experiments.cli.errors import CommandError
from experiments.cli.format import table, to_json
from experiments.cli.request import flags
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.rlhf.shared.hyperparameters import HyperparameterFlags, hyperparameter_flags
from experiments.commands.rlhf.shared.model_flags import DataType, TokenizerPath
from rlhf.config import SamplingConfig

if TYPE_CHECKING:
    from rlhf.evaluation.intervals import Accuracy

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=256)


@hyperparameter_flags(SamplingConfig, presets={"": GREEDY})
class HarnessSampling(HyperparameterFlags):
    """Sampling settings of GSM8K, greedy by default."""


@flags
class HarnessRequest:
    """Settings of `jsafe rlhf harness`.

    Attributes:
        model: Directory of the language model.
        tokenizer: Directory or file of the tokenizer (default that of the model).
        length: Maximum number of tokens of a prompt (default that of the model, at most 2048).
        multiple_choice: Directory with dev/SUBJECT.csv and test/SUBJECT.csv, the layout of CMMLU and MMLU.
        language: Language of the questions.
        gsm8k: File of GSM8K problems, as JSON lines.
        few_shot: File of solved problems that precede each problem (default the first four of --gsm8k).
        dtype: Type of activations and matrix products.
        batch_size: Number of prompts in a batch.
        seed: Seed of the samples.
        out: File of the results.
    """

    model: Folder | None = None
    tokenizer: TokenizerPath | None = None
    length: Count | None = None
    multiple_choice: Folder | None = None
    language: Literal["en", "zh"] = "en"
    gsm8k: File | None = None
    few_shot: File | None = None
    dtype: DataType = "float32"
    batch_size: Count = 16
    seed: Whole = 0
    out: File | None = None
    sampling: HarnessSampling = HarnessSampling()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: HarnessRequest) -> Result:
    """Run `jsafe rlhf harness`."""
    if request.model is None or (request.multiple_choice is None and request.gsm8k is None):
        raise CommandError("harness needs --model DIR, and --multiple-choice DIR or --gsm8k FILE")
    scores = _scores(request)
    rows = {
        name: {"accuracy": s.value, "low": s.interval()[0], "high": s.interval()[1], "right": s.correct, "of": s.count}
        for name, s in scores.items()
    }
    if request.out is not None:
        writable_folder(request.out.parent)
        request.out.write_text(to_json(rows), encoding="utf-8")
    lines = [
        [name, f"{r['accuracy']:.3f}", f"{r['low']:.3f} to {r['high']:.3f}", str(r["of"])] for name, r in rows.items()
    ]
    text = table(["test", "accuracy", "interval", "questions"], lines)
    return Result({"model": str(request.model), "scores": rows}, text)


def _scores(request: HarnessRequest) -> dict[str, Accuracy]:
    """Return the accuracies by name of the test."""
    from experiments.cli.devices import configure_machine
    from rlhf.checkpoints import model_folder
    from rlhf.evaluation import gsm8k, multiple_choice
    from rlhf.generation.answers import completions, next_token_logits

    assert request.model is not None
    configure_machine(request.machine)
    model = model_folder.open_model(request.model, request.tokenizer)
    length = request.length or min(2048, model.config.max_length)
    scores: dict[str, Accuracy] = {}
    if request.multiple_choice is not None:
        logits = next_token_logits(model, length, request.batch_size, request.dtype)
        by_subject = multiple_choice.multiple_choice(
            logits, model.tokenizer, request.multiple_choice, language=request.language
        )
        scores |= {f"multiple choice, {subject}": score for subject, score in by_subject.items()}
    if request.gsm8k is not None:
        problems, solved = gsm8k.read_split(request.gsm8k, request.few_shot)
        sampling = request.sampling.applied_to(GREEDY)
        complete = completions(model, sampling, length, request.batch_size, request.seed, request.dtype)
        scores["GSM8K"] = gsm8k.gsm8k(complete, problems, solved)
    return scores
