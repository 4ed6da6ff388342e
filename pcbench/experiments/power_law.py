"""Exponents of power laws from points that scatter around them, with 95 % intervals of Student's t."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import stdtrit

from pcbench.errors import UsageError


def exponent(x: Iterable[float], y: Iterable[float]) -> tuple[float, float]:
    """The slope of log `y` against log `x` by least squares, and the half-width of its 95 % interval.

    Both are NaN for less than two different `x`, and the half-width for less than three points.
    """
    u, v = np.log(np.fromiter(x, float)), np.log(np.fromiter(y, float))
    if len(set(u.tolist())) < 2:
        return math.nan, math.nan
    u, v = u - u.mean(), v - v.mean()
    slope, freedom = float(u @ v / (u @ u)), len(u) - 2
    if freedom < 1:
        return slope, math.nan
    scatter = float(np.sum((v - slope * u) ** 2)) / freedom
    return slope, float(stdtrit(freedom, 0.975)) * math.sqrt(scatter / float(u @ u))


def growth_exponents(
    sizes: Sequence[float], values: np.ndarray, *, paired: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    r"""The slopes of log `values` against log `sizes` and the half widths of their 95 % confidence intervals, `(P,)`.

    **Arguments:** `values` `(P, sizes, seeds)`, positive.  Least squares over all seeds, Student's t for the residuals,
    which hold the scatter of the seeds and any curvature.  `paired`: a seed means the same first and last weights at
    every size, so that what it multiplies all sizes by is no scatter.  Infinite values give \(+\infty\), zeros
    \(-\infty\), with the half width 0.

    **Raises:** `UsageError` if there are too few sizes or seeds to estimate a half width.
    """
    x, y = np.log(np.asarray(sizes, np.float64)), np.asarray(values, np.float64)
    seeds = y.shape[2]
    freedom = len(x) * seeds - 1 - (seeds if paired else 1)
    if len(set(x)) < 2 or freedom < 1:
        raise UsageError(
            f"growth over sizes {list(sizes)} with {seeds} seeds: "
            "needed two different sizes or more, and three values in all"
        )
    endless, zero = ~np.isfinite(y).all(axis=(1, 2)), (y == 0).any(axis=(1, 2))
    known = ~(endless | zero)
    logs = np.log(np.where(known[:, None, None], y, 1.0))
    logs = logs - logs.mean(axis=1 if paired else (1, 2), keepdims=True)
    centred = (x - x.mean())[:, None]
    spread = seeds * float(np.sum(centred**2))
    slope = np.sum(centred * logs, axis=(1, 2)) / spread
    residual = logs - slope[:, None, None] * centred
    half = stdtrit(freedom, 0.975) * np.sqrt(np.sum(residual**2, axis=(1, 2)) / freedom / spread)
    slope = np.where(known, slope, np.where(endless, math.inf, -math.inf))
    return slope, np.where(known, half, 0.0)
