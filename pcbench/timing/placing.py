"""Which CPUs the runners of a run are placed on.

A runner and its worker take turns, so one CPU is enough for both, and there each hands over to the other without
waking a second one: a call across the boundary takes two thirds of the time (0.67 for 1.07 ms, 2 cores).  That is
worth having only where every CPU has a runner anyway; with CPUs to spare the operating system places better.
"""

from __future__ import annotations

import os
from contextlib import suppress


def available() -> list[int]:
    """The CPUs that this process may use, or as many numbers as there are where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def place(pid: int, number: int, runners: int) -> None:
    """Keep runner `number` of `runners`, which has just been started, and what it starts, on a CPU of its own.

    Nothing is done where there are fewer runners than CPUs, or where the system does not offer it.
    """
    cpus = available()
    if runners >= len(cpus) > 1 and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # it is gone already, or may not be placed
            os.sched_setaffinity(pid, {cpus[number % len(cpus)]})
