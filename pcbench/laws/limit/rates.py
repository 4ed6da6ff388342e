r"""Laws of the limit as rates in width and depth, with controls that must not converge.

Linear residual networks at certified equilibrium, one output, Gaussian weights.  With one output loss/F* is \(S\)
itself, so the energy excess has the exact mean \(s\) of `theory.expected_trace_excess` (W1): of order \(L/N\) under
`mupc`, free of \(N\) under `ntp` and `sp`.

**Bands.** Exponents are fitted over \(N\) from about 16 to 320, where they differ from the limit's by up to 0.1
(measured: -0.95 for the energy, -0.94 for the gradient, -1.92 for its direction).  The mean logarithm of the energy
excess over \(s\) is \(-\tfrac12\) its variance, \(-3/N\), weighted here to -0.04.  A scaling wrong by \(\sqrt N\) moves
an exponent by 0.5 or more.
"""

from __future__ import annotations

from collections.abc import Sequence

from pcbench import theory
from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.measuring.statistics import Estimate, level, slope
from pcbench.laws.measuring.wide_networks import (
    Observation,
    column,
    depths,
    measure_ladder,
    select_parameterisation,
    widths,
)
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

LINEAR = Domain(
    activations=("linear",), losses=("mse",), dtypes=("float64",), residual=(True,), parameterisations=("mupc",),
    weight_laws=("gaussian",), weight_scales=(1.0,), data_laws=("gaussian",), data_scales=(1.0,),
    output_precisions=(1.0,), output_multipliers=(1.0,), scalar_output=True,
)  # fmt: skip
CONTROLLED = ("mupc", "ntp")
NEEDS = ("energy-at-activities", "weight-gradients")
CLOSED_FORMS = ("equilibrium.energy-is-the-closed-form", "equilibrium.weight-gradients-are-the-closed-form")


def _excess_ratios(seen: Sequence[Observation]) -> list[float]:
    return [o.energy_excess / theory.expected_trace_excess_of(o.problem) for o in seen]


def width_exponent(
    name: str, quantity: str, seen: Sequence[Observation], expected: float, band: float = 0.15, detect: float = 0.5
) -> Estimate:
    """The exponent in N of one quantity."""
    return slope(
        name, widths(seen), column(quantity, seen), weights=widths(seen), expected=expected, band=band, detect=detect
    )


def depth_exponent(
    name: str, quantity: str, seen: Sequence[Observation], expected: float, band: float = 0.2, detect: float = 0.6
) -> Estimate:
    """The exponent in L of one quantity."""
    return slope(name, depths(seen), column(quantity, seen), expected=expected, band=band, detect=detect)


@law(
    "limit.energy-rate-in-width",
    statement=(
        "Under mupc loss/F* - 1 falls as 1/N with the exact constant of E[S]; under ntp and sp it does not fall with N."
    ),
    citation="arXiv 2602.07697; theory W1, W2; paper facts section 3.4, P20, P22",
    failing_means="a scaling off by a power of the width, or an equilibrium declared before it is reached",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="width",
    estimates=5,
)
def energy_rate_in_width(subject: Subject, problem: Problem) -> Measurement:
    """Exponent and constant under `mupc`, exponent and the exact expectation under the controls."""

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        mupc, ntp, sp = (select_parameterisation(name, seen) for name in (*CONTROLLED, "sp"))
        return [
            width_exponent("exponent", "energy_excess", mupc, -1.0),
            level("log of excess over E[S]", _excess_ratios(mupc), weights=widths(mupc), band=0.1, detect=0.4),
            width_exponent("exponent under ntp", "energy_excess", ntp, 0.0),
            level("log of excess over E[S], ntp", _excess_ratios(ntp), weights=widths(ntp), band=0.1, detect=0.4),
            width_exponent("exponent under sp", "energy_excess", sp, 0.0),
        ]

    return measure_ladder(subject, "width", problem, estimates, parameterisations=(*CONTROLLED, "sp"))


