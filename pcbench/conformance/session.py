"""A session: start one implementation and judge it law by law, for every front end.

A runner process judges the laws of one group of examples after another (`Session.judge`), and the coordinator merges
what all runners found.  The pytest plugin, and `pcbench.check` with an object, judge whole laws here
(`Session.verdict`).  Whether a law is applicable to an implementation is decided in `introduce` alone, whether it is
blocked by another in `Session.judge` and `merge_groups`, and a report is built by `build_report` alone.
"""

from __future__ import annotations

import importlib
import platform
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pcbench.conformance.plan import Plan
from pcbench.errors import ImplementationError
from pcbench.laws import REGISTRY, Law, law_set_hash, transitive_dependencies
from pcbench.laws.measuring.statistics import budget
from pcbench.output.strict_json import plain_data
from pcbench.problem.architectures import problem_from_line
from pcbench.report import known_failures
from pcbench.report.evidence import Evidence, Verdict, block, blocked_message, merge
from pcbench.report.report import LawText, Report, RunHeader, commit_known, title
from pcbench.version import __version__
from pcbench.worker.client import InProcess
from pcbench.worker.isolation import open_subject
from pcbench.worker.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Introduction:
    """What is known of an implementation once it has been started, as plain JSON data.

    **Arguments:** `manifest`; `info`, interpreter, platform and versions of its process; the methods and features it
    `offers`; `missing`, why a law is not applicable, by law; `unfit`, why the problem of a known failure cannot be
    judged, by law.
    """

    manifest: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    offers: Sequence[str] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        """The commit of the library, where it is known."""
        return commit_known(self.manifest, self.info)


def introduce(subject: Subject, plan: Plan) -> Introduction:
    """What there is to know of a started implementation before any law is judged."""
    return Introduction(
        manifest=plain_data(subject.manifest.to_json()),
        info=plain_data(getattr(subject.transport, "info", {}) or {}),
        offers=sorted(subject.offers),
        missing={
            law.id: reason for law in plan.selected_laws if (reason := law.not_applicable_reason(subject)) is not None
        },
        unfit=unfit_problems(plan.selected_laws, subject, plan.first),
    )


def unfit_problems(laws: Sequence[Law], subject: Subject, first: Mapping[str, str]) -> dict[str, str]:
    """For laws whose problem to be measured first cannot be judged, why not; `first` are lines by law."""
    found = {}
    for law in laws:
        if law.id in first and not law.ladder:
            reason = law.refuses(subject, problem_from_line(first[law.id]))
            if reason is not None:
                found[law.id] = reason
    return found


class Session:
    """The implementation of a plan, started, and the laws of the plan judged on it in this process.

    **Arguments:** `plan`; `implementation`, an object with the methods of the protocol to judge in place of the one
    that the plan names.
    """

    def __init__(self, plan: Plan, implementation: Any = None) -> None:
        self.plan = plan
        self.subject: Subject | None = None
        self.introduction = Introduction()
        self._given = implementation
        self._verdicts: dict[str, Verdict] = {}

    def start(self) -> Introduction:
        """Start the implementation, and refuse known failures that are stale.

        **Raises:** `PcbenchError`, whatever keeps it from starting.
        """
        plan = self.plan
        if self._given is None:
            self.subject = open_subject(
                plan.spec, python=plan.python, limits=plan.limits, in_process=plan.in_process, isolation=plan.isolation
            )
        else:
            self.subject = Subject(InProcess(self._given))
        self.introduction = introduce(self.subject, plan)
        check_known_failures(plan, self.introduction)
        return self.introduction

    def close(self) -> None:
        """End the implementation's processes."""
        if self.subject is not None:
            self.subject.close()
            self.subject = None

    def judge(self, law: Law, group: int, outcomes: Mapping[str, str]) -> Evidence:
        """The evidence of one group of one law; `outcomes` are those of the laws judged before it in this group."""
        assert self.subject is not None, "the session has not been started"
        reason = self.introduction.missing.get(law.id)
        if reason is not None:
            return Evidence(law=law.id, group=group, outcome="not-applicable", message=reason)
        blocked = blocked_message(transitive_dependencies(law.id), outcomes)
        if blocked:
            return Evidence(law=law.id, group=group, outcome="blocked", message=blocked)
        if self.plan.isolation == "law":
            self.subject.forget()
        line = self.plan.first.get(law.id, "")
        try:
            engine = importlib.import_module(self.plan.engine)
            first = problem_from_line(line) if line else None
            return engine.judge_group(law, self.subject, self.plan.evidence, self.plan.seed, group, first)
        except ImplementationError as error:
            message, stderr = f"{type(error).__name__}: {error}", getattr(error, "stderr", "")
            return Evidence(law=law.id, group=group, outcome="error", message=message, stderr=stderr)
        except Exception as error:
            message = f"pcbench itself failed to judge this law: {type(error).__name__}: {error}"
            return Evidence(law=law.id, group=group, outcome="error", message=message, stderr=traceback.format_exc())

    def verdict(self, id: str) -> Verdict:
        """The verdict on a law of the plan, known failures taken into account.

        The laws that it depends on are judged first, by this session, and all verdicts are kept: so that it does not
        depend on the order of questions, or on which process is asked, whether a law is blocked.
        """
        if id not in self._verdicts:
            before = transitive_dependencies(id)
            judged = {law.id: self._outcome(law.id) for law in self.plan.selected_laws if law.id in before}
            groups = range(self.plan.evidence.groups)
            # A law that is broken in one group blocks its dependants in all of them, so none is judged in vain.
            parts = [self.judge(REGISTRY[id], group, judged) for group in groups]
            self._verdicts[id] = merge(id, parts, self.plan.evidence.needed_examples(REGISTRY[id].ladder))
        return known_failures.apply([self._verdicts[id]], self.plan.known)[0]

    def _outcome(self, id: str) -> str:
        self.verdict(id)
        return self._verdicts[id].outcome

    @property
    def title(self) -> str:
        """The implementation, with library, version and commit if it has been started and they are known."""
        about = self.introduction
        return title(about.manifest.get("name", self.plan.implementation), about.manifest, about.commit)

    @property
    def description(self) -> str:
        """What is judged, and the seed that repeats it."""
        environment = self.introduction.info.get("environment")
        where = f", environment {environment}" if environment else ""
        return f"{self.title}{where}, profile {self.plan.profile}, seed {self.plan.seed}"


