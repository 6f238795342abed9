"""HTTP server of the drawing page.

It listens on the loopback address only, and answers only requests that name it, so that other sites cannot reach it
through a DNS name of their own.
"""

from __future__ import annotations

import json
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from experiments.cli.errors import CommandError
from experiments.commands.sketch.draw.service import DrawingService, RequestError, read_request

PAGE = Path(__file__).with_name("draw.html")

MAX_BYTES = 1_000_000
"""Largest request; an hour of drawing is smaller."""

SECONDS = 30.0
"""Timeout of a silent connection."""

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of the page: no requests to other machines."""


class PageServer(ThreadingHTTPServer):
    """Server of the drawing page, listening after construction.

    Attributes:
        service: completions.
        page: HTML.
    """

    def __init__(self, service: DrawingService, port: int, page: bytes):
        """Listen on a port of the loopback address; 0 for any free port."""
        self.service, self.page = service, page
        super().__init__(("127.0.0.1", port), PageHandler)


class PageHandler(BaseHTTPRequestHandler):
    """Answers requests for the page and for completions."""

    server: PageServer
    server_version, sys_version, timeout = "jsafe", "", SECONDS
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send the page."""
        self._answer(self._page)

    def do_POST(self) -> None:
        """Send completions."""
        self._answer(self._complete)

    def log_message(self, format: str, *_: Any) -> None:
        """Suppress the log."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send errors of the library as JSON too."""
        self.close_connection = True
        self._send(HTTPStatus(code), "application/json", _error(message or HTTPStatus(code).phrase))

    def _answer(self, answer: Any) -> None:
        try:
            self._check_names()
            kind, content = answer()
            self._send(HTTPStatus.OK, kind, content)
        except RequestError as error:
            self.close_connection = True  # the rest of the request was not read
            self._send(error.status, "application/json", _error(str(error)))
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True  # the page has sent another request

    def _check_names(self) -> None:
        port = self.connection.getsockname()[1]
        names = {f"127.0.0.1:{port}", f"localhost:{port}"}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in names or origin not in (None, *(f"http://{name}" for name in names)):
            raise RequestError(HTTPStatus.FORBIDDEN, "this server answers requests of its own page only")

    def _page(self) -> tuple[str, bytes]:
        if self.path.partition("?")[0] != "/":
            raise RequestError(HTTPStatus.NOT_FOUND, "the only page is /")
        return "text/html; charset=utf-8", self.server.page

    def _complete(self) -> tuple[str, bytes]:
        if self.path != "/complete":
            raise RequestError(HTTPStatus.NOT_FOUND, "drawings must be sent to /complete")
        if self.headers.get_content_type() != "application/json":
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length")
        if int(length) > MAX_BYTES:
            message = f"a request must have at most {MAX_BYTES} bytes, got {length}"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        completions = self.server.service.completions(read_request(self.rfile.read(int(length))))
        return "application/json", json.dumps({"endings": completions}).encode()

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        headers |= {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        headers |= {"Connection": "close"} if self.close_connection else {}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def make_server(
    service: DrawingService, port: int = 0, temperature: float = 0.4, page: str | None = None
) -> PageServer:
    """Return the server of the page, which is already listening.

    Args:
        service: completions.
        port: port; 0 for any free port.
        temperature: initial temperature of the page.
        page: HTML instead of ours.

    Raises:
        CommandError: if the port is taken or out of range.
    """
    html = PAGE.read_text(encoding="utf-8") if page is None else page
    try:
        content = html.replace("TEMPERATURE", f"{temperature:g}").replace("SUBJECT", escape(service.subject()))
        return PageServer(service, port, content.encode())
    except (OSError, OverflowError) as error:
        raise CommandError(
            f"cannot listen on port {port} of 127.0.0.1: {error}; leave --port out for a free one"
        ) from None
