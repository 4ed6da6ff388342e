r"""Helpers of the laws: arrays of a problem, comparison within bounds, error growth along inference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pcbench.laws.definition import Measurement
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import gamma, norm, tiny, worst_ratio
from pcbench.problem import arrays
from pcbench.problem.architectures import AnyProblem, ArchitectureProblem
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Activities, Network

BLIND = 1e-2
"""Where rounding alone may move a quantity by this fraction of itself, a comparison would hide real defects."""


def case(problem: Problem) -> tuple[Network, np.ndarray, np.ndarray]:
    """The network, input and target of a problem, in its dtype."""
    return problem.network(), problem.input(), problem.target()


def compare_arrays(
    actual: Iterable[np.ndarray], expected: Iterable[np.ndarray], bounds: Iterable[np.ndarray], **details: Any
) -> Measurement:
    """The worst elementwise error over its bound; inconclusive where the bounds swamp what is compared."""
    actual, expected, bounds = list(actual), list(expected), list(bounds)
    error, allowance = worst_ratio((a - e for a, e in zip(actual, expected, strict=True)), bounds)
    size, slack = max(norm(expected), norm(actual)), norm(bounds)
    reason = None
    if slack > BLIND * size and size > 0 and error <= allowance:
        reason = "rounding would hide a defect"
    return Measurement(error=error, allowance=allowance, details=details, inconclusive=reason)


def compare_numbers(actual: float, expected: float, allowance: float, **details: Any) -> Measurement:
    """The error of one number against its allowance; inconclusive where the allowance swamps the number."""
    error = abs(actual - expected)
    size = max(abs(expected), abs(actual))
    reason = None
    if allowance > BLIND * size and size > 0 and error <= allowance:
        reason = "rounding would hide a defect"
    return Measurement(
        error=error, allowance=allowance, details={"measured": actual, "expected": expected, **details},
        inconclusive=reason,
    )  # fmt: skip


def no_decision(reason: str, **details: Any) -> Measurement:
    """A measurement that decides nothing, and why."""
    return Measurement(error=0.0, allowance=1.0, details=details, inconclusive=reason)


def direction(problem: AnyProblem, role: str, like: Iterable[np.ndarray]) -> list[np.ndarray]:
    """A random Gaussian direction shaped like some arrays, in float64, from the problem's seed."""
    shapes = [a.shape for a in like]
    return arrays.normals(problem.seed, [f"{role}/{i}" for i in range(len(shapes))], shapes)


def step_along(base: Iterable[np.ndarray], step: float, along: Iterable[np.ndarray]) -> list[np.ndarray]:
    """`base + step * along`, array by array, in float64."""
    return [np.asarray(b, np.float64) + step * v for b, v in zip(base, along, strict=True)]


def inner(a: Iterable[np.ndarray], b: Iterable[np.ndarray]) -> float:
    """The inner product of two lists of arrays."""
    return float(sum(np.sum(u * v) for u, v in zip(a, b, strict=True)))


def derivative_of(values: dict[float, float], h: float, rounding_error: float) -> tuple[float, float]:
    r"""A derivative from central differences with steps \(h\) and \(h/2\), extrapolated, and its error bound.

    `values` maps each offset (\(\pm h, \pm h/2\)) to the function; `rounding_error` bounds the error of each value.
    The extrapolation \((4D_{h/2} - D_h)/3\) removes the \(h^2\) term; what remains is \(O(h^4)\), bounded here by a
    tenth of what the extrapolation removed.  Rounding enters with the weights \(4/3 \cdot 2/h + 1/3 \cdot 1/h = 3/h\).
    """
    coarse = (values[h] - values[-h]) / (2 * h)
    fine = (values[h / 2] - values[-h / 2]) / h
    return (4 * fine - coarse) / 3, 0.1 * abs(fine - coarse) + 3 * rounding_error / h


def slope_bound(network: Network, l: int) -> float:
    r"""A bound on \(\|\partial f_l/\partial z_{l-1}\|_2\): \(|\tau_l| + 1.2\,|a_l|\sqrt{\|W_l\|_1\|W_l\|_\infty}\)."""
    W = np.abs(np.asarray(network.weights[l - 1], np.float64))
    size = float(np.sqrt(W.sum(axis=0).max() * W.sum(axis=1).max()))
    lipschitz = 1.0 if network.linear else rounding.LIPSCHITZ
    return abs(network.skips[l - 1]) + lipschitz * abs(network.scalings[l - 1]) * size


def largest_slope(network: Network) -> float:
    r"""A bound on \(\lambda_{\max}\) of the positive part of the activity Hessian: \((1 + s)^2\max(1, \lambda)\).

    \(s\) is the largest slope of any layer.  Cross-entropy has a Hessian of at most 1/2 and is covered.
    """
    steepest = max(slope_bound(network, l) for l in range(2, network.depth + 1))
    return (1 + steepest) ** 2 * max(1.0, network.precision)


