"""Completions of a drawing as answers to JSON requests."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from typing import Any, NamedTuple

import jax
import numpy as np

from sketch.data import strokes
from sketch.data.extent import fitted, restored
from sketch.data.simplify import ramer_douglas_peucker, resample
from sketch.models.guided_sketch_rnn import GuidedSketchRNN, encode_prefix
from sketch.raster import BOX
from sketch.sampling.sampler import SamplingConfig, make_sampler

MAX_TRAVEL = 400 * BOX
"""Longest total path of the pen in a request, four hundred times the side of the box."""

COMPLETIONS = 4
"""Completions of one request; several cost hardly more than one."""


SHOWN_CLASSES = 6
"""Number of classes that the page names."""


class RequestError(Exception):
    """A request without an answer.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: HTTPStatus, message: str):
        """Store the status and a one-line message."""
        super().__init__(message)
        self.status = status


class CompletionRequest(NamedTuple):
    """Request for completions.

    Attributes:
        lines: `[n, 2]` positions of each stroke in the box, 0 to 256.
        temperature: sampling temperature.
        seed: seed; equal requests get equal completions.
    """

    lines: strokes.Polylines
    temperature: float
    seed: int


def read_request(content: bytes) -> CompletionRequest:
    """Read a request from JSON: `strokes`, lists of `[x, y]`, and optionally `temperature` and `seed`.

    Raises:
        RequestError: if the request is invalid.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise _bad_request("the request must be JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("strokes"), list):
        raise _bad_request("the request must be an object with a list 'strokes'")
    lines = [_read_stroke(number, stroke) for number, stroke in enumerate(data["strokes"])]
    travel = sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in lines)
    if travel > MAX_TRAVEL:
        raise _bad_request(f"the path of the pen must be at most {MAX_TRAVEL:g} long, got {travel:.0f}")
    temperature, seed = data.get("temperature", 0.4), data.get("seed", 0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0.0 <= temperature <= 2.0:
        raise _bad_request("temperature must be a number from 0 to 2")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise _bad_request("seed must be a whole number from 0 to 2147483647")
    return CompletionRequest(lines, float(temperature), seed)


def _bad_request(message: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, message)


def _read_stroke(number: int, stroke: Any) -> np.ndarray:
    try:
        line: np.ndarray = np.asarray(stroke, np.float64)
    except (TypeError, ValueError, OverflowError):
        line = np.zeros(0)
    if line.ndim != 2 or line.shape[1] != 2 or not (np.abs(line) <= 4 * BOX).all():
        limits = f"between {-4 * BOX:g} and {4 * BOX:g}"
        raise _bad_request(f"stroke {number} must be a list of positions [x, y], each {limits}")
    return line


class DrawingService:
    """A model that completes drawings; it is compiled once, on construction.

    Attributes:
        max_points: largest number of points of a drawing after simplification.
        length: largest number of points of a completed drawing.
    """

    def __init__(self, generator: GuidedSketchRNN, config: SamplingConfig):
        """Compile the sampler."""
        self.generator, self.max_points = generator, generator.model.max_length
        self.length = self.max_points + config.length
        self._draw = make_sampler(generator, config._replace(length=self.length))
        self._lock = threading.Lock()
        self.completions(CompletionRequest([], 0.4, 0))

    def subject(self) -> str:
        """One sentence about the classes of the training drawings."""
        classes = self.generator.model.classes
        if not classes:
            return "The model does not store the class of its training drawings."
        more = f" and {len(classes) - SHOWN_CLASSES} other classes" if len(classes) > SHOWN_CLASSES else ""
        return f"The model was trained on drawings of: {', '.join(classes[:SHOWN_CLASSES])}{more}."

    def completions(self, request: CompletionRequest) -> list[dict[str, Any]]:
        """Return completions: `strokes` as in the request, and `finished`, True if the model ended the drawing.

        Raises:
            RequestError: if the drawing has more points than the model supports.
        """
        lines = [ramer_douglas_peucker(resample(line)) if len(line) > 1 else line for line in request.lines]
        request_lines, place = lines, self.generator.extent
        lines = fitted(request_lines, place)
        drawing = strokes.from_polylines(lines) if lines else np.zeros((0, 3), np.float32)
        if len(drawing) > self.max_points:
            raise _bad_request(f"the drawing must have at most {self.max_points} points, got {len(drawing)}")
        prefix = encode_prefix(self.generator, [drawing], self.max_points)
        prefix = {name: np.repeat(array, COMPLETIONS, axis=0) for name, array in prefix.items()}
        temperature = np.full(COMPLETIONS, request.temperature, np.float32)
        with self._lock:
            rows = np.asarray(self._draw(jax.random.key(request.seed), temperature, **prefix).samples.rows)
        return [
            {
                "strokes": [
                    np.round(line, 2).tolist()
                    for line in restored(strokes_after(completed, len(drawing)), request_lines, place)
                ],
                "finished": bool(row[:, 4].any()),
            }
            for completed, row in zip(self.generator.from_model(rows), rows, strict=True)
        ]


def strokes_after(drawing: np.ndarray, count: int) -> strokes.Polylines:
    """Return the positions of each stroke behind the first `count` rows of stroke-3.

    A stroke that continues the last given stroke starts at its end.
    """
    places = np.cumsum(drawing[:, :2], axis=0, dtype=np.float64)
    joined = count > 0 and drawing[count - 1, 2] == 0
    ends = np.flatnonzero(drawing[count:, 2] > 0) + 1 + joined
    lines = np.split(places[count - joined :], ends)
    if joined and len(lines[0]) == 1:
        lines = lines[1:]  # only the end of the given stroke
    return [line for line in lines if len(line)]
