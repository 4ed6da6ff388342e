"""Run the laws on an implementation in several runner processes, whose number changes no result.

The unit of work is a group of examples, in which a runner judges all laws in the order of the register; which runner
takes which group changes nothing.  A runner that dies or hangs costs one judgement and is replaced.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcbench.conformance.journal import Journal, key
from pcbench.conformance.plan import ENGINE, Plan, make_plan
from pcbench.conformance.progress import Progress
from pcbench.conformance.runner_process import RunnerProcess
from pcbench.conformance.session import Introduction, Session, build_report, merge_groups
from pcbench.errors import UsageError, WorkerCrashError, rebuild
from pcbench.report.evidence import Evidence, Verdict
from pcbench.report.known_failures import KnownFailure
from pcbench.report.report import Report
from pcbench.timing.machine import available_cpus, pin_to_cpu
from pcbench.worker.limits import CALL_SECONDS, Limits

HANG_SECONDS = 300.0
"""Seconds beyond the limit of a call that a runner may go without finishing a call before it counts as hung."""

_POLL = 0.25
_START_TRIES = 3


def check(
    implementation: Any = "reference",
    *,
    profile: str = "standard",
    seed: int | None = None,
    laws: str | Iterable[str] = (),
    python: str | Path | None = None,
    known_failures: str | Path | Sequence[KnownFailure] | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    cpu_limit: float | None = None,
    memory_limit: int | None = None,
    isolation: str = "run",
    in_process: bool = False,
    journal_dir: str | Path | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    command: str = "",
    hang_seconds: float = HANG_SECONDS,
    engine: str = ENGINE,
) -> Report:
    """Judge an implementation by the laws of predictive coding networks.

    **Arguments:**

    - `implementation`: the name of an adapter that comes with pcbench, `package.module:attribute`, `path/to/file.py`
      or `path/to/file.py:attribute`, which runs in processes of its own; or an object with the methods of
      `pcbench.Implementation`, or a class or function that gives one, which is judged in this process, one law after
      another.
    - `profile`: how much evidence, one of `smoke`, `standard`, `thorough`.
    - `seed` of all problems; None draws one, or takes that of an unfinished run in the journal.
    - `laws`: ids, groups or wildcards, one or several; all laws by default.
    - `python`: the interpreter that has the library under test; by default that of the environment that
      `pcbench env create` made for it, else this one.
    - `known_failures`: the path of a file of failures that are expected, or its entries.
    - `workers`: runner processes, by default one for each CPU; their number changes nothing but the time.
    - `timeout`: seconds for one call of the implementation, 120 by default; `cpu_limit`, seconds of CPU time for one
      call; `memory_limit`, MiB that a process of it may allocate.
    - `isolation`: how long a process of the implementation lives, for one `run`, one `law` or one `example`;
      `in_process` runs it inside the runners instead.
    - `journal_dir`: where a run that is interrupted leaves what it has judged, to go on there; None keeps nothing.
      `fresh` ignores what was left.
    - `progress`: a display, silent by default; `command`: what the report says it was made by; `hang_seconds`: seconds
      beyond `timeout` that a runner may go without ending a call before it counts as hung; `engine`: see `Plan`.

    Ctrl-C ends the run and gives the partial report, whose header says so.

    **Returns:** a `pcbench.Report`, whose `conforms` and `failures` say what there is to know first.

    **Raises:** `UsageError` for an argument that cannot be meant, and whatever else keeps the implementation from
    starting, a `PcbenchError`.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers {workers!r}: needed an integer of at least 1")
    limits = Limits(
        call_seconds=CALL_SECONDS if timeout is None else float(timeout), cpu_seconds=cpu_limit, memory_mib=memory_limit
    )
    drawn = secrets.randbits(32)
    plan = make_plan(
        implementation, profile=profile, seed=drawn if seed is None else seed, laws=laws, python=python,
        known_failures=known_failures, limits=limits, in_process=in_process, isolation=isolation, engine=engine,
    )  # fmt: skip
    if not plan.spec:
        return _judge_here(Session(plan, implementation), progress or Progress(), command)
    journal = None if journal_dir is None else Journal(journal_dir, key(plan.spec, {**plan.settings(), "seed": seed}))
    header, evidence = ({}, []) if journal is None or fresh else journal.load()
    if seed is None:
        plan = replace(plan, seed=header.get("seed", drawn))
    count = min(workers or len(available_cpus()), plan.evidence.groups)
    run = _Run(plan, count, journal, hang_seconds, progress or Progress())
    run.resume(header, evidence)
    return run.execute(command)


