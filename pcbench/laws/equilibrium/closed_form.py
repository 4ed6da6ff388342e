r"""Laws of the equilibrium: its energy, errors and bounds, judged at certified activities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pcbench import theory
from pcbench.laws.definition import SMOOTH, Domain, Measurement, law
from pcbench.laws.measuring.compare import BLIND, case, compare_states, no_decision, trajectory
from pcbench.laws.measuring.equilibrium import CertifiedActivities, certified_equilibrium, theory_slack
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import norm
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.worker.subject import Subject

ENERGY = ("energy.matches-definition",)
LINEAR = Domain(activations=("linear",), losses=("mse",), weight_scales=(1.0, 0.3), data_scales=(1.0, 1e-4, 1e3))
SOLVED = Domain(activations=SMOOTH, weight_scales=(1.0, 0.3), data_scales=(1.0, 1e-4, 1e3), costly=True)
CLAIM = {"float64": 1e-8, "float32": 1e-4}
"""How far above the minimum, relative to the loss, the energy of an equilibrium may be that is called converged."""
NOT_CERTIFIED = "no certificate of equilibrium close enough"


def _energy(subject: Subject, network: Network, x: np.ndarray, y: np.ndarray, z: list[np.ndarray]) -> float:
    return subject.energy(network, x, y, z)


def certified_energy(
    subject: Subject, problem: Problem
) -> tuple[Measurement | None, CertifiedActivities, float, float]:
    """Settle, and the energy reported there with the slack it is owed: certificate, rounding and closed form."""
    network, x, y = case(problem)
    settled = certified_equilibrium(subject, problem, network, x, y)
    z = settled.activities
    slack = settled.gap_bound + 2 * rounding.energy_bound(network, x, y, z)
    energy = _energy(subject, network, x, y, z)
    if not slack <= BLIND * energy:
        return no_decision(NOT_CERTIFIED, gap=settled.gap_bound, source=settled.source), settled, energy, slack
    return None, settled, energy, slack


@law(
    "equilibrium.theory-is-a-fixed-point",
    statement="Inference of a linear net started at the closed-form equilibrium stays there.",
    citation="arXiv 2408.11979; theory L2, L4; paper facts P12, P15",
    failing_means="inference with another fixed point than the minimum of the energy",
    needs=("start",),
    domain=LINEAR,
    depends_on=("inference.step-follows-definition",),
)
def theory_is_a_fixed_point(subject: Subject, problem: Problem) -> Measurement:
    """The drift is bounded by the rounding of the steps and of the closed form."""
    network, x, y = case(problem)
    step = min(problem.step_size, 1 / theory.largest_eigenvalue_bound(network))
    start = [np.asarray(z, network.dtype) for z in theory.equilibrium_activities(network, x, y)]
    end = subject.infer(network, x, y, problem.steps, step, start).activities
    _, distance = trajectory(network, x, y, start, problem.steps, step)
    # the rounded start is off the exact point by at most this much, and moves by no more
    distance += 4 * (theory_slack(network) + rounding.gamma(0, network.dtype)) * norm(start) * (1 + problem.steps)
    return compare_states(end, [np.asarray(z, np.float64) for z in start], distance)


@law(
    "equilibrium.claimed-is-stationary",
    statement=(
        "Activities returned as a converged equilibrium have an energy certified to 1e-8 of the loss (1e-4 in float32)."
    ),
    citation="theory L6; jpc's closed form with gamma under sp and ntp is not stationary",
    failing_means="a closed form that solves another energy, or a solver that stops early and calls it convergence",
    needs=("equilibrium",),
    domain=SOLVED,
    depends_on=("feedforward.prediction-matches-definition",),
)
def claimed_is_stationary(subject: Subject, problem: Problem) -> Measurement:
    """Nonlinear nets are certified against the equilibrium in whose basin the activities lie, never against another."""
    network, x, y = case(problem)
    claimed = subject.equilibrium(network, x, y)
    if claimed.outcome != "converged":
        return no_decision("the solver did not claim convergence", outcome=claimed.outcome)
    wide = network.astype("float64")
    certificate = theory.certify(wide, x.astype(np.float64), y.astype(np.float64), claimed.activities)
    loss = network.precision * oracle.loss(network, x, y)
    tolerance = CLAIM[problem.dtype]
    rounding_gap = 0.5 * norm(_error_space_rounding(network, x, y, claimed.activities)) ** 2 / problem.batch
    allowance = tolerance * loss + 4 * rounding_gap
    gap_bound = certificate.mean_gap_bound
    if not certificate.holds:
        gap_bound = 0.5 * float(np.mean(certificate.residual_norm**2))
        if gap_bound <= allowance:
            return no_decision("stationary, but the curvature gives no certificate", because=certificate.reason)
        if np.all(certificate.residual_norm**2 <= 2 * 1e-3 * max(loss, 1e-300)):
            return no_decision("no certificate of equilibrium close enough", because=certificate.reason)
    return Measurement(
        error=gap_bound, allowance=allowance, details={"loss": loss, "certificate": certificate.reason[:60]}
    )


law(
    "equilibrium.closed-form-is-stationary",
    statement=(
        "Activities returned as the equilibrium of a linear net with squared error have an energy certified to 1e-8 of "
        "the loss (1e-4 in float32), whatever the parameterisation, gamma and lambda."
    ),
    citation="theory L2, L6; paper facts section 8.2; jpc's closed form loses gamma under sp and ntp",
    failing_means="a closed form that leaves out gamma, the output precision or the skips, or scales a block otherwise",
    needs=("equilibrium",),
    domain=LINEAR,
    depends_on=("feedforward.prediction-matches-definition",),
)(claimed_is_stationary)


def _error_space_rounding(network: Network, x: np.ndarray, y: np.ndarray, z: list[np.ndarray]) -> list[np.ndarray]:
    """How far rounding alone moves the error-space gradient: each layer's bound carried down by the feedback."""
    bounds = rounding.activity_gradient_bounds(network, x, y, z)
    carried = bounds[-1]
    result = [carried]
    for l in range(network.depth - 1, 1, -1):
        slope = abs(network.skips[l - 1]) * carried
        weight = np.abs(network.effective_weights()[l - 1])
        carried = bounds[l - 2] + slope + rounding.LIPSCHITZ * carried @ weight
        result.append(carried)
    return result


