"""Report of a run as data: who was judged, how, every verdict, and the conclusion.

`report_text` shows it on a terminal, `report_files` writes it for machines and for pull requests.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pcbench.adapters.register import KNOWN
from pcbench.errors import UsageError
from pcbench.output import strict_json
from pcbench.output.html import html_table
from pcbench.report.evidence import BROKEN, OUTCOMES, Verdict, Worst
from pcbench.report.known_failures import KnownFailure
from pcbench.worker.provenance import short_commit

SCHEMA = 2
"""The version of the JSON layout; a reader refuses any other."""

RED = (*BROKEN, "unexpected-pass")
"""Outcomes of a law that keep an implementation from conforming."""


def title(name: str, manifest: Mapping[str, Any], commit: str = "") -> str:
    """An implementation in one phrase: its name, with library, version and commit unless they are the name."""
    shown = f"{manifest.get('library') or ''} {manifest.get('version') or ''}".strip()
    if commit:  # which some libraries have for a version
        version = str(manifest.get("version") or "")
        shown = shown.removesuffix(version) if version and commit.startswith(version) else f"{shown} at "
        shown += short_commit(commit)
    return f"{name} ({shown})" if shown and shown != name else name


def commit_known(manifest: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """The commit of the library: as its process found it, else as the adapter says among its versions."""
    return str(info.get("commit") or manifest.get("versions", {}).get("commit", ""))


@dataclass(frozen=True, kw_only=True)
class RunHeader:
    """Everything that has to be known to understand a run, or to do it again.

    **Arguments:** `pcbench` version; `law_set`, a hash of all laws; `implementation` as the user named it and `spec`
    as it was resolved; `interpreter` that was asked for or found, empty for pcbench's own; `environment`, its name if
    `pcbench env create` made it; `manifest` of the implementation, and the `commit` of its library where it is known;
    `python`, `platform`, `versions`, `devices` and `dtypes` where it ran; `compilations` it counted, or None;
    `error_budget` of the statistical laws; `partial` says why not everything was judged, empty otherwise.
    """

    pcbench: str
    law_set: str
    implementation: str
    spec: str
    interpreter: str = ""
    environment: str = ""
    commit: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    python: str = ""
    platform: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    profile: str = ""
    seed: int = 0
    workers: int = 1
    in_process: bool = False
    compilations: int | None = None
    started: str = ""
    seconds: float = 0.0
    command: str = ""
    error_budget: str = ""
    partial: str = ""

    @property
    def subject(self) -> str:
        """Name of the adapter, library and version in one phrase."""
        return title(str(self.manifest.get("name") or self.implementation), self.manifest, self.commit)


@dataclass(frozen=True, kw_only=True)
class LawText:
    """Text of a law in a report, so that it can be read without pcbench."""

    id: str
    statement: str
    citation: str = ""
    failing_means: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """The verdicts of one run in the order of the register, each law with its text.

    `conforms`, `failures` and `conclusion` say what there is to know first; a notebook shows a table.
    """

    header: RunHeader
    laws: tuple[LawText, ...]
    verdicts: tuple[Verdict, ...]
    known: tuple[KnownFailure, ...] = ()

    def __post_init__(self) -> None:
        named, judged = [law.id for law in self.laws], [v.law for v in self.verdicts]
        if named != judged:
            raise UsageError(f"a report needs one verdict per law: laws {named}, verdicts {judged}")
        strange = sorted({v.outcome for v in self.verdicts} - set(OUTCOMES))
        if strange:
            raise UsageError(f"a report has outcomes {', '.join(OUTCOMES)}, not {', '.join(strange)}")

    def __repr__(self) -> str:
        """Who was judged, all denominators, the conclusion, and a line for each failure."""
        h = self.header
        lines = [f"Report on {h.subject}, profile {h.profile}, seed {h.seed}", self.summary, self.conclusion]
        lines += [f"  {v.outcome}: {v.law}: {v.message.strip()}".rstrip(": ") for v in self.failures]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows: the same, with margin and problem of every law that was judged."""
        first, summary, conclusion = repr(self).splitlines()[:3]
        rows = [
            (
                v.law,
                v.outcome,
                f"{v.worst.margin:.2g}" if v.examples or v.failure else "",
                (v.failure or v.worst).problem,
            )
            for v in self.verdicts
            if v.outcome != "not-applicable"
        ]
        return html_table([first, summary, conclusion], ("law", "verdict", "margin", "problem"), rows, set(RED))

    # ---- what it amounts to ---------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many laws have each outcome; the sum is the number of laws."""
        return {outcome: sum(v.outcome == outcome for v in self.verdicts) for outcome in OUTCOMES}

    @property
    def conforms(self) -> bool:
        """Whether all applicable laws hold, but for those that are known to fail."""
        return self.exit_code == 0

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The verdicts on laws that are broken, on which the implementation broke down, or that hold unexpectedly."""
        return tuple(v for v in self.verdicts if v.outcome in RED)

    @property
    def applicable(self) -> int:
        """The number of laws that could be judged on this implementation."""
        return len(self.verdicts) - self.counts()["not-applicable"]

    @property
    def unjudged_laws(self) -> list[str]:
        """Applicable laws without a judgement, but for those that the known failures account for."""
        listed = {entry.law for entry in self.known}
        return [
            v.law for v in self.verdicts if v.outcome == "not-run" or (v.outcome == "blocked" and v.law not in listed)
        ]

    @property
    def exit_code(self) -> int:
        """0 all applicable laws pass; 1 a law failed or nothing was judged; 3 undecided; 130 interrupted.

        Expected failures, and blocked laws that the known failures list too, are accounted for and do not count.
        """
        if self.header.partial:
            return 130
        counts = self.counts()
        judged = counts["pass"] + counts["expected-failure"]
        if counts["fail"] or counts["unexpected-pass"]:
            return 1
        if counts["error"] or counts["timeout"] or counts["inconclusive"] or self.unjudged_laws:
            return 3
        return 0 if judged else 1

    @property
    def summary(self) -> str:
        """One line with all denominators, in which the parts add up to the number of laws."""
        counts = self.counts()
        shown = [f"{n} {name}" for name, n in counts.items() if n or name in ("pass", "fail")]
        return f"{len(self.verdicts)} laws = {' + '.join(shown)}"

    @property
    def conclusion(self) -> str:
        """What the exit code means here, in a sentence."""
        counts = self.counts()
        if self.header.partial:
            return f"partial: {self.header.partial}; {counts['not-run']} laws were not judged"
        if self.exit_code == 0:
            known = f", {counts['expected-failure']} known to fail" if counts["expected-failure"] else ""
            return f"conforms: {counts['pass']} of {self.applicable} applicable laws hold{known}"
        if not self.applicable:
            return "nothing was judged: no law is applicable to what the manifest claims"
        if self.exit_code == 1 and not counts["fail"] + counts["unexpected-pass"]:
            return "nothing was judged"
        if self.exit_code == 1:
            parts = [f"{counts[o]} {o}" for o in ("fail", "unexpected-pass") if counts[o]]
            return f"does not conform: {', '.join(parts)}"
        parts = [f"{counts[o]} {o}" for o in ("error", "timeout", "inconclusive", "blocked", "not-run") if counts[o]]
        return f"undecided: {', '.join(parts)}"

    def law(self, id: str) -> LawText:
        """The text of a law of this report."""
        return next(law for law in self.laws if law.id == id)

    def replay(self, verdict: Verdict) -> str:
        """The command that shows this failure again, or an empty text if it has no problem."""
        worst = verdict.failure or verdict.worst
        if not worst.problem:
            return ""
        h = self.header
        if not h.spec:  # an object of a process that may be gone: the law on all its problems, from the same seed
            name = h.implementation.rpartition(":")[2]
            return f"pcbench.check({name}, profile={h.profile!r}, seed={h.seed}, laws={verdict.law!r})"
        words = ["pcbench", "replay", verdict.law, worst.problem, "--impl", h.implementation]
        # What runs in the environment made for it is found there, also after that was made anew in another folder.
        found = h.implementation in KNOWN and KNOWN[h.implementation].environment == h.environment != ""
        if h.interpreter and not found:
            words += ["--python", h.interpreter]
        # The problem is always quoted, so that it looks the same everywhere.
        return " ".join(shell_quote(w) if w == worst.problem else shlex.quote(w) for w in words)

    # ---- JSON -----------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain, strict JSON data: numbers that are not finite become text."""
        data = {
            "schema": SCHEMA,
            "header": asdict(self.header),
            "counts": self.counts(),
            "exit_code": self.exit_code,
            "conclusion": self.conclusion,
            "laws": [asdict(law) for law in self.laws],
            "verdicts": [{**v.to_json(), "replay": self.replay(v) if v.failure else ""} for v in self.verdicts],
            "known_failures": [asdict(entry) for entry in self.known],
        }
        return strict_json.plain_data(data)

    def dumps(self) -> str:
        """The report as JSON text."""
        return strict_json.dumps(self.to_json())

    @classmethod
    def from_json(cls, data: Any) -> Report:
        """The inverse of `to_json`.

        **Raises:** `UsageError` for data that is no report, or of another schema.
        """
        if not isinstance(data, dict) or "schema" not in data:
            raise UsageError("this is no report of pcbench: needed the JSON of `pcbench check --json`")
        if data["schema"] != SCHEMA:
            raise UsageError(
                f"the report has schema {data['schema']!r}: this version of pcbench reads {SCHEMA}; make it anew"
            )
        try:
            header = dict(data["header"])
            for name in ("devices", "dtypes"):
                header[name] = tuple(header[name])
            return cls(
                header=RunHeader(**{name: header[name] for name in _names(RunHeader) if name in header}),
                laws=tuple(LawText(**law) for law in data["laws"]),
                verdicts=tuple(read_verdict(v) for v in data["verdicts"]),
                known=tuple(KnownFailure(**entry) for entry in data["known_failures"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the report is damaged: {type(error).__name__}: {error}") from None

    @classmethod
    def loads(cls, text: str) -> Report:
        """The report in JSON text.

        **Raises:** `UsageError` as `from_json`.
        """
        try:
            return cls.from_json(json.loads(text))
        except json.JSONDecodeError as error:
            raise UsageError(f"the report is not JSON: {error}") from None


def shell_quote(text: str) -> str:
    """`text` in single quotes for a shell."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _names(cls: Any) -> list[str]:
    return [item.name for item in fields(cls)]


def read_verdict(data: Mapping[str, Any]) -> Verdict:
    """The verdict in JSON data whose numbers that are not finite were written as text."""
    values = {name: data[name] for name in _names(Verdict)}
    for name in ("worst", "failure"):
        if values[name]:
            values[name] = {k: float(v) if k in _NUMBERS else v for k, v in values[name].items()}
    return Verdict.from_json(values)


_NUMBERS = tuple(item.name for item in fields(Worst) if str(item.type) == "float")
