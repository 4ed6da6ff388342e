"""Progress display of long commands: live on a terminal, plain lines in a pipe, or nothing."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.text import Text

from pcbench.output.characters import printable

_FRAMES = 4
"""Pictures a second: enough to be seen moving, and next to no work beside what is being timed."""
_MEMORY = 300.0
"""Seconds that the time left is estimated from: points of a sweep differ in cost."""


class Display(Protocol):
    """What a command reports while it goes on; every method is called by the thread that started it."""

    def stage(self, text: str) -> None:
        """A part of the command begins: a heading, and a bar of its own."""

    def progress(self, done: int, total: int, what: str = "") -> None:
        """So much of the stage is done, for the bar; `what` is told beside it."""

    def show_current(self, slot: int, text: str) -> None:
        """What is going on at one of several places, below the bar; an empty text where nothing is."""

    def note(self, text: str, style: str = "") -> None:
        """A line that stays, everywhere; `style` colours it on a terminal."""

    def detail(self, text: str) -> None:
        """A line for pipes and logs, which have no bar."""

    def close(self) -> None:
        """Nothing is going on any more, in whatever way it ended; another stage may begin."""


class Silent:
    """Shows nothing."""

    def stage(self, text: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "") -> None: ...

    def show_current(self, slot: int, text: str) -> None: ...

    def note(self, text: str, style: str = "") -> None: ...

    def detail(self, text: str) -> None: ...

    def close(self) -> None: ...


class Lines(Silent):
    """Headings, notes and details, flushed at once: for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def stage(self, text: str) -> None:
        """Print it as a heading."""
        self.note(f"== {text}")

    def note(self, text: str, style: str = "") -> None:
        """Print it."""
        # Between words on a terminal; a log is as wide as the window of whoever reads it.
        self._console.print(Text(printable(text), style=style), soft_wrap=not self._console.is_terminal)
        self._console.file.flush()

    def detail(self, text: str) -> None:
        """Print it."""
        self.note(text)


class Terminal(Lines):
    """Headings and notes, and at the bottom a bar with the times and what is running, which are gone at the end."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._running: dict[int, str] = {}
        self._live: Live | None = None
        self._bar = self._new_bar()

    def stage(self, text: str) -> None:
        """Print it and begin a new bar."""
        self.close()
        super().stage(text)
        self._open()

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Move the bar."""
        self._open()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=what)

    def show_current(self, slot: int, text: str) -> None:
        """Show it in the line of the slot."""
        self._open()
        self._running[slot] = text

    def detail(self, text: str) -> None:
        """Show nothing: the bar says it."""

    def close(self) -> None:
        """Take the bar away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _open(self) -> None:
        if self._live is None:
            self._running, self._bar = {}, self._new_bar()
            self._live = Live(
                console=self._console, get_renderable=self._picture, refresh_per_second=_FRAMES, transient=True
            )
            self._live.start()

    def _new_bar(self) -> Progress:
        columns = (SpinnerColumn(), BarColumn(bar_width=20), _Figures())
        bar = Progress(*columns, console=self._console, auto_refresh=False, speed_estimate_period=_MEMORY)
        bar.add_task("", total=None)
        return bar

    def _picture(self) -> Group:
        places = (printable(text) for _, text in sorted(self._running.items()) if text)
        return Group(self._bar, *(Text(f"  {p}", style="dim", no_wrap=True, overflow="ellipsis") for p in places))


class _Figures(ProgressColumn):
    """How much is done, the time it took and the time left, and what it is."""

    def render(self, task: Task) -> Text:
        """All that is known of these."""
        count = "" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}"
        left = "" if task.time_remaining is None else f", {clock_text(task.time_remaining)} left"
        parts = (count, f"{clock_text(task.elapsed or 0.0)}{left}", printable(task.description))
        return Text("  ".join(part for part in parts if part))


def clock_text(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, rest_minutes = divmod(minutes, 60)
    return f"{hours}:{rest_minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def choose(console: Console, quiet: bool = False) -> Display:
    """The display that fits where `console` writes to."""
    if quiet:
        return Silent()
    moving = console.is_terminal and not console.is_dumb_terminal
    return Terminal(console) if moving else Lines(console)
