"""How a run shows that it is alive: a live display on a terminal, plain lines in a pipe, nothing if asked."""

from __future__ import annotations

import re
import time
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live as _RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pcbench.report.evidence import Verdict

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "error": "bold red",
    "timeout": "bold red",
    "unexpected-pass": "bold red",
    "inconclusive": "yellow",
    "expected-failure": "yellow",
    "blocked": "yellow",
    "not-run": "yellow",
    "not-applicable": "dim",
}


_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """`text` without escape sequences and other characters that have no place on a terminal or in XML."""
    return _UNPRINTABLE.sub("�", text)


class Progress(Protocol):
    """What a run reports while it goes on; every method is called by the thread that started the run."""

    def started(self, implementation: str, laws: int, judgements: int, done: int) -> None:
        """`implementation` says what is judged and how; `done` of `judgements` are known from a journal."""

    def running(self, runner: int, law: str, group: int) -> None:
        """A runner begins with one group of one law."""

    def judged(self, judgements: int) -> None:
        """So many judgements have been made so far."""

    def verdict(self, verdict: Verdict) -> None:
        """All groups of one law have been judged."""

    def note(self, text: str) -> None:
        """Something that a user should know."""

    def finished(self) -> None:
        """The run has ended, in whatever way."""


class Silent:
    """Shows nothing."""

    def started(self, implementation: str, laws: int, judgements: int, done: int) -> None: ...

    def running(self, runner: int, law: str, group: int) -> None: ...

    def judged(self, judgements: int) -> None: ...

    def verdict(self, verdict: Verdict) -> None: ...

    def note(self, text: str) -> None: ...

    def finished(self) -> None: ...


def verdict_line(verdict: Verdict) -> str:
    """One judged law on one line: verdict, law, margin, examples, time, and the cause of anything but a pass."""
    if verdict.outcome in ("not-applicable", "blocked", "not-run"):
        return f"{verdict.outcome:<16} {verdict.law}  {clean(' '.join(verdict.message.split()))}".rstrip()
    text = (
        f"{verdict.outcome:<16} {verdict.law}  margin {verdict.worst.margin:.2g}, {verdict.examples} examples, "
        f"{verdict.seconds:.1f} s"
    )
    first = verdict.message.strip().splitlines()[:1]
    return f"{text}: {clean(first[0])}" if first and verdict.outcome != "pass" else text


class Lines(Silent):
    """One line for every judged law, flushed at once: for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._laws = self._done = 0

    def started(self, implementation: str, laws: int, judgements: int, done: int) -> None:
        """Say what is judged."""
        self._laws = laws
        self._print(f"judging {implementation}: {laws} laws")

    def verdict(self, verdict: Verdict) -> None:
        """Print the line."""
        self._done += 1
        self._print(f"[{self._done}/{self._laws}] {verdict_line(verdict)}")

    def note(self, text: str) -> None:
        """Print the note."""
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()


class Terminal(Silent):
    """Current laws, a bar and the elapsed time at the bottom; what did not pass scrolls above it as it appears."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: _RichLive | None = None
        self._began = time.monotonic()
        self._laws = self._judgements = self._done = 0
        self._current: dict[int, str] = {}
        self._counts: dict[str, int] = {}

    def started(self, implementation: str, laws: int, judgements: int, done: int) -> None:
        """Open the display."""
        self._laws, self._judgements, self._done = laws, judgements, done
        self._console.print(f"judging {implementation}: {laws} laws", markup=False, highlight=False)
        self._live = _RichLive(console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self._live.start()

    def running(self, runner: int, law: str, group: int) -> None:
        """Show the law beside the runner."""
        self._current[runner] = f"{law} ({group + 1})"

    def judged(self, judgements: int) -> None:
        """Move the bar."""
        self._done = judgements

    def verdict(self, verdict: Verdict) -> None:
        """Count it, and print what did not pass."""
        self._counts[verdict.outcome] = self._counts.get(verdict.outcome, 0) + 1
        if verdict.outcome not in ("pass", "not-applicable"):
            text = Text(verdict_line(verdict), style=STYLES[verdict.outcome], overflow="ellipsis", no_wrap=True)
            self._console.print(text)

    def note(self, text: str) -> None:
        """Print the note."""
        self._console.print(text, markup=False, highlight=False)

    def finished(self) -> None:
        """Close the display."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Any:
        counts = ", ".join(f"{n} {outcome}" for outcome, n in self._counts.items()) or "no law judged yet"
        elapsed = int(time.monotonic() - self._began)
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self._judgements, 1), completed=self._done, width=24)
        clock = Text(f"{self._done}/{self._judgements}  {elapsed // 60}:{elapsed % 60:02d}  {counts}")
        head.add_row(bar, clock)
        lines = [Text(f"  {self._current[k]}", style="dim", no_wrap=True) for k in sorted(self._current)]
        return Group(head, *lines)


def choose(console: Console, quiet: bool = False) -> Progress:
    """The display that fits where `console` writes to."""
    if quiet:
        return Silent()
    return Terminal(console) if console.is_terminal else Lines(console)
