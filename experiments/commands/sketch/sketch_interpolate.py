"""`jsafe sketch interpolate`: interpolate between two drawings in latent space."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from experiments.cli.argument_types import Count, File, Folder, NotNegative, Switch, Whole
from experiments.cli.devices import configure
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.sketch.shared.data_flags import ReadFlags
from experiments.commands.sketch.shared.drawing_output import (
    DrawingOutput,
    check_new,
    placement,
    read_unfinished,
    write_samples,
)
from experiments.commands.sketch.shared.sampling_flags import SampleFlags


@flags
class InterpolateRequest:
    """Settings of `jsafe sketch interpolate`.

    Attributes:
        model: Folder of a model with an encoder, or of its run.
        first: File with the first drawing.
        last: File with the last drawing.
        from_row: Index of the drawing in --from.
        to_row: Index of the drawing in --to.
        scale: Factor on positions of the files, to match the unit of the training drawings.
        fit: Move and scale drawings to the extent of the training drawings.
        frames: Number of drawings, both ends included.
    """

    model: Folder = positional()
    first: Annotated[File | None, Parameter(name="--from")] = None
    last: Annotated[File | None, Parameter(name="--to")] = None
    from_row: Whole = 0
    to_row: Whole = 0
    scale: NotNegative = 1.0
    fit: Switch = False
    frames: Count = 10
    read: ReadFlags = ReadFlags()
    sample: SampleFlags = SampleFlags()
    drawings: DrawingOutput = DrawingOutput()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: InterpolateRequest) -> Result:
    """Run `jsafe sketch interpolate`."""
    check_new(request.drawings.out)
    configure(request.machine.platform, request.machine.devices)
    import jax.numpy as jnp
    import numpy as np

    from sketch.models import sketch_rnn
    from sketch.models.checkpoint import load_generator
    from sketch.models.guided_sketch_rnn import encode_prefix
    from sketch.sampling.batching import sample_many
    from sketch.sampling.sample import slerp
    from sketch.sampling.sampler import SamplingConfig, make_sampler

    generator = load_generator(request.model, "interpolate")
    model = generator.model
    if not model.config.conditional:
        raise CommandError(
            f"{request.model} has no encoder; train a model with `jsafe sketch train --conditional` or --preset code"
        )
    read, place = request.read.config(), placement(generator, request.scale, request.fit)
    ends = read_unfinished(request.first, "--from", read, place, request.from_row)
    ends += read_unfinished(request.last, "--to", read, place, request.to_row)
    if len(request.sample.temperature) > 1:
        raise CommandError(f"interpolate takes one --temperature, got {len(request.sample.temperature)}")
    rows = {name: jnp.asarray(array) for name, array in encode_prefix(generator, ends, max(map(len, ends))).items()}
    latent = sketch_rnn.encode(model.config, model.params, rows["prefix"], rows["prefix_lengths"]).mean
    z = np.asarray(slerp(latent[0], latent[1], request.frames))
    temperature = np.full(request.frames, (request.sample.temperature or (0.1,))[0], np.float32)
    config = SamplingConfig(request.sample.length or model.max_length, request.sample.convention)
    draw = make_sampler(generator, config)
    samples = sample_many(draw, request.sample.seed, request.frames, temperature, z=z)
    title = f"{request.frames} drawings from one to the other"
    return write_samples(request.drawings, generator, samples, temperature, title, range(request.frames))
