"""The drawing page: by HTTP, in a browser, and without one."""

from __future__ import annotations

import contextlib
import html
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments.cli.errors import CommandError
from experiments.commands.sketch.draw.server import MAX_BYTES, PAGE, make_server
from experiments.commands.sketch.draw.service import CompletionRequest, DrawingService, strokes_after
from sketch.data import strokes, svg
from sketch.models import sketch_rnn
from sketch.models.guided_sketch_rnn import GuidedSketchRNN
from sketch.models.sketch_rnn import SketchRNN, SketchRNNConfig
from sketch.sampling.sampler import SamplingConfig

SCENARIO = Path(__file__).with_name("sketch_draw_scenario.js")
IN_CHROMIUM = Path(__file__).parents[2] / "support" / "chromium.py"
IN_NODE = Path(__file__).with_name("page_in_node.js")
CORNER = [[20, 30], [60, 30], [60, 90]]


@pytest.fixture(scope="module")
def service() -> DrawingService:
    config = SketchRNNConfig(conditional=False, decoder_size=8, mixtures=2)
    model = SketchRNN(config, sketch_rnn.init(config, jax.random.key(0)), 20.0, 16)
    return DrawingService(GuidedSketchRNN(model), SamplingConfig(16))


@contextlib.contextmanager
def serving(service: DrawingService, page: str | None = None) -> Iterator[int]:
    with make_server(service, page=page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def port(service: DrawingService) -> Iterator[int]:
    with serving(service) as result:
        yield result


def fetch(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, content, kind | {key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    result = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return result


def endings(port: int, **request: Any) -> list[dict[str, Any]]:
    status, _, content = fetch(port, "POST", "/complete", request)
    assert status == 200, content
    return json.loads(content)["endings"]


def test_the_page_asks_nothing_of_other_machines(port: int):
    status, headers, content = fetch(port, "GET", "/")
    assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"TEMPERATURE" not in content
    named = set(re.findall(r"(?:https?:)?//[\w.]+[^\s\"'`]*", re.sub(r"(?m)//\s.*$", "", PAGE.read_text())))
    assert named == {"http://www.w3.org/2000/svg"}, "only the name of a format, which is never fetched"


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ((), "The model does not store the class of its training drawings."),
        (("cat", "t<b"), "The model was trained on drawings of: cat, t&lt;b."),
        (tuple("abcdefgh"), "The model was trained on drawings of: a, b, c, d, e, f and 2 other classes."),
    ],
)
def test_the_page_names_the_classes_of_the_model(service: DrawingService, classes: tuple[str, ...], sentence: str):
    generator = service.generator
    named = DrawingService(generator._replace(model=generator.model._replace(classes=classes)), SamplingConfig(16))
    with serving(named) as port:
        assert f"<p>{sentence} Start a drawing.".encode() in fetch(port, "GET", "/")[2]


def test_a_drawing_has_several_completions_by_seed(port: int):
    one = endings(port, strokes=[CORNER], temperature=1.0, seed=3)
    assert len(one) == 4 and len({json.dumps(ending) for ending in one}) > 1
    assert one == endings(port, strokes=[CORNER], temperature=1.0, seed=3)
    assert one != endings(port, strokes=[CORNER], temperature=1.0, seed=4)
    coldest = endings(port, strokes=[CORNER], temperature=0.0)
    assert all(ending == coldest[0] for ending in coldest)
    assert len(endings(port, strokes=[])) == 4, "an empty canvas is a beginning too"


def test_the_model_continues_from_the_users_strokes(service: DrawingService):
    """A decoder whose means do not depend on anything draws the same offset from wherever the pen is."""
    model = service.generator.model
    params = jax.tree.map(np.zeros_like, model.params)
    # All means are 0: the pen stays down where it is.
    still = DrawingService(GuidedSketchRNN(model._replace(params=params)), SamplingConfig(16))
    with serving(still) as port:
        for last in ([60, 90], [90, 120]):
            result = endings(port, strokes=[[[20, 30], last]], temperature=0.0)[0]["strokes"]
            assert np.allclose(np.concatenate(result), last, atol=0.01)


@pytest.mark.parametrize("from_first_point", [False, True])
def test_the_page_is_fitted_to_the_extent_of_the_training_drawings(service: DrawingService, from_first_point: bool):
    """A model that draws a line of one unit to the right, of training drawings eight times as large as the page."""
    model, place = service.generator.model, (0.0, 0.0) if from_first_point else (-1020.0, 0.0)
    params = jax.tree.map(np.zeros_like, model.params)
    still = model._replace(params=params, extent=(*place, 2040.0), from_first_point=from_first_point)
    for last in ([60, 90], [90, 120]):
        request = CompletionRequest([np.array([[20.0, 30.0], last])], 0.0, 0)
        (ending, *_) = DrawingService(GuidedSketchRNN(still), SamplingConfig(16)).completions(request)
        assert np.allclose(np.concatenate(ending["strokes"]), last, atol=0.01)
    seen = []
    fitted = DrawingService(GuidedSketchRNN(still), SamplingConfig(16))
    draw = fitted._draw
    fitted._draw = lambda *args, **inputs: seen.append(inputs["prefix"]) or draw(*args, **inputs)
    fitted.completions(CompletionRequest([np.array([[20.0, 30.0], [60.0, 90.0]])], 0.0, 0))
    first = [0, 0] if from_first_point else [20 * 8 - 1020, 30 * 8]
    np.testing.assert_allclose(seen[0][0, :2, :2] * 20.0, [first, [40 * 8, 60 * 8]], rtol=1e-5)


def test_strokes_behind_a_given_row_begin_where_the_pen_is():
    drawing = np.array([(1, 1, 0), (1, 0, 0), (0, 2, 1), (5, 5, 0), (1, 1, 1)], np.float32)

    def after(drawing: Any, count: int) -> list[Any]:
        return [line.tolist() for line in strokes_after(drawing, count)]

    assert after(drawing, 3) == [[[7, 8], [8, 9]]]
    assert after(drawing, 2) == [[[2, 1], [2, 3]], [[7, 8], [8, 9]]], "the pen was down"
    assert after(drawing, 5) == after(drawing[:2], 2) == []


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"{", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        ({}, "a list 'strokes'"),
        ({"strokes": [[]]}, "stroke 0"),
        ({"strokes": [CORNER, [[1, 2, 3]]]}, "stroke 1"),
        ({"strokes": [[[1, None]]]}, "stroke 0"),
        (b'{"strokes": [[[NaN, 1]]]}', "stroke 0"),
        (b'{"strokes": [[[1' + b"0" * 400 + b", 1]]]}", "stroke 0"),
        ({"strokes": [[[0, 0], [256, 0]] * 300]}, "the path of the pen must be at most"),
        ({"strokes": [CORNER] * 6}, "at most 16 points, got 18"),
        ({"strokes": [], "temperature": "hot"}, "temperature"),
        ({"strokes": [], "temperature": -1}, "temperature"),
        ({"strokes": [], "seed": 0.5}, "seed"),
    ],
)
def test_invalid_requests_are_refused_with_a_reason(port: int, request_: Any, reason: str):
    status, headers, content = fetch(port, "POST", "/complete", request_)
    assert status == 400 and headers["Content-Type"] == "application/json"
    assert reason in json.loads(content)["error"]


