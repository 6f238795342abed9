"""`jsafe sketch generate`: sample drawings from a model."""

from __future__ import annotations

from experiments.cli.argument_types import Count, Folder
from experiments.cli.devices import configure
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note
from experiments.commands.sketch.shared.drawing_output import DrawingOutput, check_new, evenly, write_samples
from experiments.commands.sketch.shared.sampling_flags import (
    CandidateFlags,
    GuidanceFlags,
    SampleFlags,
    sampling_config,
)


@flags
class GenerateRequest:
    """Settings of `jsafe sketch generate`.

    Attributes:
        model: Folder of a model or of its run.
        count: Number of drawings at each temperature.
        batch_size: Number of drawings sampled together.
        refine: Then refine the points by N gradient-ascent steps on the discriminator's score.
    """

    model: Folder = positional()
    count: Count = 100
    batch_size: Count = 500
    refine: Count | None = None
    sample: SampleFlags = SampleFlags()
    guidance: GuidanceFlags = GuidanceFlags()
    candidates: CandidateFlags = CandidateFlags()
    drawings: DrawingOutput = DrawingOutput()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: GenerateRequest) -> Result:
    """Run `jsafe sketch generate`."""
    check_new(request.drawings.out)
    configure(request.machine.platform, request.machine.devices)
    import numpy as np

    from sketch.models.checkpoint import load_generator, load_model
    from sketch.models.discriminator import TrainedDiscriminator
    from sketch.sampling.batching import sample_many
    from sketch.sampling.refinement import refine_all
    from sketch.sampling.sampler import make_sampler

    generator = load_generator(request.model, "generate", request.guidance.predictor)
    length = request.sample.length or generator.model.max_length
    config = sampling_config(
        request.model, generator, length, request.sample, request.guidance, request.candidates,
        refinable=True, refine=request.refine,
    )  # fmt: skip
    temperatures = request.sample.temperature or (0.4,)
    temperature = np.repeat(np.asarray(temperatures, np.float32), request.count)
    note(f"sampling {len(temperature):,} drawings from {request.model}; compiling ...")
    batch_size = min(request.batch_size, len(temperature))
    samples = sample_many(make_sampler(generator, config), request.sample.seed, batch_size, temperature)
    refined = None
    if request.refine:
        assert request.guidance.discriminator is not None
        critic = load_model(request.guidance.discriminator, TrainedDiscriminator, "--discriminator")
        drawings = generator.from_model(samples.samples.rows)
        refined = refine_all(critic, drawings, length, request.refine, request.batch_size)
    title = f"{request.count} drawings at each of the temperatures {', '.join(f'{t:g}' for t in temperatures)}"
    return write_samples(
        request.drawings, generator, samples, temperature, title, evenly(len(temperatures), request.count),
        best_of=request.guidance.best_of, refined=refined,
    )  # fmt: skip