@law(
    "limit.gradient-rate-in-width",
    statement=(
        "Under mupc |grad F* - grad loss| / |grad loss| falls as 1/N; under ntp it does not fall with N, and stays "
        "above one half."
    ),
    citation="arXiv 2602.07697; theory W3, W4; paper facts section 3.5, P21, P22",
    failing_means="a gradient off by a constant, which cosine similarity cannot see, or a scaling off by a power of N",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="width",
    estimates=3,
)
def gradient_rate_in_width(subject: Subject, problem: Problem) -> Measurement:
    """Direction and norm together; the control is the one that a cosine test lets pass."""

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        mupc, ntp = select_parameterisation("mupc", seen), select_parameterisation("ntp", seen)
        # Where S is s I the error is s/(1+s): 0.70 for L = 3, 0.84 for L = 5.
        away = [o.gradient_error / (s / (1 + s)) for o in ntp for s in [theory.expected_trace_excess_of(o.problem)]]
        return [
            width_exponent("exponent", "gradient_error", mupc, -1.0),
            width_exponent("exponent under ntp", "gradient_error", ntp, 0.0),
            level("log of error over s/(1+s), ntp", away, weights=widths(ntp), band=0.1, detect=0.3),
        ]

    return measure_ladder(subject, "width", problem, estimates, parameterisations=CONTROLLED)


@law(
    "limit.direction-rate-in-width",
    statement=(
        "1 - cos(grad F*, grad loss) falls as 1/N^2 under mupc, and as 1/N under ntp, where PC never becomes BP."
    ),
    citation="arXiv 2602.07697; theory W3, W4; paper facts section 3.5, P21",
    failing_means="layers' gradients weighted differently from each other",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="width",
    estimates=2,
)
def direction_rate_in_width(subject: Subject, problem: Problem) -> Measurement:
    """Cosine alone is a blind test: it improves with width whether or not the gradients meet."""

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        mupc, ntp = select_parameterisation("mupc", seen), select_parameterisation("ntp", seen)
        return [
            width_exponent("exponent", "misalignment", mupc, -2.0, band=0.3, detect=1.0),
            width_exponent("exponent under ntp", "misalignment", ntp, -1.0, band=0.3, detect=1.0),
        ]

    return measure_ladder(subject, "width", problem, estimates, parameterisations=CONTROLLED)


@law(
    "limit.energy-rate-in-depth",
    statement=r"Under mupc loss/F* - 1 follows (L/N)((1+1/L)^{L-1} - 1) over depth, constant included.",
    citation="arXiv 2602.07697; theory W1, W2; paper facts section 3.4, P20, P23",
    failing_means="a branch scaling with the wrong power of the depth, or a depth counted one off",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="depth",
    estimates=2,
)
def energy_rate_in_depth(subject: Subject, problem: Problem) -> Measurement:
    """What is left after dividing by the exact expectation has no slope and no constant."""

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        ratio = _excess_ratios(seen)
        return [
            slope("exponent of excess over E[S]", depths(seen), ratio, expected=0.0, band=0.1, detect=0.4),
            level("log of excess over E[S]", ratio, band=0.1, detect=0.4),
        ]

    return measure_ladder(subject, "depth", problem, estimates)


@law(
    "limit.gradient-rate-in-depth",
    statement="Under mupc |grad F* - grad loss| / |grad loss| grows about as L at fixed N.",
    citation="arXiv 2602.07697; theory W3; paper facts section 3.5, P21",
    failing_means="a branch scaling with the wrong power of the depth",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="depth",
    estimates=1,
)
def gradient_rate_in_depth(subject: Subject, problem: Problem) -> Measurement:
    """From L = 3 to 24 the constant of L/N still grows: an exponent of 1.1."""

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        return [depth_exponent("exponent", "gradient_error", seen, 1.1, band=0.25, detect=0.75)]

    return measure_ladder(subject, "depth", problem, estimates)


@law(
    "limit.width-equal-to-depth-does-not-converge",
    statement="Along N = L neither F*/loss nor the gradient converges to backpropagation's: the limit needs N >> L.",
    citation="arXiv 2602.07697; theory W5",
    failing_means="an energy or a gradient that is backpropagation's whatever the network, not the equilibrium's",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="diagonal",
    estimates=4,
)
def diagonal(subject: Subject, problem: Problem) -> Measurement:
    r"""There \(s \to e - 1\) and fluctuates by its own size; a quantity that converged would fall as 1/N or faster."""
    # Both tend to constants of order 1: 0.53 and 0.87 are their geometric means over 1000 networks, N = L = 6 to 24.

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        return [
            width_exponent("exponent of 1 - F*/loss", "deficit", seen, 0.2, band=0.25, detect=0.8),
            width_exponent("exponent of the gradient error", "gradient_error", seen, 0.0, band=0.25, detect=0.8),
            level("log of 1 - F*/loss over 0.53", [o.deficit / 0.53 for o in seen], band=0.25, detect=0.8),
            level(
                "log of the gradient error over 0.87", [o.gradient_error / 0.87 for o in seen], band=0.25, detect=0.8
            ),
        ]

    return measure_ladder(subject, "diagonal", problem, estimates)