@law(
    "equilibrium.energy-is-the-closed-form",
    statement=(
        r"A linear net's equilibrated energy is F* = (1/2B) sum_b r_b^T S^-1 r_b, S = I/lambda + sum_l J_l "
        r"J_l^T."
    ),
    citation="arXiv 2408.11979, 2602.07697; theory L1; paper facts P15",
    failing_means="an energy with a layer left out or scaled differently from its inference",
    needs=("energy-at-activities",),
    domain=LINEAR,
    depends_on=ENERGY,
)
def energy_is_closed_form(subject: Subject, problem: Problem) -> Measurement:
    """The reported energy at certified activities lies within the certificate of F*."""
    network, x, y = case(problem)
    reason, settled, energy, slack = certified_energy(subject, problem)
    if reason:
        return reason
    exact = theory.equilibrium_energy(network, x, y)
    return Measurement(
        error=abs(energy - exact), allowance=slack + theory_slack(network) * exact,
        details={"energy": energy, "closed form": exact, "source": settled.source},
    )  # fmt: skip


@law(
    "equilibrium.errors-are-a-backward-pass",
    statement=r"At the equilibrium of a linear net the prediction errors are eps*_l = J_l^T S^-1 r.",
    citation="arXiv 2602.07697; theory L2; paper facts P15",
    failing_means="a solver that ends elsewhere than at the minimum",
    needs=("equilibrium",),
    domain=replace(LINEAR, dtypes=("float64",)),  # float32 rounds away what a wrong solver would show
    depends_on=("equilibrium.closed-form-is-stationary",),
)
def errors_are_a_backward_pass(subject: Subject, problem: Problem) -> Measurement:
    r"""An energy within `CLAIM` of the loss allows \(\|\varepsilon - \varepsilon^*\|^2 \le 2(F_b - F_b^*)\)."""
    network, x, y = case(problem)
    claimed = subject.equilibrium(network, x, y)
    if claimed.outcome != "converged":
        return no_decision("the solver did not claim convergence", outcome=claimed.outcome)
    errors = oracle.prediction_errors(network, x, y, claimed.activities)[:-1]
    exact = theory.equilibrium_errors(network, x, y)[:-1]
    own = norm(rounding.error_bounds(network.astype("float64"), x, y, claimed.activities)[:-1])
    loss = problem.batch * network.precision * oracle.loss(network, x, y)
    drift = norm(_error_space_rounding(network, x, y, claimed.activities))
    bound = np.sqrt(2 * CLAIM[problem.dtype] * loss) + drift + own + theory_slack(network) * norm(exact)
    error = norm([a - e for a, e in zip(errors, exact, strict=True)])
    if bound > BLIND * np.sqrt(2 * loss):
        return no_decision("rounding would hide a defect")
    return Measurement(error=error, allowance=float(bound), details={"size": norm(exact)})


