"""`jsafe sketch draw`: a page of this machine on which a person draws and a model goes on.

The server listens on the loopback address only, and answers only requests that name it: a page of another site cannot
reach it by a name of its own that leads here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note
from experiments.commands.sketch.sketch_models import Artist, Way, artist, begun_rows, pencil
from experiments.commands.sketch.sketch_use import way_of
from sketch.data import strokes
from sketch.data.simplify import ramer_douglas_peucker, resample
from sketch.raster import BOX

PAGE = Path(__file__).with_suffix(".html")

MAX_BYTES = 1_000_000
"""Largest request; an hour of drawing is less."""

MAX_TRAVEL = 400 * BOX
"""Way of the pen in a request, four hundred times across the box."""

ENDINGS = 4
"""Suggestions of one request: they cost hardly more than one."""

SECONDS = 30.0
"""After which a connection that says nothing is closed."""

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: nothing that leads to another machine."""


class Refused(Exception):
    """A request that cannot be answered: the status and a sentence."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """What the page asks for.

    Attributes:
        lines: `[n, 2]` positions of each stroke in the box, 0 to 256.
        temperature: of the suggestions.
        seed: the same one gives the same suggestions.
    """

    lines: strokes.Polylines
    temperature: float
    seed: int


def read_request(content: bytes) -> Request:
    """A request from its JSON: `strokes`, a list of lists of `[x, y]`, and if wanted `temperature` and `seed`.

    Raises:
        Refused: it is none, and why.
    """

    def bad(message: str) -> Refused:
        return Refused(HTTPStatus.BAD_REQUEST, message)

    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise bad("the request is not JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("strokes"), list):
        raise bad("expected an object with a list 'strokes'")
    lines = []
    for number, stroke in enumerate(data["strokes"]):
        try:
            line: np.ndarray = np.asarray(stroke, np.float64)
        except (TypeError, ValueError, OverflowError):
            line = np.zeros(0)
        if line.ndim != 2 or line.shape[1] != 2 or not (np.abs(line) <= 4 * BOX).all():
            raise bad(f"stroke {number} must be a list of positions [x, y], each between {-4 * BOX:g} and {4 * BOX:g}")
        lines.append(line)
    if sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in lines) > MAX_TRAVEL:
        raise bad("there is more in the drawing than a drawing has")
    temperature, seed = data.get("temperature", 0.4), data.get("seed", 0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0.0 <= temperature <= 2.0:
        raise bad("temperature must be a number from 0 to 2")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise bad("seed must be a whole number from 0 to 2147483647")
    return Request(lines, float(temperature), seed)


class Companion:
    """A model that goes on with drawings; compiled once, when it is made.

    Attributes:
        most: points of a drawing that was begun, after it was simplified as the published ones are.
        length: points of a whole drawing.
    """

    def __init__(self, by: Artist, way: Way):
        self.by, self.most = by, by.model.max_length
        self.length = self.most + way.length
        self._draw = pencil(by, way._replace(length=self.length))
        self._one_at_a_time = threading.Lock()
        self.endings(Request([], 0.4, 0))

    def endings(self, request: Request) -> list[dict[str, Any]]:
        """What may come next: `strokes` as in the request, and whether the drawing is `finished` then.

        Raises:
            Refused: the drawing has more points than the model has room for.
        """
        lines = [ramer_douglas_peucker(resample(line)) if len(line) > 1 else line for line in request.lines]
        begun = strokes.from_polylines(lines) if lines else np.zeros((0, 3), np.float32)
        if len(begun) > self.most:
            message = f"the drawing has {len(begun)} points, and the model has room for {self.most}"
            raise Refused(HTTPStatus.BAD_REQUEST, message)
        rows = {
            name: np.repeat(array, ENDINGS, axis=0) for name, array in begun_rows(self.by, [begun], self.most).items()
        }
        temperature = np.full(ENDINGS, request.temperature, np.float32)
        with self._one_at_a_time:
            drawn = np.asarray(self._draw(jax.random.key(request.seed), temperature, **rows).drawn.rows)
        return [
            {"strokes": strokes_after(drawing, len(begun)), "finished": bool(row[:, 4].any())}
            for drawing, row in zip(self.by.from_model(drawn), drawn, strict=True)
        ]


def strokes_after(drawing: np.ndarray, begun: int) -> list[list[list[float]]]:
    """Positions, stroke by stroke, of stroke-3 behind the first `begun` rows.

    One that goes on with the last given stroke begins where that ends.
    """
    places = np.cumsum(drawing[:, :2], axis=0, dtype=np.float64)
    joined = begun > 0 and drawing[begun - 1, 2] == 0
    ends = np.flatnonzero(drawing[begun:, 2] > 0) + 1 + joined
    lines = np.split(places[begun - joined :], ends)
    if joined and len(lines[0]) == 1:
        lines = lines[1:]  # only the place where the given stroke ends
    return [np.round(line, 2).tolist() for line in lines if len(line)]


def make_server(
    companion: Companion, port: int = 0, temperature: float = 0.4, page: str | None = None
) -> ThreadingHTTPServer:
    """The server of the page, listening already.

    Args:
        companion: who goes on.
        port: 0 for any that is free.
        temperature: that the page begins with.
        page: HTML in place of ours.

    Raises:
        CommandError: the port is taken, or out of range.
    """
    html = (
        (PAGE.read_text(encoding="utf-8") if page is None else page).replace("TEMPERATURE", f"{temperature:g}").encode()
    )

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version, timeout = "jsafe", "", SECONDS
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answered(self._page)

        def do_POST(self) -> None:
            self._answered(self._complete)

        def log_message(self, format: str, *_: Any) -> None:
            """Nothing: a person draws in front of the screen."""

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            """Also what the library refuses is told as JSON."""
            self.close_connection = True
            self._send(HTTPStatus(code), "application/json", _error(message or HTTPStatus(code).phrase))

        def _answered(self, answer: Any) -> None:
            try:
                self._check_names()
                kind, content = answer()
                self._send(HTTPStatus.OK, kind, content)
            except Refused as refusal:
                self.close_connection = True  # what is left of the request was not read
                self._send(refusal.status, "application/json", _error(str(refusal)))
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                self.close_connection = True  # the page asked for something else meanwhile

        def _check_names(self) -> None:
            at = self.connection.getsockname()[1]
            ours = {f"127.0.0.1:{at}", f"localhost:{at}"}
            origin = self.headers.get("Origin")
            if self.headers.get("Host") not in ours or origin not in (None, *(f"http://{name}" for name in ours)):
                raise Refused(HTTPStatus.FORBIDDEN, "this server answers its own page only")

        def _page(self) -> tuple[str, bytes]:
            if self.path.partition("?")[0] != "/":
                raise Refused(HTTPStatus.NOT_FOUND, "there is only one page: /")
            return "text/html; charset=utf-8", html

        def _complete(self) -> tuple[str, bytes]:
            if self.path != "/complete":
                raise Refused(HTTPStatus.NOT_FOUND, "drawings are sent to /complete")
            if self.headers.get_content_type() != "application/json":
                raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is")
            if int(length) > MAX_BYTES:
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {MAX_BYTES} bytes")
            found = companion.endings(read_request(self.rfile.read(int(length))))
            return "application/json", json.dumps({"endings": found}).encode()

        def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
            self.send_response(status)
            headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
            headers |= {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
            headers |= {"Connection": "close"} if self.close_connection else {}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        raise CommandError(
            f"cannot listen on port {port} of 127.0.0.1: {error}; leave --port out for a free one"
        ) from None


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def draw(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch draw`: serve the page until Ctrl-C."""
    prepare(args)
    heats = args.temperature or [0.4]
    if len(heats) > 1 or not 0 <= heats[0] <= 2 or math.isnan(heats[0]):
        raise CommandError("draw takes one --temperature, from 0 to 2")
    by = artist(args.model, "draw", args.predictor)
    way = way_of(args, by, args.length or by.model.max_length)
    note("compiling ...")
    companion = Companion(by, way)
    with make_server(companion, args.port, heats[0]) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        screen = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        try:
            note(f"draw at {url} (Ctrl-C ends)")
            if args.browser and screen:
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            server.serve_forever()
        except KeyboardInterrupt:
            note("")
    return Outcome({"url": url}, "the page is closed")
