"""Steps of a policy inside a trust region, with linearised constraints on expected costs.

The pieces of TRPO, CPO and PCPO as pure functions: products with the Fisher matrix, conjugate gradients, the two
constrained steps, and the line search that checks a step against the policy itself. Vectors are flat
(`jax.flatten_util.ravel_pytree`). Everything may be jitted, mapped over a population, and run in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

Fisher = jax.Array | Callable[[jax.Array], jax.Array]  # symmetric positive definite [n, n], or v [n] -> F v [n]
MAX_CONSTRAINTS = 6  # every set of active constraints is tried, 2^6 of them
_ROUNDING = 10.0  # in units of the machine's epsilon: shares below it are taken for rounding errors
_EPS = 1e-8  # what OmniSafe and SafePO add to their denominators
_matmul = partial(jnp.matmul, precision="highest")  # TF32 would lose the orthogonality that the steps rest on


class Step(NamedTuple):
    """A step `[n]` of the parameters, and what held it.

    `case` `[]` int32 counts as the libraries do. 4: all constraints hold and none has a gradient. 3: none reaches the
    trust region. 2: all hold at present, some cut the region. 1: some are violated, but a point of the region satisfies
    all. 0: no point does. `multiplier`, of the shape of `slack`, holds the price of each constraint,
    `radius_multiplier` `[]` that of the region; neither is negative, save the latter under the libraries' dual.
    """

    step: jax.Array
    case: jax.Array
    multiplier: jax.Array
    radius_multiplier: jax.Array


class LineSearch(NamedTuple):
    """The accepted parameters or else the old ones, the share `[]` of the step taken, and what they measure."""

    params: Any
    factor: jax.Array
    accepted: jax.Array
    measured: Any


def fisher_product(
    outputs: Callable[[Any], Any], kl: Callable[[Any, Any], jax.Array], params: Any, damping: jax.Array | float = 0.1
) -> Callable[[Any], Any]:
    """The function `v -> F v + damping v`, with the Fisher matrix F of a policy, which is never formed.

    F is the Hessian, at `params`, of the mean divergence of nearby policies from this one. A divergence is stationary
    where its arguments agree, so the second derivatives of the network drop out: F = J^T C J exactly, with J the
    Jacobian of the network and C the Hessian of the divergence in its outputs (Martens 2020, "New insights and
    perspectives on the natural gradient method"). The network is linearised once, here.

    Args:
        outputs: `params -> pytree of distribution parameters`, such as means `[B, A]` and log deviations `[A]`.
        kl: `(old outputs, new outputs) -> []`, the mean over states of the divergence. The papers sum it over action
            dimensions; OmniSafe and SafePO average over them, which widens a trust region A-fold.
        params: pytree or flat vector; so is `v`.
        damping: multiple of the identity added to F.
    """
    present, push = jax.linearize(outputs, params)
    pull = jax.linear_transpose(push, params)
    _, curvature = jax.linearize(jax.grad(lambda new: kl(present, new)), present)

    def multiply(v: Any) -> Any:
        return jax.tree.map(lambda f, x: f + damping * x, pull(curvature(push(v)))[0], v)

    return multiply


def conjugate_gradient(
    product: Callable[[jax.Array], jax.Array], b: jax.Array, iterations: int = 15, tolerance: float = 1e-10
) -> jax.Array:
    """Solve `A x = b` for a symmetric positive definite A known by its products (Hestenes and Stiefel 1952).

    Stops early once the residual is below `tolerance` times the size of `b`. A zero `b` gives zero, and a direction
    without curvature ends the search where it stands, a guard that `jax.scipy.sparse.linalg.cg` lacks.

    Args:
        product: `v [n] -> A v [n]`.
        b: `[n]`.
        iterations: at most this many products; it and `tolerance` are static.

    Raises:
        ValueError: for another shape, or fewer than one iteration.
    """
    if jnp.ndim(b) != 1 or iterations < 1:
        raise ValueError(f"b must be flat and iterations at least 1, got shape {jnp.shape(b)} and {iterations}")
    (unit,), (size,) = _unit(b[None])

    def improve(carry):
        number, x, residual, direction, square = carry
        image = product(direction)
        curvature = _matmul(direction, image)
        length = jnp.where(curvature > 0.0, _divide(square, curvature), 0.0)
        rest = residual - length * image
        new_square = jnp.where(length > 0.0, _matmul(rest, rest), 0.0)
        return number + 1, x + length * direction, rest, rest + new_square / square * direction, new_square

    start = (jnp.zeros((), jnp.int32), jnp.zeros_like(unit), unit, unit, _matmul(unit, unit))
    return size * jax.lax.while_loop(lambda c: (c[0] < iterations) & (c[-1] > tolerance**2), improve, start)[1]


def cpo_step(
    gradient: jax.Array,
    cost_gradient: jax.Array,
    slack: jax.Array | float,
    fisher: Fisher,
    radius: jax.Array | float,
    *,
    dual: str = "paper",
    cg_iterations: int = 15,
) -> Step:
    """Improve the objective as much as the trust region and the linearised cost constraints allow.

    Achiam et al. 2017, "Constrained policy optimization", sections 6.1 and 6.2, for one or more constraints:
        maximise gradient . x   subject to   cost_gradient[i] . x + slack[i] <= 0   and   x^T F x / 2 <= radius

    In cases 1 to 4 (see `Step`) x is the maximiser, `(F^-1 gradient - sum_i multiplier[i] F^-1 cost_gradient[i]) /
    radius_multiplier`. In case 0 it descends the violated costs alone, to the boundary of the region:
    `-sum_i multiplier[i] F^-1 cost_gradient[i]`, each gradient scaled to one length in the metric of F^-1.

    Finite input gives a finite step, and anything else a step of NaN. A constraint without gradient is ignored where it
    holds; where it is violated no step can repair it: case 0, without a step unless another violated constraint has a
    gradient. Without an objective gradient x is the feasible point nearest to 0. Constraints may depend on one another.
    With a product instead of a matrix, x is the best step in the span of what conjugate gradients find, within radius
    and constraints however rough that is.

    `dual="library"` repeats OmniSafe 0.5 and SafePO, to compare with their results. Two defects: the closed forms of
    the paper get gradient . F^-1 cost_gradient with the wrong sign, and the price of the region is clipped to intervals
    that may be empty, which returns their upper end, so that it may be negative. Of 600 random problems (the test
    `test_library_dual_fails_wherever_the_constraint_matters`) it solves none of those in case 1, most steps raising the
    cost, and a fifth of those in case 2, half of the steps leaving the region. Cases 0 and 3 are sound, and case 4
    begins where the gradient is shorter than 0.001 in whatever unit.

    Args:
        gradient: `[n]`, of the objective, to ascend.
        cost_gradient: `[n]`, or `[K, n]`.
        slack: `[]`, or `[K]`: expected cost minus its limit, positive when violated, in the unit of the linearised
            cost (the mean of an advantage is a cost per step, not per episode).
        fisher: matrix `[n, n]`, positive definite (not checked), or the function `v -> F v`.
        radius: `[]`, above 0 and finite.
        dual: `"paper"` or `"library"`.
        cg_iterations: iterations of conjugate gradients, if `fisher` is a function.

    Raises:
        ValueError: for shapes that do not fit, a known radius that is not finite and above 0, another dual, or more
            constraints than `MAX_CONSTRAINTS` (for `"library"`: than one).
    """
    if dual not in ("paper", "library"):
        raise ValueError(f"dual must be 'paper' or 'library', got {dual!r}")
    most = MAX_CONSTRAINTS if dual == "paper" else 1
    problem = _reduce(gradient, cost_gradient, slack, fisher, radius, cg_iterations, most)
    solved = _exact_step(problem) if dual == "paper" else _library_dual(problem, jnp.sum(jnp.square(cost_gradient)))
    return solved._replace(multiplier=solved.multiplier.reshape(jnp.shape(slack)))


def pcpo_step(
    gradient: jax.Array,
    cost_gradient: jax.Array,
    slack: jax.Array | float,
    fisher: Fisher,
    radius: jax.Array | float,
    *,
    projection: str = "kl",
    cg_iterations: int = 15,
) -> Step:
    """Take the whole step for the objective, then go to the nearest point that satisfies the linearised constraint.

    Yang et al. 2020, "Projection-based constrained policy optimization", algorithm 1, with y = F^-1 gradient /
    radius_multiplier on the boundary of the trust region:

        "kl":       x = y - multiplier F^-1 cost_gradient, nearest in the metric of F
        "l2":       x = y - multiplier cost_gradient, nearest in the Euclidean metric
        "library":  as "kl" but from y = gradient / radius_multiplier, as in OmniSafe 0.5 and SafePO, which multiply
                    F^-1 gradient by F once more; neither on the boundary nor feasible afterwards

    The multiplier is 0 where y is feasible, and without a cost gradient, which no projection can repair. x may leave
    the region. Args and errors as for `cpo_step`, with a single constraint, and `projection` in place of `dual`.
    """
    if projection not in ("kl", "l2", "library"):
        raise ValueError(f"projection must be 'kl', 'l2' or 'library', got {projection!r}")
    p = _reduce(gradient, cost_gradient, slack, fisher, radius, cg_iterations, 1)
    normal, size = p.normals[0], p.cost_sizes[0]
    excess = p.reach * jnp.maximum(_matmul(normal, p.objective) + p.distances[0], 0.0)  # of y, in the metric of F
    if projection == "kl":
        multiplier = _divide(excess, size)
        step = p.reach * p.lift(p.objective) - excess * p.lift(normal)
    elif projection == "l2":
        (unit,), (length,) = _unit(jnp.reshape(cost_gradient, (1, -1)).astype(normal.dtype))
        excess = _divide(excess * size, length)
        multiplier = _divide(excess, length)
        step = p.reach * p.lift(p.objective) - excess * unit
    else:
        full, cost = p.objective * p.objective_size, normal * size
        factor = p.reach / jnp.sqrt(_matmul(full, full) + _EPS)
        multiplier = jnp.maximum(factor * _matmul(full, cost) + p.slack[0], 0.0) / (_matmul(cost, cost) + _EPS)
        step = factor * p.multiply(p.lift(full)) - multiplier * p.lift(cost)
    return Step(step, _case(p, p.distances[0] <= 1.0), multiplier.reshape(jnp.shape(slack)), p.objective_size / p.reach)


def line_search(
    evaluate: Callable, params: Any, step: Any, accept: Callable, *, tries: int, shrink: float = 0.8
) -> LineSearch:
    """Shorten a step until the policy it leads to is acceptable, and stay put if none is.

    Takes the first of `params + shrink^i step`, i = 0, ..., `tries` - 1, that is accepted. Parameters or measurements
    that are not finite never are. Where all tries fail, `params` come back as they were, with their own measurements.

    Args:
        evaluate: `params -> measured`, a pytree of scalars such as the divergence and both surrogates.
        params, step: pytrees of one structure.
        accept: `measured -> []` bool.
        tries, shrink: how many, at least 1, and the factor from one to the next, between 0 and 1; static.

    Raises:
        ValueError: for `tries` or `shrink` out of range.
    """
    if tries < 1 or not 0.0 < shrink < 1.0:
        raise ValueError(f"tries must be at least 1 and shrink between 0 and 1, got {tries} and {shrink}")

    def moved(factor: jax.Array) -> Any:  # not params + 0 * step, which may hold infinities
        return jax.tree.map(lambda p, s: jnp.where(factor > 0.0, p + (factor * s).astype(p.dtype), p), params, step)

    def attempt(carry):
        number = carry[0]
        # The try after the last stands still; it costs an evaluation only where all others failed.
        factor = jnp.where(number < tries, jnp.power(shrink, number), 0.0)
        measured = evaluate(new := moved(factor))
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((new, measured))]
        return number + 1, factor, jnp.all(jnp.stack(finite)) & accept(measured) & (number < tries), measured

    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(evaluate, params))
    start = (jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros((), bool), blank)
    _, factor, accepted, measured = jax.lax.while_loop(lambda c: ~c[2] & (c[0] <= tries), attempt, start)
    return LineSearch(moved(factor), factor, accepted, measured)


class _Problem(NamedTuple):
    """A step problem in coordinates z of the span of F^-1 times the gradients, where the optimum lies.

    `x = reach * lift(z)`, the trust region is the unit ball, and constraint i is `normals[i] . z + distances[i] <= 0`.
    Normals and objective are unit vectors, or 0 without a gradient; the gradients' lengths in F^-1 are the sizes.
    """

    normals: jax.Array
    distances: jax.Array
    objective: jax.Array
    cost_sizes: jax.Array
    objective_size: jax.Array
    slack: jax.Array
    reach: jax.Array
    lift: Callable[[jax.Array], jax.Array]
    multiply: Callable[[jax.Array], jax.Array]


def _reduce(gradient, cost_gradient, slack, fisher: Fisher, radius, cg_iterations: int, most: int) -> _Problem:
    gradient, cost_gradient, slack = jnp.asarray(gradient), jnp.asarray(cost_gradient), jnp.asarray(slack)
    shapes = [gradient.shape, cost_gradient.shape, slack.shape, None if callable(fisher) else jnp.shape(fisher)]
    n = gradient.shape[-1:]
    if [gradient.ndim, cost_gradient.shape] != [1, slack.shape + n] or slack.ndim > 1 or shapes[3] not in (None, n * 2):
        raise ValueError(f"gradient, cost_gradient, slack and fisher have shapes that do not fit: {shapes}")
    if not 1 <= slack.size <= most:
        allowed = "one constraint" if most == 1 else f"1 to {most} constraints"
        raise ValueError(f"this step holds {allowed}, cost_gradient has {slack.size}")
    if jnp.ndim(radius) != 0 or (not isinstance(radius, Tracer) and not 0.0 < float(radius) < float("inf")):
        raise ValueError(f"radius must be a finite number above 0, got {radius}")

    dtype = jnp.result_type(gradient, cost_gradient, jnp.float32)
    known = jnp.all(jnp.isfinite(jnp.concatenate([gradient, cost_gradient.ravel(), slack.ravel()])))  # else NaN
    slack, reach = jnp.atleast_1d(slack).astype(dtype), jnp.where(known, jnp.sqrt(2.0 * radius), jnp.nan).astype(dtype)
    units, lengths = _unit(jnp.concatenate([jnp.atleast_2d(cost_gradient), gradient[None]]).astype(dtype))
    if callable(fisher):
        multiply = fisher
        directions = jax.vmap(lambda b: conjugate_gradient(fisher, b, cg_iterations))(units)
    else:
        matrix = jnp.asarray(fisher, dtype)
        multiply = partial(_matmul, matrix)
        directions = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix, lower=True), units.T).T

    # Nearly parallel directions leave remainders full of rounding errors. A second pass, with fresh products, removes
    # these; what is then less than a third of its former length was nothing but error.
    eps = float(jnp.finfo(dtype).eps)
    basis = _orthonormal(directions, jax.vmap(multiply)(directions), _ROUNDING * eps)
    basis = _orthonormal(basis, jax.vmap(multiply)(basis), 0.3)
    images, shares = _unit(_matmul(units, basis.T))
    sizes = lengths * shares
    # Clipped, because with a gradient of next to nothing the distance would overflow.
    distances = jnp.clip(_divide(slack, sizes[:-1]) / reach, -1.0 / eps, 1.0 / eps)
    lift = partial(_matmul, b=basis)
    return _Problem(images[:-1], distances, images[-1], sizes[:-1], sizes[-1], slack, reach, lift, multiply)


def _orthonormal(rows: jax.Array, products: jax.Array, least: float) -> jax.Array:
    """Gram and Schmidt's basis of rows `[k, m]` in the metric of their products; 0 where a share < `least` is left."""

    def include(i: jax.Array, rows_so_far: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        basis, images = rows_so_far
        row, image = rows[i], products[i]
        for _ in range(2):  # the second removes the rounding errors of the first
            overlap = _matmul(images, row)
            row, image = row - _matmul(overlap, basis), image - _matmul(overlap, images)
        square = _matmul(row, image)
        length = jnp.where(square > least**2 * _matmul(rows[i], products[i]), jnp.sqrt(jnp.abs(square)), 0.0)
        return basis.at[i].set(_divide(row, length)), images.at[i].set(_divide(image, length))

    return jax.lax.fori_loop(0, len(rows), include, (jnp.zeros_like(rows), jnp.zeros_like(rows)))[0]


def _exact_step(p: _Problem) -> Step:
    """Try every set of constraints that may be active at the optimum, and keep the best feasible point."""
    count, eps = len(p.normals), float(jnp.finfo(p.normals.dtype).eps)
    tolerance = eps**0.75

    def candidate(active: jax.Array):
        # The best point of the ball on these constraints' boundaries: from the nearest such point, as far as the ball
        # reaches along what of the objective is orthogonal to the normals.
        rows = jnp.concatenate([jnp.where(active[:, None], p.normals, 0.0), p.objective[None]])
        basis = _orthonormal(rows, rows, _ROUNDING * eps)
        slopes = jnp.sum(basis * rows, axis=-1)
        z = jnp.zeros_like(p.objective)
        for i in range(count):
            z = z - _divide(p.distances[i] + _matmul(p.normals[i], z), slopes[i]) * basis[i]
        left = 1.0 - _matmul(z, z)
        climb = jnp.sqrt(jnp.maximum(left, 0.0))
        z = z + climb * basis[-1]
        fits = jnp.all(_matmul(p.normals, z) + p.distances <= tolerance)
        # Where the boundaries only touch the ball, the prices have no finite value.
        price = slopes[-1] / jnp.maximum(climb, eps**0.5)
        rest, multiplier = p.objective - price * z, jnp.zeros(count, z.dtype)
        for i in reversed(range(count)):
            multiplier = multiplier.at[i].set(_divide(_matmul(basis[i], rest), slopes[i]))
            rest = rest - multiplier[i] * p.normals[i]
        return z, fits & (left >= -tolerance), multiplier, price

    sets = jnp.array(list(itertools.product([False, True], repeat=count)))
    points, fits, multipliers, prices = jax.vmap(candidate)(sets)
    lengths = jnp.sqrt(jnp.sum(points**2, -1))
    # The optimum is among the candidates, so the best feasible one is it: no sign of a multiplier has to be tested.
    worth = jnp.where(p.objective_size > 0.0, _matmul(points, p.objective), -lengths)
    best = jnp.argmax(jnp.where(fits, worth, -jnp.inf))
    case = _case(p, jnp.any(fits))

    violated = (p.slack > 0.0).astype(points.dtype)
    length = jnp.linalg.norm(_matmul(violated, p.normals))
    weights = _divide(violated, jnp.where(length > tolerance, length, 0.0))  # 0 where the normals cancel
    z = jnp.where(case > 0, points[best] / jnp.maximum(lengths[best], 1.0), -_matmul(weights, p.normals))
    multiplier = jnp.where(case > 0, jnp.maximum(multipliers[best], 0.0) * p.objective_size, weights * p.reach)
    price = jnp.where(case > 0, prices[best] * p.objective_size / p.reach, 0.0)
    return Step(p.reach * p.lift(z), case, _divide(multiplier, p.cost_sizes), price)


def _case(p: _Problem, feasible: jax.Array) -> jax.Array:
    flat, violated = p.cost_sizes == 0.0, p.slack > 0.0
    conditions = [~feasible | jnp.any(flat & violated), jnp.any(violated), jnp.all(flat)]
    return jnp.select([*conditions, jnp.all(flat | (p.distances <= -1.0))], [0, 1, 4, 3], 2).astype(jnp.int32)


def _library_dual(p: _Problem, cost_square: jax.Array) -> Step:
    """The dual step of OmniSafe and SafePO as it stands, see `cpo_step`; their names for the quantities."""
    x, b, c, bound = p.objective * p.objective_size, p.normals[0] * p.cost_sizes[0], p.slack[0], p.reach**2
    q, r, s = _matmul(x, x), _matmul(x, b), _matmul(b, b) + _EPS
    a_term, b_term, held = q - r**2 / s, bound - c**2 / s, c < 0.0
    conditions = [held & (cost_square <= 1e-6), held & (b_term < 0.0), held, b_term >= 0.0]
    case = jnp.select(conditions, [4, 3, 2, 1], 0).astype(jnp.int32)

    turn = _divide(r, c + _EPS)
    # The roots are used in cases 1 and 2, where b_term is not negative. An empty interval gives its upper end.
    in_a = jnp.sqrt(jnp.maximum(a_term, 0.0) / jnp.maximum(b_term, _EPS**2))
    in_a = jnp.clip(in_a, jnp.where(held, 0.0, turn), jnp.where(held, turn, jnp.inf))
    in_b = jnp.clip(jnp.sqrt(q / bound), jnp.where(held, turn, 0.0), jnp.where(held, jnp.inf, turn))
    value_a = -0.5 * (_divide(a_term, in_a + _EPS) + b_term * in_a) - r * c / s
    value_b = -0.5 * (_divide(q, in_b + _EPS) + bound * in_b)
    price = jnp.where(value_a >= value_b, in_a, in_b)
    cost_price = jnp.maximum(0.0, price * c - r) / s

    whole, recovery, none = jnp.sqrt(bound / (q + _EPS)), jnp.sqrt(bound / s), jnp.zeros_like(q)
    z = jnp.select([case > 2, case > 0], [whole * x, _divide(x - cost_price * b, price + _EPS)], -recovery * b)
    cost_price = jnp.select([case > 2, case > 0], [none, cost_price], recovery)
    return Step(p.lift(z), case, cost_price, jnp.select([case > 2, case > 0], [1.0 / whole, price], none))


def _unit(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows `[k, m]` scaled to length 1, and their lengths `[k]`, without squares of huge or tiny numbers; 0 stays 0."""
    largest = jnp.max(jnp.abs(rows), axis=-1, keepdims=True)
    scaled = _divide(rows, largest)
    lengths = jnp.sqrt(jnp.sum(scaled**2, axis=-1, keepdims=True))
    return _divide(scaled, lengths), (largest * lengths)[:, 0]


def _divide(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x / y`, and 0 where y is 0."""
    zero = jnp.abs(y) < jnp.finfo(y.dtype).tiny
    return jnp.where(zero, 0.0, x / jnp.where(zero, 1.0, y))
