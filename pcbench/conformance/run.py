"""One run: the laws on an implementation, by several runner processes, in a way that their number does not matter.

The unit of work is a group of examples, in which a runner judges all laws in the order of the register; which runner
takes which group changes nothing.  A runner that dies or hangs costs one judgement and is replaced.
"""

from __future__ import annotations

import hashlib
import platform
import queue
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcbench.conformance.journal import Journal, key
from pcbench.conformance.progress import Progress
from pcbench.conformance.runner import ENGINE, ISOLATIONS
from pcbench.conformance.runner_process import RunnerProcess, startup_error
from pcbench.errors import UsageError, WorkerCrashError
from pcbench.laws import REGISTRY, select, transitive_dependencies
from pcbench.laws.law import Law
from pcbench.laws.measuring import statistics
from pcbench.report import known_failures
from pcbench.report.evidence import Evidence, Verdict, block, merge
from pcbench.report.known_failures import KnownFailure
from pcbench.report.profiles import profile as profile_named
from pcbench.report.report import LawText, Report, RunHeader, commit_known
from pcbench.timing import placing
from pcbench.version import __version__
from pcbench.worker.limits import Limits

CALL_TIMEOUT = 120.0
"""Seconds that one call of the implementation may take, compilation included."""

PATIENCE = 300.0
"""Seconds beyond `call_timeout` that a runner may go without finishing a call before it counts as hung."""

_POLL = 0.25
_START_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is judged, completely: everything that decides a judgement, and nothing that does not."""

    spec: str
    python: str | None
    profile: str
    seed: int
    laws: tuple[str, ...]
    call_timeout: float
    in_process: bool
    cpu_limit: float | None = None
    memory_limit: int | None = None
    isolation: str = "run"
    engine: str = ENGINE
    first: dict[str, str] = field(default_factory=dict)
    """For a law, the line of a problem to measure before any is drawn."""

    def settings(self) -> dict[str, Any]:
        """Plain JSON data, for the runners and for the name of the journal."""
        return {**vars(self), "laws": list(self.laws)}


def law_set_hash(laws: Sequence[Law] | None = None) -> str:
    """12 hexadecimal digits that change when a law's statement, needs, domain or dependencies do."""
    chosen = list(REGISTRY.values()) if laws is None else list(laws)
    parts = [(law.id, law.statement, sorted(law.needs), repr(law.domain), law.depends_on) for law in chosen]
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()[:12]


