"""asv benchmarks of conformance: margins of the laws, number of broken laws, and seconds of a check.

One smoke check with a fixed seed serves all.  A margin is error over allowance (see docs/read-a-report.md); it moves
before a law breaks.  A time of another benchmark is worth something only beside a commit that breaks no law.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pcbench import laws
from pcbench.benchmarks.process import Benchmark, unit
from pcbench.benchmarks.settings import read_settings
from pcbench.conformance import run as runner
from pcbench.report.evidence import Verdict

__all__ = ["Check", "Margins"]

SEED = 1
BROKEN = 1e18
"""The margin of a law of which there is none because the implementation gave no answer; JSON has no infinity."""
FLOOR = 1e-6
"""Margins below are as good as exact; asv compares by ratios, which zero has not."""


class _Checked(Benchmark):
    timeout = 3600.0

    def setup_cache(self) -> dict[str, Any]:
        """One smoke check: its seconds, and the outcome and the margin of each law."""
        chosen = read_settings()
        report = runner.check(
            chosen.spec, profile="smoke", seed=SEED, laws=chosen.laws, python=chosen.python, journal_dir=None
        )
        return {
            "seconds": report.header.seconds,
            "broken": count_broken(report.verdicts),
            "margins": {verdict.law: margin(verdict) for verdict in report.verdicts},
        }


class Check(_Checked):
    """The check as a whole."""

    @unit("s")
    def track_seconds(self, check: dict[str, Any]) -> float:
        """Seconds of a smoke check, compilations included."""
        return check["seconds"]

    @unit("laws")
    def track_broken_laws(self, check: dict[str, Any]) -> float:
        """Laws that are broken, blocked by one that is, or could not be asked about."""
        return check["broken"]


class Margins(_Checked):
    """The margin of each law, above 1 if it is broken, not a number if it is not applicable or not decided."""

    params = (tuple(law.id for law in laws.select(read_settings().laws)),)
    param_names = ("law",)

    @unit("error / allowance")
    def track_margin(self, check: dict[str, Any], law: str) -> float:
        """The largest margin over all problems of a law."""
        return check["margins"][law]


def margin(verdict: Verdict) -> float:
    """The margin of a verdict as a cost that asv can compare and JSON can hold, from `FLOOR` to `BROKEN`."""
    if verdict.outcome in ("not-applicable", "inconclusive", "not-run"):
        return math.nan
    if verdict.outcome in ("error", "timeout", "blocked"):
        return BROKEN
    worst = max(verdict.worst.margin, verdict.failure.margin if verdict.failure else 0.0)
    return min(max(worst, FLOOR), BROKEN)


def count_broken(verdicts: Iterable[Verdict]) -> int:
    """How many laws are not known to hold although the implementation claims what they need."""
    return sum(v.outcome in ("fail", "error", "timeout", "blocked", "unexpected-pass") for v in verdicts)
