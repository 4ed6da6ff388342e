"""Result of a gate as data: conformance of both commits, every row with its evidence, and the exit code."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from pcbench.gate.effect import family_rate
from pcbench.gate.signs import Plan
from pcbench.output import strict_json

SCHEMA = 1
"""The version of the JSON layout."""

EXIT_CODES = """
\b
Exit codes:
  0    no regression: laws hold and no row is slower by more than can be seen
  1    regression: a row is slower, or the margin of a law has grown
  2    error: the command is wrong, or a process ended without an answer
  3    too little data: a row is undecided, or nothing could be compared
  4    host too noisy: its A/A pairs differ by more than what is looked for
  5    conformance failed at the head: nothing was measured
  130  interrupted by Ctrl-C
"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The decision on one row, and the measurements behind it.

    **Arguments:** `outcome`: a `regression` or an `improvement`, `small` differs for certain but by less than a floor,
    `cleared` is not slower by the effect looked for, `undecided` is neither at the most pairs, `noisy` the same on a
    host whose spread says that it could not be, `withheld` has no passing conformance row beside it, `not-applicable`
    is for implementations without what the row measures, `error` failed; `why` in a sentence; `base`, `head`, the
    values of all pairs in order; `ratio` head over base, the median over pairs; `spread` of A/A pairs and the smallest
    slowdown that is found with it; `rule`, `paired` or `exact`.
    """

    row: str
    unit: str
    outcome: str
    why: str
    lower_is_better: bool = True
    base: tuple[float, ...] = ()
    head: tuple[float, ...] = ()
    ratio: float = math.nan
    spread: float = math.nan
    minimum_effect: float = math.nan
    rule: str = "paired"


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """The conformance run of one side, in a sentence; `passed` if all applicable laws hold or are known to fail."""

    passed: bool
    conclusion: str
    dtypes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LawChange:
    """A law that changed between the two runs: the verdict, or a margin that grew; `regression` as in `compare`."""

    law: str
    text: str
    regression: bool


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """Everything that one gate found.

    **Arguments:** `base`, `head`, who they are; `plan` with both error rates; `seed` of problems and of the order of
    processes; `conformance` of base and head; `margins`, what changed between them; `drift`, the factor from which a
    grown margin is listed; `notes` that a reader needs.
    """

    base: str
    head: str
    implementation: str
    profile: str
    seed: int
    plan: Plan
    conformance: tuple[Conformance, Conformance]
    margins: tuple[LawChange, ...] = ()
    drift: float = 2.0
    rows: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    host: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def rows_with(self, *outcomes: str) -> list[str]:
        """The rows with one of these outcomes."""
        return [row.row for row in self.rows if row.outcome in outcomes]

    @property
    def comparison_count(self) -> int:
        """How many rows were compared, each a chance of a false alarm."""
        return len(self.rows_with("regression", "improvement", "small", "cleared", "undecided", "noisy"))

    @property
    def exit_code(self) -> int:
        """See `EXIT_CODES`; of several, the one that says most about the head comes first: 5, 1, 2, 4, 3."""
        if not self.conformance[1].passed:
            return 5
        if self.rows_with("regression") or any(m.regression for m in self.margins):
            return 1
        if self.rows_with("error"):
            return 2
        if self.rows_with("noisy"):
            return 4
        return 3 if self.rows_with("undecided") or not self.comparison_count else 0

    @property
    def conclusion(self) -> str:
        """What the exit code means here, in a sentence."""
        code = self.exit_code
        grown = [m.law for m in self.margins if m.regression]
        if code == 5:
            return f"conformance failed: {self.conformance[1].conclusion}; nothing was measured"
        if code == 1:
            slower = [f"{r.row} {_percent(r)}" for r in self.rows if r.outcome == "regression"]
            laws = [f"{len(grown)} laws worse or with a grown margin ({', '.join(grown[:3])})"] if grown else []
            return f"regression: {'; '.join(slower + laws)}"
        if code == 2:
            return f"error: {', '.join(self.rows_with('error'))} could not be measured"
        if code == 4:
            return f"host too noisy: {', '.join(self.rows_with('noisy'))} could not be decided"
        if code == 3 and not self.comparison_count:
            return "too little data: no row was compared"
        if code == 3:
            return f"too little data: {', '.join(self.rows_with('undecided'))} undecided"
        better = [f"{r.row} {_percent(r)}" for r in self.rows if r.outcome == "improvement"]
        return "no regression" + (f"; improved: {', '.join(better)}" if better else "")

    @property
    def error_rates(self) -> str:
        """Both error rates and that of the family, in a sentence."""
        p, n = self.plan, self.comparison_count
        return (
            f"of one comparison: false alarm on equal code at most {p.false_alarm:.2%}, a slowdown of {p.effect:.0%} "
            f"cleared at most {p.miss:.2%}; of all {n} comparisons: one false alarm or more at most "
            f"{family_rate(p, n):.1%}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain, strict JSON data."""
        data = {"schema": SCHEMA, "exit_code": self.exit_code, "conclusion": self.conclusion, **asdict(self)}
        return strict_json.plain_data({**data, "error_rates": self.error_rates})

    def dumps(self) -> str:
        """The report as JSON text."""
        return strict_json.dumps(self.to_json())


def _percent(row: Comparison) -> str:
    return "" if math.isnan(row.ratio) else f"{row.ratio - 1:+.1%}"
