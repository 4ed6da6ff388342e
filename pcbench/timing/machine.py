"""Description of this machine, and pinning of runner processes to its CPUs."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from typing import Any


def processor() -> str:
    """The model of the processor, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(models, platform.processor())
    except OSError:  # only Linux has this file
        return platform.processor()


def host(threads: int) -> dict[str, Any]:
    """Description of the machine, as far as it can be read; `threads` of the numerical libraries."""
    return {"platform": platform.platform(), "cpu": processor(), "cpus": os.cpu_count(), "threads": threads}


def load_average() -> float | None:
    """How many processes wanted a processor over the last minute; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def available_cpus() -> list[int]:
    """The CPUs that this process may use, or as many numbers as there are where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin_to_cpu(pid: int, number: int, runners: int) -> None:
    """Keep runner `number` of `runners`, which has just been started, and what it starts, on a CPU of its own.

    A runner and its worker take turns, so one CPU is enough for both, and there each hands over to the other without
    waking a second one: a call across the boundary takes two thirds of the time (0.67 for 1.07 ms, 2 cores).  That is
    worth having only where every CPU has a runner anyway; with CPUs to spare the operating system places better.
    Nothing is done there, or where the system does not offer it.
    """
    cpus = available_cpus()
    if runners >= len(cpus) > 1 and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # it is gone already, or may not be placed
            os.sched_setaffinity(pid, {cpus[number % len(cpus)]})
