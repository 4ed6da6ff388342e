r"""Law of parameterisations: predictive coding is stable and learns features where backpropagation does.

Exponents are drawn from the line or region of a regime (`theory.stability`), with a random shift
\(a + \theta, b - \theta, c - 2\theta\), which changes nothing.  Two updates are made by PC through the implementation
and by backpropagation, from the same weights; what they change of the last hidden layer and of the output grows with
powers of \(N\) that theory gives and that the two share.

Where backpropagation is unstable the two part from the second update on, because \(S\) grows with \(N\) and damps PC.
There the first update is judged: the readout, and the features through it, move the output by \(N^{1 - 2a_L - c}\).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from pcbench import theory
from pcbench.laws.definition import Measurement, law
from pcbench.laws.limit.rates import CLOSED_FORMS, LINEAR, NEEDS
from pcbench.laws.measuring.compare import case
from pcbench.laws.measuring.statistics import Estimate, slope
from pcbench.laws.measuring.wide_networks import (
    certified_activities,
    measure_ladder,
    remember,
    rms,
    select_parameterisation,
    update_weights,
    widths,
)
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.problem.parameterisation import Exponents
from pcbench.worker.subject import Subject

UPDATES = 2
"""In the first update the readout has not learnt yet, so that features may move by less than they will."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Root mean square change of the last hidden layer and of the output by `UPDATES` updates, for PC and BP.

    `first_output` is that of the output by PC's first update.
    """

    problem: Problem
    first_output: float
    features: float
    output: float
    features_of_backprop: float
    output_of_backprop: float


def draw_exponents(regime: theory.Regime, random: Random) -> Exponents:
    r"""Exponents of a regime: \(a = (0, \tfrac12, p)\), \(b = 0\) and a rate \(c\), shifted by \(\theta\)."""
    if regime is theory.Regime.FEATURE_LEARNING:
        p, c = 1.0, -1.0
    elif regime is theory.Regime.LAZY:
        p = random.uniform(0.5, 0.6)
        c = 1 - 2 * p
    elif regime is theory.Regime.TRIVIAL:
        p = random.uniform(0.8, 1.0)
        c = 1 - 2 * p + random.uniform(0.4, 0.6)
    else:
        p = random.uniform(0.8, 1.0)
        c = 1 - 2 * p - random.uniform(0.5, 1.0)
    shift = random.uniform(-0.25, 0.25)
    exponents = Exponents(
        input=shift, hidden=0.5 + shift, output=p + shift, input_init=-shift, hidden_init=-shift, output_init=-shift,
        rate=c - 2 * shift,
    )  # fmt: skip
    assert theory.regime(exponents) is regime
    return exponents


def change(subject: Subject, problem: Problem) -> Change | str:
    """What two updates change, or why there is no certificate."""
    return remember(subject, "change", problem, lambda: _change(subject, problem))


def _change(subject: Subject, problem: Problem) -> Change | str:
    network, x, y = case(problem)
    pc = backprop = network
    moved = []
    for _ in range(UPDATES if theory.regime(_exponents(problem)) is not theory.Regime.UNSTABLE else 1):
        z = certified_activities(subject, problem, pc, oracle.loss(pc, x, y))
        if isinstance(z, str):
            return z
        pc = update_weights(pc, subject.weight_gradients(pc, x, y, z), problem)
        backprop = update_weights(backprop, oracle.backprop_gradients(backprop, x, y), problem)
        moved.append(_change_sizes(network, pc, x))
    (features, output), (features_of_backprop, output_of_backprop) = moved[-1], _change_sizes(network, backprop, x)
    return Change(
        problem=problem,
        first_output=moved[0][1],
        features=features,
        output=output,
        features_of_backprop=features_of_backprop,
        output_of_backprop=output_of_backprop,
    )


def _exponents(problem: Problem) -> Exponents:
    assert isinstance(problem.parameterisation, Exponents)
    return problem.parameterisation


def _change_sizes(before: Network, after: Network, x: np.ndarray) -> tuple[float, float]:
    hidden = oracle.feedforward(after, x)[-1] - oracle.feedforward(before, x)[-1]
    return rms(hidden), rms(oracle.predict(after, x) - oracle.predict(before, x))


@law(
    "limit.parameterisations-are-stable-together",
    statement=(
        "For drawn width exponents, what updates change of features and output grows with N under PC as theory says, "
        "and as under BP; where BP is unstable, PC's first update already moves the output by a power of N."
    ),
    citation="arXiv 2602.07697; Yang and Hu 2021 (arXiv 2011.14522), section 3; theory W6",
    failing_means="a scaling or an update with a power of the width that only one parameterisation hides",
    needs=(*NEEDS, "native-scalings"),
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="training",
    estimates=5,
)
def stable_together(subject: Subject, problem: Problem) -> Measurement:
    """One stable and one unstable parameterisation a run, drawn from the problem's seed."""
    random = Random(f"exponents {problem.seed}")
    regime = random.choice((theory.Regime.FEATURE_LEARNING, theory.Regime.LAZY, theory.Regime.TRIVIAL))
    stable, unstable = draw_exponents(regime, random), draw_exponents(theory.Regime.UNSTABLE, random)
    growth, power = theory.expected_growth(stable), 1 - 2 * unstable.output - unstable.rate

    def exponent(name: str, seen: Sequence[Change], values: list[float], expected: float, band: float, detect: float):
        weights = widths(seen)
        return slope(name, weights, values, weights=weights, expected=expected, band=band, detect=detect)

    def estimates(seen: Sequence[Change]) -> list[Estimate]:
        calm, wild = select_parameterisation(stable, seen), select_parameterisation(unstable, seen)
        return [
            exponent(f"features, {regime}", calm, [o.features for o in calm], growth.hidden, 0.25, 0.75),
            exponent(f"output, {regime}", calm, [o.output for o in calm], growth.output, 0.25, 0.75),
            exponent("features, PC over BP", calm, [o.features / o.features_of_backprop for o in calm], 0.0, 0.25, 0.5),
            exponent("output, PC over BP", calm, [o.output / o.output_of_backprop for o in calm], 0.0, 0.25, 0.5),
            exponent("output, unstable", wild, [o.first_output for o in wild], power, 0.2, power - 0.05),
        ]

    return measure_ladder(subject, "training", problem, estimates, parameterisations=(stable, unstable), look=change)
