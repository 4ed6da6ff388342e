"""Progress of a sweep on a display: points done, and for pipes some 25 lines with the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pcbench.output.display import Display, clock_text

_LINES = 25


class SweepProgress:
    """A sweep called `name` on a display; what is `done` already, by a run before, does not count for the speed."""

    def __init__(self, display: Display, name: str, total: int, done: int) -> None:
        self._display, self._name, self._total = display, name, total
        self._done = self._before = self._printed = done
        self._began = time.monotonic()
        known = f", {done} of them known from a run before" if done else ""
        display.detail(f"{name}: {total} points{known}")
        display.progress(done, total, name)

    def add(self, point: Mapping[str, Any]) -> None:
        """One more point has rows, or has failed."""
        self._done += 1
        text = _settings(point)
        self._display.progress(self._done, self._total, self._name)
        self._display.show_current(0, text)
        if self._done == self._total or self._done - self._printed >= self._total / _LINES:
            self._printed = self._done
            spent = time.monotonic() - self._began
            left = spent * (self._total - self._done) / (self._done - self._before)
            tail = f", about {clock_text(left)} left" if self._done < self._total else ""
            self._display.detail(f"[{self._done}/{self._total}] {text}; {clock_text(spent)}{tail}")


def _settings(point: Mapping[str, Any]) -> str:
    """The settings of a point that fit on a line: no lists, no more than sixty characters."""
    text = ", ".join(f"{k}={v}" for k, v in point.items() if not isinstance(v, (list, dict)))
    return text if len(text) <= 60 else text[:59] + "…"
