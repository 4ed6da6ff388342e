"""Options and executors that the sweeping commands share: lists of sizes and names, and where points run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import click

from pcbench.errors import UsageError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")


class Sizes(click.ParamType):
    """Whole numbers between commas, at least `fewest` of them, which may be 0."""

    name = "N,N,..."

    def __init__(self, fewest: int = 2) -> None:
        self._fewest = fewest

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """The numbers, ascending and each once."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")] if str(value).strip() else []
        if len(words) < self._fewest or not all(word.isdecimal() and int(word) > 0 for word in words):
            self.fail(f"{value!r}: needed {self._fewest} or more sizes such as 64,128,256", param, ctx)
        return tuple(sorted({int(word) for word in words}))


def parse_choices(option: str, text: str, known: Sequence[str]) -> list[str]:
    """The names in a comma-separated `text`, each once.

    **Raises:** `UsageError` naming `option` if one is not `known`, or there is none.
    """
    chosen = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not chosen or not set(chosen) <= set(known):
        raise UsageError(f"{option} {text!r}: needed some of {', '.join(known)}, comma-separated")
    return chosen


@contextmanager
def local_executor(workers: int) -> Iterator[Executor | None]:
    """None for one worker, which then has all threads; otherwise processes with one thread each."""
    if workers == 1:
        yield None
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read when a spawned process loads its BLAS and XLA
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
            yield executor
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """The executor of the Dask cluster whose scheduler is at `address`.

    **Raises:** `UsageError` if Dask is not installed or the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("Dask is not installed: pip install 'pcbench[cluster]'") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no Dask scheduler at {address!r}: {error}; needed an address such as tcp://host:8786"
        ) from None
    with client:
        yield client.get_executor()