def curvature_bound(network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
    r"""A bound on what is not positive of the Hessian, \(\max|\phi''|\,|a W^\top\varepsilon|\); 0 if linear."""
    if network.linear:
        return 0.0
    errors = oracle.prediction_errors(network, input, target, activities)
    errors[-1] = network.precision * errors[-1]
    worst = 0.0
    for l in range(2, network.depth + 1):
        back = abs(network.scalings[l - 1]) * np.abs(errors[l - 1]) @ np.abs(np.asarray(network.weights[l - 1]))
        size = float(back.max())
        if network.placement == "after-weight":  # phi'' comes with the square of the drive's slope
            size = float(np.abs(errors[l - 1]).max()) * slope_bound(network, l) ** 2
        worst = max(worst, size)
    return 1.2 * worst


def perturbation_growth(
    network: Network, input: np.ndarray, target: np.ndarray, activities: Activities, step_size: float
) -> float:
    r"""By how much one inference step can stretch a perturbation: \(\|I - \eta H\|\).

    \(H\) lies between \(-C\) and \(\Lambda + C\), \(\Lambda\) from `largest_slope` and \(C\) the curvature.
    At least 1, because rounding never contracts
    along flat directions.
    """
    largest = largest_slope(network)
    curved = curvature_bound(network, input, target, activities)
    return max(1.0 + step_size * curved, step_size * (largest + curved) - 1)


def step_bounds(
    network: Network, input: np.ndarray, target: np.ndarray, activities: Activities, step_size: float
) -> Activities:
    """Bounds on the rounding error of one inference step, elementwise."""
    bounds = rounding.activity_gradient_bounds(network, input, target, activities)
    gradients = oracle.activity_gradients(network, input, target, activities)
    u = gamma(0, network.dtype)
    return [
        step_size * (b + u * np.abs(g)) + u * np.abs(z) for b, g, z in zip(bounds, gradients, activities, strict=True)
    ]


def undecided_kink(network: Network, input: np.ndarray, activities: Activities, reach: float) -> bool:
    """Whether rounding decides on which side of its kink a relu unit lies, activities being known to within `reach`.

    Below the smallest normal number the implementation may read as 0 what it returns as a positive number.  An exact 0
    has a side by definition.
    """
    if network.activation != "relu":
        return False
    arguments, bounds = list(activities), [reach + tiny(network.dtype)] * len(activities)
    if network.placement == "after-weight":
        effective = [np.asarray(W, np.float64) for W in network.effective_weights()[:-1]]
        below = [np.asarray(z, np.float64) for z in (input, *activities[:-1])]
        arguments = [z @ W.T for z, W in zip(below, effective, strict=True)]
        bounds = [
            tiny(network.dtype) + gamma(W.shape[1], network.dtype) * (np.abs(z) @ np.abs(W).T) + reach * norm(W)
            for z, W in zip(below, effective, strict=True)
        ]
    return any(bool(np.any((a != 0) & (np.abs(a) <= b))) for a, b in zip(arguments, bounds, strict=True))


def trajectory(
    network: Network, input: np.ndarray, target: np.ndarray, start: Activities, steps: int, step_size: float,
    order: str = "simultaneous",
) -> tuple[Activities, float]:  # fmt: skip
    r"""The oracle's activities after `steps` steps and a bound on the distance of a correct implementation from them.

    The distance obeys \(e_{t+1} \le \rho_t e_t + b_t\), \(\rho_t\) from `growth` and \(b_t\) the norm of `step_bounds`;
    with a sequential order an error also passes from layer to layer within a step, hence the factor there.  The bound
    is infinite if rounding decides about a kink on the way.
    """
    z, distance = [np.asarray(a, np.float64) for a in start], 0.0
    sequential = 1.0 if order == "simultaneous" else 2.0
    for _ in range(steps):
        if undecided_kink(network, input, z, distance):
            distance = float("inf")
        rate = perturbation_growth(network, input, target, z, step_size) * sequential
        distance = rate * distance + sequential * norm(step_bounds(network, input, target, z, step_size))
        z = oracle.inference_step(network, input, target, z, step_size, order)
    return z, distance


def leaves_range(problem: AnyProblem) -> bool:
    r"""Whether inference of a problem diverges to where the dtype does not hold the cube of an activity.

    Beyond that a right implementation may answer NaN: `gelu-tanh` cubes its argument and the energy squares it, so that
    one infinity meets another, or a 0.  Judged by the oracle in float64, from the feedforward pass and from the
    problem's own activities.
    """
    if isinstance(problem, ArchitectureProblem):
        return False
    network, x, y = problem.network().astype("float64"), problem.input(), problem.target()
    limit = float(np.finfo(problem.dtype).max) ** (1 / 3)
    with np.errstate(over="ignore", invalid="ignore"):
        for z in (oracle.feedforward(network, x), problem.activities()):
            for _ in range(problem.steps):
                z = oracle.inference_step(network, x, y, z, problem.step_size)
                if not all(np.all(np.abs(a) < limit) for a in z):
                    return True
    return False


def compare_states(actual: Activities, expected: Activities, distance: float, **details: Any) -> Measurement:
    """The distance between two sets of activities against its bound, relative to what they have in common."""
    error = norm([a - e for a, e in zip(actual, expected, strict=True)])
    size = norm(expected)
    reason = None
    if error <= distance and distance > BLIND * size and size > 0:
        reason = "rounding would hide a defect"
    return Measurement(error=error, allowance=distance, details=details, inconclusive=reason)