@law(
    "equilibrium.energy-bounds",
    statement=r"loss/lambda_max(S) <= F* <= loss/lambda_min(S); with unit precision F* is at most the loss.",
    citation="arXiv 2602.07697; theory L3; paper facts P13",
    failing_means="energy and loss in different units",
    needs=("energy-at-activities",),
    domain=LINEAR,
    depends_on=("equilibrium.energy-is-the-closed-form",),
)
def energy_bounds(subject: Subject, problem: Problem) -> Measurement:
    """The loss is taken at the implementation's own prediction."""
    network, x, y = case(problem)
    reason, _, energy, slack = certified_energy(subject, problem)
    if reason:
        return reason
    output = subject.predict(network, x)
    loss = float(np.mean(oracle.sample_loss(network, y, output)))
    low, high = theory.energy_bounds(network, loss)
    loss_slack = rounding.loss_bound(network, y, output, rounding.prediction_bounds(network, x))
    violation = max(low - energy, energy - high, 0.0)
    return Measurement(
        error=violation, allowance=slack + network.precision * loss_slack + theory_slack(network) * high,
        details={"low": low, "energy": energy, "high": high},
    )  # fmt: skip


@law(
    "equilibrium.not-above-the-loss",
    statement=(
        r"The energy at equilibrium is at most lambda times the loss, whatever the activation and the loss "
        r"function."
    ),
    citation="theory L7; paper facts P13: the feedforward pass is a feasible point",
    failing_means="inference that climbs, or an energy in other units than the loss",
    needs=("energy-at-activities", "equilibrium"),
    domain=SOLVED,
    depends_on=ENERGY,
)
def not_above_the_loss(subject: Subject, problem: Problem) -> Measurement:
    """No certificate is needed: a solver that descends from the feedforward pass cannot end above it."""
    network, x, y = case(problem)
    claimed = subject.equilibrium(network, x, y)
    if claimed.outcome != "converged":
        return no_decision("the solver did not claim convergence", outcome=claimed.outcome)
    energy = _energy(subject, network, x, y, claimed.activities)
    output = subject.predict(network, x)
    loss = network.precision * float(np.mean(oracle.sample_loss(network, y, output)))
    allowance = rounding.energy_bound(network, x, y, claimed.activities)
    allowance += network.precision * rounding.loss_bound(network, y, output, rounding.prediction_bounds(network, x))
    return Measurement(error=max(0.0, energy - loss), allowance=allowance, details={"energy": energy, "loss": loss})


@law(
    "equilibrium.energy-reported-is-the-energy-there",
    statement="The energy that a solver reports with its equilibrium is the energy of the activities it returns.",
    citation="pcbench protocol",
    failing_means="an energy computed before the last update, or in another convention",
    needs=("equilibrium", "energy-at-activities"),
    domain=SOLVED,
    depends_on=ENERGY,
)
def reported_is_the_energy_there(subject: Subject, problem: Problem) -> Measurement:
    """Both numbers are the implementation's own."""
    network, x, y = case(problem)
    claimed = subject.equilibrium(network, x, y)
    if claimed.energy is None:
        return no_decision("the solver reports no energy")
    there = _energy(subject, network, x, y, claimed.activities)
    allowance = 4 * rounding.energy_bound(network, x, y, claimed.activities)
    return Measurement(error=abs(claimed.energy - there), allowance=allowance, details={"reported": claimed.energy})


@law(
    "equilibrium.energy-never-below-the-minimum",
    statement=(
        r"After any number of steps a linear net's energy is above F*, by at most half its squared "
        r"error-space gradient."
    ),
    citation="theory L6; paper facts P12",
    failing_means="an energy that leaves out a term which inference uses",
    needs=("energy-at-activities",),
    domain=Domain(activations=("linear",), losses=("mse",), weight_scales=(1.0, 0.3), steps=(1, 24)),
    depends_on=ENERGY,
)
def never_below_the_minimum(subject: Subject, problem: Problem) -> Measurement:
    """The certificate encloses the energy from above, the closed form from below."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, problem.steps, problem.step_size).activities
    if not np.all(np.isfinite(norm(z))) or norm(z) > 1e100:
        return no_decision("inference diverged at this step size")
    energy = _energy(subject, network, x, y, z)
    exact = theory.equilibrium_energy(network, x, y)
    gap_bound = theory.certify(network.astype("float64"), x.astype(float), y.astype(float), z).mean_gap_bound
    slack = 2 * rounding.energy_bound(network, x, y, z) + theory_slack(network) * (exact + gap_bound)
    error = max(exact - energy, energy - exact - gap_bound, 0.0)
    return Measurement(error=error, allowance=slack, details={"energy": energy, "minimum": exact, "gap": gap_bound})
