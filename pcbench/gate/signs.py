r"""Sequential signed-rank test for paired timings, exact, with both error rates stated.

A pair is two fresh processes, one of each side, next to each other in time and in an order drawn at random.  Its
difference is \(d = \log(\text{head}/\text{base})\), positive where the head is worse.  If both sides are the same code,
swapping them changes nothing, so each \(d\) is as likely as \(-d\): Wilcoxon's signed ranks then have a distribution
that is known exactly, whatever the noise of the host, and drifts that both processes of a pair share cancel.

At each *look* (8, 12, 16, 24 pairs by default) the same test is asked twice: of \(d\), whether the head is slower at
all; of \(\log(1+\Delta) - d\), whether a slowdown of \(\Delta\) can be ruled out.  The looks share the error rates
\(\alpha\) and \(\beta\) by the union bound, so that over all looks

\[P(\text{regression} \mid \text{same}) \le \alpha, \quad P(\text{cleared} \mid \text{slower by }\Delta) \le \beta.\]

What is in between goes on to the next look, and is undecided after the last.  A regression must also exceed two
practical floors, a ratio and an absolute difference (`Plan.with_floor`), which can only make false alarms rarer.

**References:** Wilcoxon 1945 (signed ranks).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from pcbench.errors import UsageError


class Decision(Enum):
    """Decision at an interim look: all but the last end a comparison; `SMALL` is real but below a floor."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    SMALL = "small"
    CLEARED = "cleared"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Plan:
    r"""The looks of a comparison and what they may decide.

    **Arguments:**

    - `looks`: numbers of pairs at which to decide, rising.
    - `false_alarm`, `miss`: \(\alpha\) and \(\beta\), for one comparison over all looks.
    - `effect`: \(\Delta\), the slowdown that must not be missed, as a fraction.
    - `ratio`: a slowdown of a smaller fraction than this is no regression, however certain.

    **Raises:** `UsageError` for rates, floors or looks that cannot work together.
    """

    looks: tuple[int, ...] = (8, 12, 16, 24)
    false_alarm: float = 0.01
    miss: float = 0.01
    effect: float = 0.20
    ratio: float = 0.05

    def __post_init__(self) -> None:
        if not self.looks or any(b <= a for a, b in zip((0, *self.looks), self.looks, strict=False)):
            raise UsageError(f"looks {self.looks}: needed rising numbers of pairs")
        for name in ("false_alarm", "miss"):
            if not 0 < getattr(self, name) < 0.5:
                raise UsageError(f"{name} {getattr(self, name)!r}: needed a rate between 0 and 0.5")
        if not 0 <= self.ratio < self.effect:
            raise UsageError(
                f"ratio {self.ratio!r} and effect {self.effect!r}: needed a floor of at least 0 below the effect"
            )
        first = min(self.alpha_spending(rate)[0] for rate in (self.false_alarm, self.miss))
        if 2.0 ** -self.looks[0] > first:
            need = math.ceil(-math.log2(first))
            raise UsageError(
                f"{self.looks[0]} pairs at the first look: all of them agreeing is as likely as 1 in "
                f"{2 ** self.looks[0]} by chance, needed {need} pairs for the error rates asked for"
            )

    def with_floor(self, base: float, floor: float) -> Plan:
        """The plan of a row with this base value, in which a difference below `floor` does not matter.

        The floor becomes a ratio; a slowdown that must not be missed is then of two floors at least.
        """
        ratio = floor / base if base > 0 else 1.0
        return replace(self, ratio=max(self.ratio, ratio), effect=max(self.effect, 2 * ratio))

    def alpha_spending(self, rate: float) -> tuple[float, ...]:
        """Error rate that each look may spend: 0.4 of it at the first, the rest in equal parts, `rate` in sum.

        0.4 of 1 % is just above 1/256, what 8 pairs that all agree can prove.
        """
        later = len(self.looks) - 1
        return (rate,) if not later else (0.4 * rate, *(0.6 * rate / later for _ in range(later)))


def looks_between(fewest: int, most: int) -> tuple[int, ...]:
    """The looks from `fewest` to `most` pairs: at 1, 1.5, 2, 3, 4.5, 6 ... times the fewest, whole blocks of two."""
    factors = [f * 3**k for k in range(8) for f in (1.0, 1.5, 2.0)]
    inner = {2 * math.ceil(fewest * f / 2) for f in factors}
    return tuple(sorted({n for n in inner if n < most} | {most})) if most > fewest else (fewest,)


