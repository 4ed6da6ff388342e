r"""Laws of the equilibrium of CNNs and transformers, judged at certified activities.

In error space (\(z_l = f_l(z_{l-1}) + \varepsilon_l\)) a sample's gradient \(g\) and curvature \(m\) bound how far its
energy is from that of the equilibrium in whose basin it lies, \(F_b - F_b^* \le \|g\|^2/2m\).  The gradient is the
oracle's, at the implementation's own activities.  A CNN without activation function is affine, so that \(m = 1\) there
and its equilibrium has a closed form; otherwise \(m\) is half the smallest eigenvalue that Lanczos finds, as in
`pcbench.theory.certificate`, with Hessian products from central differences of the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from pcbench.laws.architecture.energy_and_gradients import case, for_each_kind, own_loss
from pcbench.laws.definition import SMOOTH, Domain, Measurement
from pcbench.laws.measuring.compare import BLIND, compare_numbers, derivative_of, direction, inner, no_decision
from pcbench.oracle import architectures as oracle
from pcbench.oracle.numerics import norm
from pcbench.oracle.running_error import Rounded, reverse_gradients
from pcbench.problem.architecture import Architecture, leaves, rebuild
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.problem.network import Activities
from pcbench.theory.curvature import smallest_curvature
from pcbench.worker.subject import Claimed, Subject

CLAIM = {"float64": 1e-8, "float32": 1e-4}
"""How far above the minimum, relative to the loss, the energy of an equilibrium may be that is called converged."""
LANCZOS = 8
"""Hessian products for a certificate.

Measured over CNNs and transformers, softmax, linear attention and normalisation, mupc and sp: after 8 the estimate
(0.2 to 0.98) is at most 0.2 below its value after 40, and rarely above it.
"""
_LEAST = 0.1
_H = 1e-4
SOLVED = Domain(activations=SMOOTH, parameterisations=("mupc",), batch=2)
NOT_CLAIMED = "the solver did not claim convergence"


@dataclass(frozen=True, kw_only=True)
class Certified:
    r"""`gap_bound` bounds \(F - F^*\) in the mean, infinite without a certificate; `residual_norm` is \(\|g\|\)."""

    gap_bound: float
    residual_norm: np.ndarray
    curvature: np.ndarray


class ErrorSpace:
    """What `smallest_curvature` asks of an energy around some errors: one vector a sample, and Hessian products."""

    def __init__(self, network: Architecture, x: np.ndarray, y: np.ndarray, errors: Activities) -> None:
        self.network, self.x, self.y, self.errors = network, x, y, errors
        self.activities = [e.reshape(len(e), -1) for e in errors]

    def gradient(self, errors: Activities) -> Activities:
        r"""\(\nabla_\varepsilon F_b\)."""
        return oracle.error_gradients(self.network, self.x, self.y, errors)[0]

    def hessian_product(self, along: list[np.ndarray]) -> list[np.ndarray]:
        """By central differences; a direction has norm 1 for each sample."""
        step = [_H * v.reshape(e.shape) for v, e in zip(along, self.errors, strict=True)]
        ahead, behind = (
            self.gradient([e + sign * s for e, s in zip(self.errors, step, strict=True)]) for sign in (1, -1)
        )
        return [(a - b).reshape(len(a), -1) / (2 * _H) for a, b in zip(ahead, behind, strict=True)]


def certify(network: Architecture, x: np.ndarray, y: np.ndarray, z: Activities, lanczos: int = LANCZOS) -> Certified:
    """How far activities are from the equilibrium in whose basin they lie."""
    errors = [e.value for e in oracle.prediction_errors(network, x, z)]
    space = ErrorSpace(network, x, y, errors)
    slope = space.gradient(errors)
    residual = np.sqrt(np.sum([np.sum(g.reshape(len(g), -1) ** 2, axis=1) for g in slope], axis=0))
    if network.kind == "cnn" and network.activation == "linear":
        ones = np.ones_like(residual)
        return Certified(gap_bound=float(np.mean(residual**2)) / 2, residual_norm=residual, curvature=ones)
    lowest = smallest_curvature(cast(Any, space), lanczos)
    reach = 2 * residual / np.maximum(lowest, _LEAST)
    if np.any(reach > _H):  # nearer than that, the differences above have already felt a change of the Hessian
        there = [
            e - (2 / np.maximum(lowest, _LEAST)).reshape(-1, *[1] * (e.ndim - 1)) * g
            for e, g in zip(errors, slope, strict=True)
        ]
        lowest = np.minimum(lowest, smallest_curvature(cast(Any, ErrorSpace(network, x, y, there)), lanczos))
    if np.any(~(lowest >= _LEAST)):
        return Certified(gap_bound=float("inf"), residual_norm=residual, curvature=lowest)
    return Certified(gap_bound=float(np.mean(residual**2 / lowest)), residual_norm=residual, curvature=lowest / 2)


def converged_answer(subject: Subject, problem: ArchitectureProblem) -> Claimed | None:
    """What the solver returns, None if it does not call that converged."""
    answer = subject.equilibrium(*case(problem))
    return answer if answer.outcome == "converged" else None


@for_each_kind(
    "claimed-equilibrium-is-stationary",
    statement="activities returned as a converged equilibrium have an energy certified to 1e-8 of the loss (1e-4 in "
    "float32).",
    citation="theory L6, W7; pcbench.laws.architecture.equilibrium",
    failing_means="a solver that stops after a fixed number of steps, or that minimises another energy",
    needs=("equilibrium",),
    domain=SOLVED,
)
def claimed_is_stationary(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Against the equilibrium in whose basin the activities lie; away from any a large slope is enough to fail."""
    network, x, y = case(problem)
    answer = converged_answer(subject, problem)
    if answer is None:
        return no_decision(NOT_CLAIMED)
    found = certify(network, x, y, answer.activities)
    loss = float(np.mean(oracle.sample_loss(network, y, oracle.feedforward(network, x)[-1]).value))
    loss *= network.precision
    allowance, gap_bound = CLAIM[problem.dtype] * loss, found.gap_bound
    if not np.isfinite(gap_bound):
        gap_bound = 0.5 * float(np.mean(found.residual_norm**2))
        if gap_bound <= 1e-3 * loss:
            return no_decision("the curvature gives no certificate", curvature=float(found.curvature.min()))
    return Measurement(
        error=gap_bound, allowance=allowance, details={"loss": loss, "curvature": float(found.curvature.min())}
    )


