r"""Laws of stable inference in linear networks: activity Hessian, step-size thresholds and rates."""

from __future__ import annotations

import numpy as np

from pcbench import theory
from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.measuring.compare import case, compare_arrays, compare_states, step_bounds, trajectory
from pcbench.oracle import rounding
from pcbench.oracle.numerics import gamma, norm
from pcbench.problem import arrays
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Activities, Network
from pcbench.worker.subject import Subject

STEP = ("inference.step-follows-definition",)
SMALL = Domain(
    activations=("linear",), losses=("mse",), weight_laws=("gaussian", "orthogonal", "low-rank"),
    weight_scales=(1.0, 0.3), data_scales=(1.0,), hidden_units=36, square=True,
)  # fmt: skip
LINEAR = Domain(
    activations=("linear",), losses=("mse",), weight_laws=("gaussian", "orthogonal", "low-rank"),
    weight_scales=(1.0, 0.3), data_scales=(1.0,),
)  # fmt: skip


@law(
    "stability.energy-falls-below-the-threshold",
    statement=r"In a linear net every step smaller than 2/lambda_max of the activity Hessian lowers the energy.",
    citation="theory E5; paper facts P11",
    failing_means="a step larger than declared, or a direction that is not the gradient",
    needs=("start", "energy-at-activities", "simultaneous"),
    domain=LINEAR,
    depends_on=STEP,
)
def energy_falls(subject: Subject, problem: Problem) -> Measurement:
    """Four steps from random activities, at a fraction of the exact threshold drawn from the seed."""
    network, x, y = case(problem)
    fraction = (0.1, 0.5, 0.9, 0.99)[problem.seed % 4]
    step = fraction * theory.step_size_threshold(network)
    z: Activities = [np.asarray(a, np.float64) for a in problem.activities()]
    before, worst = subject.energy(network, x, y, z), Measurement(error=0.0, allowance=1.0)
    for _ in range(4):
        z = subject.infer(network, x, y, 1, step, z).activities
        after = subject.energy(network, x, y, z)
        allowance = 2 * rounding.energy_bound(network, x, y, z) + gamma(0, network.dtype) * before
        worst = max(
            worst,
            Measurement(error=max(0.0, after - before), allowance=allowance, details={"fraction": fraction}),
            key=lambda m: m.margin,
        )
        before = after
    return worst


@law(
    "stability.threshold-is-sharp",
    statement=(
        r"Along the top eigenvector of the activity Hessian a step of 0.999 x 2/lambda_max contracts and of "
        r"1.001 x expands."
    ),
    citation="theory E5",
    failing_means="a step size off by a factor, or feedback with the wrong gain",
    needs=("start", "simultaneous"),
    domain=SMALL,
    depends_on=STEP,
)
def threshold_is_sharp(subject: Subject, problem: Problem) -> Measurement:
    """The factor of one step along that vector is 1 - eta lambda_max, to rounding, on either side of -1."""
    network, x, y = case(problem)
    rest = theory.equilibrium_activities(network, x, y)
    top = theory.top_eigenvector(network)
    size = max(1.0, norm(rest) / np.sqrt(problem.batch))
    start = [np.asarray(z + size * np.reshape(v, (1, -1)), network.dtype) for z, v in zip(rest, top, strict=True)]
    threshold = theory.step_size_threshold(network)
    worst = Measurement(error=0.0, allowance=1.0)
    for fraction in (0.999, 1.001):
        step = fraction * threshold
        moved = subject.infer(network, x, y, 1, step, start).activities
        factors = sum(
            (np.asarray(m, np.float64) - r) @ np.ravel(v) for m, r, v in zip(moved, rest, top, strict=True)
        ) / size  # fmt: skip
        error = float(np.max(np.abs(factors - (1 - 2 * fraction))))
        bound = norm(step_bounds(network, x, y, start, step)) / size
        bound += 64 * gamma(network.depth * problem.width, network.dtype) * (1 + norm(rest) / size)
        worst = max(
            worst, Measurement(error=error, allowance=bound, details={"fraction": fraction}), key=lambda m: m.margin
        )
    if worst.allowance > 5e-4 and not worst.failed:
        return Measurement(error=0.0, allowance=1.0, inconclusive="rounding would hide a defect")
    return worst


@law(
    "stability.differences-contract",
    statement=(
        r"In a linear net two runs differ by (I - eta H)^T times their first difference, at most "
        r"((kappa-1)/(kappa+1))^T."
    ),
    citation="theory L4; paper facts P11, P12",
    failing_means="a step that depends on the history, or a Hessian other than that of the energy",
    needs=("start", "simultaneous"),
    domain=Domain(activations=("linear",), losses=("mse",), weight_laws=("gaussian", "orthogonal", "low-rank"),
                  weight_scales=(1.0, 0.3), data_scales=(1.0,), steps=(1, 12)),
    depends_on=STEP,
)  # fmt: skip
def differences_contract(subject: Subject, problem: Problem) -> Measurement:
    """At the best step size 2/(lambda_min + lambda_max); uniqueness of the equilibrium follows."""
    network, x, y = case(problem)
    step = theory.best_step_size(network)
    a, b = problem.activities(), problem.activities("second start")
    end_a = subject.infer(network, x, y, problem.steps, step, a).activities
    end_b = subject.infer(network, x, y, problem.steps, step, b).activities
    difference = [np.asarray(u, np.float64) - v for u, v in zip(a, b, strict=True)]
    first = norm(difference)
    for _ in range(problem.steps):
        product = theory.hessian_product(network, difference)
        difference = [d - step * p for d, p in zip(difference, product, strict=True)]
    actual = [u - v for u, v in zip(end_a, end_b, strict=True)]
    bound = trajectory(network, x, y, a, problem.steps, step)[1] + trajectory(network, x, y, b, problem.steps, step)[1]
    bound += gamma(8 * problem.steps, network.dtype) * first
    rate = theory.contraction(network) ** problem.steps
    exact = compare_states(actual, difference, bound, rate=rate, ratio=norm(actual) / first)
    if norm(actual) > rate * first + bound:
        return Measurement(error=norm(actual), allowance=rate * first + bound, details=exact.details)
    return exact


