"""Differences between two reports: verdicts, margins that grew, and laws that were added or removed."""

from __future__ import annotations

from dataclasses import dataclass

from pcbench.report.evidence import Verdict
from pcbench.report.report import Report

GROWTH = 2.0
"""A margin that grows by more than this factor is a regression ..."""
FLOOR = 0.01
"""... unless it stays below this: margins there are rounding, and rounding differs between machines."""

# Verdicts from best to worst; `expected-failure` is a failure that was known, and gets better by passing.
_ORDER = (
    "pass",
    "unexpected-pass",
    "expected-failure",
    "inconclusive",
    "not-run",
    "blocked",
    "timeout",
    "error",
    "fail",
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between two reports: the law, what happened, and whether it is for the worse."""

    law: str
    text: str
    regression: bool


def changes_between(before: Report, after: Report, growth: float = GROWTH, floor: float = FLOOR) -> list[Change]:
    """Every difference in verdicts and margins, and laws that came or went.

    Margins are draws: they are only held against a report of the same profile and seed.  One that grew is listed if it
    is `growth` times what it was and above `floor`.
    """
    old = {v.law: v for v in before.verdicts}
    new = {v.law: v for v in after.verdicts}
    comparable = (before.header.profile, before.header.seed) == (after.header.profile, after.header.seed)
    result = []
    for law, v in old.items():
        if law not in new:
            result.append(Change(law=law, text=f"{v.outcome} -> no longer judged", regression=True))
        elif new[law].outcome != v.outcome:
            result.append(
                Change(law=law, text=_outcome_change(v, new[law]), regression=_worse(v.outcome, new[law].outcome))
            )
        elif (grown := _margin_growth(v, new[law], growth, floor)) is not None:
            result.append(Change(law=law, text=grown, regression=comparable))
    result += [
        Change(law=law, text=f"new: {v.outcome}", regression=_is_bad(v)) for law, v in new.items() if law not in old
    ]
    return result


def _outcome_change(old: Verdict, new: Verdict) -> str:
    first = new.message.strip().splitlines()[:1]
    return f"{old.outcome} -> {new.outcome}" + (f": {first[0]}" if first else "")


def _worse(old: str, new: str) -> bool:
    """A law that was judged and no longer is applicable is worse; one that has become applicable must hold."""
    if new == "not-applicable":
        return True
    if old == "not-applicable":
        return new not in ("pass", "expected-failure")
    return _ORDER.index(new) > _ORDER.index(old)


def _is_bad(verdict: Verdict) -> bool:
    return verdict.outcome not in ("pass", "expected-failure", "not-applicable")


def _margin_growth(old: Verdict, new: Verdict, growth: float, floor: float) -> str | None:
    a, b = old.worst.margin, new.worst.margin
    if new.examples and b > floor and b > growth * a:
        factor = f", {b / a:.1f} times" if a > 0 else ""
        return f"margin {a:.2g} -> {b:.2g}{factor} ({new.worst.problem})"
    return None
