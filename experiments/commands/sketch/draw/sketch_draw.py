"""`jsafe sketch draw`: serve a page on which a person draws and a model completes the drawing."""

from __future__ import annotations

import math
import os
import sys
import threading
import webbrowser
from typing import Annotated

from cyclopts import Parameter

from experiments.cli.argument_types import Folder, Whole
from experiments.cli.devices import configure
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note
from experiments.commands.sketch.shared.sampling_flags import (
    CandidateFlags,
    GuidanceFlags,
    SampleFlags,
    sampling_config,
)

MAX_TEMPERATURE = 2.0
"""Highest temperature of the page."""


@flags
class DrawRequest:
    """Settings of `jsafe sketch draw`.

    Attributes:
        model: Folder of a model or of its run.
        port: Port of the page (default any free port).
        browser: Open the page in a browser.
    """

    model: Folder = positional()
    port: Whole = 0
    browser: Annotated[bool, Parameter(show_default=False)] = True
    sample: SampleFlags = SampleFlags()
    guidance: GuidanceFlags = GuidanceFlags()
    candidates: CandidateFlags = CandidateFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: DrawRequest) -> Result:
    """Run `jsafe sketch draw`: serve the page until Ctrl-C."""
    temperatures = request.sample.temperature or (0.4,)
    if len(temperatures) > 1 or math.isnan(temperatures[0]) or not 0 <= temperatures[0] <= MAX_TEMPERATURE:
        raise CommandError(f"draw takes one --temperature from 0 to {MAX_TEMPERATURE:g}")
    configure(request.machine.platform, request.machine.devices)
    from experiments.commands.sketch.draw.server import make_server
    from experiments.commands.sketch.draw.service import DrawingService
    from sketch.models.checkpoint import load_generator

    generator = load_generator(request.model, "draw", request.guidance.predictor)
    length = request.sample.length or generator.model.max_length
    config = sampling_config(request.model, generator, length, request.sample, request.guidance, request.candidates)
    note("compiling ...")
    service = DrawingService(generator, config)
    with make_server(service, request.port, temperatures[0]) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        has_screen = sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
        try:
            note(f"drawing page: {url} (Ctrl-C ends)")
            if request.browser and has_screen:
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            server.serve_forever()
        except KeyboardInterrupt:
            note("")
    return Result({"url": url}, "the page is closed")
