"""Judge conformance in each dtype, to decide which rows of the leaderboard may be shown.

`pcbench check` spreads its problems over all dtypes that an implementation claims.  Here every dtype is judged by
itself, by a manifest that claims no other; the implementation is otherwise as it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcbench.conformance import run as runner
from pcbench.conformance.progress import Progress
from pcbench.errors import PcbenchError, UsageError, first_line
from pcbench.laws import law_set_hash
from pcbench.leaderboard.outcome import Entrant, Standing
from pcbench.output.display import Display
from pcbench.report import files as report_files
from pcbench.report.evidence import Verdict
from pcbench.report.report import Report

LAWS = (
    "contract.shapes-and-dtypes", "contract.inputs-unmodified", "energy.matches-definition",
    "energy.feedforward-equals-loss", "feedforward.prediction-matches-definition",
    "gradient.activities-match-definition", "inference.step-follows-definition",
    "inference.trajectory-follows-definition", "inference.steps-compose", "inference.samples-are-independent",
    "inference.batch-size-changes-nothing", "equilibrium.claimed-is-stationary",
)  # fmt: skip
"""What has to hold: of energy, gradients and inference, and of a solver if there is one."""

NEEDED = ("energy.matches-definition", "inference.trajectory-follows-definition")
"""Laws without whose pass nothing was judged that a speed could rest on."""

_NARROWED = '''"""Written by `pcbench bench`: an implementation whose manifest claims a single dtype."""

from dataclasses import replace

from pcbench.protocol.loading import load


class Narrowed:
    def __init__(self):
        self._inner = load({spec!r})
        manifest = self._inner.manifest
        self.manifest = replace(manifest, capabilities=replace(manifest.capabilities, dtypes=({dtype!r},)))

    def __getattr__(self, name):
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)


implementation = Narrowed
'''


def judge_entrant(
    entrant: Entrant, dtype: str, *, seed: int, laws: Sequence[str], display: Display, timeout: float
) -> Report:
    """The report of the laws on one implementation in one dtype, profile `smoke`.

    **Raises:** `KeyboardInterrupt` if the run was interrupted; a `PcbenchError` if the implementation does not start.
    """
    with tempfile.TemporaryDirectory(prefix="pcbench-bench-") as folder:
        file = Path(folder, "narrowed.py")
        file.write_text(_NARROWED.format(spec=entrant.spec, dtype=dtype), encoding="utf-8")
        found = runner.check(
            f"{file}:implementation", profile="smoke", seed=seed, laws=laws, python=entrant.python or None,
            timeout=timeout, progress=Progress(display, brief=True),
        )  # fmt: skip
    if found.header.partial:
        raise KeyboardInterrupt
    return replace(found, header=replace(found.header, spec=entrant.spec, implementation=entrant.given))


def standing(name: str, dtype: str, report: Report, laws: Sequence[str], source: str) -> Standing:
    """What a report says of one dtype; laws other than `laws` and what they depend on are nobody's concern here."""
    verdicts = {v.law: v for v in report.verdicts if v.law in laws}
    bad = [v for v in verdicts.values() if v.outcome not in ("pass", "not-applicable")]
    passed = [law for law, v in verdicts.items() if v.outcome == "pass"]
    if bad:
        why = "; ".join(_verdict_text(v) for v in sorted(bad, key=lambda v: v.outcome != "fail")[:2])
        more = f" and {len(bad) - 2} more" if len(bad) > 2 else ""
        return Standing(implementation=name, dtype=dtype, conforms=False, why=why + more, source=source)
    lacking = [law for law in NEEDED if law in laws and law not in passed]
    if lacking or not passed:
        why = f"{', '.join(lacking) or 'nothing'} was not judged"
        return Standing(implementation=name, dtype=dtype, conforms=False, why=why, source=source)
    why = f"{len(passed)} laws hold"
    return Standing(implementation=name, dtype=dtype, conforms=True, why=why, source=source)


def failed_to_start(name: str, dtype: str, error: PcbenchError) -> Standing:
    """The standing of an implementation on which no law could be judged."""
    why = f"no law could be judged: {first_line(error)}"
    return Standing(implementation=name, dtype=dtype, conforms=False, why=why, source="this run")


# ---- reports of earlier runs ----------------------------------------------------------------------------------------


def read(paths: Iterable[str], laws: Sequence[str]) -> dict[str, Report]:
    """The reports in JSON files, by path.

    **Raises:** `UsageError` for one that was made with other laws, was interrupted, or did not judge all of `laws`.
    """
    found = {path: report_files.read(path) for path in paths}
    for path, report in found.items():
        if report.header.law_set != law_set_hash():
            raise UsageError(
                f"{path} was made with law set {report.header.law_set}, this is {law_set_hash()}: make it anew"
            )
        judged = {v.law for v in report.verdicts if v.outcome != "not-run"}
        missing = [law for law in laws if law not in judged]
        if report.header.partial or missing:
            why = report.header.partial or f"{missing[0]} and {len(missing) - 1} more were not judged"
            raise UsageError(f"{path} does not say enough: {why}; needed {', '.join(laws)}")
    return found


def assign(reports: Mapping[str, Report], entrants: Sequence[Entrant]) -> dict[tuple[str, str], str]:
    """Which report stands for which implementation in which dtype, by name and dtype.

    **Raises:** `UsageError` for a report that fits no implementation, saying what differs.
    """
    chosen: dict[tuple[str, str], str] = {}
    for path, report in reports.items():
        judged = report.header.manifest
        named = [e for e in entrants if e.name == judged.get("name")]
        if not named:
            raise UsageError(
                f"{path} is about {report.header.subject}: needed one of {', '.join(e.name for e in entrants)}"
            )
        for entrant in named:
            other = report.header.spec
            if entrant.spec != other and ".py" not in entrant.spec + other:  # a path can be written in several ways
                raise UsageError(f"{path} is about {other}, but {entrant.spec} is timed: make a report of that")
            for what in ("library", "version", "versions"):
                if entrant.manifest.get(what) != judged.get(what):
                    raise UsageError(
                        f"{path} is about {entrant.name} with {what} {_dict_text(judged.get(what))}, but this one has "
                        f"{_dict_text(entrant.manifest.get(what))}: leave it out, the laws are then judged here"
                    )
            if report.header.commit != entrant.commit:
                raise UsageError(
                    f"{path} is about {entrant.name} at commit {report.header.commit or 'unknown'}, but this one is at "
                    f"{entrant.commit or 'an unknown one'}: leave it out, the laws are then judged here"
                )
            for dtype in report.header.dtypes:
                chosen[entrant.name, dtype] = path
    return chosen


def _dict_text(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)


def _verdict_text(verdict: Verdict) -> str:
    first = report_files.first_line(verdict.message)
    return f"{verdict.law}: {verdict.outcome}" + (f", {first}" if first else "")
