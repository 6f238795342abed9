"""Drawing under inspection: a predictor sees each finished stroke, tells the decoder, and judges strokes beforehand.

All drawings go on at once, each at its own pace: a few lanes each hold one drawing and as many pens as there are
candidates for its next stroke; a lane whose pens have all stopped keeps one of their strokes, and one whose drawing is
over takes up the next drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketch import raster
from sketch.data import next_stroke_data
from sketch.data.strokes import END, START, Drawings, batch_from_stroke5
from sketch.models import mixture, sketch_rnn
from sketch.models.predictor import Predictor, TrainedPredictor, guidance_size
from sketch.raster import BOX, FAR, Canvas, Segments
from sketch.sampling import sample
from sketch.sampling.sample import Drawn, Request
from sketch.sampling.stroke_candidates import Inspection, Lanes, Pen, Tries, choice, folded, where
from sketch.training.stages import SketchRNN


def draw_guided(
    generator: SketchRNN,
    predictor: TrainedPredictor | None,
    key: jax.Array,
    temperature: Float[Array, " batch"],
    length: int,
    inspection: Inspection | None = None,
    *,
    z: Float[Array, "batch latent"] | None = None,
    convention: str = "paper",
    given: Float[Array, "batch given 5"] | None = None,
    given_lengths: jax.Array | None = None,
    at_once: int = 128,
) -> Drawn:
    """Draw, one drawing for each temperature; drawing i is the same for any number of lanes.

    A decoder with extra inputs is told what the predictor sees; with an inspection, strokes are chosen among
    candidates; both go together or alone. The decoder must have learned from framed drawings. Whether a drawing ends is
    no matter of choice: the first candidate decides, so that drawings become neither longer nor shorter by inspection.

    Args:
        generator: what draws.
        predictor: what looks on; None only where neither needs it.
        key: typed PRNG key.
        temperature: 0 takes what is likeliest at each step.
        length: most rows of a drawing.
        inspection: how strokes are chosen, None to take them as they come.
        z: latent vectors; from the standard normal by default.
        convention: one of `sampling.CONVENTIONS`.
        given: rows that each drawing begins with, in the decoder's units, framed as a whole drawing would be.
        given_lengths: `[B]`, how many of them; by default up to the first that ends the drawing.
        at_once: lanes; a processor's cache likes few, an accelerator many.

    Raises:
        ValueError: an unknown convention, more given rows than `length`, extra inputs that the predictor does not fit,
            or no predictor where one is needed.
    """
    config = generator.config
    if predictor is None:
        if config.extra_inputs or inspection is not None:
            raise ValueError("a decoder with extra inputs, and an inspection, need a predictor")
        return sample.sample(
            config, generator.params, key, temperature, length, z=z, convention=convention, given=given,
            given_lengths=given_lengths,
        )  # fmt: skip
    if config.extra_inputs not in (0, guidance_size(predictor.size)):
        raise ValueError(
            f"the decoder has {config.extra_inputs} extra inputs, and the predictor gives "
            f"{guidance_size(predictor.size)}"
        )
    asked = sample.request(config, key, temperature, length, z, convention, given, given_lengths)
    how = inspection or Inspection(candidates=1, ink=0.0, start=0.0, likelihood=0.0)
    studio = _Studio(generator, predictor, asked, how, length, min(at_once, len(temperature)))
    return studio.draw()


class _Studio:
    """The pure functions of one call, and what they share."""

    def __init__(
        self,
        generator: SketchRNN,
        predictor: TrainedPredictor,
        asked: Request,
        how: Inspection,
        length: int,
        lanes: int,
    ) -> None:
        self.generator, self.predictor, self.asked, self.how = generator, predictor, asked, how
        self.params = jax.tree.map(jnp.asarray, generator.params)
        self.length, self.points = length, min(how.points, length)
        self.lanes, self.drawings = lanes, len(asked.discrete)
        # A stroke has about six rows, the longest of eight about fifteen: that often a lane needs a look.
        self.looks = -(-lanes // (4 if how.candidates == 1 else 8))
        self.canvas: Canvas = next_stroke_data.view(predictor.size.side)
        self.network = Predictor(predictor.size)
        self.draw_key, self.look_key, self.choice_key = jax.random.split(asked.key, 3)

    def draw(self) -> Drawn:
        first = jnp.arange(self.lanes)
        lanes = self.seen(self.blank(first))
        rows = jnp.broadcast_to(jnp.asarray(END, jnp.float32), (self.drawings, self.length, 5))
        state = (lanes, self.begun(self.first_pen(first)), jnp.int32(self.lanes), rows, jnp.zeros(self.drawings))
        found = jax.lax.while_loop(lambda s: jnp.any(s[0].drawing < self.drawings), self.step, state)
        return Drawn(found[3], found[4])

    def blank(self, drawing: jax.Array) -> Lanes:
        """Lanes at the beginning of drawings, not looked at yet."""
        size, n = self.predictor.size, len(drawing)
        number = jnp.zeros(n, jnp.int32)
        image = jnp.zeros((n, size.side, size.side))
        cells = jnp.zeros((n, (size.side // 2) ** 2))
        return Lanes(drawing, number, number, number, jnp.zeros(n), image + 1.0, image,
                     jnp.zeros((n, size.embedding_size)), image, cells)  # fmt: skip

    def seen(self, lanes: Lanes) -> Lanes:
        """Lanes with what the predictor says of their canvases; of the same canvas it says the same again."""
        known = jnp.minimum(lanes.finished, self.predictor.size.strokes)
        keys = jax.vmap(lambda *numbers: folded(self.look_key, *numbers))(lanes.drawing, known)

        def look(canvas: jax.Array, last: jax.Array, key: jax.Array) -> Any:
            return self.network.apply(self.predictor.params, canvas[None], last[None], key, method="likely")

        said = jax.tree.map(lambda x: x[:, 0], jax.vmap(look)(1.0 - lanes.bare, lanes.last, keys))
        return lanes._replace(embedding=said.embedding, ink=said.ink, start=jax.nn.log_softmax(said.start))

    def first_pen(self, drawing: jax.Array) -> Pen:
        """A pen for each drawing, before it draws."""
        n, side = len(drawing), self.canvas.side
        which = jnp.minimum(drawing, self.drawings - 1)
        z = None if self.asked.z is None else self.asked.z[which]
        carry = sketch_rnn.first_carry(self.generator.config, self.params, z, n)
        row = jnp.broadcast_to(jnp.asarray(START, jnp.float32), (n, 5))
        return Pen(carry, row, jnp.zeros((n, 2)), jnp.ones(n, bool), jnp.full((n, side, side), FAR))

    def begun(self, pen: Pen) -> Tries:
        """Candidates that go on from one pen in each lane."""
        shape = len(pen.row), self.how.candidates
        pens = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (*shape, *x.shape[1:])), pen)
        zero, number = jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
        return Tries(pens, jnp.zeros((*shape, self.points, 5)), number, number - 1, zero, jnp.zeros(shape, bool))

    def step(self, state: Any) -> Any:
        """One row by each pen that has not stopped, then a look at some lanes of which all have."""
        lanes, tries, following, rows, totals = state
        tries = self.moved(lanes, tries)
        ready = jnp.all(tries.done, axis=1) & (lanes.drawing < self.drawings)
        at = jnp.argsort(~ready)[: self.looks]
        some_lanes, some_tries = jax.tree.map(lambda x: x[at], (lanes, tries))
        kept, pen, length, best = self.chosen(some_lanes, some_tries)
        place = some_lanes.count[:, None] + jnp.arange(self.points)
        place = jnp.where(ready[at][:, None] & (jnp.arange(self.points) < length[:, None]), place, self.length)
        rows = rows.at[some_lanes.drawing[:, None], place].set(best, mode="drop")
        over = ready[at] & ((pen.row[:, 4] > 0) | (kept.count >= self.length))
        totals = totals.at[jnp.where(over, kept.drawing, self.drawings)].set(kept.total, mode="drop")
        new = jnp.where(over, following + jnp.cumsum(over) - 1, kept.drawing)
        kept, pen = where(over, (self.blank(new), self.first_pen(new)), (kept, pen))
        now = where(ready[at], (self.seen(kept), self.begun(pen)), (some_lanes, some_tries))
        lanes, tries = jax.tree.map(lambda x, y: x.at[at].set(y), (lanes, tries), now)
        return lanes, tries, following + jnp.sum(over), rows, totals

    def moved(self, lanes: Lanes, tries: Tries) -> Tries:
        """The next row of each candidate whose pen has not stopped."""
        config, pen, asked = self.generator.config, tries.pen, self.asked
        shape = tries.done.shape
        which = jnp.minimum(lanes.drawing, self.drawings - 1)

        def flat(tree: Any) -> Any:
            return jax.tree.map(lambda x: x.reshape(shape[0] * shape[1], *x.shape[2:]), tree)

        def spread(x: jax.Array) -> jax.Array:
            return jnp.repeat(x, shape[1], axis=0)

        now, length = flat((pen, tries.length))
        extra = jnp.concatenate([now.place / (BOX / 2), spread(lanes.embedding)], axis=-1)
        z = None if asked.z is None else spread(asked.z[which])
        extra = extra if config.extra_inputs else None
        carry, predicted = sketch_rnn.step(config, self.params, now.carry, now.row, z, extra)
        numbers = spread(lanes.drawing), spread(lanes.choices), length, jnp.tile(jnp.arange(shape[1]), shape[0])
        keys = jax.vmap(lambda *numbers: folded(self.draw_key, *numbers))(*numbers)
        row = jax.vmap(_drawn)(keys, predicted, spread(asked.discrete[which]), spread(asked.deviation[which]))
        row = jnp.where(row[:, 4:] > 0, jnp.asarray(END, jnp.float32), row)
        number = spread(lanes.count) + length
        told = number < spread(asked.given_lengths[which])
        row = jnp.where(told[:, None], asked.given[spread(which), jnp.minimum(number, self.length - 1)], row)
        ends = row[:, 4] > 0
        density = jnp.where(ends, 0.0, mixture.log_density(predicted, row[:, :2]))
        likelihood = jnp.where(told, 0.0, density - mixture.pen_loss(predicted, row[:, 2:]))
        place = now.place + jnp.where(ends[:, None], 0.0, row[:, :2] * self.generator.scale_factor)
        before, after = ((p + BOX / 2 + self.canvas.margin) * self.canvas.scale for p in (now.place, place))
        line = Segments(before, after, ~now.fresh & ~ends, now.fresh, number)
        distance = jax.vmap(lambda d, part: raster.nearer(d[None, None], part, self.canvas)[0, 0])(now.distance, line)
        cell = next_stroke_data.cell(place / BOX + 0.5, self.canvas.side // 2)
        cell = jnp.where(now.fresh & ~ends, cell, flat(tries.cell))
        lifts = row[:, 3] > 0
        stops = lifts | ends | (length + 1 >= self.points) | (number + 1 >= self.length)
        new = Pen(carry, row, place, lifts, distance), cell, flat(tries.total) + likelihood, stops
        new = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), new)
        pen, cell, total, done = where(tries.done, (pen, tries.cell, tries.total, tries.done), new)
        first, second = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])
        at = jnp.where(tries.done, self.points, tries.length)
        rows = tries.rows.at[first, second, at].set(row.reshape(*shape, 5), mode="drop")
        return Tries(pen, rows, tries.length + ~tries.done, cell, total, done)

    def chosen(self, lanes: Lanes, tries: Tries) -> tuple[Lanes, Pen, jax.Array, jax.Array]:
        """Lanes that keep one candidate each, not looked at yet, its pen, its length and its rows."""
        images = jax.vmap(jax.vmap(lambda d: raster.ink(d[None, None], self.canvas)))(tries.pen.distance)
        which = choice(self.how, self.choice_key, lanes, tries, images)
        at = jnp.arange(len(which)), which
        pen, length, rows, image, total = jax.tree.map(
            lambda x: x[at], (tries.pen, tries.length, tries.rows, images, tries.total)
        )
        lifted = pen.row[:, 3] > 0
        # A predictor that looks at so many strokes has not seen more of them when it learned.
        shown = lifted & (lanes.finished < self.predictor.size.strokes)
        bare, last = where(shown, (lanes.bare * (1.0 - image), image), (lanes.bare, lanes.last))
        lanes = lanes._replace(
            count=lanes.count + length, choices=lanes.choices + 1, finished=lanes.finished + lifted, bare=bare,
            last=last, total=lanes.total + total,
        )  # fmt: skip
        return lanes, pen, length, rows


def _drawn(key: jax.Array, predicted: mixture.Mixture, discrete: jax.Array, deviation: jax.Array) -> jax.Array:
    one = jax.tree.map(lambda x: x[None], predicted)
    return mixture.draw(key, one, discrete[None], deviation[None])[0]


class Chosen(NamedTuple):
    """The best of several drawings each.

    Attributes:
        drawn: what was kept.
        score: `[B]` of it.
        mean_score: `[B]` of all its tries.
        accepted: `[B]` share of the tries whose score is above 0.
        first_rank: `[B]` int32, how many tries are better than the first; 0 where choosing changed nothing.
    """

    drawn: Drawn
    score: jax.Array
    mean_score: jax.Array
    accepted: jax.Array
    first_rank: jax.Array


def best_of(
    score: Callable[[Drawings], jax.Array], draw: Callable[[jax.Array], Drawn], n: int
) -> Callable[[jax.Array], Chosen]:
    """Draw everything several times and keep the best of each.

    Args:
        score: logits `[B]` of drawings, in the decoder's units; above 0 is accepted.
        draw: from a typed PRNG key.
        n: tries of each drawing.

    Raises:
        ValueError: fewer tries than one.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")

    def chosen(key: jax.Array) -> Chosen:
        def one(key: jax.Array) -> tuple[Drawn, jax.Array]:
            drawn = draw(key)
            return drawn, score(batch_from_stroke5(drawn.rows))

        def more(kept: tuple[Drawn, jax.Array], key: jax.Array) -> Any:
            drawn, found = one(key)
            return where(found > kept[1], (drawn, found), kept), found

        keys = jax.random.split(key, n)
        begun = one(keys[0])
        (drawn, best), others = jax.lax.scan(more, begun, keys[1:])
        every = jnp.concatenate([begun[1][None], others])
        rank = jnp.sum(every > begun[1], axis=0, dtype=jnp.int32)
        return Chosen(drawn, best, jnp.mean(every, axis=0), jnp.mean(every > 0, axis=0), rank)

    return chosen
