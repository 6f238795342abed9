"""Flags that name models, prompts and settings of responses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from experiments.cli.argument_types import Count, Folder, Switch, Whole, key_value, listed, parameter, repeated
from experiments.cli.errors import CommandError
from experiments.cli.request import flag_group
from experiments.cli.stdout import note

if TYPE_CHECKING:
    from rlhf.checkpoints.model_folder import Model
    from rlhf.data.schemas import Example

Template = Literal["safe-rlhf", "baichuan"]
"""Template of conversations."""

DataType = Literal["float32", "bfloat16"]
"""Type of activations."""

TokenizerPath = Annotated[Path, Parameter(metavar="PATH")]
"""Folder or file of a tokenizer."""

Sources = Annotated[tuple[str, ...], repeated(str, "FILE")]
"""Files, folders or `NAME:SHARE:PATH`; the flag is repeated for each."""

Columns = Annotated[tuple[tuple[str, str], ...], listed(key_value, "NAME=COLUMN,...")]
"""Fields of a schema with the columns that they are read from; the flag is repeatable."""

Text = Annotated[str, parameter(str, "TEXT")]
"""Any text."""


@flag_group("Model", 10)
class PolicyFlags:
    """Language model of a command.

    Attributes:
        model: Directory of the language model.
        tokenizer: Directory or file of the tokenizer (default that of the model).
        template: Template of conversations (default baichuan for a model of that family, else safe-rlhf).
    """

    model: Folder | None = None
    tokenizer: TokenizerPath | None = None
    template: Template | None = None

    def open(self) -> Model:
        """Open the model with its template.

        Raises:
            CommandError: no model is named.
        """
        if self.model is None:
            raise CommandError("the command needs a language model. Use --model DIR")
        return open_policy(self.model, self.tokenizer, self.template)


def open_policy(path: Path, tokenizer: Path | None, template: str | None) -> Model:
    """Open a language model with its template."""
    from rlhf.checkpoints import model_folder

    return model_folder.with_template(model_folder.open_model(path, tokenizer), template)


@flag_group("Responses", 20)
class ResponseFlags:
    """Prompts and settings of their responses.

    Attributes:
        data: File, folder or NAME:SHARE:PATH with prompts; repeatable.
        columns: Columns of the files by the name of a field, for example prompt=question.
        skip: Leave out unusable rows, and count them.
        prompt_length: Maximum number of tokens of a prompt.
        batch_size: Number of prompts in a batch.
        seed: Seed of the samples.
        dtype: Type of activations and matrix products.
    """

    data: Sources = ()
    columns: Columns = ()
    skip: Switch = False
    prompt_length: Count = 64
    batch_size: Count = 16
    seed: Whole = 0
    dtype: DataType = "float32"


def load_prompts(
    command: str, responses: ResponseFlags, texts: tuple[str, ...] = (), *, unique: bool = True
) -> list[Example]:
    """Return the prompts of a command.

    Args:
        command: for the message of an error.
        responses: flags of the command.
        texts: prompts from the command line.
        unique: return equal prompts once, with a note of their number.

    Raises:
        CommandError: there is none.
    """
    from rlhf.data import dataset, mixture
    from rlhf.data.schemas import Example, named_columns

    prompts = [Example((text,)) for text in texts]
    if responses.data:
        rows, left_out = mixture.load_mixture(
            responses.data, skip=responses.skip, columns=named_columns(responses.columns)
        )
        if left_out:
            note(f"{len(left_out)} rows left out: {left_out[0]}")
        if not rows:
            raise CommandError(f"no row can be used: {left_out[0] if left_out else responses.data[0]}")
        kept = dataset.unique_prompts(rows) if unique else rows
        if len(kept) < len(rows):
            note(f"{len(rows) - len(kept)} rows repeat a prompt and are left out")
        prompts += kept
    if not prompts:
        raise CommandError(f"no prompts. Use jsafe rlhf {command} ... --data FILE")
    return prompts
