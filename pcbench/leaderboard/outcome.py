"""Result of a leaderboard as data: participants, conformance, every raw timing, and the exit code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pcbench.errors import UsageError
from pcbench.output import strict_json
from pcbench.report.report import commit_known, title

SCHEMA = 1
"""The version of the JSON layout; a reader refuses any other."""

OUTCOMES = ("measured", "withheld", "not-applicable", "error", "timeout", "not-run")
"""What can be said of a row, see `Row`."""

EXIT_CODES = """
\b
Exit codes:
  0    rows were measured; what is not was withheld or is not applicable
  1    nothing was measured: no implementation conforms, or none is applicable
  2    the command is wrong, or an implementation is not there
  3    rows were measured, but a crash or a time-out cost some
  130  interrupted by Ctrl-C; what was measured is kept
"""

_COVERAGE = 0.93


@dataclass(kw_only=True)
class Point:
    """Activities after `steps` steps: the `seconds` of the calls that made them, one a round, and how good they are."""

    steps: int
    gap: float | None
    residual: float
    seconds: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class Solved:
    """What the implementation's own solver returned, as `Point`; `outcome` and `evaluations` are what it says."""

    outcome: str
    gap: float | None
    residual: float
    evaluations: int | None = None
    reason: str = ""
    seconds: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class Row:
    """One implementation on one case.

    **Arguments:** `case` and `dtype`; `implementation` by name; `outcome` from `OUTCOMES` and `why` in a sentence;
    `first_call` in seconds, compilation included; `short`, seconds of calls with one step, `long` with
    `1 + more_steps`, the longest there are, one a round; `curve` in order of steps, `stopped` says why it ends;
    `equilibrium` or None; `notes` for whoever compares.
    """

    case: str
    dtype: str
    implementation: str
    batch: int
    outcome: str = "not-run"
    why: str = ""
    first_call: float | None = None
    more_steps: int = 0
    short: list[float] = field(default_factory=list)
    long: list[float] = field(default_factory=list)
    curve: list[Point] = field(default_factory=list)
    stopped: str = ""
    equilibrium: Solved | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def step_seconds(self) -> list[float]:
        """Seconds of a step in each round: the difference of its two calls, so without what a call costs besides."""
        return [(b - a) / self.more_steps for a, b in zip(self.short, self.long, strict=False)]

    @property
    def sample_steps(self) -> tuple[float, float, float] | None:
        """Sample-steps in a second: median and interval, None if not measured; infinite where noise hides a step."""
        if self.outcome != "measured" or not self.step_seconds:
            return None
        middle, low, high = interval(self.step_seconds)
        return self._rate(middle), self._rate(high), self._rate(low)

    @property
    def overhead(self) -> float | None:
        """Seconds that a call costs besides its steps, by the medians."""
        if not self.step_seconds:
            return None
        return max(0.0, interval(self.short)[0] - max(0.0, interval(self.step_seconds)[0]))

    def _rate(self, seconds: float) -> float:
        return self.batch / seconds if seconds > 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """Who takes part: `name` by its manifest, as `given` on the command line, and where it ran.

    `info` holds interpreter, versions, device and precision of its process; `trouble` why it could not be started.
    """

    name: str
    given: str
    spec: str
    python: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""

    @property
    def title(self) -> str:
        """Name, library, version and commit in one phrase."""
        return title(self.name, self.manifest, self.commit)

    @property
    def commit(self) -> str:
        """The commit of the library, where it is known."""
        return commit_known(self.manifest, self.info)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The conformance of one implementation in one dtype: whether its rows may be shown, and on what that rests."""

    implementation: str
    dtype: str
    conforms: bool
    why: str
    source: str


@dataclass(frozen=True, kw_only=True)
class CaseText:
    """What a report repeats of a case: the problem as a line, its step size, where inference begins."""

    name: str
    dtype: str
    problem: str
    step_size: float
    threshold: float
    loss: float
    start_residual: float


@dataclass(kw_only=True)
class Board:
    """Everything that a run has found so far; it is valid at every moment.

    **Arguments:** `order`, the implementations in each round of each case, as drawn; `partial` says why not everything
    was measured, empty otherwise; `settings` of the run; `machine`, see `pcbench.timing.machine_record.record`.
    """

    pcbench: str
    command: str
    started: str
    seed: int
    settings: Mapping[str, Any]
    machine: Mapping[str, Any] = field(default_factory=dict)
    entrants: list[Entrant] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    cases: list[CaseText] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    order: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0
    partial: str = ""

    @property
    def exit_code(self) -> int:
        """See `EXIT_CODES`."""
        if self.partial:
            return 130
        outcomes = {row.outcome for row in self.rows}
        if "measured" not in outcomes:
            return 1
        return 3 if outcomes & {"error", "timeout", "not-run"} else 0

    @property
    def conclusion(self) -> str:
        """What was measured and what was not, in a sentence whose parts add up to the number of rows."""
        counts = {name: sum(row.outcome == name for row in self.rows) for name in OUTCOMES}
        parts = " + ".join(f"{n} {name}" for name, n in counts.items() if n or name == "measured")
        text = f"{len(self.rows)} rows = {parts}"
        if self.partial:
            return f"partial: {self.partial}; {text}"
        if not counts["measured"]:
            failed = [f"{s.implementation} in {s.dtype}" for s in self.standings if not s.conforms]
            return f"nothing was measured: {', '.join(failed)} did not conform; {text}" if failed else (
                f"nothing was measured; {text}"
            )  # fmt: skip
        return text

    # ---- JSON -----------------------------------------------------------------------------------------------------

    def dumps(self) -> str:
        """Strict JSON: numbers that are not finite become text."""
        return strict_json.dumps({"schema": SCHEMA, **asdict(self)})

    @classmethod
    def loads(cls, text: str) -> Board:
        """The inverse of `dumps`.

        **Raises:** `UsageError` for text that is no leaderboard, or of another schema.
        """
        try:
            data = dict(json.loads(text))
            if data.pop("schema") != SCHEMA:
                raise UsageError(f"this leaderboard has another schema: this version of pcbench reads {SCHEMA}")
            data["entrants"] = [Entrant(**e) for e in data["entrants"]]
            data["standings"] = [Standing(**s) for s in data["standings"]]
            numbers = ("step_size", "threshold", "loss", "start_residual")
            data["cases"] = [CaseText(**{**c, **{k: float(c[k]) for k in numbers}}) for c in data["cases"]]
            data["rows"] = [_row(row) for row in data["rows"]]
            return cls(**data)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"this is no leaderboard: {type(error).__name__}: {error}") from None


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and the order statistics that contain a median of the population with 93 % or as near as there are.

    The smallest and the largest of n values do so with probability 1 - 2^(1-n): 94 % for five.  No distribution is
    assumed but that rounds are alike.

    **Raises:** `UsageError` if there are no values.
    """
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        raise UsageError("interval of no values: needed at least one round")
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    k, outside = 0, 0.5**n
    while k + 1 < n // 2 and 1 - 2 * (outside + math.comb(n, k + 1) * 0.5**n) >= _COVERAGE:
        k += 1
        outside += math.comb(n, k) * 0.5**n
    return middle, ordered[k], ordered[n - 1 - k]


def _row(data: dict[str, Any]) -> Row:
    # What is not finite was written as text.
    values = {**data, "curve": [Point(**{**p, "residual": float(p["residual"])}) for p in data["curve"]]}
    if data["equilibrium"]:
        values["equilibrium"] = Solved(**{**data["equilibrium"], "residual": float(data["equilibrium"]["residual"])})
    return Row(**values)
