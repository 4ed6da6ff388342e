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
class Quality:
    """Certified distance of activities from equilibrium, relative to the loss.

    **Arguments:** `relative_gap_bound`, the certificate, None if there is none; `relative_residual`; `reason` in a
    sentence.
    """

    gap: float | None
    residual: float
    reason: str = ""

    def within(self, tolerance: float) -> bool:
        """Whether it is certified that the energy is that close to its minimum."""
        return self.gap is not None and self.gap <= tolerance


def quality(case: Case, activities: Activities, loosest: float = math.inf) -> Quality:
    r"""The quality of activities of a case, `(B, N)` each.

    `loosest` is the largest gap that anybody asks about: where the residual of a nonlinear network is above it, no
    curvature is estimated, as m, half of an eigenvalue near 1, makes the gap larger still.  Activities that are not
    finite have an infinite residual.

    **Raises:** `TheoryError` for arrays that do not fit the network.
    """
    network, x, y = case.wide
    z = [np.asarray(a, np.float64) for a in activities]
    with np.errstate(over="ignore", invalid="ignore"):
        gradient = theory.error_gradient(network, x, y, z)
        halves = np.sum([np.sum(g * g, axis=1) for g in gradient], axis=0) / 2
    residual = float(np.mean(halves)) / case.loss if case.loss else math.nan
    if not math.isfinite(residual):
        return Quality(gap=None, residual=math.inf, reason="the activities or the loss are not finite and positive")
    if residual > loosest and not network.linear:
        return Quality(gap=None, residual=residual, reason="the residual alone is larger than any gap asked for")
    found = theory.certificate(network, x, y, z, steps=LANCZOS)
    bound = found.mean_gap_bound / case.loss
    return Quality(gap=bound if math.isfinite(bound) else None, residual=residual, reason=found.reason)


def first_within(steps: Sequence[int], bounds: Sequence[float | None], tolerance: float) -> int | None:
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
