"""How a gate shows that it is alive: a bar with the current process on a terminal, plain lines in a pipe."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Display(Protocol):
    """What a gate reports while it goes on."""

    def stage(self, text: str) -> None:
        """A part of the gate begins."""

    def progress(self, done: int, total: int, what: str = "laws") -> None:
        """So much of the stage is done."""

    def step(self, text: str) -> None:
        """One more process has ended."""

    def note(self, text: str) -> None:
        """Something that a user should know, on a line of its own."""

    def finished(self) -> None:
        """The gate has ended, in whatever way."""


class Silent:
    """Shows nothing."""

    def stage(self, text: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "laws") -> None: ...

    def step(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def finished(self) -> None: ...


class Lines(Silent):
    """Stages and notes, flushed at once: for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def stage(self, text: str) -> None:
        """Print it as a heading."""
        self.note(f"== {text}")

    def note(self, text: str) -> None:
        """Print it."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()


class Terminal(Lines):
    """As `Lines`, with a bar or a count of processes at the bottom that is gone at the end."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None
        self._steps = 0

    def stage(self, text: str) -> None:
        """Print it and begin a new bar."""
        super().stage(text)
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._steps = 0
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def progress(self, done: int, total: int, what: str = "laws") -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=f"{done}/{total} {what}")

    def step(self, text: str) -> None:
        """Count the process and name it."""
        self._steps += 1
        if self._task is not None:
            self._bar.update(self._task, description=f"{self._steps} processes, {text}")

    def finished(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def choose(console: Console, quiet: bool = False) -> Display:
    """The display that fits where `console` writes to."""
    if quiet:
        return Silent()
    return Terminal(console) if console.is_terminal else Lines(console)