def run(
    spec: str,
    *,
    profile: str = "standard",
    seed: int | None = None,
    laws: Sequence[str] = (),
    workers: int | None = None,
    python: str | None = None,
    call_timeout: float = CALL_TIMEOUT,
    in_process: bool = False,
    cpu_limit: float | None = None,
    memory_limit: int | None = None,
    isolation: str = "run",
    journal_dir: str | Path | None = ".pcbench",
    fresh: bool = False,
    progress: Progress | None = None,
    known: Sequence[KnownFailure] = (),
    implementation: str | None = None,
    command: str = "",
    patience: float = PATIENCE,
    engine: str = ENGINE,
) -> Report:
    """Judge the implementation `spec` by the laws matching `laws`, and report.

    **Arguments:** `seed` None draws one, or takes that of an unfinished run of the same command; `workers` runner
    processes, by default one for each CPU and not more than groups; `python` the interpreter of the implementation;
    `call_timeout` seconds for one call, `cpu_limit` of CPU time, `memory_limit` MiB (see `pcbench.worker.limits`);
    `in_process` runs it inside the runners; `isolation` is how long its processes live, one of
    `judging.ISOLATIONS`; `journal_dir` None keeps no journal; `fresh` ignores one; `known` failures are expected;
    `implementation` and `command` are what the report calls them.

    Ctrl-C ends the run and gives the partial report, whose header says so.

    **Raises:** `UsageError` and whatever else keeps the implementation from starting, a `PcbenchError`.
    """
    chosen = profile_named(profile)
    if seed is not None and (isinstance(seed, bool) or not 0 <= seed < 2**64):
        raise UsageError(f"seed {seed!r}: needed an integer from 0 to 2**64 - 1")
    if workers is not None and workers < 1:
        raise UsageError(f"workers {workers!r}: needed an integer of at least 1")
    Limits(call_seconds=call_timeout, cpu_seconds=cpu_limit, memory_mib=memory_limit)  # refuses what cannot be kept
    if isolation not in ISOLATIONS:
        raise UsageError(f"isolation {isolation!r}: needed one of {', '.join(ISOLATIONS)}")
    if in_process and (cpu_limit is not None or memory_limit is not None or isolation != "run"):
        raise UsageError("limits and isolation are of a process of its own: leave out in_process (--in-process)")
    selected = select(laws)
    if not selected:
        raise UsageError("there are no laws to judge")
    plan = Plan(
        spec=spec,
        python=python,
        profile=profile,
        seed=-1 if seed is None else seed,
        laws=tuple(law.id for law in selected),
        call_timeout=float(call_timeout),
        in_process=in_process,
        cpu_limit=cpu_limit,
        memory_limit=memory_limit,
        isolation=isolation,
        engine=engine,
        first={entry.law: entry.problem for entry in known if entry.problem},
    )
    journal = None if journal_dir is None else Journal(journal_dir, key(spec, plan.settings()))
    header, evidence = ({}, []) if journal is None or fresh else journal.load()
    if seed is None:
        plan = Plan(**{**vars(plan), "seed": header.get("seed", secrets.randbits(32))})
    count = min(workers or len(placing.available()), chosen.groups)
    run_ = _Run(plan, selected, count, journal, patience, progress or Progress(), list(known))
    run_.resume(header, evidence)
    return run_.go(implementation or spec, command)


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
    """The state of one run; see `run`."""

    def __init__(
        self,
        plan: Plan,
        laws: list[Law],
        workers: int,
        journal: Journal | None,
        patience: float,
        progress: Progress,
        known: list[KnownFailure],
    ) -> None:
        self.plan, self.laws, self.workers = plan, laws, workers
        self.journal, self.patience, self.progress = journal, patience, progress
        self.known = [entry for entry in known if entry.law in plan.laws]
        self.profile = profile_named(plan.profile)
        self.groups: deque[int] = deque(range(self.profile.groups))
        self.evidence: dict[tuple[str, int], Evidence] = {}
        self.told: set[str] = set()
        self.events: queue.Queue[tuple[RunnerProcess, dict[str, Any] | None]] = queue.Queue()
        self.slots: list[_Slot] = []
        self.ready: dict[str, Any] = {}
        self.previous: dict[str, Any] = {}
        self.compilations: list[int] = []
        self.began = time.monotonic()
        self.interrupted = False
        self.failed_starts = 0
        self.dependencies = {law.id: transitive_dependencies(law.id) & set(plan.laws) for law in laws}

    # ---- the whole ------------------------------------------------------------------------------------------------

    def resume(self, header: dict[str, Any], evidence: Sequence[Evidence]) -> None:
        """Take over what an earlier run of the same command has judged."""
        self.previous = header
        wanted = set(self.plan.laws)
        for item in evidence:
            if item.law in wanted and 0 <= item.group < self.profile.groups:
                self.evidence[item.law, item.group] = item

    def go(self, implementation: str, command: str) -> Report:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._work()
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            try:
                self._stop()
            finally:  # a second Ctrl-C ends the waiting; what is still running ends with the pipe to this process
                self.progress.finished()
        report = self._report(implementation, command, started)
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
                self._lost(slot)
            else:
                getattr(self, "_on_" + event.pop("event"))(slot, **event)
            if time.monotonic() - self.began > _POLL:
                self._look_for_hung()

    def _complete(self) -> bool:
        return len(self.evidence) == len(self.laws) * self.profile.groups and bool(self.ready)

    def _start(self, number: int) -> RunnerProcess:
        process = RunnerProcess(self.plan.settings(), self.events)
        placing.place(process.pid, number, self.workers)
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
        if not self.ready:
            self.ready = ready
            self._begin(ready)
        self._give(slot)

    def _on_failed(self, slot: _Slot, kind: str, message: str, stderr: str) -> None:
        if not self.ready:
            raise startup_error(kind, message, stderr)
        self._give_up(slot, f"the implementation could not be started again: {message}")

    def _on_alive(self, slot: _Slot, calls: int) -> None:
        slot.since = time.monotonic()

    def _on_law(self, slot: _Slot, law: str, group: int) -> None:
        slot.law, slot.since = law, time.monotonic()
        self.progress.running(slot.number, law, group)

    def _on_evidence(self, slot: _Slot, evidence: dict[str, Any]) -> None:
        slot.law, slot.since = None, time.monotonic()
        self._record(Evidence.from_json(evidence))

    def _on_done(self, slot: _Slot, group: int, compilations: int | None) -> None:
        slot.group = None
        slot.compilations = max(slot.compilations, compilations or 0)
        self._give(slot)

    # ---- work -----------------------------------------------------------------------------------------------------

    def _begin(self, ready: dict[str, Any]) -> None:
        """The implementation has introduced itself: check what depends on who it is, and open the journal."""
        manifest = ready["manifest"]
        library, version = manifest["library"], manifest["version"]
        known_failures.check_current(self.known, library, version, ready["missing"], ready["unfit"])
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
        self.progress.started(described, len(self.laws), total, len(self.evidence))
        for law in self.laws:
            self._tell(law.id)

    def _outcomes(self, group: int) -> dict[str, str]:
        found = ((law.id, self.evidence.get((law.id, group))) for law in self.laws)
        return {name: e.outcome for name, e in found if e is not None}

    def _give(self, slot: _Slot) -> None:
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
        self.progress.judged(len(self.evidence))
        self._tell(evidence.law)

    def _tell(self, law: str) -> None:
        """Show the verdict once all groups are in; dependencies come first in every group, so it is final."""
        if law in self.told or any((law, g) not in self.evidence for g in range(self.profile.groups)):
            return
        self.told.add(law)
        self.progress.verdict(next(v for v in self._verdicts() if v.law == law))

    # ---- runners that are lost ------------------------------------------------------------------------------------

    def _look_for_hung(self) -> None:
        limit = self.plan.call_timeout + self.patience
        for slot in self.slots:
            if (slot.group is not None or not self.ready) and time.monotonic() - slot.since > limit:
                where = "its start" if not self.ready else f"law {slot.law}"
                self._replace(slot, "timeout", f"the runner hung: no call ended for {limit:g} s during {where}")

    def _lost(self, slot: _Slot) -> None:
        ending = slot.process.ending()
        if not self.ready:
            raise WorkerCrashError(f"the implementation could not be started: the runner {ending}", slot.process.stderr)
        if slot.group is not None:
            self._replace(slot, "error", f"the runner {ending}")
        elif self.groups:
            self._give_up(slot, f"the runner {ending} at its start")

    def _replace(self, slot: _Slot, outcome: str, message: str) -> None:
        """Count the judgement that a runner took down with it, and go on with another runner."""
        if not self.ready:
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
        parts: dict[str, list[Evidence]] = {law.id: [] for law in self.laws}
        for (law, _), item in self.evidence.items():
            parts[law].append(item)
        verdicts = []
        for law in self.laws:
            complete = len(parts[law.id]) == self.profile.groups
            verdict = merge(law.id, parts[law.id], self.profile.needed(law.ladder))
            if not complete and verdict.outcome in ("pass", "inconclusive"):
                got = f"{len(parts[law.id])} of {self.profile.groups} groups were judged"
                verdict = Verdict(law=law.id, outcome="not-run", message=got if parts[law.id] else "")
            verdicts.append(verdict)
        return known_failures.apply(block(verdicts, self.dependencies), self.known)

    def _report(self, implementation: str, command: str, started: str) -> Report:
        # Interrupted before the implementation has introduced itself, nothing is known about it.
        info, manifest = self.ready.get("info", {}), self.ready.get("manifest", {})
        capabilities = manifest.get("capabilities", {})
        # A process that is replaced takes the number of its compilations along.
        counted = "compilations" in self.ready.get("offers", ()) and self.plan.isolation == "run"
        header = RunHeader(
            pcbench=__version__,
            law_set=law_set_hash(),
            implementation=implementation,
            spec=self.plan.spec,
            interpreter=self.plan.python or "",
            environment=str(info.get("environment", "")),
            commit=commit_known(manifest, info),
            manifest=manifest,
            python=str(info.get("python", platform.python_version())),
            platform=str(info.get("platform", platform.platform())),
            versions={**manifest.get("versions", {}), **info.get("versions", {})},
            devices=tuple(info.get("devices") or capabilities.get("devices", ())),
            dtypes=tuple(capabilities.get("dtypes", ())),
            profile=self.plan.profile,
            seed=self.plan.seed,
            workers=self.workers,
            in_process=self.plan.in_process,
            compilations=sum(self.compilations) if counted else None,
            started=started,
            seconds=time.monotonic() - self.began,
            command=command,
            error_budget=statistics.budget() if any(law.estimates for law in self.laws) else "",
            partial="interrupted" if self.interrupted else "",
        )
        texts = tuple(
            LawText(id=law.id, statement=law.statement, citation=law.citation, failing_means=law.failing_means)
            for law in self.laws
        )
        return Report(header=header, laws=texts, verdicts=tuple(self._verdicts()), known=tuple(self.known))
