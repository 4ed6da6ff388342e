"""One runner of a run: a process that judges whole groups of laws with an implementation of its own.

Started by `pcbench.runner` as `python -m pcbench.judging`.  It reads a configuration and then jobs from standard
input, one JSON object a line, and writes events to standard output.  Everything that judging needs is imported before
the first job, because what Hypothesis draws may depend on which modules are loaded.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

from pcbench.architecture_problem import problem_from_line
from pcbench.errors import ImplementationError, PcbenchError
from pcbench.evidence import BROKEN, Evidence
from pcbench.laws import select, transitive_dependencies
from pcbench.laws.base import Law
from pcbench.limits import Limits
from pcbench.profiles import PROFILES
from pcbench.subject import Subject, Transport

ENGINE = "pcbench.properties"
"""The module whose `judge` gathers evidence; tests of the runner put another in its place."""

ISOLATIONS = ("run", "law", "example")
"""How long a process of the implementation lives: for the whole run, for one law on one group, or for one problem."""

_HEARTBEAT = 1.0
_GRACE = 3.0
_AGAIN = 0.01


def open_subject(
    spec: str,
    *,
    python: str | None = None,
    limits: Limits | None = None,
    in_process: bool = False,
    isolation: str = "run",
) -> Subject:
    """The implementation `spec` as the laws see it, in a process of its own unless `in_process`.

    **Arguments:** `limits` of one call; `isolation`, how long that process lives, one of `ISOLATIONS`.

    **Raises:** whatever keeps it from starting, a `PcbenchError`.
    """
    from pcbench.client import InProcess, WorkerClient

    if in_process:
        return Subject(InProcess(spec))
    allowed = limits or Limits()

    def start() -> Transport:
        return WorkerClient(
            spec,
            python=python,
            call_timeout=allowed.call_seconds,
            cpu_limit=allowed.cpu_seconds,
            memory_limit=allowed.memory_mib,
        )

    return Subject(start(), respawn=start, fresh_for_every_problem=isolation == "example")


def judge_one(
    engine: Any, law: Law, subject: Subject, profile: str, seed: int, group: int, outcomes: dict[str, str],
    first: str = "",
) -> Evidence:  # fmt: skip
    """The evidence of one group of one law; `outcomes` are those of the laws judged before it in this group.

    `first` is the line of a problem to measure before any is drawn.
    """
    reason = law.missing(subject)
    if reason is not None:
        return Evidence(law=law.id, group=group, outcome="not-applicable", message=reason)
    roots = sorted(name for name in transitive_dependencies(law.id) if outcomes.get(name) in BROKEN)
    if roots:
        return Evidence(law=law.id, group=group, outcome="blocked", message=f"depends on {', '.join(roots)}")
    try:
        given = problem_from_line(first) if first else None
        return engine.judge(law, subject, PROFILES[profile], seed, group, given)
    except ImplementationError as error:
        message, stderr = f"{type(error).__name__}: {error}", getattr(error, "stderr", "")
        return Evidence(law=law.id, group=group, outcome="error", message=message, stderr=stderr)
    except Exception as error:
        message = f"pcbench itself failed to judge this law: {type(error).__name__}: {error}"
        return Evidence(law=law.id, group=group, outcome="error", message=message, stderr=traceback.format_exc())


def unfit(laws: Sequence[Law], subject: Subject, first: Mapping[str, str]) -> dict[str, str]:
    """For laws whose problem to be measured first cannot be judged, why not; `first` are lines by law."""
    found = {}
    for law in laws:
        if law.id not in first or law.ladder:
            continue
        problem = problem_from_line(first[law.id])
        reason = subject.refuses(problem) or ("" if law.domain.admits(problem) else "outside the domain of the law")
        if reason:
            found[law.id] = reason
    return found


def plain(value: Any) -> Any:
    """`value` as strict JSON data: numbers of NumPy as Python's, what is not finite as text, anything else as text."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    return str(value)


