"""Guided sampling: a predictor embeds each canvas for the decoder, and scores candidates for the next stroke.

All drawings advance at once, each at its own pace. Each lane holds one drawing and one pen for each candidate of its
next stroke. When all pens of a lane have stopped, one candidate becomes part of the drawing. When a drawing ends, its
lane takes the next one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketch import raster
from sketch.data.strokes import END, START
from sketch.models import mixture, next_stroke_data, sketch_rnn
from sketch.models.predictor import Predictor, TrainedPredictor, guidance_size
from sketch.models.sketch_rnn import Params, SketchRNN
from sketch.raster import BOX, FAR, Canvas, Segments
from sketch.sampling import sample
from sketch.sampling.candidate_config import NO_CANDIDATES, CandidateConfig
from sketch.sampling.sample import SampleRequest, Samples
from sketch.sampling.stroke_candidates import (
    Candidates,
    PenState,
    SamplerLanes,
    choose_candidate,
    fold_in_all,
    select,
)


class GuidedSampler(NamedTuple):
    """Models and settings of guided sampling.

    Attributes:
        generator: decoder, trained on framed drawings.
        predictor: predictor of the next stroke; None only if neither guidance nor candidates need it.
        length: largest number of rows of a drawing.
        config: choice among candidates; None to take strokes as they are sampled.
        convention: meaning of the temperature, one of `sample.CONVENTIONS`.
        num_lanes: drawings in progress; few fit the cache of a CPU, accelerators need many.
    """

    generator: SketchRNN
    predictor: TrainedPredictor | None
    length: int
    config: CandidateConfig | None = None
    convention: str = "paper"
    num_lanes: int = 128


def sample_guided(
    sampler: GuidedSampler,
    key: jax.Array,
    temperature: Float[Array, " batch"],
    *,
    z: Float[Array, "batch latent"] | None = None,
    prefix: Float[Array, "batch rows 5"] | None = None,
    prefix_lengths: jax.Array | None = None,
) -> Samples:
    """Sample one drawing for each temperature; drawing i is the same for any number of lanes.

    Args:
        sampler: models and settings.
        key: typed PRNG key.
        temperature: `[B]`; 0 is greedy.
        z: latent vectors (default: from the standard normal).
        prefix: rows that each drawing starts with, in the unit of the decoder, framed like a whole drawing.
        prefix_lengths: `[B]` number of prefix rows (default: up to the first end row).

    Raises:
        ValueError: if the convention is unknown, the prefix is longer than a drawing, or the decoder or the choice
            among candidates needs another predictor.
    """
    generator, predictor = sampler.generator, sampler.predictor
    config, length = generator.config, sampler.length
    inputs: dict[str, Any] = {"z": z, "prefix": prefix, "prefix_lengths": prefix_lengths}
    inputs["convention"] = sampler.convention
    if predictor is None:
        if config.extra_inputs or sampler.config is not None:
            raise ValueError("a decoder with extra inputs and a choice among candidates need a predictor, got none")
        return sample.sample(config, generator.params, key, temperature, length, **inputs)
    if config.extra_inputs not in (0, guidance_size(predictor.size)):
        raise ValueError(
            f"the predictor must match the {config.extra_inputs} extra inputs of the decoder, "
            f"got a predictor that gives {guidance_size(predictor.size)}"
        )
    run = _start(sampler, predictor, sample.make_request(config, key, temperature, length, **inputs))
    drawings = jnp.arange(run.extent.lanes)
    lanes = _embed_canvases(run, _blank_lanes(run, drawings))
    candidates = _new_candidates(run, _first_pens(run, drawings))
    rows = jnp.broadcast_to(jnp.asarray(END, jnp.float32), (run.num_drawings, length, 5))
    state = _State(lanes, candidates, jnp.int32(run.extent.lanes), rows, jnp.zeros(run.num_drawings))
    state = jax.lax.while_loop(lambda s: jnp.any(s.lanes.drawing < run.num_drawings), lambda s: _advance(run, s), state)
    return Samples(state.rows, state.totals)


class _Keys(NamedTuple):
    """PRNG keys of one call.

    Attributes:
        rows: of the rows.
        latents: of the predictor's latent vectors.
        choices: of the choices.
    """

    rows: jax.Array
    latents: jax.Array
    choices: jax.Array


class _Extent(NamedTuple):
    """Static sizes of the loop.

    Attributes:
        points: rows after which a stroke is compared.
        lanes: drawings in progress.
        updates: lanes that are updated in one step.
    """

    points: int
    lanes: int
    updates: int


class _Run(NamedTuple):
    """Constants of one call.

    Attributes:
        sampler: models and settings.
        predictor: the predictor, which is never None here.
        config: choice among candidates.
        request: arguments of the call.
        params: parameters of the decoder.
        keys: randomness.
        extent: sizes.
    """

    sampler: GuidedSampler
    predictor: TrainedPredictor
    config: CandidateConfig
    request: SampleRequest
    params: Params
    keys: _Keys
    extent: _Extent

    @property
    def canvas(self) -> Canvas:
        """Canvas of the predictor."""
        return next_stroke_data.view(self.predictor.size.side)

    @property
    def num_drawings(self) -> int:
        return len(self.request.discrete)


class _State(NamedTuple):
    """State of the sampling loop.

    Attributes:
        lanes: drawings in progress.
        candidates: candidates for the next stroke of each lane.
        following: index of the next drawing that has no lane yet.
        rows: `[B, N, 5]` rows of all drawings.
        totals: `[B]` log likelihoods of finished drawings.
    """

    lanes: SamplerLanes
    candidates: Candidates
    following: jax.Array
    rows: jax.Array
    totals: jax.Array


def _start(sampler: GuidedSampler, predictor: TrainedPredictor, request: SampleRequest) -> _Run:
    config = sampler.config or NO_CANDIDATES
    lanes = min(sampler.num_lanes, len(request.discrete))
    # A stroke has about six rows, and the longest of eight candidates about fifteen.
    num_updates = -(-lanes // (4 if config.candidates == 1 else 8))
    return _Run(
        sampler=sampler,
        predictor=predictor,
        config=config,
        request=request,
        params=jax.tree.map(jnp.asarray, sampler.generator.params),
        keys=_Keys(*jax.random.split(request.key, 3)),
        extent=_Extent(points=min(config.points, sampler.length), lanes=lanes, updates=num_updates),
    )


def _blank_lanes(run: _Run, drawing: jax.Array) -> SamplerLanes:
    """Lanes with blank canvases, not embedded yet."""
    size, n = run.predictor.size, len(drawing)
    number = jnp.zeros(n, jnp.int32)
    image = jnp.zeros((n, size.side, size.side))
    cells = jnp.zeros((n, (size.side // 2) ** 2))
    embedding = jnp.zeros((n, size.embedding_size))
    return SamplerLanes(
        drawing=drawing,
        count=number,
        choices=number,
        finished=number,
        total=jnp.zeros(n),
        bare=image + 1.0,
        last=image,
        embedding=embedding,
        ink=image,
        start=cells,
    )


def _embed_canvases(run: _Run, lanes: SamplerLanes) -> SamplerLanes:
    """Apply the predictor to the canvas of each lane; equal canvases of a drawing get equal predictions."""
    finished = jnp.minimum(lanes.finished, run.predictor.size.strokes)
    keys = jax.vmap(lambda *numbers: fold_in_all(run.keys.latents, *numbers))(lanes.drawing, finished)
    network = Predictor(run.predictor.size)

    def predict(canvas: jax.Array, last: jax.Array, key: jax.Array) -> Any:
        return network.apply(run.predictor.params, canvas[None], last[None], key, method="likely")

    predicted = jax.tree.map(lambda x: x[:, 0], jax.vmap(predict)(1.0 - lanes.bare, lanes.last, keys))
    return lanes._replace(embedding=predicted.embedding, ink=predicted.ink, start=jax.nn.log_softmax(predicted.start))


def _first_pens(run: _Run, drawing: jax.Array) -> PenState:
    """Pens at the start of drawings."""
    n, side = len(drawing), run.canvas.side
    index = jnp.minimum(drawing, run.num_drawings - 1)
    z = None if run.request.z is None else run.request.z[index]
    carry = sketch_rnn.first_carry(run.sampler.generator.config, run.params, z, n)
    row = jnp.broadcast_to(jnp.asarray(START, jnp.float32), (n, 5))
    return PenState(carry, row, jnp.zeros((n, 2)), jnp.ones(n, bool), jnp.full((n, side, side), FAR))


def _new_candidates(run: _Run, pen: PenState) -> Candidates:
    """Empty candidates, which all continue from the pen of their lane."""
    shape = len(pen.row), run.config.candidates
    pens = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (*shape, *x.shape[1:])), pen)
    zero, number = jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
    return Candidates(pens, jnp.zeros((*shape, run.extent.points, 5)), number, number - 1, zero, jnp.zeros(shape, bool))


def _advance(run: _Run, state: _State) -> _State:
    """Advance every moving pen by one row, then update some of the lanes whose pens have all stopped."""
    lanes, following, rows, totals = state.lanes, state.following, state.rows, state.totals
    candidates = _advance_pens(run, lanes, state.candidates)
    ready = jnp.all(candidates.done, axis=1) & (lanes.drawing < run.num_drawings)
    at = jnp.argsort(~ready)[: run.extent.updates]
    some_lanes, some_candidates = jax.tree.map(lambda x: x[at], (lanes, candidates))
    updated, pen, length, best = _append_best(run, some_lanes, some_candidates)
    place = some_lanes.count[:, None] + jnp.arange(run.extent.points)
    place = jnp.where(ready[at][:, None] & (jnp.arange(run.extent.points) < length[:, None]), place, run.sampler.length)
    rows = rows.at[some_lanes.drawing[:, None], place].set(best, mode="drop")
    over = ready[at] & ((pen.row[:, 4] > 0) | (updated.count >= run.sampler.length))
    totals = totals.at[jnp.where(over, updated.drawing, run.num_drawings)].set(updated.total, mode="drop")
    new = jnp.where(over, following + jnp.cumsum(over) - 1, updated.drawing)
    updated, pen = select(over, (_blank_lanes(run, new), _first_pens(run, new)), (updated, pen))
    restarted = _embed_canvases(run, updated), _new_candidates(run, pen)
    after = select(ready[at], restarted, (some_lanes, some_candidates))
    lanes, candidates = jax.tree.map(lambda x, y: x.at[at].set(y), (lanes, candidates), after)
    return _State(lanes, candidates, following + jnp.sum(over), rows, totals)


class _Row(NamedTuple):
    """The next row of every pen; the leading axis is lanes times candidates.

    Attributes:
        carry: state of the decoder.
        row: `[M, 5]`.
        likelihood: `[M]` log likelihood of the row; 0 for prefix rows.
        number: `[M]` index of the row in the drawing.
    """

    carry: Any
    row: jax.Array
    likelihood: jax.Array
    number: jax.Array


def _advance_pens(run: _Run, lanes: SamplerLanes, candidates: Candidates) -> Candidates:
    """Sample the next row of every candidate whose pen has not stopped."""
    shape = candidates.done.shape

    def flat(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(shape[0] * shape[1], *x.shape[2:]), tree)

    pen, length = flat((candidates.pen, candidates.length))
    sampled = _sample_rows(run, lanes, pen, length)
    row = sampled.row
    ends, lifts = row[:, 4] > 0, row[:, 3] > 0
    scale = run.sampler.generator.scale_factor
    place = pen.place + jnp.where(ends[:, None], 0.0, row[:, :2] * scale)
    before, after = ((p + BOX / 2 + run.canvas.margin) * run.canvas.scale for p in (pen.place, place))
    line = Segments(before, after, ~pen.fresh & ~ends, pen.fresh, sampled.number)
    distance = jax.vmap(lambda d, part: raster.nearer(d[None, None], part, run.canvas)[0, 0])(pen.distance, line)
    cell = next_stroke_data.cell(place / BOX + 0.5, run.canvas.side // 2)
    cell = jnp.where(pen.fresh & ~ends, cell, flat(candidates.cell))
    stops = lifts | ends | (length + 1 >= run.extent.points) | (sampled.number + 1 >= run.sampler.length)
    new = (
        PenState(sampled.carry, row, place, lifts, distance),
        cell,
        flat(candidates.total) + sampled.likelihood,
        stops,
    )
    new = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), new)
    old = candidates.pen, candidates.cell, candidates.total, candidates.done
    pen, cell, total, done = select(candidates.done, old, new)
    first, second = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])
    at = jnp.where(candidates.done, run.extent.points, candidates.length)
    rows = candidates.rows.at[first, second, at].set(row.reshape(*shape, 5), mode="drop")
    return Candidates(pen, rows, candidates.length + ~candidates.done, cell, total, done)


def _sample_rows(run: _Run, lanes: SamplerLanes, pen: PenState, length: jax.Array) -> _Row:
    """Sample the next row of every pen from the decoder, or take it from the prefix."""
    config, request, n = run.sampler.generator.config, run.request, run.config.candidates
    index = jnp.minimum(lanes.drawing, run.num_drawings - 1)

    def spread(x: jax.Array) -> jax.Array:
        return jnp.repeat(x, n, axis=0)

    extra = jnp.concatenate([pen.place / (BOX / 2), spread(lanes.embedding)], axis=-1)
    z = None if request.z is None else spread(request.z[index])
    carry, predicted = sketch_rnn.step(
        config, run.params, pen.carry, pen.row, z, extra if config.extra_inputs else None
    )
    numbers = spread(lanes.drawing), spread(lanes.choices), length, jnp.tile(jnp.arange(n), len(lanes.drawing))
    keys = jax.vmap(lambda *numbers: fold_in_all(run.keys.rows, *numbers))(*numbers)
    row = jax.vmap(_draw_row)(keys, predicted, spread(request.discrete[index]), spread(request.deviation[index]))
    row = jnp.where(row[:, 4:] > 0, jnp.asarray(END, jnp.float32), row)
    number = spread(lanes.count) + length
    is_prefix = number < spread(request.prefix_lengths[index])
    prefix = request.prefix[spread(index), jnp.minimum(number, run.sampler.length - 1)]
    row = jnp.where(is_prefix[:, None], prefix, row)
    density = jnp.where(row[:, 4] > 0, 0.0, mixture.log_density(predicted, row[:, :2]))
    likelihood = jnp.where(is_prefix, 0.0, density - mixture.pen_loss(predicted, row[:, 2:]))
    return _Row(carry, row, likelihood, number)


def _draw_row(key: jax.Array, predicted: mixture.Mixture, discrete: jax.Array, deviation: jax.Array) -> jax.Array:
    one = jax.tree.map(lambda x: x[None], predicted)
    return mixture.draw(key, one, discrete[None], deviation[None])[0]


class _Best(NamedTuple):
    """The chosen candidate of each lane.

    Attributes:
        lanes: lanes after the candidate was appended, not embedded yet.
        pen: its pen.
        length: its number of rows.
        rows: its rows.
    """

    lanes: SamplerLanes
    pen: PenState
    length: jax.Array
    rows: jax.Array


def _append_best(run: _Run, lanes: SamplerLanes, candidates: Candidates) -> _Best:
    """Choose one candidate of each lane and append it to the drawing."""
    images = jax.vmap(jax.vmap(lambda d: raster.ink(d[None, None], run.canvas)))(candidates.pen.distance)
    chosen = choose_candidate(run.config, run.keys.choices, lanes, candidates, images)
    at = jnp.arange(len(chosen)), chosen
    pen, length, rows, image, total = jax.tree.map(
        lambda x: x[at], (candidates.pen, candidates.length, candidates.rows, images, candidates.total)
    )
    lifted = pen.row[:, 3] > 0
    # The predictor was trained on canvases with at most this number of strokes.
    shown = lifted & (lanes.finished < run.predictor.size.strokes)
    bare, last = select(shown, (lanes.bare * (1.0 - image), image), (lanes.bare, lanes.last))
    lanes = lanes._replace(
        count=lanes.count + length, choices=lanes.choices + 1, finished=lanes.finished + lifted, bare=bare,
        last=last, total=lanes.total + total,
    )  # fmt: skip
    return _Best(lanes, pen, length, rows)
