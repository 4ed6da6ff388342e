r"""The equilibrium of a linear network under any convex output loss: the Moreau envelope of the loss (L7).

Eliminating the hidden layers leaves, for every sample, a problem of K variables,

\[F_b^* = \min_v\ \lambda\,\ell(\hat y_b + v, y_b) + \tfrac12 v^T M^{+} v, \qquad M = \sum_{l<L} J_l J_l^T,\]

with v in the range of M.  Where there are more outputs than units M is singular, so it is written \(M = G G^T\), G from
a QR of the Jacobians, and solved as \(\min_u \lambda\,\ell(\hat y + G u, y) + \tfrac12\|u\|^2\): strongly convex with
modulus 1 whatever G is, which certifies its own answer, \(F(u) - F^* \le \tfrac12\|\nabla F(u)\|^2\).  Hidden errors
follow from \(\varepsilon_l = J_l^T\mu\), \(\mu = -\lambda\nabla\ell(\hat y + v)\).

It follows that \(0 \le F^* \le \lambda\,\mathrm{loss}\), and by convexity
\(F^* \ge \lambda\,\mathrm{loss} - \tfrac12\lambda^2 g^T M g\), \(g = \nabla\ell(\hat y)\).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcbench.errors import TheoryError
from pcbench.problem.network import Network
from pcbench.theory import linear, losses, operators
from pcbench.theory.operators import Array

_STEPS = 200


@dataclass(frozen=True)
class Envelope:
    r"""The equilibrium of every sample, in the K dimensions of the output.

    - `energies`: \(F_b^*\), `(B,)`, each at most `gap_bound` above the true minimum (and rounding).
    - `shift`: v, `(B, K)`, by which the equilibrium's output differs from the feedforward one.
    - `costate`: \(\mu = -\lambda\nabla\ell\) at equilibrium, `(B, K)`.
    - `gap_bound`: \(\tfrac12\|\nabla_u\|^2\) where Newton's method stopped, `(B,)`.
    """

    energies: Array
    shift: Array
    costate: Array
    gap_bound: Array

    @property
    def energy(self) -> float:
        r"""\(F^*\), the mean over the batch."""
        return float(np.mean(self.energies))


def solve_envelope(network: Network, input: Array, target: Array) -> Envelope:
    r"""The equilibrium of a linear network with loss `mse` or `ce`, by a damped Newton method on all samples at once.

    **Raises:** `TheoryError` for a nonlinear network, a target that is no distribution (`ce`), or if Newton's method
    stops further than 1e-10 of the energy from the minimum.
    """
    operators.require_linear(network, "Moreau envelope")
    x, y = operators.batch_arrays(network, input, target)
    losses.check_target(network.loss, y)
    G = linear.factor(network, with_precision=False).T
    output = linear.predict(network, x)
    u, gap_bound = _newton(network.loss, network.precision, G, output, y)
    shift = u @ G.T
    energies = network.precision * losses.value(network.loss, output + shift, y) + np.sum(u * u, axis=1) / 2
    if np.any(~(gap_bound <= 1e-10 * energies + 1e-18 * network.precision)):
        worst = int(np.argmax(gap_bound / (energies + 1e-18)))
        raise TheoryError(
            f"Moreau envelope of sample {worst}: Newton's method stopped with F* = {energies[worst]:.6g} known only to "
            f"{gap_bound[worst]:.2g}, after up to {_STEPS} steps; logits as large as {np.abs(output).max():.2g} leave "
            "float64 too few digits, use smaller weights or data"
        )
    costate = -network.precision * losses.gradient(network.loss, output + shift, y)
    return Envelope(energies, shift, costate, gap_bound)


def envelope_activities(network: Network, input: Array, target: Array) -> list[Array]:
    r"""\(z_1^*, \dots, z_{L-1}^*\), each `(B, N)`, of a linear network with any loss.

    **Raises:** as `envelope`.
    """
    errors = linear.errors_of_costate(network, solve_envelope(network, input, target).costate)
    return operators.propagate(network, np.asarray(input, np.float64), errors)


def _newton(loss: str, precision: float, G: Array, output: Array, target: Array) -> tuple[Array, Array]:
    """The minimisers u `(B, r)` and half the squared gradient norms there `(B,)`."""
    batch, rank = len(output), G.shape[1]
    u = np.zeros((batch, rank))

    def objective(u: Array) -> Array:
        return precision * losses.value(loss, output + u @ G.T, target) + np.sum(u * u, axis=1) / 2

    def slope(u: Array) -> Array:
        return u + precision * losses.gradient(loss, output + u @ G.T, target) @ G

    g, f = slope(u), objective(u)
    for _ in range(_STEPS):
        at = output + u @ G.T
        columns = [losses.hessian_product(loss, at, target, np.broadcast_to(c, at.shape)) @ G for c in G.T]
        hessian = np.eye(rank) + precision * np.stack(columns, axis=2)
        try:
            step = -np.linalg.solve(hessian, g[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:  # at least I in exact arithmetic: G is too large for float64, the caller says so
            break
        descent = np.sum(step * g, axis=1)
        size, accepted = np.ones(batch), np.zeros(batch, bool)
        new_u, new_g, new_f = u, g, f
        for _ in range(60):
            trial = u + np.where(accepted, 0.0, size)[:, None] * step
            trial_g, trial_f = slope(trial), objective(trial)
            # near the minimum f no longer resolves progress, the gradient does
            resolved = np.sum(trial_g**2, axis=1) < np.sum(g**2, axis=1)
            tiny = -descent <= 1e-10 * np.abs(f)
            good = ~accepted & np.where(tiny, resolved, trial_f <= f + 1e-4 * size * descent)
            new_u = np.where(good[:, None], trial, new_u)
            new_g = np.where(good[:, None], trial_g, new_g)
            new_f = np.where(good, trial_f, new_f)
            accepted |= good
            if accepted.all() or np.all(tiny | accepted):
                break
            size = np.where(accepted, size, size / 2)
        if not accepted.any():
            break
        u, g, f = new_u, new_g, new_f
    return u, np.sum(g * g, axis=1) / 2
