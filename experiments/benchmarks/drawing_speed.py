"""Timed pieces of `jsafe sketch bench`: training, sampling and rendering of drawings, with their floors.

The clock covers one call of a compiled program until the device has finished. It excludes compilation and the reading
of files. The floor of training and sampling is the recurrent matrix products alone, step after step as in the decoder,
in the same process and alternating with the timed piece; a gradient costs three times its function. The reference of
rendering is a NumPy program that measures the distance of each pixel to each line, one drawing at a time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sketch import raster
from sketch.data import procedural, strokes
from sketch.data.strokes import Drawings
from sketch.models import sketch_rnn
from sketch.models.sketch_rnn import SketchRNNConfig
from sketch.sampling import sample
from sketch.training.sketch_rnn_training import PRESETS, Preset, sketch_rnn_stage

SAMPLED = 1000
"""Drawings that are sampled in one call."""

NAIVE = 20
"""Drawings that the NumPy renderer draws in one call."""


class Benchmark(NamedTuple):
    """A timed piece.

    Attributes:
        name: name in the table.
        run: makes one call and waits for it.
        floor: makes one call of the floor and waits for it.
        drawings: drawings of one call.
    """

    name: str
    run: Callable[[], Any]
    floor: Callable[[], Any]
    drawings: int


def benchmarks(preset: str, seed: int) -> list[Benchmark]:
    """Return all timed pieces for a preset of Sketch-RNN."""
    sizes = PRESETS[preset]
    drawings = procedural.drawings("cat", 600, seed=seed)
    padded = strokes.pad(drawings)
    return [
        _training(drawings, sizes, seed),
        _sampling(sizes.architecture, padded, seed),
        _rendering("raster, 28 x 28", padded, raster.CANVAS),
        _rendering("raster, 64 x 64", padded, raster.Canvas(side=64, samples=1)),
    ]


def time_alternately(benchmark: Benchmark, repeats: int) -> tuple[float, float]:
    """Return the median seconds of a call and of its floor; both are compiled before the clock starts."""
    times: tuple[list[float], list[float]] = ([], [])
    calls = (benchmark.run, benchmark.floor)
    for call in calls:
        call()
    for _ in range(repeats):
        for call, seconds in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    return float(np.median(times[0])), float(np.median(times[1]))


def _products(config: SketchRNNConfig, batch: int, length: int) -> Callable[[], Any]:
    """The recurrent products of the decoder alone: a carry times a matrix, `length` steps in sequence."""
    units, inputs = config.decoder_size, config.plain_inputs
    recurrent, kernel = jnp.full((units, 4 * units), 1e-3), jnp.full((inputs, 4 * units), 1e-3)

    @jax.jit
    def run(carry: jax.Array, x: jax.Array) -> jax.Array:
        def step(carry: jax.Array, projected: jax.Array) -> tuple[jax.Array, None]:
            return (carry @ recurrent + projected)[:, :units], None

        return jax.lax.scan(step, carry, x @ kernel)[0]

    carry, x = jnp.ones((batch, units)), jnp.ones((length, batch, inputs))
    return lambda: jax.block_until_ready(run(carry, x))


def _training(drawings: list[np.ndarray], preset: Preset, seed: int) -> Benchmark:
    options = dataclasses.replace(preset.options, iterations=1, updates=5)
    stage = sketch_rnn_stage(drawings, (), Preset(preset.architecture, options))
    state = [jax.jit(stage.trainer.init)(jax.random.key(seed))]
    step = jax.jit(stage.trainer.step, donate_argnums=0)

    def run() -> None:
        state[0] = jax.block_until_ready(step(state[0])[0])

    product = _products(preset.architecture, options.batch_size, max(map(len, drawings)))

    def floor() -> None:
        for _ in range(3 * options.updates):
            product()

    return Benchmark("training", run, floor, options.updates * options.batch_size)


def _sampling(config: SketchRNNConfig, drawings: Drawings, seed: int) -> Benchmark:
    """Samples of the mean length of the drawings, because an untrained decoder has no sensible end."""
    params = jax.jit(lambda key: sketch_rnn.init(config, key))(jax.random.key(seed))
    length = int(np.mean(np.asarray(drawings.lengths)))
    params["output"]["bias"] = params["output"]["bias"].at[2].set(-30.0)
    temperature = jnp.full(SAMPLED, 0.5)
    draw = jax.jit(lambda params, key: sample.sample(config, params, key, temperature, length).rows)

    def run() -> None:
        jax.block_until_ready(draw(params, jax.random.key(seed)))

    return Benchmark("sampling", run, _products(config, SAMPLED, length), SAMPLED)


def _rendering(name: str, drawings: Drawings, canvas: raster.Canvas) -> Benchmark:
    on_device = jax.tree.map(jnp.asarray, drawings)
    paint = jax.jit(lambda drawings: raster.exact(drawings, canvas))
    count = len(drawings.lengths)

    def floor() -> None:
        # The NumPy program repeats a few drawings, as many times as the compiled one renders.
        for _ in range(max(round(count / NAIVE), 1)):
            for number in range(NAIVE):
                _render_naively(np.asarray(drawings.rows[number]), canvas)

    return Benchmark(name, lambda: jax.block_until_ready(paint(on_device)), floor, count)


def _render_naively(rows: np.ndarray, canvas: raster.Canvas) -> np.ndarray:
    """Ink of one drawing from the distance of each pixel to each line, in NumPy."""
    places = (np.cumsum(rows[:, :2], axis=0) + canvas.margin) * canvas.scale
    start, end = places[:-1], places[1:]
    drawn = rows[:-1, 2] == 0
    centres = np.stack(np.meshgrid(*[np.arange(canvas.side) + 0.5] * 2), axis=-1)[:, :, None]
    along = end - start
    share = np.clip(np.sum((centres - start) * along, -1) / np.maximum(np.sum(along**2, -1), 1e-9), 0.0, 1.0)
    away = np.linalg.norm(centres - start - share[..., None] * along, axis=-1)
    nearest = np.min(np.where(drawn, away, 1e3), axis=-1)
    return np.clip(0.5 + canvas.line_width * canvas.scale / 2 - nearest, 0.0, 1.0)
