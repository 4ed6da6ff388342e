"""What several commands share: options, and an orderly end when a pipeline cancels its job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

implementation_argument = click.argument("impl", default="reference")
implementation_option = click.option("--impl", default="reference", show_default=True, help="Adapter, as for `check`.")
python_option = click.option("--python", metavar="PATH", help="Interpreter that has the library under test.")


@contextmanager
def orderly_termination() -> Iterator[None]:
    """A pipeline that cancels a job sends SIGTERM: end the run in order, as for Ctrl-C, but only once."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
