"""The exponent of a power law from points that scatter around it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.special import stdtrit


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
