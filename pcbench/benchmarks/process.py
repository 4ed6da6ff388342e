"""Run the benchmarked implementation in processes of its own; results are cached per asv process.

A speed is measured by the program that the gate uses (`pcbench.timing.measure`): warmed up, then bodies of so many
calls that one lasts 20 ms or more, each call ended by its answer on the host, the fastest body counted.  It samples by
itself, so that a number means the same under any version of asv and asv_runner, which repeat and calibrate in ways of
their own.  What is asked twice in one process of asv is kept.
"""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pcbench.adapters.register import timing_spec
from pcbench.benchmarks.settings import Settings, read_settings
from pcbench.gate import sides as bench
from pcbench.gate.rows import Task
from pcbench.problem.mlp import Problem
from pcbench.protocol.implementation import Manifest
from pcbench.timing import machine_record
from pcbench.timing.harness import Harness, Side, open_harness
from pcbench.worker.isolation import open_subject
from pcbench.worker.limits import Limits
from pcbench.worker.subject import Subject, adapt_problem

LEAST_SECONDS, BODIES = bench.LEAST_SECONDS, bench.BODIES
TIMEOUT = 550.0
"""Of one process, in seconds; asv's own limit of a benchmark is `Benchmark.timeout`, a little more."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_WARM = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
_open = ExitStack()
atexit.register(_open.close)


class Benchmark:
    """What all benchmarks have in common.

    `version` is explicit: asv would otherwise hash the source of the method, which stays the same when the sampling
    below it changes.  Raise it whenever the same code would give another number.
    """

    version = "1"
    timeout = 600.0


def unit(name: str) -> Callable[[_Function], _Function]:
    """Decorator that stores the unit of a benchmark's result where asv looks for it."""

    def with_unit(function: _Function) -> _Function:
        setattr(function, "unit", name)  # noqa: B010 (a function has no such attribute for a type checker)
        return function

    return with_unit


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Who the implementation is, which optional methods it has, its host, and the seconds that loading it took."""

    manifest: Manifest
    methods: tuple[str, ...]
    host: Mapping[str, Any]
    import_seconds: float


@functools.cache
def offer() -> Offer:
    """The offer of the implementation, from a fresh process."""
    answer = _ask(read_settings(), None, {})
    return Offer(
        manifest=Manifest.from_json(answer["manifest"]),
        methods=tuple(answer["methods"]),
        host=answer["host"],
        import_seconds=answer["import_seconds"],
    )


def require(problem: Problem | None = None, method: str = "") -> None:
    """Refuse a benchmark, in its `setup`, if the implementation does not offer what it needs.

    **Raises:** `NotImplementedError`, which is how a benchmark tells asv that it does not apply, saying what lacks.
    """
    who = offer()
    c = who.manifest.capabilities
    if "mlp" not in c.architectures:
        raise NotImplementedError(f"{who.manifest.name} claims no mlp")
    if method and method not in who.methods:
        raise NotImplementedError(f"{who.manifest.name} offers no {method}")
    if problem is not None and problem.dtype not in c.dtypes:
        raise NotImplementedError(f"{who.manifest.name} claims no {problem.dtype}")


def adapt_dtype(problem: Problem) -> Problem:
    """The problem in a dtype and a placement that the implementation claims, for costs that depend on neither."""
    c, changes = offer().manifest.capabilities, {}
    if problem.dtype not in c.dtypes:
        changes["dtype"] = c.dtypes[0]
    if problem.placement not in c.placements and not problem.linear:
        changes["placement"] = c.placements[0]
    return problem.replace(**changes) if changes else problem


@functools.cache
def measure_method(method: str, problem: Problem, divisor: int = 1, *, warm: bool = False) -> Mapping[str, float]:
    """What a fresh process measures of one method on one problem (see `pcbench.timing.measure.measure`).

    Settings that the implementation does not claim are replaced by ones that it does.  `warm`: programs that a first
    process has compiled are found in JAX's persistent cache; otherwise they are compiled anew.  An equilibrium counts
    only if its energy is certified.

    **Raises:** `ContractError` if it is not; other kinds of `ImplementationError` if the process gave no answer.
    """
    problem = adapt_problem(problem, offer().manifest.capabilities)
    task = Task(name=method, method=method, problem=problem, divisor=divisor)
    chosen = read_settings()
    if warm:
        with tempfile.TemporaryDirectory(prefix="pcbench-compiled-") as folder:
            extra = {**_WARM, "JAX_COMPILATION_CACHE_DIR": folder}
            _ask(chosen, task, extra)
            return _ask(chosen, task, extra)["tasks"][method]
    kept = _harness(chosen.python, chosen.threads).directory / "answer.npz"
    answer = _ask(chosen, task, {}, kept if method == "equilibrium" else None)
    if method == "equilibrium":
        with np.load(kept) as arrays:
            bench.certify(task.problem, offer().manifest, [arrays[name] for name in arrays.files])
    return answer["tasks"][method]


def asv_machine() -> dict[str, Any]:
    """The record of the machine on which asv runs, for the settings and the process of its implementation."""
    return machine_record.record(read_settings().threads, offer().host)


@functools.cache
def benchmark_subject() -> Subject:
    """The implementation as the laws see it, in a worker of its own that ends with this process."""
    chosen = read_settings()
    return open_subject(chosen.spec, python=chosen.python, limits=Limits(call_seconds=TIMEOUT))


def _ask(chosen: Settings, task: Task | None, extra: Mapping[str, str], kept: Path | None = None) -> dict[str, Any]:
    driver = _harness(chosen.python, chosen.threads)
    # On a GPU, memory in use is told from memory put aside.
    variables = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **extra}
    driver = Harness(**{**vars(driver), "extra": variables})
    requests = []
    if task is not None:
        asked = bench.request(driver.directory, task, task.problem, least_seconds=LEAST_SECONDS, bodies=BODIES)
        requests.append({**asked, "keep": str(kept)} if kept else asked)
    # The root is the copy of pcbench itself, of which a module is always loaded: that a checkout's own files are the
    # ones measured is the gate's concern, here whatever the environment has is measured.
    side = Side(label=chosen.spec, spec=timing_spec(chosen.spec), root=str(driver.directory))
    return driver.measure(side, requests)


@functools.cache
def _harness(python: str | None, threads: int) -> Harness:
    return _open.enter_context(open_harness(python=python, threads=threads, timeout=TIMEOUT))
