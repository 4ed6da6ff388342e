"""Options that several commands share, and an orderly end when a pipeline cancels its job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from pcbench.errors import UsageError
from pcbench.worker.limits import CALL_SECONDS

implementation_argument = click.argument("impl", default="reference")
implementation_option = click.option(
    "--impl", default="reference", show_default=True, help="Implementation, named as for `pcbench check`."
)
laws_option = click.option(
    "--laws", "patterns", multiple=True, help="Laws to judge: ids, groups or wildcards, comma-separated; repeatable."
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(1),
    help="Number of runner processes; does not change results.  [default: number of CPUs]",
)
timeout_option = click.option(
    "--timeout", default=CALL_SECONDS, show_default=True, type=click.FloatRange(0, min_open=True),
    help="Longest time of one call, in seconds.",
)  # fmt: skip
cpu_limit_option = click.option(
    "--cpu-limit", type=click.FloatRange(0, min_open=True), help="Longest CPU time of one call, in seconds."
)
memory_limit_option = click.option(
    "--memory-limit",
    type=click.IntRange(1),
    help="Most memory that a process of IMPL may allocate, in MiB (Linux only).",
)
python_option = click.option(
    "--python",
    metavar="PATH",
    help="Python interpreter that has the library under test.  "
    "[default: that of the environment made for it (see `pcbench env`), else pcbench's own]",
)


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Treat SIGTERM, which a pipeline sends to cancel a job, as Ctrl-C, but only once."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def output_directory(directory: str) -> Path:
    """The directory, made if it is not there.

    **Raises:** `UsageError` if nothing can be written there.
    """
    place = Path(directory)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {directory} cannot be made: {error.strerror}; choose another directory") from None
    if not os.access(place, os.W_OK):
        raise UsageError(f"--output {directory} cannot be written: choose another directory")
    return place


def terminal() -> Console:
    """Standard output; where that is no terminal, wide enough for the whole table unless COLUMNS says otherwise."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160
    return console


def split_patterns(patterns: tuple[str, ...]) -> list[str]:
    """Options that may be repeated and may hold several values between commas.

    **Raises:** `UsageError` for an option that holds none, which would otherwise mean everything.
    """
    words = [word.strip() for pattern in patterns for word in pattern.split(",")]
    if patterns and not any(words):
        raise UsageError(f"--laws {','.join(patterns)!r} names no law; `pcbench laws` lists them")
    return [word for word in words if word]
