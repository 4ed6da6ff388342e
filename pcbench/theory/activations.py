r"""The activations with their first and second derivatives, in float64 NumPy, for the certificate.

Written here and not shared with the oracle, so that a slip in one is no slip in the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcbench.errors import TheoryError

Array = np.ndarray

_erf = np.frompyfunc(math.erf, 1, 1)
_CUBIC = 0.044715
_ROOT = math.sqrt(2 / math.pi)


@dataclass(frozen=True)
class Derivatives:
    r"""\(\phi(z)\), \(\phi'(z)\) and \(\phi''(z)\), each of the shape of z."""

    value: Array
    first: Array
    second: Array


def derivatives(activation: str, z: Array) -> Derivatives:
    r"""\(\phi\) and its two derivatives at `z`; at the kink of `relu` both derivatives are 0.

    **Raises:** `TheoryError` for an unknown activation.
    """
    z = np.asarray(z, np.float64)
    if activation == "linear":
        return Derivatives(z, np.ones_like(z), np.zeros_like(z))
    if activation == "tanh":
        t = np.tanh(z)
        slope = 1 / np.cosh(np.minimum(np.abs(z), 350.0)) ** 2  # not 1 - t², which loses every digit in the tails
        return Derivatives(t, slope, -2 * t * slope)
    if activation == "relu":
        return Derivatives(np.maximum(z, 0.0), (z > 0).astype(np.float64), np.zeros_like(z))
    if activation == "gelu":
        cumulative = 0.5 * (1 + np.asarray(_erf(z / math.sqrt(2)), np.float64))
        density = np.exp(-0.5 * np.minimum(z * z, 1400.0)) / math.sqrt(2 * math.pi)
        return Derivatives(z * cumulative, cumulative + z * density, density * (2 - z * z))
    if activation == "gelu-tanh":
        # 1/2 (1 + tanh u) is the logistic function of 2u, so this is z times a sigmoid of a cubic
        u = 2 * _ROOT * (z + _CUBIC * z**3)
        return _sigmoid_gate(z, u, 2 * _ROOT * (1 + 3 * _CUBIC * z * z), 2 * _ROOT * 6 * _CUBIC * z)
    if activation == "silu":
        return _sigmoid_gate(z, z, np.ones_like(z), np.zeros_like(z))
    if activation == "softplus":
        s = _sigmoid(z)
        return Derivatives(np.logaddexp(0.0, z), s, s * _sigmoid(-z))
    raise TheoryError(f"activation={activation!r}: needed one that pcbench.problem.network.ACTIVATIONS lists")


def _sigmoid(u: Array) -> Array:
    small = np.exp(-np.abs(u))
    return np.where(u >= 0, 1.0, small) / (1 + small)


def _sigmoid_gate(z: Array, u: Array, du: Array, ddu: Array) -> Derivatives:
    r"""\(z\,\sigma(u(z))\) and its derivatives, from u and its derivatives."""
    s = _sigmoid(u)
    ds = s * _sigmoid(-u)
    dds = ds * (_sigmoid(-u) - s)
    return Derivatives(z * s, s + z * ds * du, 2 * ds * du + z * (dds * du * du + ds * ddu))
