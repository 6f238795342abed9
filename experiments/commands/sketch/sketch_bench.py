"""`jsafe sketch bench`: drawings per second of training, sampling and drawing on a canvas, beside their floors.

What the clock covers: one call of a compiled program until the device has finished. What it does not: compilation and
the reading of files. The floor of training and sampling is the recurrent matrix products alone, step after step as the
decoder must make them, in the same process and turn by turn with what they are the floor of; a gradient costs three
times its function. What a drawing on a canvas is held against is a program that measures each pixel's distance to each
line, one drawing at a time, as one would write it first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli.devices import prepare
from experiments.cli.result import Outcome, note, table, to_json, writable_folder
from experiments.commands.throughput import machine_line
from jsafe import runtime
from sketch import raster
from sketch.data import procedural, strokes
from sketch.data.strokes import Drawings
from sketch.models import sketch_rnn
from sketch.models.sketch_rnn import Architecture
from sketch.sampling import sample
from sketch.training.stages import PRESETS, Preset, sketch_rnn_stage

DRAWN = 1000
"""Drawings that are sampled in one call."""


class Piece(NamedTuple):
    """What is timed.

    Attributes:
        run: makes one call and waits for it.
        floor: the same of what it cannot do without.
        drawings: of one call.
    """

    run: Callable[[], Any]
    floor: Callable[[], Any]
    drawings: int


def bench(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch bench`."""
    prepare(args)
    preset = PRESETS[args.preset]
    drawings = procedural.drawings("cat", 600, seed=args.seed)
    padded = strokes.pad(drawings)
    pieces = {
        "training": _training(drawings, preset, args.seed),
        "sampling": _sampling(preset.architecture, padded, args.seed),
        "raster, 28 x 28": _raster(padded, raster.CANVAS),
        "raster, 64 x 64": _raster(padded, raster.Canvas(side=64, samples=1)),
    }
    rows = []
    for name, piece in pieces.items():
        note(f"{name} ...")
        seconds, floor = _turn_by_turn(piece, args.repeats)
        rows.append({"what": name, "drawings": piece.drawings, "seconds": seconds, "floor_seconds": floor,
                     "drawings_per_second": piece.drawings / seconds, "times_floor": seconds / floor})  # fmt: skip
    data = {
        "preset": args.preset,
        "hardware": runtime.describe_hardware(),
        "versions": runtime.versions(),
        "rows": rows,
    }
    if args.out:
        (writable_folder(args.out) / "bench.json").write_text(to_json(data))
    cells = [[r["what"], f"{r['drawings']:,}", f"{r['seconds']:.3f}", f"{r['drawings_per_second']:,.0f}",
              f"{r['times_floor']:.2f}"] for r in rows]  # fmt: skip
    head = ["what", "drawings of a call", "seconds", "drawings/s", "times floor"]
    return Outcome(data, f"{machine_line(data['hardware'])}\n{table(head, cells)}")


def _turn_by_turn(piece: Piece, repeats: int) -> tuple[float, float]:
    """Median seconds of a call and of its floor; both are compiled before the clock starts."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in (piece.run, piece.floor):
        call()
    for _ in range(repeats):
        for call, found in zip((piece.run, piece.floor), times, strict=True):
            began = time.perf_counter()
            call()
            found.append(time.perf_counter() - began)
    return float(np.median(times[0])), float(np.median(times[1]))


def _products(config: Architecture, batch: int, length: int) -> Callable[[], Any]:
    """The decoder's recurrent products alone: a carry through a matrix, so many steps one after the other."""
    units, inputs = config.decoder_size, config.plain_inputs
    recurrent, before = jnp.full((units, 4 * units), 1e-3), jnp.full((inputs, 4 * units), 1e-3)

    @jax.jit
    def run(carry: jax.Array, told: jax.Array) -> jax.Array:
        ahead = told @ before

        def step(carry: jax.Array, now: jax.Array) -> tuple[jax.Array, None]:
            return (carry @ recurrent + now)[:, :units], None

        return jax.lax.scan(step, carry, ahead)[0]

    carry, told = jnp.ones((batch, units)), jnp.ones((length, batch, inputs))
    return lambda: jax.block_until_ready(run(carry, told))


def _training(drawings: list[np.ndarray], preset: Preset, seed: int) -> Piece:
    options = preset.options.__class__(**{**preset.options.config(), "iterations": 1, "updates": 5})
    stage = sketch_rnn_stage(drawings, (), Preset(preset.architecture, options))
    held = [jax.jit(stage.trainer.init)(jax.random.key(seed))]
    step = jax.jit(stage.trainer.step, donate_argnums=0)

    def run() -> None:
        held[0] = jax.block_until_ready(step(held[0])[0])

    product = _products(preset.architecture, options.batch_size, max(map(len, drawings)))

    def floor() -> None:
        for _ in range(3 * options.updates):
            product()

    return Piece(run, floor, options.updates * options.batch_size)


def _sampling(config: Architecture, drawings: Drawings, seed: int) -> Piece:
    """Drawings as long as the made ones are: an untrained decoder would not know where to end."""
    params = jax.jit(lambda key: sketch_rnn.init(config, key))(jax.random.key(seed))
    length = int(np.mean(np.asarray(drawings.lengths)))
    params["output"]["bias"] = params["output"]["bias"].at[2].set(-30.0)
    temperature = jnp.full(DRAWN, 0.5)
    draw = jax.jit(lambda params, key: sample.sample(config, params, key, temperature, length).rows)
    return Piece(
        lambda: jax.block_until_ready(draw(params, jax.random.key(seed))), _products(config, DRAWN, length), DRAWN
    )


def _raster(drawings: Drawings, canvas: raster.Canvas) -> Piece:
    held = jax.tree.map(jnp.asarray, drawings)
    paint = jax.jit(lambda drawings: raster.exact(drawings, canvas))
    count = 20

    def naive() -> None:
        for number in range(count):
            _naive(np.asarray(drawings.rows[number]), canvas)

    piece = Piece(lambda: jax.block_until_ready(paint(held)), naive, len(drawings.lengths))
    # The naive program paints fewer drawings; its time is that of as many as the other one's.
    scale = piece.drawings / count
    return piece._replace(floor=_Scaled(naive, scale))


class _Scaled(NamedTuple):
    """A call that counts as several."""

    call: Callable[[], Any]
    times: float

    def __call__(self) -> None:
        """Make it so often, the last one in part."""
        for _ in range(max(round(self.times), 1)):
            self.call()


def _naive(rows: np.ndarray, canvas: raster.Canvas) -> np.ndarray:
    """Ink of one drawing: the distance of each pixel to each line, in NumPy."""
    places = (np.cumsum(rows[:, :2], axis=0) + canvas.margin) * canvas.scale
    start, end = places[:-1], places[1:]
    drawn = rows[:-1, 2] == 0
    centres = np.stack(np.meshgrid(*[np.arange(canvas.side) + 0.5] * 2), axis=-1)[:, :, None]
    along = end - start
    share = np.clip(np.sum((centres - start) * along, -1) / np.maximum(np.sum(along**2, -1), 1e-9), 0.0, 1.0)
    away = np.linalg.norm(centres - start - share[..., None] * along, axis=-1)
    nearest = np.min(np.where(drawn, away, 1e3), axis=-1)
    return np.clip(0.5 + canvas.line_width * canvas.scale / 2 - nearest, 0.0, 1.0)
