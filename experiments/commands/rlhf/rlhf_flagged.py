"""`jsafe rlhf flagged`: share of responses that moderation models flag, and agreement of judges."""

from __future__ import annotations

from experiments.cli.argument_types import Count, File, Folders, NotNegative, Switch
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.rlhf.shared.model_flags import Columns, DataType, Sources, TokenizerPath


@flags
class FlaggedRequest:
    """Settings of `jsafe rlhf flagged`.

    Attributes:
        models: Directories of moderation models.
        tokenizer: Directory or file of the tokenizer (default those of the models).
        data: File, folder or NAME:SHARE:PATH with responses; repeatable.
        columns: Columns of the files by the name of a field, for example response=answer.
        skip: Leave out unusable rows, and count them.
        length: Maximum number of tokens of a text.
        threshold: Probability above which a category counts as present, between 0 and 1.
        verdicts: File with the verdicts of other judges: a row for each response, a column of true and false for each
            judge.
        dtype: Type of activations and matrix products.
        batch_size: Number of responses in a batch.
        out: File of the results.
    """

    models: Folders = positional()
    tokenizer: TokenizerPath | None = None
    data: Sources = ()
    columns: Columns = ()
    skip: Switch = False
    length: Count = 512
    threshold: NotNegative = 0.4
    verdicts: File | None = None
    dtype: DataType = "float32"
    batch_size: Count = 16
    out: File | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: FlaggedRequest) -> Result:
    """Run `jsafe rlhf flagged`."""
    from experiments.cli.devices import configure_machine
    from experiments.cli.format import to_json
    from experiments.cli.library_log import log_to_stderr
    from experiments.cli.training_run import short_names
    from experiments.report.rlhf.moderation_table import moderation_text
    from rlhf.data import mixture
    from rlhf.data.schemas import named_columns
    from rlhf.evaluation import moderation

    if not request.data:
        raise CommandError("no responses. Use jsafe rlhf flagged MODEL --data FILE, as written by `generate --out`")
    if not 0.0 < request.threshold < 1.0:
        raise CommandError(f"--threshold must be between 0 and 1, got {request.threshold}")
    log_to_stderr("rlhf")
    configure_machine(request.machine)
    rows, left_out = mixture.load_mixture(request.data, skip=request.skip, columns=named_columns(request.columns))
    verdicts = moderation.read_verdicts(request.verdicts, len(rows)) if request.verdicts else {}
    if verdicts and left_out:
        raise CommandError(f"--verdicts needs all rows, got an unusable one: {left_out[0]}")
    models = {
        name: moderation.open_moderation_model(path, request.tokenizer)
        for name, path in zip(short_names(request.models), request.models, strict=True)
    }
    data = moderation.flag_responses(
        models,
        rows,
        verdicts,
        threshold=request.threshold,
        length=request.length,
        skip=request.skip,
        batch_size=request.batch_size,
        dtype=request.dtype,
    )
    if request.out is not None:
        writable_folder(request.out.parent)
        request.out.write_text(to_json(data), encoding="utf-8")
    return Result(data, moderation_text(data))
