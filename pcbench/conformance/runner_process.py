"""Start a runner process, exchange messages with it, and tell how it ended."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any

from pcbench.worker import process

_STDERR = 4096


class RunnerProcess:
    """A runner with its configuration; its events go into the queue `events`, and None when it has ended."""

    def __init__(
        self, config: dict[str, Any], events: queue.Queue[tuple[RunnerProcess, dict[str, Any] | None]]
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._popen = process.start(
            # -P: files in the current directory must not hide modules of that name
            [sys.executable, "-P", "-m", "pcbench.conformance.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
        )
        self._events = events
        self._stderr = ""
        threading.Thread(target=self._read, daemon=True).start()
        self.send(config)

    def send(self, data: dict[str, Any]) -> None:
        """Send one line; a process that is gone is noticed by its events."""
        assert self._popen.stdin is not None
        with suppress(OSError, ValueError):
            self._popen.stdin.write(json.dumps(data) + "\n")
            self._popen.stdin.flush()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with suppress(OSError, ValueError), self._popen.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    break  # a torn line: the process was killed while it wrote
                self._events.put((self, event))
        self._events.put((self, None))

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._popen.pid

    @property
    def stderr(self) -> str:
        """The end of what the process wrote to standard error."""
        with suppress(OSError, ValueError):
            number = self._errors.fileno()
            size = os.fstat(number).st_size
            # pread, because the process writes at the position that the two share
            self._stderr = os.pread(number, _STDERR, max(0, size - _STDERR)).decode("utf-8", "replace")
        return self._stderr

    def ending(self) -> str:
        """How the process ended, in words."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=5)
        code = self._popen.poll()
        if code is None:
            self.kill()
            return "closed its output"
        return process.ending(code)

    def hang_up(self) -> None:
        """Ask the process to end, its worker first."""
        assert self._popen.stdin is not None
        with suppress(OSError, ValueError):
            self._popen.stdin.close()

    def end(self, deadline: float) -> None:
        """Wait for the end until `deadline` on the monotonic clock, then force it."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End the process group now; a worker ends when its runner does."""
        self.hang_up()
        process.end(self._popen)
        self._stderr = self.stderr
        self._errors.close()
