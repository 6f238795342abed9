"""Gradient steps of a policy and its value functions as one network, for the built-in perceptrons.

Thousands of steps on minibatches of 64 dominate a training run at published settings, and there each operation costs
about as much to start as to do. The networks have the same shape, so their weights are stacked along a leading axis
and every layer is one (batched) matrix product; biases, output layers and deviations share one small vector, so that
Adam is a handful of elementwise kernels. Activations are stored features first, `[features, samples]`, which makes
every product of the forward and the backward pass contiguous. The backward pass is written out because automatic
differentiation keeps residuals that cost more to write than to compute again; tests hold it to `jax.grad`.

At the published sizes, on AMD EPYC (Zen 4) cores with jax 0.10.2, a gradient step takes 170 to 190 microseconds of one
core with its share of shuffling and of the KL check. Separate networks take 211 to 226 (two seeds on a core) or 311
(one seed); the bare matrix products, tanh and Adam take 132.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from algorithms.on_policy import minibatch_sgd
from algorithms.on_policy.interfaces import Batch, Networks
from algorithms.on_policy.minibatch_sgd import BETA1, BETA2, EPSILON, Objective, Stepper
from jsafe.networks.mlp import ACTIVATIONS, PerceptronApply

DERIVATIVES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": lambda y: 1.0 - y * y,
    "relu": lambda y: (y > 0).astype(y.dtype),
    "sigmoid": lambda y: y * (1.0 - y),
    "softplus": lambda y: 1.0 - jnp.exp(-y),
    "elu": lambda y: jnp.where(y > 0, 1.0, y + 1.0),
    "identity": jnp.ones_like,
}
"""Derivatives of activations, as functions of the output of the activation."""


class Stacked(NamedTuple):
    """Parameters of `n` networks, or their moments, or their gradients. The policy, if trained, has index 0.

    Attributes:
        first: `[n, width_1 * (input + 1)]`, weights of the first layer with the bias as last column.
        hidden: for each further hidden layer `[n, width_l * width_{l-1}]`.
        small: `[n, ...]`, biases of `hidden`, weights and biases of the output layer, log standard deviations.
    """

    first: jax.Array
    hidden: tuple[jax.Array, ...]
    small: jax.Array


class Sizes(NamedTuple):
    """Attributes:
    inputs: length of an observation.
    hidden: widths of the hidden layers.
    outputs: length of an action; value networks use the first output only.
    networks: number of stacked networks.
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    networks: int

    def small(self) -> list[tuple[int, ...]]:
        """Shapes inside `Stacked.small`: hidden biases, output weights, output biases, log deviations."""
        out = self.outputs
        return [*((w,) for w in self.hidden[1:]), (out, self.hidden[-1]), (out,), (out,)]


def fits(networks: Networks, trained: tuple[str, ...]) -> bool:
    """True if these networks can be stacked: built-in, of the same shape, with a known derivative."""
    perceptrons = [_perceptron(networks, name) for name in trained]
    first = perceptrons[0]
    if first is None or not first.hidden_sizes or first.activation not in DERIVATIVES:
        return False
    if trained[0] == "policy" and first.gaussian is None:
        return False
    shapes = [x and (x.space, x.hidden_sizes, x.activation) for x in perceptrons]
    values = [x for name, x in zip(trained, perceptrons, strict=True) if name != "policy"]
    return all(x == shapes[0] for x in shapes) and all(x is not None and x.output_size == 1 for x in values)


def _perceptron(networks: Networks, name: str) -> PerceptronApply | None:
    apply = networks.named(name).apply
    return apply if isinstance(apply, PerceptronApply) else None


