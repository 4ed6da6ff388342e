r"""Laws of the limit on single networks: energy approaches loss, and gradients those of backpropagation.

Stated at finite size with the constants of the theory, at certified equilibrium of linear residual nets.  With
\(s\) from `theory.expected_trace_excess`, \(F^* \approx \mathrm{loss}/(1 + s)\).  Under `mupc` \(s\) is \(L/N\) up to
1.72; under `ntp` and `sp` it does not fall with width.

**Fluctuations.** For unit \(u\), \(u^\top(S - I)u = \sum_l \|J_l^\top u\|^2\).  The top term is \(\chi^2_N/N\) times
its mean (relative variance \(2/N\)); passing down a residual layer adds relative variance \(4/(NL)\), over all layers
at most \(4/N\).  So \(\log\) of the measured over the expected energy excess has variance at most \(6/N\), and
\(10\sqrt{6/N}\) is granted: at ten standard deviations a false alarm is out of question, and at \(N \ge 128\) a lost
\(\sqrt N\) is still far outside.  Exponents, constants and error rates are in `pcbench.laws.limit.rates`.
"""

from __future__ import annotations

import math

import numpy as np

from pcbench import theory
from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.equilibrium.closed_form import NOT_CERTIFIED
from pcbench.laws.measuring.compare import BLIND, case, no_decision
from pcbench.laws.measuring.equilibrium import certified_equilibrium
from pcbench.oracle import mlp as oracle
from pcbench.oracle.numerics import norm
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

HEADLINE = Domain(
    activations=("linear",), losses=("mse",), dtypes=("float64",), residual=(True,), parameterisations=("mupc",),
    weight_laws=("gaussian",), weight_scales=(1.0,), data_laws=("gaussian",), data_scales=(1.0,),
    output_precisions=(1.0,), output_multipliers=(1.0,), large=True,
)  # fmt: skip
CLOSED_FORM = ("equilibrium.energy-is-the-closed-form",)
CONTROLS = ("ntp", "sp")

GRADIENT = 16.0
"""Relative gradient error over L/N.

Over 20 000 networks with N >= 8 L: median 1.9, one in a thousand above 4.7, one more decade 1.5 higher, largest 6.7.
"""
DIRECTION = 100.0
r"""\(1 - \cos\) over \((L/N)^2\).

Over the same networks: median 1.6, one in a thousand above 11, one more decade 9 higher, largest 23.
"""


def _energy_excess(subject: Subject, problem: Problem) -> tuple[float, float] | None:
    """loss/F* - 1 from the implementation's own loss and energy, and its certified uncertainty; None if none."""
    network, x, y = case(problem)
    settled = certified_equilibrium(subject, problem, network, x, y)
    energy = subject.energy(network, x, y, settled.activities)
    loss = float(np.mean(oracle.sample_loss(network, y, subject.predict(network, x))))
    if not settled.gap_bound <= BLIND * max(loss - energy, 0.0) or energy <= 0:
        return None
    return loss / energy - 1, settled.gap_bound / energy


@law(
    "limit.energy-converges-to-loss",
    statement=(
        r"Under mupc loss/F* - 1 is s = (1/N) L((1+1/L)^{L-1} - 1), of order L/N; under ntp and sp it stays "
        r"O(1)."
    ),
    citation="arXiv 2602.07697; theory W1, W2; paper facts section 3.4, P20, P22",
    failing_means="a scaling off by a power of the width or depth in one place",
    needs=("energy-at-activities",),
    domain=HEADLINE,
    depends_on=CLOSED_FORM,
)
def energy_converges(subject: Subject, problem: Problem) -> Measurement:
    """Measured over expected energy excess on a logarithmic scale, and a control drawn with the same seed."""
    measured = _energy_excess(subject, problem)
    if measured is None:
        return no_decision(NOT_CERTIFIED)
    expected = theory.expected_trace_excess_of(problem)
    error = abs(math.log(max(measured[0], 1e-300) / expected))
    control = CONTROLS[problem.seed % 2]
    against = _energy_excess(subject, problem.replace(parameterisation=control))
    if against is None:
        return no_decision(NOT_CERTIFIED)
    details = {"excess": measured[0], "expected": expected, f"excess under {control}": against[0]}
    if against[0] < 0.1:  # the smallest expected excess of a control is 0.5 (ntp, L = 2)
        return Measurement(error=0.1, allowance=against[0], details=details)
    return Measurement(error=error, allowance=10 * math.sqrt(6 / problem.width), details=details)


def _gradients(subject: Subject, problem: Problem) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
    """The implementation's weight gradients at certified equilibrium, and backpropagation's."""
    network, x, y = case(problem)
    settled = certified_equilibrium(subject, problem, network, x, y)
    if not settled.gap_bound <= 1e-6 * oracle.loss(network, x, y):
        return None
    return subject.weight_gradients(network, x, y, settled.activities), oracle.backprop_gradients(network, x, y)


@law(
    "limit.gradient-converges-in-norm",
    statement=r"Under mupc |grad F* - grad loss| / |grad loss| is of order L/N; under ntp it stays O(1) at any width.",
    citation="arXiv 2602.07697; theory W3, W4; paper facts section 3.5, P21, P22",
    failing_means="a gradient off by a constant, which cosine similarity cannot see",
    needs=("weight-gradients",),
    domain=HEADLINE,
    depends_on=("equilibrium.weight-gradients-are-the-closed-form",),
)
def gradient_in_norm(subject: Subject, problem: Problem) -> Measurement:
    """Direction and norm together, and ntp as the control that a cosine test would pass."""
    pair, control = _gradients(subject, problem), _gradients(subject, problem.replace(parameterisation="ntp"))
    if pair is None or control is None:
        return no_decision(NOT_CERTIFIED)
    error = norm([g - b for g, b in zip(*pair, strict=True)]) / norm(pair[1])
    against = norm([g - b for g, b in zip(*control, strict=True)]) / norm(control[1])
    details = {"relative error": error, "under ntp": against}
    if against < 0.2:
        return Measurement(error=0.2, allowance=against, details=details)
    return Measurement(error=error, allowance=GRADIENT * problem.depth / problem.width, details=details)


@law(
    "limit.gradient-converges-in-direction",
    statement=r"Under mupc 1 - cos(grad F*, grad loss) is of order (L/N)^2.",
    citation="arXiv 2602.07697; theory W3; paper facts section 3.5, P21",
    failing_means="layers' gradients weighted differently from each other",
    needs=("weight-gradients",),
    domain=HEADLINE,
    depends_on=("equilibrium.weight-gradients-are-the-closed-form",),
)
def gradient_in_direction(subject: Subject, problem: Problem) -> Measurement:
    """Half the squared distance of the unit vectors, which does not cancel as 1 - cos does."""
    pair = _gradients(subject, problem)
    if pair is None:
        return no_decision(NOT_CERTIFIED)
    units = [[g / norm(side) for g in side] for side in pair]
    error = 0.5 * norm([a - b for a, b in zip(*units, strict=True)]) ** 2
    return Measurement(error=error, allowance=DIRECTION * (problem.depth / problem.width) ** 2)
