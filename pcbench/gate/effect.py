r"""Smallest slowdown detectable on this host, from the spread of timings of equal code.

The spread is the root mean square of \(\log(a_2/a_1)\) over pairs of processes of the *same* code, whose mean is 0 by
construction.  Outliers enlarge it more than they hurt a rank test, so it errs on the side of "too noisy".  The minimum
detectable effect is found by simulating the very rule that decides (`signs.decide`) with Gaussian noise of that spread.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from pcbench.gate.signs import Plan, critical_sums

POWER = 0.95
"""The chance with which a slowdown of the minimum detectable size is found."""
LARGEST = 4.0
"""A host that cannot see a slowdown this many times as large as what is looked for sees nothing."""
_TRIALS = 2000
_SEED = 20240229


def spread(values: Sequence[float] | np.ndarray) -> float:
    """The root mean square of differences of the same code; infinite if there are none."""
    d = np.asarray(values, np.float64)
    return float(np.sqrt(np.mean(d * d))) if d.size else math.inf


def neighbours(values: Sequence[tuple[str, float]]) -> np.ndarray:
    """Log-ratios of successive processes of the same side, from `(side, value)` in the order of time.

    In A B B A A B ... half of all neighbours are of the same side: an A/A experiment that costs nothing more.  Each
    process is in one pair at most, so that the log-ratios are independent.
    """
    found, k = [], 0
    while k + 1 < len(values):
        (side, first), (other, second) = values[k], values[k + 1]
        if side == other and first > 0 and second > 0:
            found.append(math.log(second / first))
            k += 2
        else:
            k += 1
    return np.asarray(found)


def outcomes(plan: Plan, effect: float, noise: float, trials: int = _TRIALS, seed: int = _SEED) -> dict[str, float]:
    """How often the rule ends in `regression`, `improvement`, `cleared` and `undecided` at a true effect, simulated.

    **Arguments:** `effect`, the slowdown as a fraction; `noise`, the standard deviation of a pair's Gaussian log-ratio.
    Absolute floors are left out.
    """
    random = np.random.default_rng(seed)
    d = math.log1p(effect) + noise * random.standard_normal((trials, plan.looks[-1]))
    alarms, clears = critical_sums(plan, plan.false_alarm), critical_sums(plan, plan.miss)
    open_ = np.ones(trials, bool)
    counts = {"regression": 0, "improvement": 0, "cleared": 0}
    for pairs, alarm, clear in zip(plan.looks, alarms, clears, strict=True):
        part = d[:, :pairs]
        middle = np.median(part, axis=1)
        worse = (_wrong_side(part) <= alarm) & (middle >= math.log1p(plan.ratio))
        better = (_wrong_side(-part) <= alarm) & (middle <= -math.log1p(plan.ratio)) & ~worse
        ruled_out = (_wrong_side(math.log1p(plan.effect) - part) <= clear) & ~worse & ~better
        for name, hit in (("regression", worse), ("improvement", better), ("cleared", ruled_out)):
            counts[name] += int(np.sum(hit & open_))
        open_ &= ~(worse | better | ruled_out)
    return {**{name: n / trials for name, n in counts.items()}, "undecided": float(np.mean(open_))}


def _wrong_side(d: np.ndarray) -> np.ndarray:
    """The sum of the ranks of the negative differences, `(trials,)`."""
    ranks = np.argsort(np.argsort(np.abs(d), axis=1), axis=1) + 1
    return np.sum(np.where(d <= 0, ranks, 0), axis=1)


@functools.lru_cache(maxsize=256)
def minimum_effect(plan: Plan, noise: float) -> float:
    """The smallest slowdown, as a fraction, found with probability `POWER`; infinite if none up to `LARGEST`."""
    if not math.isfinite(noise):
        return math.inf

    def detects(log_effect: float) -> bool:
        return outcomes(plan, math.expm1(log_effect), noise)["regression"] >= POWER

    low, high = math.log1p(plan.ratio), math.log(LARGEST * (1 + plan.effect))
    if not detects(high):
        return math.inf
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (low, middle) if detects(middle) else (middle, high)
    return math.expm1(high)


def family_rate(plan: Plan, comparisons: int) -> float:
    """The chance of one false alarm or more among `comparisons` of the same code, at most, by the union bound."""
    return min(1.0, plan.false_alarm * comparisons)
