r"""Statistical tests with stated error rates for quantities estimated on random networks.

An *estimate* comes with a half-width \(h\) at a tiny error probability \(\alpha\), from Student's t and the scatter of
its own samples.  Theory puts the true value within a `band` \(\delta\) of what is expected (the finite-size correction
to a limit); anything a `detect` \(\Delta > \delta\) away is a defect that must be found.

- It is *broken* if \(|\text{estimate} - \text{expected}| > \delta + h\): false alarm at most \(\alpha\).
- It *holds* if \(|\text{estimate} - \text{expected}| + h \le \Delta\): a defect of size \(\Delta\) is missed with
  probability at most \(\alpha\).
- Otherwise more samples are drawn, in `STAGES`; each look spends its own share of the error probability.

All laws of a run together spend `FAMILY` on false alarms (Bonferroni over estimates and looks), and each the same share
on misses.

**References:** Wellek 2010, *Testing Statistical Hypotheses of Equivalence and Noninferiority*, for tests of both
sides; Jennison and Turnbull 1999, *Group Sequential Methods*, for looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pcbench.laws.definition import REGISTRY, Measurement
from pcbench.laws.measuring.compare import no_decision

FAMILY = 1e-6
"""The probability that any statistical law of a run blames an implementation that obeys all of them."""
STAGES = (6, 12, 24, 48)
"""Samples at each size after which an experiment is looked at."""
_LOST = 0.5  # the share of samples without a certificate beyond which an experiment decides nothing

Sample = TypeVar("Sample")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One estimate of an experiment.

    **Arguments:** `error` its standard error; `half` its half-width at the error probability of a look; `expected`,
    `band` and `detect` as in the module; `samples` what it rests on.
    """

    name: str
    value: float
    error: float
    half: float
    expected: float
    band: float
    detect: float
    samples: int

    @property
    def distance(self) -> float:
        """The distance from what is expected; infinite if the estimate is not a number."""
        distance = abs(self.value - self.expected)
        return distance if math.isfinite(distance) else math.inf

    @property
    def contradicts_theory(self) -> bool:
        """Whether theory and estimate contradict each other."""
        return self.distance > self.band + self.half

    @property
    def holds(self) -> bool:
        """Whether a defect of size `detect` would have shown."""
        return self.distance + self.half <= self.detect

    def text(self) -> str:
        """The estimate with its 95 % interval and what was expected, for a report."""
        low, high = self.value - 1.96 * self.error, self.value + 1.96 * self.error
        return f"{self.value:.2f} [{low:.2f}, {high:.2f}], expected {self.expected:.2f}"


def looks() -> int:
    """The number of looks at estimates that the statistical laws may take, all together."""
    return len(STAGES) * sum(law.estimates for law in REGISTRY.values())


def alpha() -> float:
    """The error probability of one look at one estimate."""
    return FAMILY / max(1, looks())


def budget() -> str:
    """The error budget of a run in a sentence, for its report."""
    laws = [law for law in REGISTRY.values() if law.estimates]
    return (
        f"{FAMILY:g} false alarms a run, over {sum(law.estimates for law in laws)} estimates of {len(laws)} laws "
        f"of the limits at {len(STAGES)} looks ({alpha():.1e} each); misses as rare at the stated sizes"
    )


def _half(error: float, freedom: int) -> float:
    from scipy.special import stdtrit  # takes a third of a second to import, which no other law needs

    return float(error * -stdtrit(max(freedom, 1), alpha() / 2))


def slope(
    name: str, x: Sequence[float], y: Sequence[float], *, weights: Sequence[float] | None = None,
    expected: float, band: float, detect: float,
) -> Estimate:  # fmt: skip
    """The exponent of a power law: the slope of log `y` against log `x`, by least squares with weights.

    `weights` are proportional to the inverse variances of log `y`, whose size is taken from the scatter.
    """
    u, v = np.log(np.asarray(x, np.float64)), np.log(np.maximum(np.asarray(y, np.float64), 1e-300))
    w = np.ones_like(u) if weights is None else np.asarray(weights, np.float64)
    u0, v0 = np.average(u, weights=w), np.average(v, weights=w)
    spread = float(np.sum(w * (u - u0) ** 2))
    value = float(np.sum(w * (u - u0) * (v - v0))) / spread
    freedom = len(u) - 2
    scatter = float(np.sum(w * (v - v0 - value * (u - u0)) ** 2)) / max(freedom, 1)
    error = math.sqrt(scatter / spread)
    return Estimate(
        name=name, value=value, error=error, half=_half(error, freedom), expected=expected, band=band, detect=detect,
        samples=len(u),
    )  # fmt: skip


def level(
    name: str, ratio: Sequence[float], *, weights: Sequence[float] | None = None, band: float, detect: float
) -> Estimate:
    """The weighted mean of log `ratio`, which is 0 where a constant of the theory is right."""
    v = np.log(np.maximum(np.asarray(ratio, np.float64), 1e-300))
    w = np.ones_like(v) if weights is None else np.asarray(weights, np.float64)
    value = float(np.average(v, weights=w))
    freedom = len(v) - 1
    scatter = float(np.sum(w * (v - value) ** 2)) / max(freedom, 1)
    error = math.sqrt(scatter / float(np.sum(w)))
    return Estimate(
        name=name, value=value, error=error, half=_half(error, freedom), expected=0.0, band=band, detect=detect,
        samples=len(v),
    )  # fmt: skip


def experiment(
    draw: Callable[[int, int], tuple[list[Sample], list[str]]],
    estimates: Callable[[Sequence[Sample]], list[Estimate]],
    shapes: Sequence[tuple[int, ...]],
    details: Mapping[str, Any] | None = None,
) -> Measurement:
    """Draw samples stage by stage until every estimate holds or one is broken.

    **Arguments:** `draw(first, last)` gives the samples numbered so at every size, and for each that has no certificate
    of equilibrium why not; `estimates` from all samples so far; `shapes` of the sizes.
    """
    samples: list[Sample] = []
    lost: list[str] = []
    first, found = 0, []
    for last in STAGES:
        more, without = draw(first, last)
        samples, lost, first = samples + more, lost + without, last
        if len(lost) > _LOST * (len(samples) + len(lost)):
            return no_decision(lost[0])
        found = estimates(samples)
        if any(e.contradicts_theory for e in found) or all(e.holds for e in found):
            break
    worst = max(found, key=lambda e: e.distance / (e.band + e.half))
    said = {e.name: e.text() for e in found}
    rates = {"false alarm": f"{FAMILY:g} a run", "missed": f"{alpha():.1e} at " + _sizes(found)}
    open_ = [e.name for e in found if not e.holds]
    return Measurement(
        error=worst.distance,
        allowance=worst.band + worst.half,
        details={**said, **rates, **(details or {}), "without certificate": len(lost)},
        inconclusive=f"not decided by {len(samples)} samples: {open_[0]}"
        if open_ and not worst.contradicts_theory
        else None,
        samples=len(samples),
        shapes=tuple(shapes),
    )


def _sizes(found: Sequence[Estimate]) -> str:
    return ", ".join(sorted({f"{e.detect:g}" for e in found})) + " off"
