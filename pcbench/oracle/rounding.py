r"""Rounding-error bounds on everything that a correct implementation of an MLP computes.

Each bound follows its formula in `pcbench.oracle.mlp` term by term, with absolute values in place of the values and
\(\gamma_n\) of the longest sum in front (`pcbench.oracle.numerics`).  All are *local*: they take the activities as
given, so nothing is amplified by depth.  Only `prediction_bounds` propagates, to first order, through the Jacobians of
the layers above.  The unit roundoff is that of the network's dtype, in which the implementation works; the oracle's own
error is the same with \(u = 2^{-53}\) and so at most doubles a bound in float64, which `ULPS` covers.
"""

from __future__ import annotations

import numpy as np

from pcbench.oracle import mlp as oracle
from pcbench.oracle.numerics import ULPS, gamma, tiny
from pcbench.problem.network import Activities, Network

LIPSCHITZ = 1.2
"""At least the largest slope of any activation of `oracle.PHI` (1.13, of gelu)."""


def error_bounds(network: Network, input: np.ndarray, target: np.ndarray, z: Activities) -> list[np.ndarray]:
    r"""Bounds on the error of \(\varepsilon_1 \dots \varepsilon_L\) (without \(\lambda\)), `(batch, fan_out)` each.

    \(|\delta\varepsilon_l| \le \gamma_n (|z_l| + |\tau_l z_{l-1}| + |a_l| |W_l| (|\phi| + |z_{l-1}|))\), fan-in \(n\).
    """
    values = [np.asarray(input, np.float64), *(np.asarray(a, np.float64) for a in z)]
    bounds = [prediction_error_bound(network, l, v) for l, v in enumerate(values, start=1)]
    for l in range(1, network.depth):
        bounds[l - 1] = bounds[l - 1] + gamma(0, network.dtype) * np.abs(values[l])
    if network.loss == "mse":
        bounds[-1] = bounds[-1] + gamma(0, network.dtype) * np.abs(np.asarray(target, np.float64))
    else:
        bounds[-1] = _softmax_bound(network, target, values[-1], bounds[-1])
    return bounds


def prediction_error_bound(network: Network, l: int, below: np.ndarray) -> np.ndarray:
    r"""A bound on the rounding error of \(f_l(z_{l-1})\) at given \(z_{l-1}\), `(batch, fan_out)`."""
    phi = oracle.PHI[network.activation][0]
    a, W = abs(network.scalings[l - 1]), np.abs(np.asarray(network.weights[l - 1], np.float64))
    size = np.abs(below)
    if network.placement == "before-weight":
        terms = a * (size if l == 1 else np.abs(phi(below)) + size) @ W.T
    else:
        branch = oracle.layer_prediction(network, l, below) - network.skips[l - 1] * _skip(network, l, below)
        terms = LIPSCHITZ * a * size @ W.T + np.abs(branch)
    return gamma(W.shape[1], network.dtype) * (terms + abs(network.skips[l - 1]) * _skip(network, l, size)) + tiny(
        network.dtype
    )


def layer_energy_bounds(network: Network, input: np.ndarray, target: np.ndarray, z: Activities) -> np.ndarray:
    r"""Bounds on each layer's energy of each sample, `(batch, L)`: \(|\varepsilon||\delta| + \delta^2/2\), and sums."""
    errors = oracle.prediction_errors(network, input, target, z)
    bounds = error_bounds(network, input, target, z)
    columns = []
    for l, (e, d) in enumerate(zip(errors, bounds, strict=True), start=1):
        weight = network.precision if l == network.depth else 1.0
        if l == network.depth and network.loss == "ce":
            columns.append(weight * _cross_entropy_bound(network, target, np.asarray(z[-1], np.float64)))
            continue
        value = np.abs(e) * d + 0.5 * d * d + 0.5 * gamma(e.shape[1], network.dtype) * (np.abs(e) + d) ** 2
        columns.append(weight * value.sum(axis=1) + tiny(network.dtype))
    return np.stack(columns, axis=1)


def energy_bound(network: Network, input: np.ndarray, target: np.ndarray, z: Activities) -> float:
    """A bound on the error of the mean energy."""
    energies = oracle.layer_energies(network, input, target, z)
    total = layer_energy_bounds(network, input, target, z).sum() + gamma(energies.size, network.dtype) * energies.sum()
    return float(total / len(energies))


def activity_gradient_bounds(network: Network, input: np.ndarray, target: np.ndarray, z: Activities) -> Activities:
    r"""Bounds on the error of \(B\,\partial F/\partial z_l\), `(batch, width)` each."""
    values, errors, bounds = _precision_weighted(network, input, target, z)
    result = []
    for l in range(1, network.depth):
        upper, bound = _gain(network, l + 1, values[l], errors[l], bounds[l])
        a, W = abs(network.scalings[l]), np.abs(np.asarray(network.weights[l], np.float64))
        g = gamma(W.shape[0], network.dtype)
        down = a * (bound + g * upper) @ W
        if network.placement == "before-weight":
            slope = np.abs(oracle.PHI[network.activation][1](values[l]))
            if not network.linear:
                slope_error = gamma(0, network.dtype) * (1 + np.abs(values[l]))
                down = slope * down + slope_error * (a * (upper + bound) @ W)
        skip = abs(network.skips[l])
        if skip:
            down = down + skip * (bounds[l] + g * np.abs(errors[l]))
        result.append(bounds[l - 1] + down + gamma(0, network.dtype) * np.abs(errors[l - 1]) + tiny(network.dtype))
    return result