def stepper(networks: Networks, trained: tuple[str, ...]) -> Stepper:
    """Build the steps of stacked networks; `fits` must hold."""
    perceptron = _perceptron(networks, trained[0])
    assert perceptron is not None
    sizes = Sizes(perceptron.input_size, perceptron.hidden_sizes, perceptron.output_size, len(trained))

    def start(params: dict[str, Any], optimizer: dict[str, Any]) -> Any:
        mean = stack({name: optimizer[name].mu for name in trained}, trained, sizes)
        square = stack({name: optimizer[name].nu for name in trained}, trained, sizes)
        return stack(params, trained, sizes), mean, square, jnp.stack([optimizer[name].count for name in trained])

    def finish(inner: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        params, mean, square, count = inner
        means, squares = unstack(mean, trained, sizes), unstack(square, trained, sizes)
        moments = {n: optax.ScaleByAdamState(count=count[i], mu=means[n], nu=squares[n]) for i, n in enumerate(trained)}
        return unstack(params, trained, sizes), moments

    def prepare(batch: Batch) -> Batch:
        obs = perceptron.flatten(batch.obs)
        ones = jnp.ones((obs.shape[0], 1), obs.dtype)
        return dataclasses.replace(batch, obs=jnp.concatenate([obs, ones], axis=1))

    def step(inner: Any, rows: Batch, weights: jax.Array, objective: Objective) -> tuple[Any, jax.Array]:
        params, mean, square, count = inner
        grads = gradients(params, rows, weights, objective, trained, sizes, perceptron)
        norms = jnp.sqrt(sum(jnp.sum(g * g, axis=1) for g in jax.tree.leaves(grads)))
        scales, finite = minibatch_sgd.grad_scales(
            dict(zip(trained, norms, strict=True)), objective.hyper["max_grad_norm"], objective.joint_grad_norm
        )
        scale = jnp.stack([scales[name] for name in trained])[:, None]
        rate = jnp.stack([objective.rates[name] for name in trained])[:, None]
        new = adam(params, mean, square, grads, count, rate, scale, finite)
        return (*new, count + finite), finite

    return Stepper(networks=networks, start=start, prepare=prepare, step=step, finish=finish)


def gradients(
    params: Stacked,
    rows: Batch,
    weights: jax.Array,
    objective: Objective,
    trained: tuple[str, ...],
    sizes: Sizes,
    perceptron: PerceptronApply,
) -> Stacked:
    """Gradient of `minibatch_sgd.output_loss` plus `value_l2` times the squared parameters of each value network.

    Args:
        params: parameters of the stacked networks.
        rows: a minibatch whose observations end in a 1, `[B, input + 1]`.
        weights: `[B]`, sum to 1.
        objective: the losses.
        trained: names of the networks, in stacking order.
        sizes: sizes of the networks.
        perceptron: the first of the networks.
    """
    act, slope = ACTIVATIONS[perceptron.activation], DERIVATIVES[perceptron.activation]
    has_policy = trained[0] == "policy"
    n, widths, samples = sizes.networks, sizes.hidden, weights.shape[0]
    *biases, out_weight, out_bias, log_std = _split(params.small, sizes)
    matrices = [w.reshape(n, widths[i + 1], widths[i]) for i, w in enumerate(params.hidden)]

    outputs = [act(params.first.reshape(n * widths[0], -1) @ rows.obs.T).reshape(n, widths[0], samples)]
    for matrix, bias in zip(matrices, biases, strict=True):
        outputs.append(act(matrix @ outputs[-1] + bias[:, :, None]))
    top = out_weight @ outputs[-1] + out_bias[:, :, None]  # [n, outputs, B]

    def loss(top: jax.Array, log_std: jax.Array) -> jax.Array:
        named = {name: top[i, 0] for i, name in enumerate(trained) if name != "policy"}
        policy = perceptron.gaussian(top[0].T, log_std[0]) if has_policy and perceptron.gaussian else None
        return minibatch_sgd.output_loss(policy, named, rows, weights, objective)

    d_top, d_log_std = jax.grad(loss, argnums=(0, 1))(top, log_std)

    d_out_weight = d_top @ outputs[-1].mT
    d_hidden, d_biases = [], []
    delta = (out_weight.mT @ d_top) * slope(outputs[-1])
    for i in reversed(range(len(matrices))):
        d_hidden.append((delta @ outputs[i].mT).reshape(n, -1))
        d_biases.append(jnp.sum(delta, axis=-1))
        delta = (matrices[i].mT @ delta) * slope(outputs[i])
    d_first = (delta.reshape(n * widths[0], samples) @ rows.obs).reshape(n, -1)
    d_small = _join([*reversed(d_biases), d_out_weight, jnp.sum(d_top, axis=-1), d_log_std])

    data = Stacked(d_first, tuple(reversed(d_hidden)), d_small)
    decay = jnp.full((n, 1), 2.0 * objective.hyper["value_l2"], jnp.float32)
    decay = decay.at[0].set(0.0) if has_policy else decay
    return jax.tree.map(lambda g, p: g + decay * p, data, params)


def adam(
    params: Stacked,
    mean: Stacked,
    square: Stacked,
    grads: Stacked,
    count: jax.Array,
    rate: jax.Array,
    scale: jax.Array,
    finite: jax.Array,
) -> tuple[Stacked, Stacked, Stacked]:
    """One step of Adam that changes nothing, bit for bit, unless `finite`.

    The condition sits in the coefficients and in one select, not in selects over whole results: those would keep
    the old values alive and make the compiler copy all state at every step. The barrier is there for the same reason,
    it keeps the parameters' kernel from computing the moments a second time from their old values.

    Args:
        params: parameters of the stacked networks.
        mean: first moments.
        square: second moments.
        grads: gradients before `scale`.
        count: `[n]` int32, steps taken before this one.
        rate: `[n, 1]`, step size of each network.
        scale: `[n, 1]`, factor on each network's gradient.
        finite: `[]` bool.
    """
    step = (count + 1).astype(jnp.float32)[:, None]
    mean_correction, square_correction = 1.0 - BETA1**step, 1.0 - BETA2**step
    keep_mean, keep_square = (jnp.where(finite, b, 1.0).astype(jnp.float32) for b in (BETA1, BETA2))
    rate = jnp.where(finite, rate / mean_correction, 0.0)

    def leaf(p: jax.Array, m: jax.Array, v: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        g = jnp.where(finite, g * scale, 0.0)
        m, v = keep_mean * m + (1.0 - BETA1) * g, keep_square * v + (1.0 - BETA2) * g * g
        m, v = jax.lax.optimization_barrier((m, v))
        return p - rate * m / (jnp.sqrt(v / square_correction) + EPSILON), m, v

    new = [leaf(*leaves) for leaves in zip(*map(jax.tree.leaves, (params, mean, square, grads)), strict=True)]
    tree = jax.tree.structure(params)
    p, m, v = (jax.tree.unflatten(tree, leaves) for leaves in zip(*new, strict=True))
    return p, m, v


# --- between the trees of flax and stacks -----------------------------------------------------------------------


def _join(parts: list[jax.Array]) -> jax.Array:
    return jnp.concatenate([x.reshape(x.shape[0], -1) for x in parts], axis=1)


def _split(small: jax.Array, sizes: Sizes) -> list[jax.Array]:
    parts, at = [], 0
    for shape in sizes.small():
        length = 1
        for s in shape:
            length *= s
        parts.append(small[:, at : at + length].reshape(sizes.networks, *shape))
        at += length
    return parts


def stack(trees: dict[str, Any], names: tuple[str, ...], sizes: Sizes) -> Stacked:
    """Stack the parameter trees of networks; `names` gives their order, the policy first if it is among them."""
    layers = [trees[name]["mean"] if name == "policy" else trees[name] for name in names]
    depth = len(sizes.hidden)

    def padded(x: jax.Array) -> jax.Array:
        return jnp.pad(x, [(0, sizes.outputs - x.shape[0])] + [(0, 0)] * (x.ndim - 1))

    def each(get: Callable[[Any], jax.Array]) -> jax.Array:
        return jnp.stack([get(layer) for layer in layers])

    first = each(lambda p: jnp.concatenate([p["layer_0"]["kernel"].T, p["layer_0"]["bias"][:, None]], axis=1))
    hidden = [each(lambda p, i=i: p[f"layer_{i}"]["kernel"].T) for i in range(1, depth)]
    biases = [each(lambda p, i=i: p[f"layer_{i}"]["bias"]) for i in range(1, depth)]
    out_weight = each(lambda p: padded(p[f"layer_{depth}"]["kernel"].T))
    out_bias = each(lambda p: padded(p[f"layer_{depth}"]["bias"]))
    log_std = jnp.zeros((sizes.networks, sizes.outputs), jnp.float32)
    log_std = log_std.at[0].set(trees["policy"]["log_std"]) if names[0] == "policy" else log_std
    flat = [x.reshape(sizes.networks, -1) for x in (first, *hidden)]
    return Stacked(flat[0], tuple(flat[1:]), _join([*biases, out_weight, out_bias, log_std]))


def unstack(stacked: Stacked, names: tuple[str, ...], sizes: Sizes) -> dict[str, Any]:
    """Undo `stack`."""
    n, widths, depth = sizes.networks, sizes.hidden, len(sizes.hidden)
    *biases, out_weight, out_bias, log_std = _split(stacked.small, sizes)
    first = stacked.first.reshape(n, widths[0], sizes.inputs + 1)
    hidden = [w.reshape(n, widths[i + 1], widths[i]) for i, w in enumerate(stacked.hidden)]
    trees: dict[str, Any] = {}
    for k, name in enumerate(names):
        outputs = sizes.outputs if name == "policy" else 1
        layers = {"layer_0": {"kernel": first[k, :, :-1].T, "bias": first[k, :, -1]}}
        for i in range(1, depth):
            layers[f"layer_{i}"] = {"kernel": hidden[i - 1][k].T, "bias": biases[i - 1][k]}
        layers[f"layer_{depth}"] = {"kernel": out_weight[k, :outputs].T, "bias": out_bias[k, :outputs]}
        trees[name] = {"mean": layers, "log_std": log_std[0]} if name == "policy" else layers
    return trees