def differences(base: Sequence[float], head: Sequence[float], lower_is_better: bool = True) -> np.ndarray:
    r"""\(d_i\), positive where the head is worse; equal values differ by 0, also if both are 0.

    **Raises:** `UsageError` for lists of different lengths, or values that are negative or not finite.
    """
    a, b = np.asarray(base, np.float64), np.asarray(head, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise UsageError(f"{a.size} values of the base and {b.size} of the head: needed pairs")
    if not (np.all(np.isfinite(a)) and np.all(np.isfinite(b)) and np.all(a >= 0) and np.all(b >= 0)):
        raise UsageError("a measured value is negative or not finite: needed numbers from 0 up")
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(a == b, 0.0, np.log(b) - np.log(a))
    return d if lower_is_better else -d


def signed_rank_probability(values: np.ndarray) -> float:
    """The chance that values whose signs are fair coins lie as far above 0, by Wilcoxon's signed ranks, exactly.

    Ties share their mean rank.  A value of 0 counts as negative: that makes the probability too large, never too
    small.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0:
        return 1.0
    if np.any(np.isnan(values)):
        raise UsageError("a difference is not a number: needed measured values")
    ranks = doubled_ranks(np.abs(values))
    below = int(np.sum(ranks[values <= 0]))
    chances = np.zeros(int(np.sum(ranks)) + 1)
    chances[0] = 1.0
    for rank in ranks:
        moved = np.zeros_like(chances)
        moved[rank:] = chances[: chances.size - rank]
        chances = (chances + moved) / 2
    return float(min(1.0, np.sum(chances[: below + 1])))


def doubled_ranks(sizes: np.ndarray) -> np.ndarray:
    """Twice the ranks of `sizes`, integers also where ties share a mean rank."""
    _, inverse, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (2 * ends - counts + 1)[inverse.reshape(-1)].astype(int)


def critical_sums(plan: Plan, rate: float) -> tuple[int, ...]:
    """For each look, the largest sum of ranks on the wrong side that still rejects; -1 if none does, without ties."""
    found = []
    for pairs, spent in zip(plan.looks, plan.alpha_spending(rate), strict=True):
        chances = np.zeros(pairs * (pairs + 1) // 2 + 1)
        chances[0] = 1.0
        for rank in range(1, pairs + 1):
            moved = np.zeros_like(chances)
            moved[rank:] = chances[: chances.size - rank]
            chances = (chances + moved) / 2
        found.append(int(np.searchsorted(np.cumsum(chances), spent, side="right")) - 1)
    return tuple(found)


def decide(values: np.ndarray, plan: Plan) -> Decision:
    r"""What the differences \(d_i\), positive for worse, say after `len(values)` pairs, one of the plan's looks.

    **Raises:** `UsageError` for a number of pairs at which nothing may be decided.
    """
    if len(values) not in plan.looks:
        raise UsageError(f"{len(values)} pairs: decisions are made at {plan.looks} alone, looking more often would lie")
    look = plan.looks.index(len(values))
    alarm, clear = plan.alpha_spending(plan.false_alarm)[look], plan.alpha_spending(plan.miss)[look]
    middle, floor = float(np.median(values)), math.log1p(plan.ratio)
    if middle >= floor and signed_rank_probability(values) <= alarm:
        return Decision.REGRESSION
    if middle <= -floor and signed_rank_probability(-values) <= alarm:
        return Decision.IMPROVEMENT
    if signed_rank_probability(math.log1p(plan.effect) - values) <= clear:
        return Decision.CLEARED
    return Decision.UNDECIDED


def decide_exactly(base: float, head: float, plan: Plan, floor: float, lower_is_better: bool = True) -> Decision:
    """The rule where neither side varies at all, such as a number of compilations: any difference is real.

    Both floors still apply, so that one solver evaluation more in fifty is no regression.
    """
    worse = (head - base) if lower_is_better else (base - head)
    if worse == 0:
        return Decision.CLEARED
    good, bad = (base, head) if worse > 0 else (head, base)
    small, large = (good, bad) if lower_is_better else (bad, good)
    if abs(worse) < floor or large < (1 + plan.ratio) * small:
        return Decision.SMALL
    return Decision.REGRESSION if worse > 0 else Decision.IMPROVEMENT


def constant(*sides: Sequence[float]) -> bool:
    """Whether every side has at least two values and none of them varies."""
    return all(len(values) >= 2 and len(set(values)) == 1 for values in sides)
