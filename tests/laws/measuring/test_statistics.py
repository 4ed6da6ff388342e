"""Statistical verdicts: estimates against least squares and tables, error rates against simulation, looks."""

import math

import numpy as np
import pytest

from pcbench.laws import REGISTRY
from pcbench.laws.measuring import ladders, statistics
from pcbench.laws.measuring.statistics import STAGES, Estimate, experiment, level, slope


def estimate(value, half, *, expected=0.0, band=0.1, detect=0.5):
    return Estimate(
        name="e", value=value, error=0.0, half=half, expected=expected, band=band, detect=detect, samples=9
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "half", "broken", "holds"),
    [
        (0.0, 0.2, False, True),
        (0.29, 0.2, False, True),  # inside band and half-width, and a defect of 0.5 would have shown
        (0.31, 0.2, True, False),
        (-0.31, 0.2, True, False),
        (0.0, 0.6, False, False),  # nothing contradicts theory, but a defect of 0.5 might hide
        (math.nan, 0.1, True, False),
        (math.inf, 0.1, True, False),
    ],
)
def test_an_estimate_is_broken_holds_or_is_open(value, half, broken, holds):
    """If this fails, a verdict is given on an estimate that does not carry it."""
    found = estimate(value, half)
    assert (found.contradicts_theory, found.holds) == (broken, holds and not broken)


def test_slope_is_weighted_least_squares():
    """If this fails, exponents are wrong; the oracle is numpy's polynomial fit, with its own covariance."""
    random = np.random.default_rng(1)
    x, weights = np.repeat([16, 32, 64, 128], 9), np.repeat([1.0, 2.0, 4.0, 8.0], 9)
    y = 3.0 * x**-0.7 * np.exp(random.normal(size=x.size) / np.sqrt(weights))
    found = slope("s", x.tolist(), y.tolist(), weights=weights.tolist(), expected=-0.7, band=0.1, detect=0.5)
    fitted, covariance = np.polyfit(np.log(x), np.log(y), 1, w=np.sqrt(weights), cov=True)
    assert found.value == pytest.approx(fitted[0], rel=1e-9)
    assert found.error == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-9)
    assert found.samples == x.size


def test_level_is_a_weighted_mean_of_logarithms():
    """If this fails, constants are wrong; worked out by hand for two values of weights 1 and 3."""
    found = level("l", [math.e, math.e**3], weights=[1.0, 3.0], band=0.1, detect=0.5)
    assert found.value == pytest.approx(2.5)
    assert found.error == pytest.approx(math.sqrt((1.5**2 + 3 * 0.5**2) / 4))


def test_half_widths_are_those_of_students_t(monkeypatch):
    """If this fails, error rates are not the stated ones; 2.776 is in every table of t for 4 degrees of freedom."""
    monkeypatch.setattr(statistics, "alpha", lambda: 0.05)
    found = level("l", np.exp([1.0, 2.0, 3.0, 4.0, 5.0]).tolist(), band=0.1, detect=0.5)
    assert found.half == pytest.approx(2.776 * math.sqrt(2.5 / 5), rel=1e-3)


def test_the_budget_covers_every_look():
    """If this fails, the laws together raise more false alarms than the report says."""
    total = sum(law.estimates for law in REGISTRY.values())
    assert statistics.alpha() * total * len(STAGES) == pytest.approx(1e-6)
    assert f"{total} estimates" in statistics.budget()
    for law in REGISTRY.values():
        assert bool(law.ladder) == bool(law.estimates)


def run(noise, truth, *, seed, band=0.1, detect=0.5):
    """An experiment on a power law with the exponent `truth` where -1 is expected."""
    random = np.random.default_rng(seed)
    widths = (16, 32, 64, 128)

    def draw(first, last):
        return [(n, n**truth * math.exp(noise * random.normal())) for _ in range(first, last) for n in widths], []

    def estimates(samples):
        x, y = zip(*samples, strict=True)
        return [slope("exponent", x, y, expected=-1.0, band=band, detect=detect)]

    return experiment(draw, estimates, [(1, n, 3, 1, 2) for n in widths])


def test_error_rates_are_those_stated(monkeypatch):
    """If this fails, experiments blame or excuse more often than they say.

    At 5 % a look, the truth at the edge of the band is blamed in at most 20 % of 300 experiments of four looks, and a
    truth at the size that must be found is excused in at most 20 %; the bounds leave four standard deviations.
    """
    monkeypatch.setattr(statistics, "alpha", lambda: 0.05)
    blamed = sum(run(0.5, -0.9, seed=k).failed for k in range(300))
    excused = sum(m.inconclusive is None and not m.failed for m in (run(0.5, -0.5, seed=k) for k in range(300)))
    assert blamed <= 300 * 0.2 + 4 * math.sqrt(300 * 0.2 * 0.8)
    assert excused <= 300 * 0.2 + 4 * math.sqrt(300 * 0.2 * 0.8)


def test_experiments_take_the_samples_they_need():
    """If this fails, clear cases cost as much as close ones, or noisy ones are decided by too little."""
    assert run(0.01, -1.0, seed=1).samples == 4 * STAGES[0]
    assert run(0.6, -1.0, seed=1).samples > 4 * STAGES[0]
    noisy = run(6.0, -1.0, seed=1)
    assert noisy.samples == 4 * STAGES[-1]
    assert noisy.inconclusive is not None
    assert "not decided" in noisy.inconclusive
    wrong = run(0.01, -0.5, seed=1)
    assert wrong.failed
    assert wrong.samples == 4 * STAGES[0]
    assert wrong.details["exponent"].startswith("-0.50 [")


def test_samples_without_certificate_decide_nothing():
    """If this fails, a limit is judged away from equilibrium."""
    measurement = experiment(lambda first, last: ([], ["no certificate: 0.3"] * (last - first)), lambda s: [], [])
    assert measurement.inconclusive == "no certificate: 0.3"


@pytest.mark.parametrize("ladder", ladders.HOMES)
def test_ladders_are_pinned_by_their_first_rung(ladder):
    """If this fails, a replayed law climbs another ladder, or a ladder has no length."""
    first = ladders.first_rung(ladder, 5, ("linear", "tanh"))
    assert first == ladders.first_rung(ladder, 5, ("linear", "tanh"))
    assert first != ladders.first_rung(ladder, 6, ("linear", "tanh"))
    rungs = ladders.rungs(ladder, first)
    assert rungs[0].shape == first.shape
    assert len({r.shape for r in rungs}) == len(rungs) >= 3
    again = ladders.rungs(ladder, type(first).from_line(first.line()))
    assert again == rungs


def test_ladders_vary_what_they_are_named_after():
    """If this fails, a slope in width mixes in the depth, or the other way round."""
    width, depth, diagonal = (ladders.rungs(n, ladders.first_rung(n, 1)) for n in ("width", "depth", "diagonal"))
    assert len({r.depth for r in width}) == len({r.width for r in depth}) == 1
    assert max(r.width for r in width) >= 8 * min(r.width for r in width)
    assert max(r.depth for r in depth) >= 4 * min(r.depth for r in depth)
    assert all(r.width == r.depth for r in diagonal)


def test_samples_of_a_rung_are_independent():
    """If this fails, the same network counts several times."""
    first = ladders.first_rung("width", 1)
    seeds = [ladders.sample(rung, k).seed for rung in ladders.rungs("width", first) for k in range(20)]
    assert len(set(seeds)) == len(seeds)