class _Channel:
    """Events out, whole lines from any thread; jobs in.  The end of the input ends this process and its worker."""

    def __init__(self, jobs: TextIO, events: TextIO) -> None:
        self._jobs, self._events = jobs, events
        self._lock = threading.Lock()
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self.subject: Subject | None = None
        self.swallowed = threading.Event()
        self._told = -1

    def send(self, **event: Any) -> None:
        with self._lock:
            # Numbers that are not finite stay numbers here: both ends are Python's json.
            self._events.write(json.dumps(event, default=plain) + "\n")
            self._events.flush()

    def configuration(self) -> dict[str, Any]:
        line = self._jobs.readline()
        if not line:
            sys.exit(0)
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        return json.loads(line)

    def next_job(self) -> dict[str, Any]:
        return self._queue.get()

    def _read(self) -> None:
        for line in self._jobs:
            self._queue.put(json.loads(line))
        # The coordinator is gone, however it ended.  An exception in the main thread, which may be waiting for an
        # answer, makes the client kill its worker; Hypothesis would take any but KeyboardInterrupt for a failure.
        deadline = time.monotonic() + _GRACE
        while (left := deadline - time.monotonic()) > 0:
            self.swallowed.clear()
            os.kill(os.getpid(), signal.SIGTERM)
            if self.swallowed.wait(left):
                time.sleep(_AGAIN)  # the main thread is still where it was
        os._exit(1)

    def unraisable(self, unraisable: Any) -> None:
        """Notice an interruption that ends nothing, because it came where Python lets no exception out.

        Hypothesis has a callback of the garbage collector, which it starts for every example: most come there.
        """
        if unraisable.exc_type is KeyboardInterrupt:
            self.swallowed.set()
        else:
            sys.__unraisablehook__(unraisable)

    def _beat(self) -> None:
        """Tell the coordinator that calls of the implementation still come to an end."""
        idle = threading.Event()
        while not idle.wait(_HEARTBEAT):
            calls = self.subject.calls if self.subject is not None else -1
            if calls != self._told:
                self._told = calls
                with suppress(OSError, ValueError):
                    self.send(event="alive", calls=calls)


def _serve(channel: _Channel) -> int:
    """Answer jobs until the end of the input, which arrives as KeyboardInterrupt."""
    config = channel.configuration()
    try:
        engine = importlib.import_module(config["engine"])
        laws = [law for law in select() if law.id in set(config["laws"])]
        subject = open_subject(
            config["spec"],
            python=config["python"],
            limits=Limits(
                call_seconds=config["call_timeout"],
                cpu_seconds=config["cpu_limit"],
                memory_mib=config["memory_limit"],
            ),
            in_process=config["in_process"],
            isolation=config["isolation"],
        )
    except PcbenchError as error:
        channel.send(event="failed", kind=type(error).__name__, message=str(error), stderr=_stderr_of(error))
        return 2
    channel.subject = subject
    channel.send(
        event="ready",
        manifest=plain(subject.manifest.to_json()),
        info=plain(getattr(subject.transport, "info", {}) or {}),
        offers=sorted(subject.offers),
        missing={law.id: reason for law in laws if (reason := law.missing(subject)) is not None},
        unfit=unfit(laws, subject, config["first"]),
    )
    while True:
        _group(channel, engine, laws, subject, config, channel.next_job())


def _group(
    channel: _Channel, engine: Any, laws: list[Law], subject: Subject, config: dict[str, Any], job: dict[str, Any]
) -> None:
    group, outcomes = job["group"], dict(job["done"])
    for law in laws:
        if law.id in outcomes:
            continue
        channel.send(event="law", law=law.id, group=group)
        if config["isolation"] == "law" and law.missing(subject) is None:
            subject.forget()
        first = config["first"].get(law.id, "")
        evidence = judge_one(engine, law, subject, config["profile"], config["seed"], group, outcomes, first)
        outcomes[law.id] = evidence.outcome
        channel.send(event="evidence", evidence=evidence.to_json())
    channel.send(event="done", group=group, compilations=_compilations(subject))


def _compilations(subject: Subject) -> int | None:
    if "compilations" not in subject.offers:
        return None
    with suppress(PcbenchError):
        return subject.compilations()
    return None


def _stderr_of(error: BaseException) -> str:
    return str(getattr(error, "stderr", "") or getattr(error, "traceback", "") or "")


def _interrupted(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Serve the coordinator until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
    signal.signal(signal.SIGTERM, _interrupted)
    jobs = os.fdopen(os.dup(0), "r", encoding="utf-8")
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What an implementation in this process prints must not get between the events, nor may it read the jobs.
    os.dup2(2, 1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    channel = _Channel(jobs, events)
    sys.unraisablehook = channel.unraisable
    try:
        return _serve(channel)
    except KeyboardInterrupt:
        return 1
    finally:
        if channel.subject is not None:
            channel.subject.close()


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # an implementation's threads must not keep a finished runner alive
