"""Run a whole gate: conformance of both sides, what changed in it, then the rows that may be shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from pcbench.gate import pairs
from pcbench.gate.commits import Checkout
from pcbench.gate.outcome import Comparison, Conformance, GateReport, LawChange
from pcbench.gate.rows import Chosen
from pcbench.gate.sides import Sides
from pcbench.gate.signs import Plan
from pcbench.output.display import Display
from pcbench.report.changes import changes_between
from pcbench.report.report import Report
from pcbench.timing.harness import Harness, Side
from pcbench.timing.machine import host, load_average


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a gate, see the options of `pcbench gate`."""

    implementation: str
    profile: str
    seed: int
    plan: Plan
    chosen: Chosen
    calibration: int = 4
    laws: tuple[str, ...] = ()
    known_failures: str | None = None
    drift: float = 2.0


def run_gate(
    harness: Harness, checkouts: Sequence[Checkout], sides: Sequence[Side], settings: Settings, display: Display
) -> GateReport:
    """Judge the head against the base; `checkouts` and `sides` of both, the base first.

    **Raises:** `UsageError` or `ImplementationError` if a side cannot be run at all.
    """
    began, about = time.monotonic(), {"load_before": load_average(), "clock": harness.clock}
    reports = [_conformance(harness, side, settings, display) for side in sides]
    conformance = _conformance_result(reports[0]), _conformance_result(reports[1])
    margins = law_changes(reports[0], reports[1], settings.drift)
    for margin in margins:
        display.note(f"{'REGRESSION' if margin.regression else 'change':<10}  {margin.law}  {margin.text}")
    notes = []
    if checkouts[0].tree and checkouts[0].tree == checkouts[1].tree:
        notes.append("both sides have the same files: everything found here is noise")
    if settings.laws:
        notes.append(f"conformance was judged by the laws {', '.join(settings.laws)} alone")
    prepared = Sides(harness=harness, sides={"base": sides[0], "head": sides[1]}, chosen=settings.chosen)
    failed = [s.label for s, c in zip(sides, conformance, strict=True) if not c.passed]
    if failed:
        why = f"conformance of {' and '.join(failed)} did not pass"
        rows = [_without_numbers(row, "withheld", why) for row in settings.chosen.rows]
    else:
        rows = _speed(prepared, conformance, settings, display)
    display.close()
    return GateReport(
        base=checkouts[0].description, head=checkouts[1].description, implementation=settings.implementation,
        profile=settings.profile, seed=settings.seed, plan=settings.plan, conformance=conformance, margins=margins,
        drift=settings.drift, rows=tuple(rows), notes=tuple(notes),
        host={**host(harness.threads), **prepared.host, **about, "load_after": load_average()},
        seconds=time.monotonic() - began,
    )  # fmt: skip


def law_changes(before: Report, after: Report, factor: float) -> tuple[LawChange, ...]:
    """What changed between two reports: regressions as `pcbench compare` sees them, and every margin that grew.

    The two runs ask the same problems on the same machine, where equal code has equal margins to the last bit; so a
    margin far below its allowance that grows by `factor` is shown, although it is no regression.
    """
    worse = {change.law: change for change in changes_between(before, after) if change.regression}
    listed = {change.law: change for change in changes_between(before, after, growth=factor, floor=0.0)}
    found = [LawChange(law=law, text=c.text, regression=True) for law, c in worse.items()]
    found += [LawChange(law=law, text=c.text, regression=False) for law, c in listed.items() if law not in worse]
    return tuple(found)


def _conformance(harness: Harness, side: Side, settings: Settings, display: Display) -> Report:
    display.stage(f"conformance of {side.label} (profile {settings.profile}, seed {settings.seed})")
    data = harness.check(
        side, settings.profile, settings.seed, settings.laws, settings.known_failures,
        lambda done, total: display.progress(done, total, "laws"),
    )  # fmt: skip
    report = Report.from_json(data)
    if report.exit_code == 130:
        raise KeyboardInterrupt
    display.note(f"{side.label}: {report.conclusion}")
    return report


def _conformance_result(report: Report) -> Conformance:
    bad = [v.law for v in report.verdicts if v.outcome not in ("pass", "not-applicable", "expected-failure")]
    named = f" ({', '.join(bad[:4])}{', ...' if len(bad) > 4 else ''})" if bad else ""
    return Conformance(
        passed=report.exit_code == 0, conclusion=report.conclusion + named, dtypes=tuple(report.header.dtypes)
    )


def _speed(
    prepared: Sides, conformance: tuple[Conformance, Conformance], settings: Settings, display: Display
) -> list[Comparison]:
    display.stage("what both sides offer, and one uncounted process for every task of each")
    prepared.prepare({"base": conformance[0], "head": conformance[1]})
    rows = settings.chosen.rows
    open_ = Chosen(
        rows=tuple(row for row in rows if row.task not in prepared.excluded),
        tasks={name: task for name, task in settings.chosen.tasks.items() if name not in prepared.excluded},
    )
    out = {
        row.name: _without_numbers(row, *prepared.excluded[row.task]) for row in rows if row.task in prepared.excluded
    }
    for name, row in out.items():
        display.note(f"{name}: {row.outcome}, {row.why}")
    display.stage(f"interleaved pairs of processes ({len(open_.rows)} rows, {len(open_.tasks)} tasks)")
    number = count(1)
    made = pairs.compare_sides(
        prepared, open_, settings.plan, seed=settings.seed, calibration=settings.calibration,
        tell=display.note, step=lambda text: display.show_current(0, f"{next(number)} processes, {text}"),
    )  # fmt: skip
    out |= {comparison.row: comparison for comparison in made}
    return [out[row.name] for row in rows]


def _without_numbers(row: Any, outcome: str, why: str) -> Comparison:
    return Comparison(row=row.name, unit=row.unit, outcome=outcome, why=why, lower_is_better=row.lower_is_better)
