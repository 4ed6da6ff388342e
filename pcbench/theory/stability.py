r"""Conditions under which a parameterisation is stable and learns features, in width and in depth (W6).

**Width.**  With effective weights \(N^{-a_l} w_l\), entries \(w_l \sim \mathcal N(0, N^{-2b_l})\) and a step of
gradient descent \(\eta N^{-c}\), let \(s = a_L + b_L\), \(m = \min_{l<L}(2a_l + [l=1]) - 1\) and

\[r = \min(s,\ 2a_L + c) + c + m .\]

The signal that comes down from the output has entries \(N^{-s}\) at initialisation and \(N^{-(2a_L+c)}\) once the
readout has learnt; a step changes \(z_l\) by \(a_l^2\, \eta N^{-c}\) times that signal times \(z_{l-1}^T z_{l-1}\)
(N terms, but D in the first layer), so features change by \(N^{-r}\).  The output changes by \(N^{1-2a_L-c}\) through
the readout and by \(N^{1-s-r}\) through the features.  Backpropagation is

- *stable* iff \(a_1 + b_1 = 0\), \(a_l + b_l = \tfrac12\) in hidden layers (\(\ge\) with residual connections, whose
  skip keeps activities up where the branch vanishes), \(s \ge \tfrac12\), \(r \ge 0\), \(2a_L + c \ge 1\) and
  \(s + r \ge 1\);
- then *trivial* (the output does not move) unless one of the last two is an equality;
- then *feature learning* if \(r = 0\) and *lazy* (kernel regime) if \(r > 0\).

The shift \(a + \theta,\ b - \theta,\ c - 2\theta\) of all layers changes nothing.  The theorem of Innocenti, Achour
and Bogacz is that PC at equilibrium has the same stable and feature-learning sets: where BP is stable \(S\) stays
bounded, so \(S^{-1}r\) and r are of one order, and \(z^* - \hat z\) vanishes with N.

**Depth.**  Residual branches \(L^{-\alpha} N^{-1/2} W_l\), step \(\eta L^{-\kappa}\), everything else fixed, N >> L.
Activities at initialisation have the mean square \((1 + L^{-2\alpha})^{L-2}\): bounded iff \(\alpha \ge \tfrac12\),
\(e^{L^{1-2\alpha}}\) otherwise.  Then signals in both directions are \(\Theta(1)\), a step changes a branch by
\(L^{-2\alpha-\kappa}\), and the L branches add up coherently: together they have learnt \(L^{1-2\alpha-\kappa}\).
First and last layer, which carry no factor of L, move the output by \(L^{-\kappa}\).  Hence unstable if
\(\alpha < \tfrac12\) or \(\kappa < 0\), trivial if \(\kappa > 0\), and at \(\kappa = 0\) feature learning in depth
exactly at \(\alpha = \tfrac12\); above it the residual stack is lazy: nothing that it learns survives the limit.

**References:** Yang and Hu 2021 (arXiv 2011.14522), section 3; Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697);
Yang, Yu, Zhu and Hayou 2023 (arXiv 2310.02244) for depth under backpropagation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pcbench.errors import TheoryError
from pcbench.problem.parameterisation import Exponents

_EXACT = 1e-9  # exponents are given as decimals: equalities hold to their rounding

TOLERANCE = 0.125
"""A measured exponent within this of 0 counts as 0: half the distance of two exponents that differ by 1/4."""


class Regime(StrEnum):
    """What a parameterisation does as width (or depth) grows."""

    UNSTABLE = "unstable"
    TRIVIAL = "trivial"
    LAZY = "lazy"
    FEATURE_LEARNING = "feature-learning"


@dataclass(frozen=True, kw_only=True)
class Growth:
    r"""Exponents of growth, in width or in depth; \(+\infty\) for what overflows, \(-\infty\) for what is 0.

    **Arguments:** `initial_hidden`, `initial_output`: of the activities of the last hidden layer, per unit, and of the
    output, at initialisation; `hidden`, `output`: of their change in training (in depth `hidden` is what the residual
    branches have learnt); `shift`: of \(z^* - \hat z\), how far inference moves activities; \(-\infty\) under BP.
    """

    initial_hidden: float
    initial_output: float
    hidden: float
    output: float
    shift: float = -math.inf

    @property
    def largest_growth(self) -> float:
        """The largest growth where there may be none, infinite for NaN; initial activities may not vanish either."""
        values = (abs(self.initial_hidden), self.initial_output, self.hidden, self.output, self.shift)
        return math.inf if any(map(math.isnan, values)) else max(values)


# ---- width ------------------------------------------------------------------------------------------------------


def feature_exponent(exponents: Exponents) -> float:
    r"""\(r\): in training features change by \(N^{-r}\)."""
    e = exponents
    return min(e.output + e.output_init, 2 * e.output + e.rate) + e.rate + _signal_decay(e)


def _signal_decay(e: Exponents) -> float:
    return min(2 * e.input + 1, 2 * e.hidden) - 1


def conditions(exponents: Exponents, *, residual: bool = True) -> dict[str, float]:
    r"""By how much each condition of stability is fulfilled: broken if negative, and an equality at 0.

    In order \(-|a_1 + b_1|\), \(-|a_l + b_l - \tfrac12|\) (without the bars if `residual`), \(s - \tfrac12\), \(r\),
    \(2a_L + c - 1\), \(s + r - 1\).
    """
    e, r = exponents, feature_exponent(exponents)
    branch = e.hidden + e.hidden_init - 0.5
    values = {
        "input": -abs(e.input + e.input_init),
        "hidden": branch if residual else -abs(branch),
        "output": e.output + e.output_init - 0.5,
        "features": r,
        "readout learning": 2 * e.output + e.rate - 1,
        "feature learning": e.output + e.output_init + r - 1,
    }
    return {name: 0.0 if abs(value) < _EXACT else value for name, value in values.items()}


def regime(exponents: Exponents, *, residual: bool = True) -> Regime:
    """The regime of a parameterisation in width, for BP and, by the theorem, for PC at equilibrium."""
    values = conditions(exponents, residual=residual)
    if min(values.values()) < 0:
        return Regime.UNSTABLE
    if values["readout learning"] > 0 and values["feature learning"] > 0:
        return Regime.TRIVIAL
    return Regime.LAZY if values["features"] > 0 else Regime.FEATURE_LEARNING


def smallest_stable_rate(exponents: Exponents, *, residual: bool = True) -> float:
    r"""The boundary: the smallest exponent \(c\), hence the largest rate, that is stable; `rate` itself is ignored.

    \(\max(1 - 2a_L,\ -m - s,\ -a_L - \tfrac m2,\ 1 - m - 2s)\), the conditions solved for c, of which the fifth,
    \(\tfrac12(1 - m - s) - a_L\), is the mean of the first two.  Infinite if no rate is stable.
    """
    e = exponents
    if min(conditions(e, residual=residual)[name] for name in ("input", "hidden", "output")) < 0:
        return math.inf
    s, m, a = e.output + e.output_init, _signal_decay(e), e.output
    return max(1 - 2 * a, -m - s, -a - m / 2, 1 - m - 2 * s)


def expected_growth(exponents: Exponents, *, residual: bool = True) -> Growth:
    """The exponents in width of a stable parameterisation, after two steps or more, under BP and under PC.

    **Raises:** `TheoryError` if it is unstable: there the exponents rise from step to step, and PC's are not BP's.
    """
    values = conditions(exponents, residual=residual)
    broken = [f"{name} {value:+.3g}" for name, value in values.items() if value < 0]
    if broken:
        raise TheoryError(
            f"growth of {exponents.line()}: needed a stable parameterisation, but it breaks {', '.join(broken)}; "
            "ask for its regime instead"
        )
    return Growth(
        initial_hidden=0.0,
        initial_output=-values["output"],
        hidden=-values["features"],
        output=-min(values["readout learning"], values["feature learning"]),
    )


# ---- depth ------------------------------------------------------------------------------------------------------


def depth_conditions(branch: float, rate: float = 0.0) -> dict[str, float]:
    r"""As `conditions`, in depth: \(\alpha - \tfrac12\), \(2\alpha + \kappa - 1\), \(\kappa\)."""
    values = {"hidden": branch - 0.5, "features": 2 * branch + rate - 1, "readout learning": rate}
    return {name: 0.0 if abs(value) < _EXACT else value for name, value in values.items()}


def depth_regime(branch: float, rate: float = 0.0) -> Regime:
    r"""The regime in depth of branches \(L^{-\alpha}\), `branch`, and learning rate \(L^{-\kappa}\), `rate`."""
    values = depth_conditions(branch, rate)
    if min(values.values()) < 0:
        return Regime.UNSTABLE
    if values["readout learning"] > 0:
        return Regime.TRIVIAL
    return Regime.LAZY if values["features"] > 0 else Regime.FEATURE_LEARNING


# ---- measured exponents -----------------------------------------------------------------------------------------


def distances(growth: Growth, *, tolerance: float = TOLERANCE) -> Mapping[Regime, float]:
    r"""How much the exponents would have to change, the largest of them, for `growth` to be of each regime.

    A regime is a region: unstable where some exponent that must not exceed 0 exceeds `tolerance`; else trivial where
    the output's change falls faster than \(N^{-\mathrm{tolerance}}\), lazy where that of the features alone does.
    """
    largest = growth.largest_growth
    stable = max(0.0, largest - tolerance)
    moving = max(0.0, -tolerance - growth.output)
    return {
        Regime.UNSTABLE: max(0.0, tolerance - largest),
        Regime.TRIVIAL: max(stable, growth.output + tolerance),
        Regime.LAZY: max(stable, moving, growth.hidden + tolerance),
        Regime.FEATURE_LEARNING: max(stable, moving, -tolerance - growth.hidden),
    }


def measured_regime(growth: Growth, *, tolerance: float = TOLERANCE) -> Regime:
    """The regime of measured exponents; what is not finite is unstable."""
    if growth.largest_growth > tolerance:
        return Regime.UNSTABLE
    if growth.output < -tolerance:
        return Regime.TRIVIAL
    return Regime.LAZY if growth.hidden < -tolerance else Regime.FEATURE_LEARNING


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Whether two sets of exponents are of one regime, and how far the first is from the regime of the second."""

    first: Regime
    second: Regime
    distance: float

    @property
    def holds(self) -> bool:
        """Whether both are of one regime."""
        return self.first == self.second


def agreement(growth: Growth, other: Growth | Regime, *, tolerance: float = TOLERANCE) -> Agreement:
    """Compare the regime of measured exponents with that of others, or with one that theory gives.

    `distance` is 0 where they agree; where they do not it says by how much, so that a near miss can be told from a
    refutation.
    """
    first = measured_regime(growth, tolerance=tolerance)
    second = other if isinstance(other, Regime) else measured_regime(other, tolerance=tolerance)
    distance = 0.0 if first == second else distances(growth, tolerance=tolerance)[second]
    return Agreement(first=first, second=second, distance=distance)