def weight_gradient_bounds(network: Network, input: np.ndarray, target: np.ndarray, z: Activities) -> list[np.ndarray]:
    r"""Bounds on the error of \(\partial F/\partial W_l\), `(fan_out, fan_in)` each."""
    values, errors, bounds = _precision_weighted(network, input, target, z)
    phi = oracle.PHI[network.activation][0]
    result = []
    for l in range(1, network.depth + 1):
        upper, bound = _gain(network, l, values[l - 1], errors[l - 1], bounds[l - 1])
        v = np.abs(values[l - 1])
        if network.placement == "before-weight" and l > 1:
            v = np.abs(phi(values[l - 1])) + v
        g = gamma(len(upper), network.dtype)
        scale = abs(network.scalings[l - 1]) / len(upper)
        result.append(scale * (bound + g * upper).T @ v + tiny(network.dtype))
    return result


def prediction_bounds(network: Network, input: np.ndarray) -> np.ndarray:
    r"""Bounds on the error of \(\hat y\), `(batch, K)`: each layer's through its Jacobian, \(\sum_l |J_l|\,\delta_l\).

    First order in the unit roundoff, with a factor 2 for what is left out.
    """
    z = oracle.feedforward(network, input)
    below = [np.asarray(input, np.float64), *z]
    total = prediction_error_bound(network, network.depth, below[-1])
    for k in range(total.shape[1]):
        unit = np.zeros_like(total)
        unit[:, k] = 1.0
        for l in range(network.depth, 1, -1):
            unit = oracle.feedback(network, l, below[l - 1], unit)
            total[:, k] += np.sum(np.abs(unit) * prediction_error_bound(network, l - 1, below[l - 2]), axis=1)
    return 2 * total


def loss_bound(network: Network, target: np.ndarray, output: np.ndarray, output_bounds: np.ndarray) -> float:
    r"""A bound on the error of the mean loss (without \(\lambda\)) when the output is off by `output_bounds`."""
    y = np.asarray(target, np.float64)
    if network.loss == "mse":
        e = np.abs(y - output)
        per_sample = np.sum(e * output_bounds + 0.5 * output_bounds**2, axis=1)
        value = 0.5 * np.sum((e + output_bounds) ** 2, axis=1)
        sums = gamma(output.size, network.dtype) * (value + 0.5 * np.sum(y * y + output * output, axis=1))
        return float(np.mean(per_sample + sums)) + tiny(network.dtype)
    spread = 2 * np.max(output_bounds, axis=1) + gamma(output.size, network.dtype) * (
        1 + 2 * np.max(np.abs(output), axis=1)
    )
    return float(np.mean(np.sum(np.abs(y), axis=1) * spread))


# ---- helpers ----------------------------------------------------------------------------------------------------


def _skip(network: Network, l: int, below: np.ndarray) -> np.ndarray | float:
    """What the skip of layer `l` carries, 0 where the layer has none (its shape would not fit)."""
    return below if network.skips[l - 1] else 0.0


def _precision_weighted(
    network: Network, input: np.ndarray, target: np.ndarray, z: Activities
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Activities with the input in front, prediction errors and their bounds, the last ones times the precision."""
    values = [np.asarray(input, np.float64), *(np.asarray(a, np.float64) for a in z)]
    errors = oracle.prediction_errors(network, input, target, z)
    bounds = error_bounds(network, input, target, z)
    errors[-1], bounds[-1] = network.precision * errors[-1], network.precision * bounds[-1]
    return values, errors, bounds


def _gain(
    network: Network, l: int, below: np.ndarray, error: np.ndarray, bound: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""The size of \(\varepsilon_l\), times \(\phi'\) of the drive where it comes after the weight, and its bound."""
    size = np.abs(error)
    if network.placement == "before-weight" or l == network.depth:
        return size, bound
    a, W = network.scalings[l - 1], np.asarray(network.weights[l - 1], np.float64)
    drive = a * below @ W.T
    uncertainty = gamma(W.shape[1], network.dtype) * (abs(a) * np.abs(below) @ np.abs(W).T)
    slope = np.abs(oracle.PHI[network.activation][1](drive))
    slope_error = LIPSCHITZ * uncertainty + gamma(0, network.dtype) * (1 + np.abs(drive))
    if network.activation == "relu":  # rounding may carry the drive across the kink, where the slope jumps by 1
        slope_error = slope_error + (np.abs(drive) <= uncertainty)
    return slope * size, slope * bound + slope_error * (size + bound)


def _softmax_bound(network: Network, target: np.ndarray, top: np.ndarray, logit_bound: np.ndarray) -> np.ndarray:
    logits = oracle.layer_prediction(network, network.depth, top)
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    y = np.abs(np.asarray(target, np.float64))
    exponent = 2 * logit_bound.max(axis=1, keepdims=True) + gamma(logits.shape[1], network.dtype) * (
        1 + np.ptp(logits, axis=1, keepdims=True)
    )
    return (
        y.sum(axis=1, keepdims=True) * probabilities * np.expm1(np.minimum(exponent, 1.0))
        + gamma(0, network.dtype) * y
        + tiny(network.dtype)
    )


def _cross_entropy_bound(network: Network, target: np.ndarray, top: np.ndarray) -> np.ndarray:
    logits = oracle.layer_prediction(network, network.depth, top)
    bound = prediction_error_bound(network, network.depth, top).max(axis=1)
    y = np.abs(np.asarray(target, np.float64)).sum(axis=1)
    size = 1 + 2 * np.max(np.abs(logits), axis=1) + ULPS / 4
    return y * (2 * bound + gamma(logits.shape[1], network.dtype) * size)
