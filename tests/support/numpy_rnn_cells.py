"""The three cells one row at a time in NumPy, written from the published description alone."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gates_of(a):
    h = len(a) // 4
    return a[:h], a[h : 2 * h], a[2 * h : 3 * h], a[3 * h :]


def norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-3)


def lstm(p, state, x, mask):
    c, h = state
    i, j, f, o = gates_of(x @ p["input"] + h @ p["recurrent"] + p["bias"])
    c = c * sigmoid(f + 1) + sigmoid(i) * (np.tanh(j) * mask)
    h = np.tanh(c) * sigmoid(o)
    return (c, h), h


def normed(p, a, c, mask):
    blocks = np.concatenate([norm(block) for block in gates_of(a)]) * p["gate_scale"] + p["gate_shift"]
    i, j, f, o = gates_of(blocks)
    c = c * sigmoid(f + 1) + sigmoid(i) * (np.tanh(j) * mask)
    return c, np.tanh(norm(c) * p["cell_scale"] + p["cell_shift"]) * sigmoid(o)


def layer_norm(p, state, x, mask):
    h, c = state
    c, h = normed(p, x @ p["input"] + h @ p["recurrent"], c, mask)
    return (h, c), h


def hyper(p, state, x, mask):
    h, hyper_h, c, hyper_c = state
    (hyper_h, hyper_c), u = layer_norm(p["hyper"], (hyper_h, hyper_c), np.concatenate([x, h]), 1.0)
    blocks = []
    for gate in range(4):
        pre = np.zeros_like(h)
        for source, a in enumerate((x @ p["input"], h @ p["recurrent"])):
            z = u @ p["scale_kernel"][source, gate] + p["scale_bias"][source, gate]
            pre = pre + (z @ p["scale_spread"][source, gate]) * gates_of(a)[gate]
        pre = pre + (u @ p["shift_kernel"][gate]) @ p["shift_spread"][gate]
        blocks.append(pre + gates_of(p["bias"])[gate])
    c, h = normed(p, np.concatenate(blocks), c, mask)
    return (h, hyper_h, c, hyper_c), h


STEPS = {"lstm": lstm, "layer_norm": layer_norm, "hyper": hyper}


def read(name, p, x, state, masks=None):
    """Outputs `[T, H]` of one sequence and the last state."""
    outputs = []
    for t in range(len(x)):
        state, h = STEPS[name](p, state, x[t], 1.0 if masks is None else masks[t])
        outputs.append(h)
    return np.array(outputs), state
