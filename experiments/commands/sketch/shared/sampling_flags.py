"""Flags for sampling, and the sampler that they describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from experiments.cli.argument_types import Count, Folder, NotNegative, Switch, Whole, not_negative, parameter
from experiments.cli.config_flags import ConfigFlags, config_flags
from experiments.cli.errors import CommandError
from experiments.cli.request import flag_group
from sketch.sampling.candidate_config import CandidateConfig

if TYPE_CHECKING:
    from sketch.models.guided_sketch_rnn import GuidedSketchRNN
    from sketch.sampling.sampler import SamplingConfig

Temperatures = Annotated[
    tuple[float, ...], parameter(lambda text: tuple(not_negative(part) for part in text.split(",")), "T[,T]")
]


@flag_group("Sampling", 30)
class SampleFlags:
    """Sampling from a model.

    Attributes:
        temperature: Sampling temperature; 0 is greedy, several are used in turn (default 0.4; interpolate: 0.1).
        length: Largest number of points of a drawing (default that of the training drawings).
        convention: Meaning of the temperature: of the paper, or of the published JavaScript or Python code.
        seed: Root of all randomness.
    """

    temperature: Temperatures = ()
    length: Count | None = None
    convention: Literal["paper", "javascript", "python"] = "paper"
    seed: Whole = 0


@config_flags(
    CandidateConfig,
    hidden={"temperature"},
    title="Candidates",
    about="Choice of strokes among candidates, with --inspect.",
)
class CandidateFlags(ConfigFlags):
    """Choice of strokes among candidates."""


@flag_group("Guidance", 35)
class GuidanceFlags:
    """Models that guide or select samples.

    Attributes:
        predictor: Folder of a predictor (default the one stored with the model).
        inspect: Sample several candidates for each stroke; the predictor scores them.
        choice_temperature: Temperature of the choice among candidates, with --inspect; 0 is greedy.
        discriminator: Folder of a discriminator, which scores the samples.
        best_of: Draw N samples and keep the one the discriminator scores highest.
    """

    predictor: Folder | None = None
    inspect: Switch = False
    choice_temperature: NotNegative = 0.0
    discriminator: Folder | None = None
    best_of: Count | None = None


def sampling_config(
    model: Path,
    generator: GuidedSketchRNN,
    length: int,
    sample: SampleFlags,
    guidance: GuidanceFlags,
    candidates: CandidateFlags,
    *,
    refinable: bool = False,
    refine: int | None = None,
) -> SamplingConfig:
    """Return the settings of a sampler.

    Args:
        model: folder of the model, for error messages.
        generator: the model.
        length: largest number of rows.
        sample: flags.
        guidance: flags.
        candidates: flags.
        refinable: True if the command has --refine, another use of the discriminator.
        refine: steps of the refinement.

    Raises:
        CommandError: if flags do not fit together, or do not fit the model.
    """
    from sketch.models.checkpoint import load_model
    from sketch.models.discriminator import TrainedDiscriminator
    from sketch.sampling.sampler import SamplingConfig

    _check_candidates(model, generator, guidance, candidates)
    if bool(guidance.best_of or refine) != (guidance.discriminator is not None):
        uses = "--best-of N or --refine N" if refinable else "--best-of N"
        raise CommandError(f"--discriminator DIR needs {uses}, which in turn needs --discriminator DIR")
    config = None
    if guidance.inspect:
        config = candidates.config(CandidateConfig, {"temperature": guidance.choice_temperature})
    critic = None
    if guidance.best_of:
        assert guidance.discriminator is not None
        critic = load_model(guidance.discriminator, TrainedDiscriminator, "--discriminator")
    return SamplingConfig(length, sample.convention, config, critic, guidance.best_of or 1)


def _check_candidates(
    model: Path, generator: GuidedSketchRNN, guidance: GuidanceFlags, candidates: CandidateFlags
) -> None:
    if not guidance.inspect:
        if guidance.choice_temperature:
            raise CommandError("--choice-temperature requires --inspect")
        if names := candidates.explicit():
            raise CommandError(f"--{next(iter(names)).replace('_', '-')} requires --inspect")
        if guidance.predictor and not generator.guided:
            raise CommandError(f"--predictor has no effect on {model}, which is not guided; add --inspect or drop it")
        return
    if generator.predictor is None:
        raise CommandError("--inspect requires --predictor DIR, which scores the candidates")
    if not generator.framed:
        raise CommandError(f"--inspect needs a model of framed drawings, got {model}; train it with --framed")
