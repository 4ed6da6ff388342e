r"""Answer of an equilibrium solver: activities, certificate, and why it stopped; and the choice of solver.

A solver never raises for a numerical reason: failure is a value of `Outcome`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import jax
import jax.numpy as jnp
import numpy as np

from pcbench.reference.activation import SMOOTH
from pcbench.reference.equilibrium.error_space import dot
from pcbench.reference.network import PCN


class Outcome(Enum):
    """Why a solver stopped; the value is a sentence to act upon."""

    CONVERGED = "converged: the gradient of every sample is below the tolerance"
    NOT_CERTIFIED = (
        "stationary, but the Hessian in error space may not be positive there, so it may be no minimum: "
        "compare with gradient descent on the activities from the feedforward pass"
    )
    KINK = (
        "stopped on kinks of the activation, where the energy has no gradient and a gradient norm means nothing: "
        "use a smooth activation, or judge the one-sided derivatives"
    )
    BUDGET = "evaluations ran out before every sample converged: raise max_evaluations or loosen the tolerance"
    STALLED = (
        "no step lowers the energy of some sample any further, which is the rounding of its dtype: use float64 or "
        "loosen the tolerance"
    )
    NOT_FINITE = "the energy or its gradient is not finite: check the weights and data for NaN, infinity or overflow"


@dataclass(frozen=True)
class EquilibriumState:
    r"""The answer of an equilibrium solver.

    **Arguments:**

    - `activities`: `(L-1, batch, N)`; `energy`: \(F\) there, mean over the batch.
    - `residual`: \(\|\nabla_\varepsilon F_b\|\) of each sample at the returned activities, `(batch,)`.
    - `curvature`: \(\mu\) of each sample, 1 in linear networks, an estimate otherwise; NaN where there is none.
    - `certificate`: a bound on \(F_b - F_b^*\) of each sample, \(\|\nabla_\varepsilon F_b\|^2/2\mu\); infinite where
      \(\mu\) is not positive.
    - `outcome`; `certified`: whether the certificate holds for all samples; `reason`: what it rests on, or why not.
    - `evaluations`: gradient evaluations of the solver, a pass for one row of a Jacobian counted as one;
      `certificate_evaluations`: those for residual and curvature, a Hessian-vector product counted as two.
    """

    activities: jax.Array
    energy: float
    residual: np.ndarray
    curvature: np.ndarray
    certificate: np.ndarray
    outcome: Outcome
    certified: bool
    reason: str
    evaluations: int
    certificate_evaluations: int


def assess(
    activities: jax.Array,
    energy: jax.Array,
    measured: jax.Array,
    curvature: np.ndarray,
    *,
    converged: bool,
    stalled: bool,
    linear: bool,
    activation: str,
    certify: bool = True,
    evaluations: int,
    certificate_evaluations: int,
) -> EquilibriumState:
    """Outcome and certificate from what a solver measured; `stalled` or out of evaluations if not `converged`."""
    residual = np.asarray(measured)
    finite = bool(np.isfinite(residual).all() and np.isfinite(energy))
    smooth = activation in SMOOTH
    if not smooth:
        curvature = np.full_like(curvature, np.nan)
    positive = finite and smooth and bool((curvature > 0).all())
    if not finite:
        outcome, reason = Outcome.NOT_FINITE, "not certified: the energy or its gradient is not finite"
    elif not smooth:
        outcome = Outcome.CONVERGED if converged else Outcome.KINK if stalled else Outcome.BUDGET
        reason = f"not certified: {activation} has kinks, across which curvature at a point says nothing"
    elif not certify:
        outcome = Outcome.CONVERGED if converged else Outcome.STALLED if stalled else Outcome.BUDGET
        reason = "not certified: nobody asked for the curvature"
    elif not positive:
        outcome = Outcome.NOT_CERTIFIED if converged else Outcome.STALLED if stalled else Outcome.BUDGET
        lowest = float(np.nanmin(curvature))
        reason = f"not certified: the smallest eigenvalue of the error-space Hessian is estimated at {lowest:.3g}"
    else:
        outcome = Outcome.CONVERGED if converged else Outcome.STALLED if stalled else Outcome.BUDGET
        estimated = f"is estimated by Lanczos at {float(curvature.min()):.3g} or more there, a local statement"
        reason = "the error-space Hessian " + ("is at least 1 everywhere in a linear network" if linear else estimated)
    with np.errstate(all="ignore"):
        certificate = np.where(curvature > 0, 0.5 * residual**2 / curvature, np.inf)
    return EquilibriumState(
        activities=activities,
        energy=float(energy),
        residual=residual,
        curvature=curvature,
        certificate=certificate,
        outcome=outcome,
        certified=positive,
        reason=reason,
        evaluations=evaluations,
        certificate_evaluations=certificate_evaluations,
    )


def rounding_floor(
    network: PCN, feedforward: jax.Array, output: jax.Array, target: jax.Array, gain: jax.Array
) -> jax.Array:
    r"""The value of \(\tfrac12\|\nabla_\varepsilon F_b\|^2\) that rounding alone explains, `(batch,)`.

    The gradient inherits a few units of rounding of the activities, from which the errors are differences, and of
    output and target through \(\lambda J\), whose squared norm is `gain`, known or measured.
    """
    unit = 8 * jnp.finfo(output.dtype).eps
    ends = network.precision**2 * gain * (jnp.sum(output**2, -1) + jnp.sum(target**2, -1))
    return 0.5 * unit**2 * (dot(feedforward, feedforward) + ends)
