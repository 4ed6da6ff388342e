r"""The output losses with gradient and Hessian per sample, in float64 NumPy, for the envelope and the certificate."""

from __future__ import annotations

import numpy as np

from pcbench.errors import TheoryError

Array = np.ndarray


def check_target(loss: str, target: Array) -> None:
    """**Raises:** `TheoryError` if a row of a cross-entropy target is no probability distribution."""
    if loss == "ce" and (np.any(target < 0) or np.any(np.abs(target.sum(axis=1) - 1) > 1e-6)):
        sums = target.sum(axis=1)
        raise TheoryError(
            f"target rows for loss='ce' with sums in [{sums.min():g}, {sums.max():g}] and minimum {target.min():g}: "
            "needed rows that are probability distributions"
        )


def value(loss: str, output: Array, target: Array) -> Array:
    r"""\(\ell(y, \hat y)\) per sample, `(B,)`: \(\tfrac12\|y-\hat y\|^2\) for `mse`, softmax cross-entropy for `ce`."""
    if loss == "mse":
        return np.sum((target - output) ** 2, axis=-1) / 2
    shifted = output - output.max(axis=-1, keepdims=True)
    # log1p of the terms besides the largest, so that a confident right answer keeps its digits
    rest = np.exp(shifted)
    np.put_along_axis(rest, output.argmax(axis=-1)[..., None], 0.0, axis=-1)
    return target.sum(axis=-1) * np.log1p(rest.sum(axis=-1)) - np.sum(target * shifted, axis=-1)


def gradient(loss: str, output: Array, target: Array) -> Array:
    r"""\(\nabla_{\hat y}\ell\) per sample, `(B, K)`."""
    if loss == "mse":
        return output - target
    return target.sum(axis=-1, keepdims=True) * _softmax(output) - target


def hessian_product(loss: str, output: Array, target: Array, vectors: Array) -> Array:
    r"""\(\nabla^2\ell\) times `vectors` `(B, K)`: the identity for `mse`, \(\mathrm{diag}(p) - pp^T\) for `ce`."""
    if loss == "mse":
        return vectors
    p = _softmax(output)
    product = p * (vectors - np.sum(p * vectors, axis=-1, keepdims=True))
    return target.sum(axis=-1, keepdims=True) * product


def _softmax(output: Array) -> Array:
    e = np.exp(output - output.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
