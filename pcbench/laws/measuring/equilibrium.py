r"""Reach an equilibrium through an implementation and certify it; no law judges one without a certificate.

The activities are always the implementation's own: what its solver returns, or where its inference stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcbench import theory
from pcbench.laws.measuring.compare import largest_slope
from pcbench.oracle.numerics import unit_roundoff
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Activities, Network
from pcbench.worker.subject import Subject

LONG = 2000
"""Inference steps spent where an implementation offers neither a solver nor a start."""


@dataclass(frozen=True, kw_only=True)
class CertifiedActivities:
    """Activities of an implementation and the certificate of how far they are from equilibrium.

    **Arguments:** `source` is how they were reached; `gap_bound` bounds F - F* (mean over the batch), infinite without
    a certificate.
    """

    activities: Activities
    certificate: theory.Certificate
    source: str

    @property
    def gap_bound(self) -> float:
        """The certified bound on how far the energy is above its minimum."""
        return self.certificate.mean_gap_bound


def certified_equilibrium(
    subject: Subject, problem: Problem, network: Network, input: np.ndarray, target: np.ndarray, lanczos: int = 60
) -> CertifiedActivities:
    """The implementation's equilibrium; `lanczos` bounds the products that certify a nonlinear one.

    Its own solver is asked first.  Without one, a linear net's inference is started at the closed form, from which a
    correct implementation cannot move, and any other runs `LONG` steps from the feedforward pass.
    """
    if "equilibrium" in subject.offers:
        claimed = subject.equilibrium(network, input, target)
        if claimed.outcome == "converged":
            return _certify(network, input, target, claimed.activities, "its own solver", lanczos)
    if network.linear and "start" in subject.offers:
        start = theory.envelope_activities(network, input, target)
        step = min(problem.step_size, 1 / largest_slope(network))
        state = subject.infer(network, input, target, max(1, problem.steps), step, start)
        return _certify(network, input, target, state.activities, "inference started at the closed form", lanczos)
    step = 1 / largest_slope(network) if network.linear else problem.step_size
    state = subject.infer(network, input, target, LONG, step)
    return _certify(network, input, target, state.activities, f"{LONG} inference steps", lanczos)


def _certify(
    network: Network, x: np.ndarray, y: np.ndarray, z: Activities, source: str, lanczos: int
) -> CertifiedActivities:
    wide = network.astype("float64")
    return CertifiedActivities(
        activities=z,
        certificate=theory.certify(wide, np.asarray(x, np.float64), np.asarray(y, np.float64), z, steps=lanczos),
        source=source,
    )


def theory_slack(network: Network) -> float:
    r"""The relative rounding error of a closed form in float64: \(64\,L\,(N + K)\,u\) times the condition of \(S\).

    The recursion for \(J_l\) and the sums of \(S\) are \(L\) products of length at most \(N\); the \(K \times K\) solve
    multiplies their error by cond(S).
    """
    S = theory.equilibrium_matrix(network.astype("float64"))
    return 64 * network.depth * sum(network.dims[-2:]) * unit_roundoff("float64") * float(np.linalg.cond(S))
