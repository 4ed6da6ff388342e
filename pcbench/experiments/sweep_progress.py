"""How a sweep shows that it is alive: a bar with the time left on a terminal, plain lines in a pipe, or nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINES = 25


class Silent:
    """Shows nothing."""

    def started(self, total: int, done: int) -> None: ...

    def finished_point(self, point: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class Bar:
    """A bar with the time left where `console` is a terminal; elsewhere some 25 lines, each flushed at once."""

    def __init__(self, console: Console | None = None, name: str = "points") -> None:
        self._console = Console(stderr=True) if console is None else console
        self._name = name
        self._total = self._done = self._before = self._printed = 0
        self._began = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def started(self, total: int, done: int) -> None:
        """Open the display; what is `done` already does not count for the speed."""
        self._total, self._done, self._before, self._printed = total, done, done, done
        self._began = time.monotonic()
        if not self._console.is_terminal:
            known = f", {done} of them known from a run before" if done else ""
            self._line(f"{self._name}: {total} points{known}")
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[point]}", style="dim"),
        )
        self._bar = Progress(*columns, console=self._console, transient=True, speed_estimate_period=300)
        self._task = self._bar.add_task(self._name, total=total, completed=done, point="")
        self._bar.start()

    def finished_point(self, point: Mapping[str, Any]) -> None:
        """Move the bar, or print a line if one is due."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, advance=1, point=_shown(point))
        elif self._done == self._total or self._done - self._printed >= self._total / _LINES:
            self._printed = self._done
            spent = time.monotonic() - self._began
            left = spent * (self._total - self._done) / (self._done - self._before)
            tail = f", about {_clock(left)} left" if self._done < self._total else ""
            self._line(f"[{self._done}/{self._total}] {_shown(point)}; {_clock(spent)}{tail}")

    def close(self) -> None:
        """Close the display."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()


def _shown(point: Mapping[str, Any]) -> str:
    """The settings of a point that fit on a line: no lists, no more than sixty characters."""
    text = ", ".join(f"{k}={v}" for k, v in point.items() if not isinstance(v, (list, dict)))
    return text if len(text) <= 60 else text[:59] + "…"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
