"""`jsafe rlhf evaluate`: compare language models by reward and cost models."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.argument_types import Folder, Folders
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.rlhf.shared.hyperparameters import SamplingFlags
from experiments.commands.rlhf.shared.model_flags import (
    ResponseFlags,
    Template,
    TokenizerPath,
    load_prompts,
    open_policy,
)
from rlhf.config import SamplingConfig

if TYPE_CHECKING:
    from rlhf.evaluation.compare import Judge


@flags
class EvaluateRequest:
    """Settings of `jsafe rlhf evaluate`.

    Attributes:
        models: Directories of language models; the first one is the base.
        reward_model: Directory of a reward model; repeatable.
        cost_model: Directory of a cost model; repeatable.
        tokenizer: Directory or file of the tokenizer (default those of the models).
        template: Template of conversations (default baichuan for a model of that family, else safe-rlhf).
        out: Directory of the results (default runs/rlhf-evaluation).
    """

    models: Folders = positional()
    reward_model: Folders = ()
    cost_model: Folders = ()
    tokenizer: TokenizerPath | None = None
    template: Template | None = None
    responses: ResponseFlags = ResponseFlags()
    out: Folder | None = None
    sampling: SamplingFlags = SamplingFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: EvaluateRequest) -> Result:
    """Run `jsafe rlhf evaluate`: responses of each model to the same prompts, scored by the same judges."""
    from experiments.cli.devices import configure_machine
    from experiments.cli.format import to_json
    from experiments.cli.library_log import log_to_stderr
    from experiments.cli.training_run import short_names
    from experiments.report.rlhf.comparison import draw_scores, summary_table, win_rate_table, write_responses
    from rlhf.evaluation.compare import ResponseConfig, collect_responses, compare, first_judge

    log_to_stderr("rlhf")
    configure_machine(request.machine)
    flags = request.responses
    prompts = load_prompts("evaluate", flags)
    judges = _open_judges(request)
    out = writable_folder(request.out or Path("runs/rlhf-evaluation"))
    names = short_names(request.models)
    models = [
        (name, functools.partial(open_policy, path, request.tokenizer, request.template))
        for name, path in zip(names, request.models, strict=True)
    ]
    sampling = request.sampling.applied_to(SamplingConfig())
    config = ResponseConfig(sampling, flags.seed, flags.prompt_length, flags.batch_size, flags.skip, flags.dtype)
    responses = collect_responses(models, prompts, judges, config)
    data = compare(responses, judges)
    write_responses(out / "table.csv", responses, judges)
    (out / "evaluation.json").write_text(to_json(data), encoding="utf-8")
    reward, cost = ([one.scores[first_judge(judges, kind)] for one in responses] for kind in ("reward", "cost"))
    draw_scores(out / "scatter.png", names, reward, cost)
    tables = [summary_table(data)]
    if len(judges) > 2 or len(names) > 2:
        tables.append(win_rate_table(data["judges"]))
    return Result(data | {"folder": str(out)}, "\n\n".join([*tables, f"results in {out}"]))


def _open_judges(request: EvaluateRequest) -> dict[str, Judge]:
    """Open the judges by name; the first reward and the first cost model are those of the table."""
    from experiments.cli.training_run import short_names
    from rlhf.checkpoints import model_folder
    from rlhf.evaluation.compare import Judge

    paths = [("reward", path) for path in request.reward_model] + [("cost", path) for path in request.cost_model]
    for kind in ("reward", "cost"):
        if not any(kind == other for other, _ in paths):
            raise CommandError(f"evaluate needs --{kind}-model DIR, the directory of a {kind} model")
    names = short_names([path for _, path in paths])
    return {
        name: Judge(kind, model_folder.open_model(path, request.tokenizer, score=True, kind=kind))
        for name, (kind, path) in zip(names, paths, strict=True)
    }