def measured_hessian(
    subject: Subject, problem: Problem, network: Network, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, float]:
    r"""The activity Hessian of a linear net as an implementation's steps reveal it, and a bound on its rounding.

    A step from \(z = e_j\) moves by \(-\eta(g_0 + H e_j)\), and a batch holds as many columns as it has samples.
    """
    size, batch, width = problem.width * (problem.depth - 1), problem.batch, problem.width
    columns = np.zeros((size, size))
    step = problem.step_size

    def push(rows: np.ndarray) -> np.ndarray:
        start = [np.asarray(rows[:, l * width : (l + 1) * width], network.dtype) for l in range(problem.depth - 1)]
        moved = subject.infer(network, x, y, 1, step, start).activities
        return (rows - np.concatenate(moved, axis=1)) / step

    rest = push(np.zeros((batch, size)))
    for first in range(0, size, batch):
        rows = np.zeros((batch, size))
        for i, j in enumerate(range(first, min(first + batch, size))):
            rows[i, j] = 1.0
        pushed = push(rows) - rest
        for i, j in enumerate(range(first, min(first + batch, size))):
            columns[:, j] = pushed[i]
    unit = [np.ones((batch, width)) for _ in range(problem.depth - 1)]
    bound = 2 * norm(step_bounds(network, x, y, unit, step)) / step * np.sqrt(size)
    return columns, float(bound)


@law(
    "stability.hessian-is-block-tridiagonal",
    statement=(
        r"The activity Hessian of a linear net has blocks I + A_{l+1}^T A_{l+1} on and -A_{l+1} beside the "
        r"diagonal."
    ),
    citation="arXiv 2505.13124; paper facts section 3.3, P16",
    failing_means="a scaling, a skip or the output precision missing from one block of the feedback",
    needs=("start", "simultaneous"),
    domain=SMALL,
    depends_on=STEP,
)
def hessian_is_block_tridiagonal(subject: Subject, problem: Problem) -> Measurement:
    """Entry by entry, in the Frobenius norm."""
    network, x, y = case(problem)
    measured, bound = measured_hessian(subject, problem, network, x, y)
    return compare_states([measured], [theory.activity_hessian(network)], bound)


@law(
    "stability.hessian-is-symmetric-positive-definite",
    statement="The activity Hessian of a linear net is symmetric and positive definite, so the equilibrium is unique.",
    citation="theory L4; paper facts section 3.3, P12",
    failing_means="feedback that is not the transpose of the forward weight, or an update of the wrong sign",
    needs=("start", "simultaneous"),
    domain=SMALL,
    depends_on=STEP,
)
def hessian_is_positive_definite(subject: Subject, problem: Problem) -> Measurement:
    """Neither the oracle nor the closed form takes part."""
    network, x, y = case(problem)
    measured, bound = measured_hessian(subject, problem, network, x, y)
    lowest = float(np.linalg.eigvalsh(0.5 * (measured + measured.T))[0])
    error = max(norm(measured - measured.T), max(0.0, -lowest))
    return Measurement(error=error, allowance=2 * bound, details={"smallest eigenvalue": lowest})


@law(
    "stability.orthogonal-chain-spectrum",
    statement=(
        r"An orthogonal chain has Hessian eigenvalues 2 - 2cos((2k-1)pi/(2L-1)) and 2 - 2cos(k pi/L), so "
        r"kappa is about 16 L^2/pi^2."
    ),
    citation="theory L8; paper facts section 3.6, P19",
    failing_means="feedback off by a factor that a random net would blur",
    needs=("start", "simultaneous"),
    domain=Domain(activations=("linear",), losses=("mse",), residual=(False,), weight_laws=("gaussian",),
                  weight_scales=(1.0,), data_scales=(1.0,), output_precisions=(1.0,), output_multipliers=(1.0,),
                  hidden_units=36, square=True),
    depends_on=STEP,
)  # fmt: skip
def orthogonal_chain_spectrum(subject: Subject, problem: Problem) -> Measurement:
    """Eigenvalues move by at most the norm of the perturbation (Weyl)."""
    _, x, y = case(problem)
    dtype = np.dtype(problem.dtype)
    weights = [problem.weights()[0]]
    weights += [arrays.rotation(problem.seed, f"chain/{l}", problem.width) for l in range(2, problem.depth)]
    weights.append(arrays.rotation(problem.seed, "chain/top", problem.width)[: problem.output_dim])
    network = Network(
        weights=tuple(np.asarray(w, dtype) for w in weights),
        scalings=(1.0,) * problem.depth,
        skips=(0.0,) * problem.depth,
    )
    measured, bound = measured_hessian(subject, problem, network, x, y)
    eigenvalues = np.linalg.eigvalsh(0.5 * (measured + measured.T))
    exact = np.sort(theory.orthogonal_chain_spectrum(problem.depth, problem.width, problem.output_dim))
    bound += 64 * gamma(problem.width, dtype)
    return compare_arrays([eigenvalues], [exact], [np.full(exact.shape, bound)])