def _judge_here(session: Session, progress: Progress, command: str) -> Report:
    """The report of a session in this process, its laws judged one after another."""
    began, started, partial = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds"), ""
    plan, verdicts = session.plan, {}
    total = len(plan.laws)
    try:
        session.start()
        progress.start(session.description, total, total, 0)
        for number, law in enumerate(plan.laws, start=1):
            progress.show_law(0, law, 0)
            verdicts[law] = session.verdict(law)
            progress.advance(number)
            progress.verdict(verdicts[law])
    except KeyboardInterrupt:
        partial = "interrupted"
    finally:
        progress.close()
        session.close()
    found = [verdicts.get(law) or Verdict(law=law, outcome="not-run") for law in plan.laws]
    return build_report(
        plan, session.introduction, found, started=started, seconds=time.monotonic() - began, command=command,
        partial=partial,
    )  # fmt: skip


@dataclass
class _Slot:
    """A place for a runner, filled again when its runner is lost."""

    number: int
    process: RunnerProcess
    group: int | None = None
    law: str | None = None
    since: float = field(default_factory=time.monotonic)
    compilations: int = 0


class _Run:
    """The state of one run; see `check`."""

    def __init__(
        self, plan: Plan, workers: int, journal: Journal | None, hang_seconds: float, progress: Progress
    ) -> None:
        self.plan, self.workers, self.laws = plan, workers, plan.selected_laws
        self.journal, self.hang_seconds, self.progress = journal, hang_seconds, progress
        self.profile = plan.evidence
        self.groups: deque[int] = deque(range(self.profile.groups))
        self.evidence: dict[tuple[str, int], Evidence] = {}
        self.told: set[str] = set()
        self.events: queue.Queue[tuple[RunnerProcess, dict[str, Any] | None]] = queue.Queue()
        self.slots: list[_Slot] = []
        self.about: Introduction | None = None
        self.previous: dict[str, Any] = {}
        self.compilations: list[int] = []
        self.began = time.monotonic()
        self.interrupted = False
        self.failed_starts = 0

    # ---- the whole ------------------------------------------------------------------------------------------------

    def resume(self, header: dict[str, Any], evidence: Sequence[Evidence]) -> None:
        """Take over what an earlier run of the same command has judged."""
        self.previous = header
        wanted = set(self.plan.laws)
        for item in evidence:
            if item.law in wanted and 0 <= item.group < self.profile.groups:
                self.evidence[item.law, item.group] = item

    def execute(self, command: str) -> Report:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._work()
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            try:
                self._stop()
            finally:  # a second Ctrl-C ends the waiting; what is still running ends with the pipe to this process
                self.progress.close()
        report = self._report(command, started)
        if self.journal is not None:
            # Only a complete run is forgotten; a partial one can be taken up again.
            if self.interrupted:
                self.journal.close()
            else:
                self.journal.remove()
        return report

    def _work(self) -> None:
        for number in range(self.workers):
            self.slots.append(_Slot(number, self._start(number)))
        # the last word of a runner carries the number of its compilations
        while not self._complete() or any(slot.group is not None for slot in self.slots):
            try:
                process, event = self.events.get(timeout=_POLL)
            except queue.Empty:
                self._look_for_hung()
                continue
            slot = next((s for s in self.slots if s.process is process), None)
            if slot is None:
                continue  # last words of a runner that has been replaced
            if event is None:
                self._handle_lost_runner(slot)
            else:
                getattr(self, "_on_" + event.pop("event"))(slot, **event)
            if time.monotonic() - self.began > _POLL:
                self._look_for_hung()

    def _complete(self) -> bool:
        return len(self.evidence) == len(self.laws) * self.profile.groups and self.about is not None

    def _start(self, number: int) -> RunnerProcess:
        process = RunnerProcess(self.plan.to_json(), self.events)
        pin_to_cpu(process.pid, number, self.workers)
        return process

    def _stop(self) -> None:
        for slot in self.slots:
            slot.process.hang_up()
        deadline = time.monotonic() + 2.0
        for slot in self.slots:
            self.compilations.append(slot.compilations)
            slot.process.end(deadline)

    # ---- events ---------------------------------------------------------------------------------------------------

    def _on_ready(self, slot: _Slot, **ready: Any) -> None:
        slot.since = time.monotonic()
        if self.about is None:
            self.about = Introduction(**ready)
            self._begin(self.about)
        self._assign_group(slot)

    def _on_failed(self, slot: _Slot, kind: str, message: str, stderr: str) -> None:
        if self.about is None:
            raise rebuild(kind, message, stderr)
        self._give_up(slot, f"the implementation could not be started again: {message}")

    def _on_alive(self, slot: _Slot, calls: int) -> None:
        slot.since = time.monotonic()

    def _on_law(self, slot: _Slot, law: str, group: int) -> None:
        slot.law, slot.since = law, time.monotonic()
        self.progress.show_law(slot.number, law, group)

    def _on_evidence(self, slot: _Slot, evidence: dict[str, Any]) -> None:
        slot.law, slot.since = None, time.monotonic()
        self._record(Evidence.from_json(evidence))

    def _on_done(self, slot: _Slot, group: int, compilations: int | None) -> None:
        slot.group = None
        slot.compilations = max(slot.compilations, compilations or 0)
        self._assign_group(slot)

    # ---- work -----------------------------------------------------------------------------------------------------

    def _begin(self, about: Introduction) -> None:
        """The implementation has introduced itself: open the journal, and say what is known from it."""
        manifest = about.manifest
        if self.previous.get("manifest") != manifest:
            self.evidence.clear()
        total = len(self.laws) * self.profile.groups
        if self.evidence:
            self.progress.note(f"resuming: {len(self.evidence)} of {total} judgements are in the journal")
        if self.journal is not None:
            self.journal.begin({"seed": self.plan.seed, "manifest": manifest}, list(self.evidence.values()))
            if self.journal.problem:
                self.progress.note(self.journal.problem)
        name = " ".join(part for part in (manifest["name"], manifest["version"]) if part)
        described = f"{name}, profile {self.plan.profile}, seed {self.plan.seed}, {self.workers} workers"
        self.progress.start(described, len(self.laws), total, len(self.evidence))
        for law in self.laws:
            self._announce_verdict(law.id)

    def _outcomes(self, group: int) -> dict[str, str]:
        found = ((law.id, self.evidence.get((law.id, group))) for law in self.laws)
        return {name: e.outcome for name, e in found if e is not None}

    def _assign_group(self, slot: _Slot) -> None:
        """Hand the next group that has something left to judge to a runner that is ready."""
        while self.groups:
            group = self.groups.popleft()
            done = self._outcomes(group)
            if len(done) < len(self.laws):
                slot.group, slot.law, slot.since = group, None, time.monotonic()
                slot.process.send({"group": group, "done": done})
                return

    def _record(self, evidence: Evidence) -> None:
        self.evidence[evidence.law, evidence.group] = evidence
        if self.journal is not None:
            self.journal.add(evidence)
        self.progress.advance(len(self.evidence))
        self._announce_verdict(evidence.law)

    def _announce_verdict(self, law: str) -> None:
        """Show the verdict once all groups are in; dependencies come first in every group, so it is final."""
        if law in self.told or any((law, g) not in self.evidence for g in range(self.profile.groups)):
            return
        self.told.add(law)
        self.progress.verdict(next(v for v in self._verdicts() if v.law == law))

    # ---- runners that are lost ------------------------------------------------------------------------------------

    def _look_for_hung(self) -> None:
        limit = self.plan.limits.call_seconds + self.hang_seconds
        for slot in self.slots:
            if (slot.group is not None or self.about is None) and time.monotonic() - slot.since > limit:
                where = "its start" if self.about is None else f"law {slot.law}"
                self._replace(slot, "timeout", f"the runner hung: no call ended for {limit:g} s during {where}")

    def _handle_lost_runner(self, slot: _Slot) -> None:
        ending = slot.process.ending()
        if self.about is None:
            raise WorkerCrashError(f"the implementation could not be started: the runner {ending}", slot.process.stderr)
        if slot.group is not None:
            self._replace(slot, "error", f"the runner {ending}")
        elif self.groups:
            self._give_up(slot, f"the runner {ending} at its start")

    def _replace(self, slot: _Slot, outcome: str, message: str) -> None:
        """Count the judgement that a runner took down with it, and go on with another runner."""
        if self.about is None:
            raise WorkerCrashError(message, slot.process.stderr)
        slot.process.kill()
        self._blame(slot, outcome, message)
        self.compilations.append(slot.compilations)
        slot.compilations = 0
        slot.process = self._start(slot.number)
        slot.since = time.monotonic()

    def _blame(self, slot: _Slot, outcome: str, message: str) -> None:
        group = slot.group
        assert group is not None
        done = self._outcomes(group)
        law = slot.law or next((law.id for law in self.laws if law.id not in done), None)
        if law is not None and law not in done:
            stderr = slot.process.stderr
            self._record(Evidence(law=law, group=group, outcome=outcome, message=message, stderr=stderr))
        self.groups.appendleft(group)
        slot.group = slot.law = None

    def _give_up(self, slot: _Slot, message: str) -> None:
        """A runner that was to replace another did not start; after some tries one group goes down with it."""
        slot.process.kill()
        self.failed_starts += 1
        if self.failed_starts % _START_TRIES == 0 and self.groups:
            group = self.groups.popleft()
            done = self._outcomes(group)
            for law in self.laws:
                if law.id not in done:
                    self._record(Evidence(law=law.id, group=group, outcome="error", message=message))
        if self.groups:
            slot.process = self._start(slot.number)
            slot.since = time.monotonic()

    # ---- the report -----------------------------------------------------------------------------------------------

    def _verdicts(self) -> list[Verdict]:
        return merge_groups(self.plan, self.evidence)

    def _report(self, command: str, started: str) -> Report:
        about = self.about or Introduction()
        # A process that is replaced takes the number of its compilations along.
        counted = "compilations" in about.offers and self.plan.isolation == "run"
        return build_report(
            self.plan,
            about,
            self._verdicts(),
            workers=self.workers,
            compilations=sum(self.compilations) if counted else None,
            started=started,
            seconds=time.monotonic() - self.began,
            command=command,
            partial="interrupted" if self.interrupted else "",
        )
