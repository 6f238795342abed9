"""Published weights of decoder-only Sketch-RNN models, stored as 16-bit integers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jsafe.suggestions import did_you_mean
from sketch.data.drawing_files import read_npz
from sketch.models.sketch_rnn import Params, SketchRNNConfig

LARGEST = 10.0
"""Weight that the largest 16-bit integer represents."""

PARTS = ("output_w", "output_b", "lstm_W_xh", "lstm_W_hh", "lstm_bias")


class Released(NamedTuple):
    """A published model.

    Attributes:
        config: its sizes.
        params: host arrays.
        scale_factor: unit of its inputs, by which offsets are divided.
        max_length: rows of the longest training drawing.
    """

    config: SketchRNNConfig
    params: Params
    scale_factor: float
    max_length: int


def load(path: Path, name: str) -> Released:
    """Read one model of a file with several models.

    Args:
        path: npz with arrays such as `NAME/output_w`.
        name: name of the model.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, has no such model, or the shapes of its parts do not match.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    arrays = read_npz(Path(path))
    names = sorted({key.split("/")[0] for key in arrays if "/" in key})
    if name not in names:
        raise ValueError(f"{path} has no model {name!r}{did_you_mean(name, names)} (models: {', '.join(names)})")
    missing = [part for part in (*PARTS, "scale_factor", "max_seq_len") if f"{name}/{part}" not in arrays]
    if missing:
        raise ValueError(f"{path}: model {name!r} lacks {', '.join(missing)}")
    kernel, bias, to_gates, recurrent, gate_bias = (
        arrays[f"{name}/{part}"].astype(np.float32) * (LARGEST / np.iinfo(np.int16).max) for part in PARTS
    )
    units, outputs = kernel.shape
    shapes = {"output_b": (outputs,), "lstm_W_xh": (5, 4 * units), "lstm_W_hh": (units, 4 * units)}
    shapes |= {"lstm_bias": (4 * units,)}
    for part, shape in shapes.items():
        if arrays[f"{name}/{part}"].shape != shape:
            raise ValueError(f"{path}: {name}/{part} must be {shape}, got {arrays[f'{name}/{part}'].shape}")
    params = {
        "decoder": {"input": to_gates, "recurrent": recurrent, "bias": gate_bias},
        "output": {"kernel": kernel, "bias": bias},
    }
    config = SketchRNNConfig(conditional=False, decoder_size=units, mixtures=(outputs - 3) // 6)
    return Released(config, params, float(arrays[f"{name}/scale_factor"]), int(arrays[f"{name}/max_seq_len"]))
