"""Environment variables that choose what the asv benchmarks measure.

| variable | says | default |
| --- | --- | --- |
| `PCBENCH_IMPL` | the implementation: a name that comes with pcbench, `package.module:attribute`, or an absolute path | `reference` |
| `PCBENCH_PYTHON` | the interpreter that it runs in | the environment made for it, else that of the benchmarks |
| `PCBENCH_GRID` | `small` or `full` | `small` |
| `PCBENCH_THREADS` | the threads of its numerical libraries | `1` |
| `PCBENCH_LAWS` | the laws to be judged, as for `pcbench check --laws`, with commas between | all |
"""  # noqa: E501 (a table)

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pcbench.adapters.register import locate
from pcbench.errors import UsageError

GRIDS = ("small", "full")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The variables, checked; `spec` is what `PCBENCH_IMPL` names."""

    spec: str
    python: str | None
    full: bool
    threads: int
    laws: tuple[str, ...]


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, or of another `environment`.

    **Raises:** `UsageError` for a variable with a value that means nothing, and for a relative path, as asv runs every
    benchmark in a directory of its own.
    """
    given = os.environ if environment is None else environment
    spec, python = locate(given.get("PCBENCH_IMPL") or "reference", given.get("PCBENCH_PYTHON"))
    place = spec if spec.endswith(".py") else spec.rpartition(":")[0] or spec
    if place.endswith(".py") and not os.path.isabs(place):
        raise UsageError(f"PCBENCH_IMPL={spec!r}: needed an absolute path, asv changes the directory")
    grid = given.get("PCBENCH_GRID") or "small"
    if grid not in GRIDS:
        raise UsageError(f"PCBENCH_GRID={grid!r}: needed {' or '.join(GRIDS)}")
    threads = given.get("PCBENCH_THREADS") or "1"
    if not threads.isdecimal() or int(threads) < 1:
        raise UsageError(f"PCBENCH_THREADS={threads!r}: needed an integer of at least 1")
    return Settings(
        spec=spec,
        python=python,
        full=grid == "full",
        threads=int(threads),
        laws=tuple(filter(None, (given.get("PCBENCH_LAWS") or "").split(","))),
    )
