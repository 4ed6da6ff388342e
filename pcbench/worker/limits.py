r"""Limits of a worker: seconds by the clock and of CPU time for one call, and memory.

Limits of the clock are kept by `pcbench.worker.process`.  Memory and CPU time are the operating system's, and the
worker puts them on itself: a library that asks for more memory than it may have gets a `MemoryError`, or its own
report of one, in the line that asked; one that computes for too long is told by a signal, whose handler prints where.
On a busy machine CPU time is the better limit: it does not run while others compute.
"""

from __future__ import annotations

import contextlib
import math
import resource
from collections.abc import Iterator
from dataclasses import dataclass

from pcbench.errors import UsageError

CALL_SECONDS = 120.0
"""Seconds that one call of an implementation may take, compilation included, unless somebody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    r"""What one worker may use; None for no limit.

    **Arguments:**

    - `call_seconds`: by the clock, for one call, compilation included.
    - `cpu_seconds`: of CPU time, all threads together, for one call; the system counts whole seconds, and a fraction
      is rounded up.
    - `memory_mib`: memory that the worker may hold, in MiB (\(2^{20}\) bytes): its data segment, which is what it
      has allocated, whether or not it has touched it.  Libraries are included, so that JAX needs some 500 to begin
      with.  Kept by Linux; macOS accepts and ignores it.

    **Raises:** `UsageError` for a limit that is not a positive number.
    """

    call_seconds: float = CALL_SECONDS
    cpu_seconds: float | None = None
    memory_mib: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that no worker could keep."""
        for name, value, unit in (
            ("timeout", self.call_seconds, "seconds"),
            ("CPU limit", self.cpu_seconds, "seconds of CPU time"),
            ("memory limit", self.memory_mib, "MiB"),
        ):
            if value is not None and not value > 0:
                raise UsageError(f"{name} {value!r}: needed a positive number of {unit}")


def confine_memory(mib: int) -> None:
    """Limit what this process may allocate, from now on and for good."""
    wanted = mib << 20
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def cpu_time(seconds: float | None) -> Iterator[None]:
    """Context in which only so much CPU time may be used; SIGXCPU ends the process beyond it."""
    if seconds is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_CPU)
    used = resource.getrusage(resource.RUSAGE_SELF)
    last = math.ceil(used.ru_utime + used.ru_stime + seconds)
    # The hard limit stays: once lowered, it could not be raised for the next call.
    resource.setrlimit(resource.RLIMIT_CPU, (last if before[1] < 0 else min(last, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)
