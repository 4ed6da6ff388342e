r"""Certified distance of activities from equilibrium, computed by pcbench relative to the loss.

The *certificate* is `pcbench.theory.certificate`, a bound of \(F - F^*\) over the loss of the feedforward pass:
rigorous for linear networks, local for others.  The *residual* is \(\tfrac12\|\nabla_\varepsilon F_b\|^2\), averaged
over the batch, over the same loss; it needs no curvature, equals the certificate of a linear network, and is what there
is to show where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pcbench import theory
from pcbench.leaderboard.cases import Case
from pcbench.problem.network import Activities

LANCZOS = 40
"""Hessian-vector products that estimate the curvature of a nonlinear network, at each of two points."""


@dataclass(frozen=True, kw_only=True)
class ActivityCertificate:
    """Certified distance of activities from equilibrium, relative to the loss.

    **Arguments:** `relative_gap_bound`, the certificate, None if there is none; `relative_residual`; `reason` in a
    sentence.
    """

    relative_gap_bound: float | None
    relative_residual: float
    reason: str = ""

    def is_within(self, tolerance: float) -> bool:
        """Whether it is certified that the energy is that close to its minimum."""
        return self.relative_gap_bound is not None and self.relative_gap_bound <= tolerance


def certify_activities(case: Case, activities: Activities, loosest: float = math.inf) -> ActivityCertificate:
    r"""The quality of activities of a case, `(B, N)` each.

    `loosest` is the largest gap that anybody asks about: where the residual of a nonlinear network is above it, no
    curvature is estimated, as m, half of an eigenvalue near 1, makes the gap larger still.  Activities that are not
    finite have an infinite residual.

    **Raises:** `TheoryError` for arrays that do not fit the network.
    """
    network, x, y = case.float64
    z = [np.asarray(a, np.float64) for a in activities]
    with np.errstate(over="ignore", invalid="ignore"):
        gradient = theory.error_gradient(network, x, y, z)
        halves = np.sum([np.sum(g * g, axis=1) for g in gradient], axis=0) / 2
    residual = float(np.mean(halves)) / case.loss if case.loss else math.nan
    if not math.isfinite(residual):
        return ActivityCertificate(
            relative_gap_bound=None,
            relative_residual=math.inf,
            reason="the activities or the loss are not finite and positive",
        )
    if residual > loosest and not network.linear:
        return ActivityCertificate(
            relative_gap_bound=None,
            relative_residual=residual,
            reason="the residual alone is larger than any gap asked for",
        )
    found = theory.certify(network, x, y, z, steps=LANCZOS)
    bound = found.mean_gap_bound / case.loss
    return ActivityCertificate(
        relative_gap_bound=bound if math.isfinite(bound) else None, relative_residual=residual, reason=found.reason
    )


def first_index_within(steps: Sequence[int], bounds: Sequence[float | None], tolerance: float) -> int | None:
    """The index of the first entry from which on every gap is certified to be within `tolerance`, or None.

    A single good value that is lost again is no arrival.
    """
    found = None
    for k in reversed(range(len(steps))):
        bound = bounds[k]
        if bound is None or bound > tolerance:
            break
        found = k
    return found