def check_known_failures(plan: Plan, about: Introduction) -> None:
    """Refuse known failures that no longer apply to the implementation that has introduced itself.

    **Raises:** `UsageError`, naming the entry.
    """
    library, version = about.manifest["library"], about.manifest["version"]
    known_failures.check_current(plan.known, library, version, about.missing, about.unfit)


def merge_groups(plan: Plan, evidence: Mapping[tuple[str, int], Evidence]) -> list[Verdict]:
    """The verdicts on all laws of a plan from what its groups have shown so far, by law and group.

    A law that is not judged in all groups is not run, unless it is broken already.
    """
    parts: dict[str, list[Evidence]] = {id: [] for id in plan.laws}
    for (law, _), item in evidence.items():
        parts[law].append(item)
    verdicts = []
    for law in plan.selected_laws:
        found = parts[law.id]
        verdict = merge(law.id, found, plan.evidence.needed_examples(law.ladder))
        if len(found) < plan.evidence.groups and verdict.outcome in ("pass", "inconclusive"):
            count = f"{len(found)} of {plan.evidence.groups} groups were judged" if found else ""
            verdict = Verdict(law=law.id, outcome="not-run", message=count)
        verdicts.append(verdict)
    dependencies = {law.id: transitive_dependencies(law.id) & set(plan.laws) for law in plan.selected_laws}
    return known_failures.apply(block(verdicts, dependencies), plan.known)


def build_report(plan: Plan, about: Introduction, verdicts: Sequence[Verdict], **header: Any) -> Report:
    """The report of a run; `header` are fields of `RunHeader` that neither the plan nor the implementation tells.

    Interrupted before the implementation has introduced itself, nothing is known about it.
    """
    info, manifest = about.info, about.manifest
    capabilities = manifest.get("capabilities", {})
    run = RunHeader(
        pcbench=__version__,
        law_set=law_set_hash(),
        implementation=plan.implementation,
        spec=plan.spec,
        interpreter=plan.python or "",
        environment=str(info.get("environment", "")),
        commit=about.commit,
        manifest=manifest,
        python=str(info.get("python", platform.python_version())),
        platform=str(info.get("platform", platform.platform())),
        versions={**manifest.get("versions", {}), **info.get("versions", {})},
        devices=tuple(info.get("devices") or capabilities.get("devices", ())),
        dtypes=tuple(capabilities.get("dtypes", ())),
        profile=plan.profile,
        seed=plan.seed,
        in_process=plan.in_process,
        error_budget=budget() if any(law.estimates for law in plan.selected_laws) else "",
        **header,
    )
    return Report(header=run, laws=law_texts(verdicts), verdicts=tuple(verdicts), known=plan.known)


def law_texts(verdicts: Sequence[Verdict]) -> tuple[LawText, ...]:
    """The statements of the laws of these verdicts, for a report."""
    return tuple(
        LawText(id=law.id, statement=law.statement, citation=law.citation, failing_means=law.failing_means)
        for law in (REGISTRY[v.law] for v in verdicts)
    )
