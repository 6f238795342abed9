"""`jsafe sketch complete`: complete unfinished drawings."""

from __future__ import annotations

from typing import Annotated

from experiments.cli.argument_types import Count, File, Folder, NotNegative, Switch, integer, parameter
from experiments.cli.devices import configure
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.sketch.shared.data_flags import ReadFlags
from experiments.commands.sketch.shared.drawing_output import (
    DrawingOutput,
    check_new,
    evenly,
    placement,
    read_unfinished,
    write_samples,
)
from experiments.commands.sketch.shared.sampling_flags import (
    CandidateFlags,
    GuidanceFlags,
    SampleFlags,
    sampling_config,
)


@flags
class CompleteRequest:
    """Settings of `jsafe sketch complete`.

    Attributes:
        model: Folder of a model or of its run.
        strokes: Unfinished drawings: .npz, .ndjson or .svg.
        row: Index of one drawing of the file (default all drawings).
        scale: Factor on positions of the file, to match the unit of the training drawings.
        fit: Move and scale drawings to the extent of the training drawings.
        count: Number of completions at each temperature.
        batch_size: Number of drawings sampled together.
    """

    model: Folder = positional()
    strokes: File | None = None
    row: Annotated[int | None, parameter(integer, "I")] = None
    scale: NotNegative = 1.0
    fit: Switch = False
    count: Count = 9
    batch_size: Count = 500
    read: ReadFlags = ReadFlags()
    sample: SampleFlags = SampleFlags()
    guidance: GuidanceFlags = GuidanceFlags()
    candidates: CandidateFlags = CandidateFlags()
    drawings: DrawingOutput = DrawingOutput()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: CompleteRequest) -> Result:
    """Run `jsafe sketch complete`: several completions of each unfinished drawing."""
    check_new(request.drawings.out)
    configure(request.machine.platform, request.machine.devices)
    import numpy as np

    from sketch.models.checkpoint import load_generator
    from sketch.models.guided_sketch_rnn import encode_prefix
    from sketch.sampling.batching import sample_many
    from sketch.sampling.sampler import make_sampler

    generator = load_generator(request.model, "complete", request.guidance.predictor)
    place = placement(generator, request.scale, request.fit)
    unfinished = read_unfinished(request.strokes, "--strokes", request.read.config(), place, request.row)
    longest = max(map(len, unfinished))
    length = request.sample.length or max(generator.model.max_length, longest + 1)
    if longest >= length:
        raise CommandError(f"--length must exceed the {longest} points of a drawing of {request.strokes}, got {length}")
    config = sampling_config(request.model, generator, length, request.sample, request.guidance, request.candidates)
    temperatures = request.sample.temperature or (0.4,)
    each = len(temperatures) * request.count
    temperature = np.tile(np.repeat(np.asarray(temperatures, np.float32), request.count), len(unfinished))
    prefix = encode_prefix(generator, unfinished, longest)
    prefix = {name: np.repeat(array, each, axis=0) for name, array in prefix.items()}
    batch_size = min(request.batch_size, len(temperature))
    samples = sample_many(make_sampler(generator, config), request.sample.seed, batch_size, temperature, **prefix)
    title = f"{each} completions of each of {len(unfinished)} drawings"
    return write_samples(
        request.drawings, generator, samples, temperature, title, evenly(len(unfinished), each),
        best_of=request.guidance.best_of, begun=prefix["prefix_lengths"],
    )  # fmt: skip
