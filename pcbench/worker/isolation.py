"""Open an implementation for the laws: in which process it runs, and how long that process lives."""

from __future__ import annotations

from pcbench.worker.client import InProcess, WorkerClient
from pcbench.worker.limits import Limits
from pcbench.worker.subject import Subject, Transport

ISOLATIONS = ("run", "law", "example")
"""How long a process of the implementation lives: for the whole run, for one law on one group, or for one problem."""


def open_subject(
    spec: str,
    *,
    python: str | None = None,
    limits: Limits | None = None,
    in_process: bool = False,
    isolation: str = "run",
) -> Subject:
    """The implementation `spec` as the laws see it, in a process of its own unless `in_process`.

    **Arguments:** `python`, the interpreter it runs in, pcbench's own for None; `limits` of one call; `isolation`, how
    long that process lives, one of `ISOLATIONS`.

    **Raises:** whatever keeps it from starting, a `PcbenchError`.
    """
    if in_process:
        return Subject(InProcess(spec))

    def start() -> Transport:
        return WorkerClient(spec, python, limits)

    return Subject(start(), respawn=start, fresh_for_every_problem=isolation == "example")
