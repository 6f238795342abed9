"""The page on which a person and a model draw together: by HTTP, in a browser, and without one."""

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

from experiments.cli.result import CommandError
from experiments.commands.sketch.sketch_draw import MAX_BYTES, PAGE, Companion, make_server, strokes_after
from experiments.commands.sketch.sketch_models import Artist, Way
from sketch.data import strokes, svg
from sketch.models import sketch_rnn
from sketch.models.sketch_rnn import Architecture
from sketch.training.stages import SketchRNN

SCENARIO = Path(__file__).with_name("sketch_draw_scenario.js")
IN_CHROMIUM = Path(__file__).parents[2] / "support" / "chromium.py"
IN_NODE = Path(__file__).with_name("page_in_node.js")
CORNER = [[20, 30], [60, 30], [60, 90]]


@pytest.fixture(scope="module")
def companion() -> Companion:
    config = Architecture(conditional=False, decoder_size=8, mixtures=2)
    return Companion(Artist(SketchRNN(config, sketch_rnn.init(config, jax.random.key(0)), 20.0, 16)), Way(16))


@contextlib.contextmanager
def serving(companion: Companion, page: str | None = None) -> Iterator[int]:
    with make_server(companion, page=page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def port(companion: Companion) -> Iterator[int]:
    with serving(companion) as found:
        yield found


def asked(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, content, kind | {key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def endings(port: int, **request: Any) -> list[dict[str, Any]]:
    status, _, content = asked(port, "POST", "/complete", request)
    assert status == 200, content
    return json.loads(content)["endings"]


def test_the_page_asks_nothing_of_other_machines(port: int):
    status, headers, content = asked(port, "GET", "/")
    assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"TEMPERATURE" not in content
    named = set(re.findall(r"(?:https?:)?//[\w.]+[^\s\"'`]*", re.sub(r"(?m)//\s.*$", "", PAGE.read_text())))
    assert named == {"http://www.w3.org/2000/svg"}, "only the name of a format, which is never fetched"


def test_a_drawing_goes_on_in_several_ways_that_a_seed_decides(port: int):
    one = endings(port, strokes=[CORNER], temperature=1.0, seed=3)
    assert len(one) == 4 and len({json.dumps(ending) for ending in one}) > 1
    assert one == endings(port, strokes=[CORNER], temperature=1.0, seed=3)
    assert one != endings(port, strokes=[CORNER], temperature=1.0, seed=4)
    coldest = endings(port, strokes=[CORNER], temperature=0.0)
    assert all(ending == coldest[0] for ending in coldest)
    assert len(endings(port, strokes=[])) == 4, "an empty canvas is a beginning too"


def test_what_a_person_drew_is_where_the_model_goes_on(companion: Companion):
    """A decoder whose means do not depend on anything draws the same offset from wherever the pen is."""
    model = companion.by.model
    params = jax.tree.map(np.zeros_like, model.params)
    still = Companion(
        Artist(model._replace(params=params)), Way(16)
    )  # means 0: the pen stays where it is, and stays down
    with serving(still) as port:
        for last in ([60, 90], [90, 120]):
            found = endings(port, strokes=[[[20, 30], last]], temperature=0.0)[0]["strokes"]
            assert np.allclose(np.concatenate(found), last, atol=0.01)


def test_strokes_behind_a_given_row_begin_where_the_pen_is():
    drawing = np.array([(1, 1, 0), (1, 0, 0), (0, 2, 1), (5, 5, 0), (1, 1, 1)], np.float32)
    assert strokes_after(drawing, 3) == [[[7, 8], [8, 9]]]
    assert strokes_after(drawing, 2) == [[[2, 1], [2, 3]], [[7, 8], [8, 9]]], "the pen was down"
    assert strokes_after(drawing, 5) == strokes_after(drawing[:2], 2) == []


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ({}, "a list 'strokes'"),
        ({"strokes": [[]]}, "stroke 0"),
        ({"strokes": [CORNER, [[1, 2, 3]]]}, "stroke 1"),
        ({"strokes": [[[1, None]]]}, "stroke 0"),
        (b'{"strokes": [[[NaN, 1]]]}', "stroke 0"),
        (b'{"strokes": [[[1' + b"0" * 400 + b", 1]]]}", "stroke 0"),
        ({"strokes": [[[0, 0], [256, 0]] * 300]}, "more in the drawing"),
        ({"strokes": [CORNER] * 6}, "18 points, and the model has room for 16"),
        ({"strokes": [], "temperature": "hot"}, "temperature"),
        ({"strokes": [], "temperature": -1}, "temperature"),
        ({"strokes": [], "seed": 0.5}, "seed"),
    ],
)
def test_what_is_no_drawing_is_refused_and_said(port: int, request_: Any, reason: str):
    status, headers, content = asked(port, "POST", "/complete", request_)
    assert status == 400 and headers["Content-Type"] == "application/json"
    assert reason in json.loads(content)["error"]


def test_only_its_own_page_is_answered(port: int):
    good = {"strokes": []}
    assert asked(port, "POST", "/complete", good, Host=f"evil.example:{port}")[0] == 403
    assert asked(port, "POST", "/complete", good, Origin="http://evil.example")[0] == 403
    assert asked(port, "POST", "/complete", good, Origin=f"http://localhost:{port}", Host=f"localhost:{port}")[0] == 200
    assert asked(port, "POST", "/complete", good, Content_Type="text/plain")[0] == 415
    assert asked(port, "GET", "/complete")[0] == asked(port, "POST", "/", good)[0] == 404
    assert asked(port, "DELETE", "/")[0] == 501
    assert (
        asked(port, "POST", "/complete", None, Content_Type="application/json", Content_Length=str(MAX_BYTES + 1))[0]
        == 413
    )
    assert asked(port, "POST", "/complete", None, Content_Type="application/json", Content_Length="-1")[0] == 411


def test_the_page_listens_on_this_machine_only_and_a_taken_port_is_said(companion: Companion, port: int):
    with make_server(companion) as server:
        assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(CommandError, match=f"cannot listen on port {port}"):
        make_server(companion, port)
    with pytest.raises(CommandError, match="cannot listen on port 70000"):
        make_server(companion, 70000)


def lived_through(report: dict[str, Any]) -> None:
    """What the scenario found must be what a person sees."""
    assert "error" not in report, report["error"]
    assert report["nothing_to_undo"] and report["cleared"] == []
    assert np.allclose(np.concatenate(report["drawn"]), [*CORNER, [100, 100], [140, 120]], atol=0.5)
    assert re.match(r"Suggestion 1 of 4: (\d+ strokes?(, unfinished)?|the drawing is finished)\.", report["status"])
    assert report["kept"] == report["drawn"] + report["second"] and report["after_keeping"] == []
    assert report["undone"] == report["drawn"]
    saved = strokes.to_polylines(svg.parse(report["svg"]))
    assert np.allclose(np.concatenate(saved), np.concatenate(report["drawn"]), atol=0.01)
    assert report["complaint"] == "temperature must be a number from 0 to 2"


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here to run the page's script")
def test_a_person_draws_keeps_undoes_and_saves_without_a_browser(port: int):
    words = ["node", str(IN_NODE), f"http://127.0.0.1:{port}/", str(SCENARIO)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lived_through(json.loads(done.stdout))


def test_a_person_draws_keeps_undoes_and_saves_in_chromium(companion: Companion, tmp_path: Path):
    pytest.importorskip("PyQt6.QtWebEngineCore", reason="there is no Chromium here", exc_type=ImportError)
    page = PAGE.read_text().replace("</body>", f"<script>{SCENARIO.read_text()}</script></body>")
    with serving(companion, page) as port:
        words = [sys.executable, str(IN_CHROMIUM), f"http://127.0.0.1:{port}/", "90"]
        world = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=world)
    assert done.returncode == 0, done.stdout[:2000] + done.stderr[-2000:]
    lived_through(json.loads(html.unescape(done.stdout)))
