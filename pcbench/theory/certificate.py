r"""A certificate of equilibrium for any activities of any implementation, without knowing the equilibrium (L6).

With \(g = \nabla_\varepsilon F_b\), one backward pass from the activities as they are, and a Hessian
\(\nabla^2_\varepsilon F_b \succeq m\),

\[F_b - F_b^* \le \frac{\|g\|^2}{2m}, \qquad \|\varepsilon - \varepsilon^*\| \le \frac{\|g\|}{m}.\]

A linear network has \(m = 1\) everywhere, for squared error and cross-entropy alike: the bound is rigorous.  Of a
nonlinear one m is estimated, and the bound is *local*: it concerns the equilibrium in whose basin the activities lie,
there may be others, and it is valid while the Hessian keeps half its estimated curvature within \(2\|g\|/m\), which
is probed at a second point and not proven.  Networks with `relu` get a certificate only where no unit can reach its
kink on the way, for their equilibria often sit on kinks, where no gradient vanishes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcbench.problem.network import Network
from pcbench.theory import losses, operators
from pcbench.theory.curvature import ErrorSpace, smallest_curvature
from pcbench.theory.operators import Array

_MARGIN = 0.1  # a Hessian closer to singular than this certifies nothing


@dataclass(frozen=True)
class Certificate:
    r"""How far activities are from equilibrium, or why that cannot be said.

    - `holds`: whether there is a bound for every sample of the batch.
    - `rigorous`: whether the bound is a theorem (linear networks) rather than a local estimate.
    - `residual_norm`: \(\|\nabla_\varepsilon F_b\|\), `(B,)`, always given.
    - `curvature`: the m of the bounds, `(B,)`: 1 for linear networks, else half the estimated smallest eigenvalue;
      where there is no certificate, the estimate that refused it.
    - `gap_bound`: bounds \(F_b(z) - F_b^*\), per sample and not divided by B, `(B,)`; None without a certificate.
    - `distance_bound`: bounds \(\|\varepsilon - \varepsilon^*\|\), `(B,)`; None without a certificate.
    - `reason`: what the verdict rests on, in a sentence.
    """

    holds: bool
    rigorous: bool
    residual_norm: Array
    curvature: Array
    gap_bound: Array | None
    distance_bound: Array | None
    reason: str

    @property
    def mean_gap_bound(self) -> float:
        r"""The bound of \(F - F^*\) of the batch, infinite without a certificate."""
        return math.inf if self.gap_bound is None else float(np.mean(self.gap_bound))


def error_gradient(network: Network, input: Array, target: Array, activities: list[Array]) -> list[Array]:
    r"""\(\nabla_{\varepsilon_l} F_b\) per sample, a list of `(B, N)`, of any network at any activities.

    **Raises:** `TheoryError` for arrays that do not fit the network.
    """
    return _space(network, input, target, activities).gradient()


def certify(network: Network, input: Array, target: Array, activities: list[Array], *, steps: int = 60) -> Certificate:
    r"""How far `activities`, `(B, N)` each, are from an equilibrium of `network`; see the module for what is claimed.

    `steps` bounds the Hessian-vector products that estimate the curvature of a nonlinear network, at each of 2 points.

    **Raises:** `TheoryError` for arrays that do not fit the network or are no target of its loss.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        space = _space(network, input, target, activities)
        gradient = space.gradient()
        norm = np.sqrt(np.sum([np.sum(g * g, axis=1) for g in gradient], axis=0))
    if not np.isfinite(norm).all():
        return _refuse(norm, np.full(norm.shape, np.nan), "the activities or their gradient are not finite")
    if network.linear:
        ones = np.ones_like(norm)
        reason = f"the error-space Hessian of a linear network with loss='{network.loss}' is at least the identity"
        return Certificate(True, True, norm, ones, norm**2 / 2, norm, reason)
    return _local_certificate(network, space, gradient, norm, steps)


def _space(network: Network, input: Array, target: Array, activities: list[Array]) -> ErrorSpace:
    operators.require_square_skips(network)
    x, y = operators.batch_arrays(network, input, target)
    losses.check_target(network.loss, y)
    return ErrorSpace(network, x, y, operators.activity_arrays(network, activities, len(x)))


def _local_certificate(
    network: Network, space: ErrorSpace, gradient: list[Array], norm: Array, steps: int
) -> Certificate:
    lowest = smallest_curvature(space, steps)
    if np.any(~(lowest >= _MARGIN)):
        return _refuse(norm, lowest, _curvature_text(lowest, "at the activities"))
    if network.activation == "relu":
        # F is piecewise smooth, its curvature constant near here for mse: kinks are all that can spoil the bound
        blocked = _kinks(network, space, 2 * norm / lowest)
        if blocked:
            return _refuse(norm, lowest, blocked)
    far = space.displace([-g * (2 / lowest)[:, None] for g in gradient])
    beyond = smallest_curvature(far, steps)
    if np.any(~(beyond >= _MARGIN)):
        return _refuse(norm, np.minimum(lowest, beyond), _curvature_text(beyond, "two gradient lengths downhill"))
    m = np.minimum(lowest, beyond) / 2
    reason = f"local: the error-space Hessian has smallest eigenvalue about {2 * m.min():.3g} here and downhill, halved"
    return Certificate(True, False, norm, m, norm**2 / (2 * m), norm / m, reason)


def _refuse(norm: Array, curvature: Array, why: str) -> Certificate:
    return Certificate(False, False, norm, curvature, None, None, f"no certificate: {why}")


def _curvature_text(lowest: Array, where: str) -> str:
    worst = int(np.argmin(lowest))
    return (
        f"the smallest eigenvalue of the error-space Hessian of sample {worst} is about {lowest[worst]:.3g} {where}, "
        f"needed at least {_MARGIN}; run inference for longer, or this is a saddle"
    )


def _kinks(network: Network, space: ErrorSpace, radius: Array) -> str:
    """Which units could reach a kink while the errors move by `radius` `(B,)`; empty if none."""
    weights = network.effective_weights()
    # |dz_l| <= amplification * radius, by the triangle inequality through layers with Lipschitz constant tau + |aW|
    squares = [1.0]
    for W, tau in zip(weights[1:-1], network.skips[1:-1], strict=True):
        squares.append(1 + (abs(tau) + operators.norm_bound(W)) ** 2 * squares[-1])
    count = 0
    for k, argument in enumerate(space.arguments()):
        reach = math.sqrt(squares[k]) * radius[:, None]
        if network.placement == "after-weight":
            reach = reach * np.linalg.norm(weights[k + 1], axis=1)[None, :]
        count += int(np.sum(np.abs(argument) <= reach))
    if not count:
        return ""
    return (
        f"{count} relu units lie close enough to their kink to cross it before equilibrium; at a kink the condition is "
        "0 in the subdifferential (one-sided derivatives of opposite sign), which no gradient norm can show"
    )
