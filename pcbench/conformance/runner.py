"""Runner process: judge groups of laws on an implementation of its own, as the coordinator asks.

Started by `pcbench.conformance.run` as `python -m pcbench.conformance.runner`.  It reads a configuration and then jobs
from standard input, one JSON object a line, and writes events to standard output.  Everything that judging needs is
imported before the first job, because what Hypothesis draws may depend on which modules are loaded.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, TextIO

from pcbench.conformance.plan import Plan
from pcbench.conformance.session import Session
from pcbench.errors import PcbenchError
from pcbench.output.strict_json import plain_data
from pcbench.worker.subject import Subject

_HEARTBEAT = 1.0
_GRACE = 3.0
_AGAIN = 0.01


class _Channel:
    """Sends events and receives jobs; the end of the input ends this process and its worker."""

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
            self._events.write(json.dumps(event, default=plain_data) + "\n")
            self._events.flush()

    def configuration(self) -> dict[str, Any]:
        line = self._jobs.readline()
        if not line:
            sys.exit(0)
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._send_heartbeats, daemon=True).start()
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

    def _send_heartbeats(self) -> None:
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
    plan = Plan.from_json(channel.configuration())
    session = Session(plan)
    try:
        importlib.import_module(plan.engine)
        about = session.start()
    except PcbenchError as error:
        session.close()
        channel.send(event="failed", kind=type(error).__name__, message=str(error), stderr=_stderr_of(error))
        return 2
    channel.subject = session.subject
    channel.send(event="ready", **vars(about))
    while True:
        _judge_group(channel, session, channel.next_job())


def _judge_group(channel: _Channel, session: Session, job: dict[str, Any]) -> None:
    group, outcomes = job["group"], dict(job["done"])
    for law in session.plan.selected_laws:
        if law.id in outcomes:
            continue
        channel.send(event="law", law=law.id, group=group)
        evidence = session.judge(law, group, outcomes)
        outcomes[law.id] = evidence.outcome
        channel.send(event="evidence", evidence=evidence.to_json())
    channel.send(event="done", group=group, compilations=_compilations(session.subject))


def _compilations(subject: Subject | None) -> int | None:
    if subject is None or "compilations" not in subject.offers:
        return None
    with suppress(PcbenchError):
        return subject.compilations()
    return None


def _stderr_of(error: BaseException) -> str:
    return str(getattr(error, "stderr", "") or getattr(error, "traceback", "") or "")


def _raise_interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Serve the coordinator until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
    signal.signal(signal.SIGTERM, _raise_interrupt)
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
