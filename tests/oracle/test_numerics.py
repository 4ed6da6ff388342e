"""Unit roundoff, sums, norms and margins."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcbench.oracle import numerics

INF, NAN = math.inf, math.nan


def test_unit_roundoff():
    """If this fails, every tolerance is off by a factor: u is half the spacing of numbers next to 1."""
    assert numerics.unit_roundoff("float64") == 2.0**-53
    assert numerics.unit_roundoff(np.float32) == 2.0**-24
    assert 1 + 2 * numerics.unit_roundoff("float64") > 1
    assert 1 + numerics.unit_roundoff("float64") == 1


def test_tiny():
    """If this fails, underflow is judged as an error, or a defect as underflow."""
    assert numerics.tiny("float32") == 2.0**-102  # 2^24 times the smallest normal number
    assert numerics.tiny("float64") == 2.0**-998


def test_gamma():
    """If this fails, bounds on sums are not Higham's."""
    u = Fraction(1, 2**24)
    for n in (0, 1, 1000):
        exact = (n + numerics.ULPS) * u / (1 - (n + numerics.ULPS) * u)
        assert numerics.gamma(n, "float32") == pytest.approx(float(exact), rel=1e-14)
    assert numerics.gamma(2**24, "float32") == INF


@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_gamma_bounds_sums_in_any_order(terms, seed):
    """If this fails, a correct implementation in float32 can break a law by adding in another order."""
    a, b = np.random.default_rng(seed).standard_normal((2, terms)).astype(np.float32)
    exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))
    allowed = numerics.gamma(terms, "float32") * float(np.abs(a.astype(np.float64) * b).sum())
    forward, backward = np.float32(0), np.float32(0)
    for x, y in zip(a, b, strict=True):
        forward = np.float32(forward + x * y)
    for x, y in zip(a[::-1], b[::-1], strict=True):
        backward = np.float32(backward + x * y)
    for total in (forward, backward, np.dot(a, b)):
        assert abs(float(Fraction(float(total)) - exact)) <= allowed


def test_norm():
    """If this fails, errors are measured by another norm, or vanish or overflow at extreme scales."""
    assert numerics.norm(np.array([3.0, 4.0])) == pytest.approx(5.0, rel=1e-15)
    assert numerics.norm([np.array([[3.0]]), np.array([4.0, 12.0])]) == pytest.approx(13.0, rel=1e-15)
    assert numerics.norm(np.array([3e200, 4e200])) == pytest.approx(5e200, rel=1e-15)
    assert numerics.norm(np.array([3e-200, 4e-200])) == pytest.approx(5e-200, rel=1e-15)
    assert numerics.norm(np.array([3e30, 4e30], np.float32)) == pytest.approx(5e30, rel=1e-6)
    assert numerics.norm([]) == 0
    assert numerics.norm(np.zeros((0, 3))) == 0
    assert numerics.norm(np.zeros(3)) == 0
    assert numerics.norm(np.array([1.0, INF])) == INF
    assert math.isnan(numerics.norm(np.array([1.0, NAN])))
    assert math.isnan(numerics.norm([np.array([NAN]), np.array([1.0])]))
    assert math.isnan(numerics.norm([np.array([1.0]), np.array([NAN])]))


@pytest.mark.parametrize(
    ("error", "allowance", "expected"),
    [
        (1.0, 2.0, 0.5), (3.0, 2.0, 1.5), (0.0, 2.0, 0.0), (0.0, 0.0, 0.0), (1.0, 0.0, INF), (INF, 1.0, INF),
        (INF, INF, INF), (NAN, 1.0, INF), (1.0, NAN, INF), (0.0, NAN, INF), (1.0, INF, 0.0),
    ],
)  # fmt: skip
def test_margin(error, allowance, expected):
    """If this fails, NaN passes, or an exact answer fails."""
    assert numerics.margin(error, allowance) == expected


def test_worst_ratio():
    """If this fails, a law reports the largest error instead of the worst one, or overlooks a NaN."""
    a = np.array
    assert numerics.worst_ratio([a([1.0, 5.0])], [a([0.1, 10.0])]) == (1.0, 0.1)
    assert numerics.worst_ratio([a([-1.0])], [a([4.0])]) == (1.0, 4.0)
    assert numerics.worst_ratio([a([0.0])], [a([0.0])]) == (0.0, 1.0)
    assert numerics.worst_ratio([a([1.0]), a([2.0])], [a([1.0]), a([1.0])]) == (2.0, 1.0)
    assert numerics.worst_ratio([np.ones((2, 3))], [a(0.5)]) == (1.0, 0.5)
    assert numerics.worst_ratio([np.ones((0, 3)), a([1.0])], [np.ones((0, 3)), a([4.0])]) == (1.0, 4.0)
    for error in ([NAN, 0.0], [0.0, NAN], [5.0, NAN], [INF, NAN]):
        e, b = numerics.worst_ratio([a(error)], [a([1.0, 1.0])])
        assert numerics.margin(e, b) == INF
    e, b = numerics.worst_ratio([a([1.0])], [a([0.0])])
    assert numerics.margin(e, b) == INF
    e, b = numerics.worst_ratio([a([1.0]), a([1.0])], [a([NAN]), a([1.0])])
    assert numerics.margin(e, b) == INF
    with pytest.raises(ValueError, match="zip"):
        numerics.worst_ratio([a([1.0])], [])
