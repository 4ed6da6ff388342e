r"""Laws of training at large width: predictive coding follows backpropagation and the mean-field limit (W8).

Full-batch gradient descent at the rate \(\eta\gamma^2 N\) of `mupc`, PC's gradient at certified equilibrium in every
update.  Under `ntp` the two part at every width.
"""

from __future__ import annotations

from collections.abc import Sequence

from pcbench.laws.definition import Measurement, law
from pcbench.laws.limit.rates import CLOSED_FORMS, LINEAR, NEEDS
from pcbench.laws.measuring.statistics import Estimate, slope
from pcbench.laws.measuring.wide_networks import Course, column, measure_ladder, select_parameterisation, train, widths
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject


@law(
    "limit.training-follows-backprop",
    statement=(
        "Under mupc the losses of PC and of BP from the same weights differ by O(1/N) over training; under ntp the "
        "difference does not fall with N."
    ),
    citation="arXiv 2602.07697; theory W8",
    failing_means="an update or a learning rate that drifts from the gradient of the equilibrated energy",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="training",
    estimates=2,
)
def training_follows_backprop(subject: Subject, problem: Problem) -> Measurement:
    """The largest difference of the losses over a few updates, in units of the first loss."""

    def estimates(seen: Sequence[Course]) -> list[Estimate]:
        return [
            slope(
                name, widths(u), column("difference", u), weights=widths(u), expected=expected, band=0.25, detect=0.75
            )
            for name, u, expected in (
                ("exponent", select_parameterisation("mupc", seen), -1.0),
                ("exponent under ntp", select_parameterisation("ntp", seen), 0.0),
            )
        ]  # fmt: skip

    return measure_ladder(subject, "training", problem, estimates, parameterisations=("mupc", "ntp"), look=train)


@law(
    "limit.training-tends-to-mean-field",
    statement=(
        "Under mupc what training by PC changes of the outputs tends to the mean-field limit of deep linear networks, "
        "as N^-1/2."
    ),
    citation="Bordelon and Pehlevan 2022 (arXiv 2205.09653); arXiv 2602.07697; paper facts section 7, P24",
    failing_means="a gradient or a learning rate off by a constant, or an update that is not gradient descent",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="training",
    estimates=1,
)
def training_tends_to_mean_field(subject: Subject, problem: Problem) -> Measurement:
    """The limit is the same for PC and backpropagation; a single network fluctuates about it by its initial output."""

    def estimates(seen: Sequence[Course]) -> list[Estimate]:
        mupc = select_parameterisation("mupc", seen)
        return [slope("exponent", widths(mupc), column("deviation", mupc), expected=-0.5, band=0.1, detect=0.49)]

    return measure_ladder(subject, "training", problem, estimates, look=train)
