"""`pcbench compare`: what changed between two reports."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import click

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


def changes(before: Report, after: Report, growth: float = GROWTH, floor: float = FLOOR) -> list[Change]:
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
            result.append(Change(law=law, text=_turn(v, new[law]), regression=_worse(v.outcome, new[law].outcome)))
        elif (grown := _grown(v, new[law], growth, floor)) is not None:
            result.append(Change(law=law, text=grown, regression=comparable))
    result += [
        Change(law=law, text=f"new: {v.outcome}", regression=_bad(v)) for law, v in new.items() if law not in old
    ]
    return result


def _turn(old: Verdict, new: Verdict) -> str:
    first = new.message.strip().splitlines()[:1]
    return f"{old.outcome} -> {new.outcome}" + (f": {first[0]}" if first else "")


def _worse(old: str, new: str) -> bool:
    """A law that was judged and no longer is applicable is worse; one that has become applicable must hold."""
    if new == "not-applicable":
        return True
    if old == "not-applicable":
        return new not in ("pass", "expected-failure")
    return _ORDER.index(new) > _ORDER.index(old)


def _bad(verdict: Verdict) -> bool:
    return verdict.outcome not in ("pass", "expected-failure", "not-applicable")


def _grown(old: Verdict, new: Verdict, growth: float, floor: float) -> str | None:
    a, b = old.worst.margin, new.worst.margin
    if new.examples and b > floor and b > growth * a:
        factor = f", {b / a:.1f} times" if a > 0 else ""
        return f"margin {a:.2g} -> {b:.2g}{factor} ({new.worst.problem})"
    return None


@click.command()
@click.argument("before", metavar="A.json", type=click.Path())
@click.argument("after", metavar="B.json", type=click.Path())
def compare(before: str, after: str) -> None:
    """Compare two reports of `pcbench check --json`, A before and B after.

    A verdict that got worse, a margin that more than doubled (above 0.01, with the same profile and seed), or a law
    that is no longer judged is a regression.

    \b
    Exit codes: 0 no regression; 1 regression; 2 the command is wrong.
    """  # noqa: D301 (click's marker for a paragraph that is not wrapped)
    from pcbench.report import files as report_files

    a, b = report_files.read(before), report_files.read(after)
    for name, report in (("A", a), ("B", b)):
        h = report.header
        click.echo(f"{name}: {h.subject}, pcbench {h.pcbench}, profile {h.profile}, seed {h.seed}: {report.conclusion}")
    if a.header.law_set != b.header.law_set:
        click.echo(f"note: different law sets, {a.header.law_set} and {b.header.law_set}")
    if (a.header.profile, a.header.seed) != (b.header.profile, b.header.seed):
        click.echo("note: different profile or seed, so that larger margins are shown but are no regression")
    found = changes(a, b)
    for change in sorted(found, key=lambda c: not c.regression):
        click.echo(f"{'REGRESSION' if change.regression else 'change':<10}  {change.law}  {change.text}")
    count = sum(change.regression for change in found)
    click.echo(f"{count} regressions, {len(found) - count} other changes, {len(b.verdicts)} laws")
    sys.exit(1 if count else 0)
