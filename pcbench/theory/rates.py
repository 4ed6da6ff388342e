r"""Leading-order predictions of the limits at initialisation, as finite-size laws (W2-W4).

At initialisation S concentrates around \((1/\lambda + s)I\), s of `pcbench.theory.expectation`, when \(N \gg L, K\).
There the energy is \(F^* \approx \lambda\,\mathrm{loss}/(1 + \lambda s)\): under `mupc` s falls as L/N, so PC becomes
backpropagation; under `ntp` and `sp` s does not fall with N, so F* stays a fixed fraction of the loss although the
*direction* of the gradient converges all the same.  Direction and norm must both be checked.
"""

from __future__ import annotations

import numpy as np

from pcbench.problem.network import Network
from pcbench.theory import linear, losses, operators
from pcbench.theory.operators import Array


def energy_deficit(excess: float, precision: float = 1.0) -> float:
    r"""\(1 - F^*/(\lambda\,\mathrm{loss}) \approx \lambda s/(1 + \lambda s)\) for \(S = (1/\lambda + s) I\)."""
    return precision * excess / (1 + precision * excess)


def energy_rate_interval(network: Network) -> tuple[float, float]:
    r"""Rigorous ends of \(1 - F^*/(\lambda\,\mathrm{loss})\) for any data, `energy_deficit` at the extremes of M (L3).

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    low, high = linear.energy_bounds(network, 1.0)
    return max(0.0, 1 - high / network.precision), 1 - low / network.precision


def first_order_energy(network: Network, input: Array, target: Array) -> float:
    r"""\(\lambda\,\mathrm{loss} - \frac{\lambda^2}{2B}\sum_b g_b^T M g_b\), \(g = \nabla\ell(\hat y)\).

    The first two terms of F* in M, and at most F* for every convex loss.

    **Raises:** `TheoryError` for a nonlinear network.
    """
    operators.require_linear(network, "first-order energy")
    x, y = operators.batch_arrays(network, input, target)
    losses.check_target(network.loss, y)
    output = linear.predict(network, x)
    costate = network.precision * losses.gradient(network.loss, output, y)
    errors = operators.pull_back(network, costate)
    lost = np.sum([np.sum(e * e, axis=1) for e in errors], axis=0) / 2
    return float(np.mean(network.precision * losses.value(network.loss, output, y) - lost))


def logarithmic_slope(sizes: Array, values: Array) -> float:
    """The least-squares slope of log(values) against log(sizes): the exponent of a power law."""
    x, y = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(values, np.float64))
    x = x - x.mean()
    return float(x @ y / (x @ x))
