r"""Laws of the coordinate check: how activities, errors, energies and updates scale with width and depth.

Plots of coordinate checks leave the judgement to the eye; here every exponent has an expectation and a band.  Under
`mupc` with gradient descent at the rate \(\eta\gamma^2 N\), for linear residual networks at equilibrium:

| quantity | exponent in N | exponent in L | because |
| --- | --- | --- | --- |
| activities, per unit | 0 | 0 | \(\|z_l\|^2 \approx (1 + 1/L)^{l-1}\|z_1\|^2\), at most e times |
| hidden prediction errors, over the output's | -1 | 0 | \(\varepsilon_l = J_l^\top\mu\), \(J_l\) of order 1/N |
| energy of a hidden layer over the output's | -1 | 0 | N units of squared errors of order \(N^{-2}\) |
| change of features by an update, per unit | 0 | 0 | feature learning: the desideratum of the parameterisation |
| change of the output by an update | 0 | | the desideratum of stability |

**References:** Yang and Hu 2021 (arXiv 2011.14522), for the desiderata; arXiv 2602.07697, for PC.
"""

from __future__ import annotations

from collections.abc import Sequence

from pcbench.laws.definition import Measurement, law
from pcbench.laws.limit.rates import CLOSED_FORMS, LINEAR, NEEDS, depth_exponent, width_exponent
from pcbench.laws.measuring.statistics import Estimate
from pcbench.laws.measuring.wide_networks import Observation, measure_ladder
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject


@law(
    "limit.coordinates-in-width",
    statement=(
        "Under mupc activities and their change per update keep their size as N grows; hidden prediction errors and "
        "layer energies fall as 1/N."
    ),
    citation="arXiv 2602.07697; Yang and Hu 2021 (arXiv 2011.14522); paper facts P25",
    failing_means="a layer scaling, an initial variance or a learning rate with the wrong power of the width",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="training",
    estimates=5,
)
def coordinates_in_width(subject: Subject, problem: Problem) -> Measurement:
    """Exponents in N of the five quantities."""

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        return [
            width_exponent("activities", "activities", seen, 0.0),
            width_exponent("prediction errors", "errors", seen, -1.0),
            width_exponent("layer energy", "layer_energy", seen, -1.0, band=0.25, detect=0.8),
            width_exponent("change of features", "feature_change", seen, 0.0, band=0.2),
            width_exponent("change of output", "output_change", seen, 0.0, band=0.2),
        ]

    return measure_ladder(subject, "training", problem, estimates)


@law(
    "limit.coordinates-in-depth",
    statement=(
        "Under mupc activities, their change per update, prediction errors and layer energies keep their size in L."
    ),
    citation="arXiv 2602.07697; paper facts P25",
    failing_means="a branch scaling with the wrong power of the depth",
    needs=NEEDS,
    domain=LINEAR,
    depends_on=CLOSED_FORMS,
    ladder="depth",
    estimates=4,
)
def coordinates_in_depth(subject: Subject, problem: Problem) -> Measurement:
    """Exponents in L of four quantities, from L = 3 to 24.

    Signals still grow by factors of up to e there, and the shares of the layers in a change, 1/L each, still add up.
    """

    def estimates(seen: Sequence[Observation]) -> list[Estimate]:
        return [
            depth_exponent("activities", "activities", seen, 0.1),
            depth_exponent("prediction errors", "errors", seen, 0.1),
            depth_exponent("layer energy", "layer_energy", seen, 0.2),
            depth_exponent("change of features", "feature_change", seen, 0.55, band=0.3, detect=1.1),
        ]

    return measure_ladder(subject, "depth", problem, estimates)