@for_each_kind(
    "equilibrium-energy-is-the-energy-there",
    statement="the energy that a solver reports with its equilibrium is the energy of the activities it returns.",
    citation="pcbench protocol",
    failing_means="an energy computed before the last update, or in another convention",
    needs=("equilibrium",),
    domain=SOLVED,
)
def reported_energy(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Against the definition at the returned activities."""
    network, x, y = case(problem)
    answer = subject.equilibrium(network, x, y)
    if answer.energy is None:
        return no_decision("the solver reports no energy")
    value, bound = oracle.energy(network, x, y, answer.activities)
    return compare_numbers(answer.energy, value, 4 * bound)


@for_each_kind(
    "equilibrium-is-not-above-the-loss",
    statement="the energy at equilibrium is at most lambda times the loss, since the feedforward pass is feasible.",
    citation="theory L7; paper facts P13",
    failing_means="a solver that climbs, or that starts elsewhere and ends in a worse basin; two units of energy",
    needs=("equilibrium", "energy-at-activities"),
    domain=SOLVED,
    depends_on=("energy-matches-definition",),
)
def not_above_the_loss(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """No certificate is needed: both numbers are the implementation's own."""
    network, x, y = case(problem)
    answer = converged_answer(subject, problem)
    if answer is None:
        return no_decision(NOT_CLAIMED)
    energy = subject.energy(network, x, y, answer.activities)
    pass_ = oracle.feedforward(network, x)[:-1]
    loss, uncertain = own_loss(network, x, y, subject.predict(network, x), [f.value for f in pass_])
    _, bound = oracle.energy(network, x, y, answer.activities)
    return Measurement(
        error=max(0.0, energy - loss), allowance=bound + uncertain, details={"energy": energy, "loss": loss}
    )


@for_each_kind(
    "linear-equilibrium-is-the-closed-form",
    statement="without activation function F* = (1/2B) sum_b r_b^T S^-1 r_b, S = I/lambda + sum_l J_l J_l^T.",
    citation="arXiv 2602.07697; theory L1, in which only linearity of the layers is used",
    failing_means="a solver that reports its energy before it is there, convolutions and their transposes not adjoint",
    needs=("equilibrium", "energy-at-activities"),
    domain=Domain(activations=("linear",), losses=("mse",), parameterisations=("mupc", "sp"), batch=2),
    depends_on=("energy-matches-definition", "claimed-equilibrium-is-stationary"),
    kinds=("cnn",),
)
def linear_closed_form(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """The Jacobians are those of the output at the feedforward pass, one class at a time."""
    network, x, y = case(problem)
    answer = converged_answer(subject, problem)
    if answer is None:
        return no_decision(NOT_CLAIMED)
    zero = [Rounded.exact(np.zeros((1, *shape))) for shape in network.activity_shapes]
    output = oracle.forward_with_errors(network, x[:1], zero)[-1]  # the same Jacobian for every sample
    rows = []
    for k in range(output.value.shape[1]):
        unit = np.zeros_like(output.value)
        unit[:, k] = 1
        rows.append(np.concatenate([d.ravel() for d, _ in reverse_gradients([output.times(unit)], zero)]))
    J = np.array(rows)
    S = np.eye(len(J)) / network.precision + J @ J.T
    r = np.asarray(y, np.float64) - oracle.feedforward(network, x)[-1].value
    exact = 0.5 * float(np.mean(np.sum(r * np.linalg.solve(S, r.T).T, axis=1)))
    _, bound = oracle.energy(network, x, y, answer.activities)
    # S is off by the rounding of J in float64, and the weights' dtype is no matter: they are given
    off = CLAIM[problem.dtype] * 0.5 * network.precision * float(np.mean(np.sum(r * r, axis=1)))
    return compare_numbers(subject.energy(network, x, y, answer.activities), exact, 2 * bound + off)


@for_each_kind(
    "equilibrium-gradient-is-the-total-derivative",
    statement="at equilibrium the local weight gradients are the total derivative of the equilibrated energy F*.",
    citation="theory E4 (envelope theorem); paper facts P17",
    failing_means="weight gradients at other activities than those given, or an equilibrium that is not one",
    needs=("equilibrium", "weight-gradients"),
    domain=Domain(activations=SMOOTH, dtypes=("float64",), parameterisations=("mupc",), batch=2),
    depends_on=("claimed-equilibrium-is-stationary", "weight-gradients-match-definition"),
)
def total_derivative(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    r"""Central differences of the energies of five equilibria, each as far off as its slope says (\(m \ge\) 0.1).

    A solver that ends in another basin on one side makes the two differences disagree, and the problem undecided.
    """
    network, x, y = case(problem)
    base = converged_answer(subject, problem)
    if base is None:
        return no_decision(NOT_CLAIMED)
    weights = [np.asarray(w, np.float64) for w in leaves(network.parameters)]
    size = [float(np.sqrt(np.mean(w * w))) or 1.0 for w in weights]
    along = [s * v for s, v in zip(size, direction(problem, "envelope direction", weights), strict=True)]
    h, values, worst = 1e-3, {}, 0.0
    for offset in (h, -h, h / 2, -h / 2):
        moved = rebuild(network.parameters, [w + offset * v for w, v in zip(weights, along, strict=True)])
        there = network.with_parameters(moved)
        answer = subject.equilibrium(there, x, y)
        if answer.outcome != "converged":
            return no_decision(NOT_CLAIMED)
        values[offset], bound = oracle.energy(there, x, y, answer.activities)
        errors = [e.value for e in oracle.prediction_errors(there, x, answer.activities)]
        slope = norm(oracle.error_gradients(there, x, y, errors)[0])
        worst = max(worst, bound + 0.5 * slope**2 / _LEAST / len(x))
    derivative, uncertain = derivative_of(values, h, worst)
    found = leaves(subject.weight_gradients(network, x, y, base.activities))
    _, bounds = oracle.weight_gradients(network, x, y, base.activities)
    uncertain += inner(bounds, [np.abs(v) for v in along])
    uncertain += _shift(network, x, y, base.activities, along)
    local = inner(found, along)
    if uncertain > BLIND * max(abs(derivative), 0.01 * norm(found) * norm(along)):
        return no_decision("no derivative sharp enough", uncertain=uncertain)
    return Measurement(
        error=abs(local - derivative), allowance=uncertain, details={"local": local, "total": derivative}
    )


def _shift(network: Architecture, x: np.ndarray, y: np.ndarray, z: Activities, along: list[np.ndarray]) -> float:
    r"""How far the local derivative may be from that at the equilibrium, \(\|\varepsilon - \varepsilon^*\|\) away.

    The distance is at most \(\|g\|/m\); the derivative's change over it is measured along the slope, tenfold.
    """
    errors = [e.value for e in oracle.prediction_errors(network, x, z)]
    slope = oracle.error_gradients(network, x, y, errors)[0]
    size = norm(slope)
    if size == 0:
        return 0.0
    step = 1e-4 / size
    near = [e - step * g for e, g in zip(errors, slope, strict=True)]
    moved = [f.value for f in oracle.forward_with_errors(network, x, [Rounded.exact(e) for e in near])[:-1]]
    change = inner(oracle.weight_gradients(network, x, y, moved)[0], along)
    change -= inner(oracle.weight_gradients(network, x, y, z)[0], along)
    return 10 * abs(change) / 1e-4 * size / _LEAST
