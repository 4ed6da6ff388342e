r"""Unit roundoff, the constants of rounding-error analysis, norms, and how a measurement becomes a margin.

Every tolerance of pcbench is a *derived* bound: the rounding error that a correct implementation may commit, from the
dtype, the lengths of its sums and the sizes of its terms.  Two constants carry it.

**Sums.** A sum of \(n\) products, in any order, is off by at most \(\gamma_n = n u / (1 - n u)\) times the sum of the
absolute values of its terms (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, Lemma 3.1), \(u\) being
the unit roundoff.  This is a worst case: measured errors are about \(\sqrt n\,u\), so a correct implementation
passes with a margin well below one, and no draw of a random problem can push it over.

**Elementary functions.** `ULPS` units of rounding are granted to an activation and its derivative, in terms of
\(|\phi(z)| + |z|\): the largest error measured for float32 `tanh`, `erf` and `logistic` of XLA is about 5.

The tests calibrate both: the float32 error of the oracle itself, measured against its float64 result over the palette,
stays below the bound.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

ULPS = 16
"""Units of rounding granted to elementary functions and to the handful of elementwise operations around a sum."""


def unit_roundoff(dtype: object) -> float:
    """Half the spacing of numbers next to 1: 2^-53 for float64, 2^-24 for float32."""
    return float(np.finfo(np.dtype(dtype)).eps) / 2  # type: ignore[call-overload]


def gamma(terms: int, dtype: object) -> float:
    r"""\(\gamma_n = n u/(1 - n u)\) for a sum of `terms` products and `ULPS` further operations."""
    nu = (terms + ULPS) * unit_roundoff(dtype)
    return nu / (1 - nu) if nu < 1 else float("inf")


def tiny(dtype: object) -> float:
    r"""The absolute error granted to any result: \(2^{24}\) times the smallest normal number.

    Below that number rounding is absolute, and XLA flushes to zero; what is lost may then be multiplied by data and
    weights and summed, for which the factor leaves room.
    """
    return 2.0**24 * float(np.finfo(np.dtype(dtype)).tiny)  # type: ignore[call-overload]


def norm(arrays: Iterable[np.ndarray] | np.ndarray) -> float:
    """The Euclidean norm of an array or of several taken together, safe against overflow of the squares."""
    parts = [arrays] if isinstance(arrays, np.ndarray) else list(arrays)
    largest = max((float(np.max(np.abs(a))) for a in parts if a.size), default=0.0)
    if not np.isfinite(largest) or largest == 0.0:
        return largest
    return largest * float(np.sqrt(sum(float(np.sum((np.asarray(a, np.float64) / largest) ** 2)) for a in parts)))


def worst_ratio(errors: Iterable[np.ndarray], bounds: Iterable[np.ndarray]) -> tuple[float, float]:
    """The (error, bound) pair whose ratio is worst, over arrays of errors and of their elementwise bounds.

    An error of exactly 0 needs no bound; a NaN anywhere comes back as an infinite error.
    """
    worst = (0.0, 1.0)
    for error, bound in zip(errors, bounds, strict=True):
        error, bound = np.broadcast_arrays(np.abs(error), np.abs(bound))
        if not error.size:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(error == 0, 0.0, error / bound)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        index = int(np.argmax(ratio))
        e, b = float(error.flat[index]), float(bound.flat[index])
        e = float("inf") if np.isnan(e) else e
        if margin(e, b) > margin(*worst):
            worst = (e, b)
    return worst


def margin(error: float, allowance: float) -> float:
    """Error over allowance: above 1 is a failure, 0 is exact, and NaN counts as infinite."""
    if np.isnan(error) or np.isnan(allowance):
        return float("inf")
    if error == 0:
        return 0.0
    return float("inf") if allowance == 0 or np.isinf(error) else error / allowance
