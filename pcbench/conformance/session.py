"""One implementation in one process of pytest: its laws, its worker, and the verdicts so far; see `pcbench.plugin`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pcbench.adapters import register as adapters
from pcbench.conformance.run import law_set_hash
from pcbench.conformance.runner import ENGINE, judge_one, open_subject, unfit
from pcbench.errors import UsageError
from pcbench.laws import REGISTRY, select, transitive_dependencies
from pcbench.laws.law import Law
from pcbench.laws.measuring.statistics import budget
from pcbench.report import known_failures, profiles
from pcbench.report.evidence import BROKEN, Verdict, merge
from pcbench.report.known_failures import KnownFailure
from pcbench.report.report import LawText, Report, RunHeader, commit_known, title
from pcbench.version import __version__
from pcbench.worker.limits import Limits
from pcbench.worker.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is judged and how, as for `pcbench check`: `laws` are ids, groups or wildcards, `known_failures` a file."""

    implementation: str
    profile: str
    seed: int
    laws: Sequence[str] = ()
    python: str | None = None
    timeout: float = 120.0
    known_failures: str | None = None


class Run:
    """The laws of one implementation, judged one at a time, in whatever order they are asked for.

    **Raises:** `UsageError` for a name, a number or a file that cannot be meant.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.spec, self.python = adapters.chosen(settings.implementation, settings.python)
        self.profile = profiles.profile(settings.profile)
        if not 0 <= settings.seed < 2**64:
            raise UsageError(f"seed {settings.seed}: needed an integer from 0 to 2**64 - 1")
        if not settings.timeout > 0:
            raise UsageError(f"timeout {settings.timeout}: needed a positive number of seconds")
        self.laws: list[Law] = select(list(settings.laws))
        file = settings.known_failures
        entries = known_failures.read(file, list(REGISTRY)) if file else []
        chosen = {law.id for law in self.laws}
        self.expected: dict[str, KnownFailure] = {entry.law: entry for entry in entries if entry.law in chosen}
        self.subject: Subject | None = None
        self.manifest: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self._verdicts: dict[str, Verdict] = {}

    @property
    def name(self) -> str:
        """The implementation, with library, version and commit if it has been started and they are known."""
        name = self.manifest.get("name", self.settings.implementation)
        return title(name, self.manifest, commit_known(self.manifest, self.info))

    @property
    def described(self) -> str:
        """What is judged, and the seed that repeats it."""
        where = f", environment {self.info['environment']}" if self.info.get("environment") else ""
        return f"{self.name}{where}, profile {self.profile.name}, seed {self.settings.seed}"

    def start(self) -> None:
        """Start the implementation, and refuse known failures that are stale.

        **Raises:** `PcbenchError`, whatever keeps it from starting.
        """
        limits = Limits(call_seconds=self.settings.timeout)
        self.subject = open_subject(self.spec, python=self.python, limits=limits)
        self.manifest = self.subject.manifest.to_json()
        self.info = dict(getattr(self.subject.transport, "info", {}) or {})
        missing = {law.id: reason for law in self.laws if (reason := law.missing(self.subject)) is not None}
        entries = list(self.expected.values())
        problems = unfit(self.laws, self.subject, {entry.law: entry.problem for entry in entries if entry.problem})
        known_failures.check_current(entries, self.manifest["library"], self.manifest["version"], missing, problems)

    def close(self) -> None:
        """End the implementation's processes."""
        if self.subject is not None:
            self.subject.close()
            self.subject = None

    def verdict(self, id: str) -> Verdict:
        """The verdict on a law, known failures taken into account."""
        entry = self.expected.get(id)
        return known_failures.apply([self._verdict(id)], [entry] if entry else [])[0]

    def _verdict(self, id: str) -> Verdict:
        """What is found.

        What a law depends on is judged first, by this process, whichever tests are run here: so that it does not
        depend on how tests are spread over processes whether a law is blocked.
        """
        if id not in self._verdicts:
            self._verdicts[id] = self._judge(id)
        return self._verdicts[id]

    def _judge(self, id: str) -> Verdict:
        assert self.subject is not None
        law, before = REGISTRY[id], transitive_dependencies(id)
        reason = law.missing(self.subject)
        if reason is not None:
            return Verdict(law=id, outcome="not-applicable", message=reason)
        roots = [other.id for other in self.laws if other.id in before and self._verdict(other.id).outcome in BROKEN]
        if roots:
            return Verdict(law=id, outcome="blocked", message=f"depends on {', '.join(sorted(roots))}")
        engine, seed = importlib.import_module(ENGINE), self.settings.seed
        groups = range(self.profile.groups)
        first = self.expected[id].problem if id in self.expected else ""
        parts = [judge_one(engine, law, self.subject, self.profile.name, seed, group, {}, first) for group in groups]
        return merge(id, parts, self.profile.needed(law.ladder))

    def report(self, verdicts: Sequence[Verdict]) -> Report:
        """These verdicts as a report."""
        header = RunHeader(
            pcbench=__version__,
            law_set=law_set_hash(),
            implementation=self.settings.implementation,
            spec=self.spec,
            interpreter=self.python or "",
            environment=str(self.info.get("environment", "")),
            commit=commit_known(self.manifest, self.info),
            manifest=self.manifest,
            profile=self.profile.name,
            seed=self.settings.seed,
            error_budget=budget() if any(law.estimates for law in self.laws) else "",
        )
        return Report(header=header, laws=texts(verdicts), verdicts=tuple(verdicts), known=(*self.expected.values(),))


def texts(verdicts: Sequence[Verdict]) -> tuple[LawText, ...]:
    """What a report repeats of the laws of these verdicts."""
    return tuple(
        LawText(id=law.id, statement=law.statement, citation=law.citation, failing_means=law.failing_means)
        for law in (REGISTRY[v.law] for v in verdicts)
    )


def in_order(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts in the order of the register."""
    order = list(REGISTRY)
    return sorted(verdicts, key=lambda v: order.index(v.law))


def summary(verdicts: Sequence[Verdict]) -> str:
    """One line with all denominators, of verdicts that may come from several processes."""
    header = RunHeader(pcbench=__version__, law_set="", implementation="", spec="")
    return Report(header=header, laws=texts(verdicts), verdicts=tuple(verdicts)).summary
