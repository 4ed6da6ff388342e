r"""Law of the limit in nonlinear networks, measured at certified equilibrium (W7).

There is no theorem here; the rates of the linear case are found again when, and only when, inference has reached an
equilibrium.  Each network counts with a local certificate of its own, for there may be several equilibria.
"""

from __future__ import annotations

from collections.abc import Sequence

from pcbench.laws.definition import SMOOTH, Domain, Measurement, law
from pcbench.laws.limit.rates import NEEDS, width_exponent
from pcbench.laws.measuring.statistics import Estimate
from pcbench.laws.measuring.wide_networks import Observation, measure_ladder
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject


@law(
    "limit.nonlinear-rates-in-width",
    statement=(
        "Under mupc, at certified equilibrium of smooth nonlinear residual nets, loss/F* - 1 and the relative gradient "
        "error fall as 1/N."
    ),
    citation="arXiv 2602.07697; theory W7; paper facts section 3.5",
    failing_means="an equilibrium that is not one, or a derivative of the activation at the wrong place",
    needs=(*NEEDS, "equilibrium"),
    domain=Domain(
        activations=tuple(a for a in SMOOTH if a != "linear"), placements=("before-weight",), losses=("mse",),
        dtypes=("float64",), residual=(True,), parameterisations=("mupc",), weight_laws=("gaussian",),
        weight_scales=(1.0,), data_laws=("gaussian",), data_scales=(1.0,), output_precisions=(1.0,),
        output_multipliers=(1.0,), scalar_output=True,
    ),
    depends_on=("equilibrium.claimed-is-stationary", "gradient.weights-match-definition"),
    ladder="nonlinear",
    estimates=2,
)  # fmt: skip
def nonlinear_rates_in_width(subject: Subject, problem: Problem) -> Measurement:
    """The same exponents as in the linear case, from smaller widths and with wider bands."""

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        return [
            width_exponent("exponent of loss/F* - 1", "energy_excess", seen, -1.0, band=0.2, detect=0.75),
            width_exponent("exponent of the gradient error", "gradient_error", seen, -1.0, band=0.2, detect=0.75),
        ]

    return measure_ladder(subject, "nonlinear", problem, estimates)