def test_only_its_own_page_is_answered(port: int):
    good = {"strokes": []}
    assert fetch(port, "POST", "/complete", good, Host=f"evil.example:{port}")[0] == 403
    assert fetch(port, "POST", "/complete", good, Origin="http://evil.example")[0] == 403
    assert fetch(port, "POST", "/complete", good, Origin=f"http://localhost:{port}", Host=f"localhost:{port}")[0] == 200
    assert fetch(port, "POST", "/complete", good, Content_Type="text/plain")[0] == 415
    assert fetch(port, "GET", "/complete")[0] == fetch(port, "POST", "/", good)[0] == 404
    assert fetch(port, "DELETE", "/")[0] == 501
    assert (
        fetch(port, "POST", "/complete", None, Content_Type="application/json", Content_Length=str(MAX_BYTES + 1))[0]
        == 413
    )
    assert fetch(port, "POST", "/complete", None, Content_Type="application/json", Content_Length="-1")[0] == 411


def test_the_page_listens_on_localhost_only_and_reports_a_used_port(service: DrawingService, port: int):
    with make_server(service) as server:
        assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(CommandError, match=f"cannot listen on port {port}"):
        make_server(service, port)
    with pytest.raises(CommandError, match="cannot listen on port 70000"):
        make_server(service, 70000)


def lived_through(report: dict[str, Any]) -> None:
    """Check the report of the scenario."""
    assert "error" not in report, report["error"]
    assert report["nothing_to_undo"] and report["cleared"] == []
    assert np.allclose(np.concatenate(report["drawn"]), [*CORNER, [100, 100], [140, 120]], atol=0.5)
    assert re.match(r"Suggestion 1 of 4: (\d+ strokes?(, unfinished)?|the drawing is finished)\.", report["status"])
    assert report["kept"] == report["drawn"] + report["second"] and report["after_keeping"] == []
    assert report["undone"] == report["drawn"]
    saved = strokes.to_polylines(svg.parse(report["svg"]))
    assert np.allclose(np.concatenate(saved), np.concatenate(report["drawn"]), atol=0.01)
    lines = [[[20, 40], [40, 40], [60, 40], [80, 40]], [[20, 60], [40, 60]], [[98, 125]]]
    for drawn, expected in zip(report["beside_palm"], lines, strict=True):
        assert np.allclose(drawn, expected, atol=0.5), "only the pointer that began a stroke draws it"
    assert re.search(r'd="M(\S+) L\1"', report["tap"]), "a tap is visible in the file"
    assert report["density"] == pytest.approx(2.0, abs=0.01)
    assert report["complaint"] == "temperature must be a number from 0 to 2"


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here to run the page's script")
def test_a_person_draws_keeps_undoes_and_saves_without_a_browser(port: int):
    words = ["node", str(IN_NODE), f"http://127.0.0.1:{port}/", str(SCENARIO)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lived_through(json.loads(done.stdout))


def test_a_person_draws_keeps_undoes_and_saves_in_chromium(service: DrawingService, tmp_path: Path):
    pytest.importorskip("PyQt6.QtWebEngineCore", reason="there is no Chromium here", exc_type=ImportError)
    page = PAGE.read_text().replace("</body>", f"<script>{SCENARIO.read_text()}</script></body>")
    with serving(service, page) as port:
        words = [sys.executable, str(IN_CHROMIUM), f"http://127.0.0.1:{port}/", "90"]
        world = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=world)
    assert done.returncode == 0, done.stdout[:2000] + done.stderr[-2000:]
    lived_through(json.loads(html.unescape(done.stdout)))
