"""Progress of a conformance run on a display: laws being judged, and one line for each verdict."""

from __future__ import annotations

from collections import Counter

from pcbench.output.display import Display, Silent
from pcbench.report.evidence import Verdict
from pcbench.report.text import STYLES


class Progress:
    """A run on a display; `brief` shows what is going on and no lines, for a run that is part of another command.

    Every method is called by the thread that started the run.
    """

    def __init__(self, display: Display | None = None, *, brief: bool = False) -> None:
        self._display = Silent() if display is None else display
        self._brief = brief
        self._laws = self._judgements = self._done = 0
        self._counts: Counter[str] = Counter()

    def start(self, implementation: str, laws: int, judgements: int, done: int) -> None:
        """`implementation` says what is judged and how; `done` of `judgements` are known from a journal."""
        self._laws, self._judgements = laws, judgements
        if not self._brief:
            self._display.note(f"judging {implementation}: {laws} laws")
        self._done = done
        self._move()

    def show_law(self, runner: int, law: str, group: int) -> None:
        """A runner begins with one group of one law."""
        self._display.show_current(runner, f"{law} ({group + 1})")

    def advance(self, judgements: int) -> None:
        """So many judgements have been made so far."""
        self._done = judgements
        self._move()

    def verdict(self, verdict: Verdict) -> None:
        """All groups of one law have been judged; on a terminal what passed is a count and no line."""
        self._counts[verdict.outcome] += 1
        self._move()
        line = f"[{self._counts.total()}/{self._laws}] {verdict_line(verdict)}"
        if self._brief:
            return
        if verdict.outcome in ("pass", "not-applicable"):
            self._display.detail(line)
        else:
            self._display.note(line, STYLES[verdict.outcome])

    def note(self, text: str) -> None:
        """Something that a user should know."""
        self._display.note(text)

    def close(self) -> None:
        """The run has ended, in whatever way."""
        self._display.close()

    def _move(self) -> None:
        counts = ", ".join(f"{n} {outcome}" for outcome, n in self._counts.items())
        self._display.progress(self._done, self._judgements, counts or "no law judged yet")


def verdict_line(verdict: Verdict) -> str:
    """One judged law on one line: verdict, law, margin, examples, time, and the cause of anything but a pass."""
    if verdict.outcome in ("not-applicable", "blocked", "not-run"):
        return f"{verdict.outcome:<16} {verdict.law}  {' '.join(verdict.message.split())}".rstrip()
    text = (
        f"{verdict.outcome:<16} {verdict.law}  margin {verdict.worst.margin:.2g}, {verdict.examples} examples, "
        f"{verdict.seconds:.1f} s"
    )
    first = verdict.message.strip().splitlines()[:1]
    return f"{text}: {first[0]}" if first and verdict.outcome != "pass" else text
