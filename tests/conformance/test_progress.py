"""What a run shows while it goes on: every law in a pipe, and on a terminal what is judged and what did not pass."""

import io
import re

import pytest
from rich.console import Console

from pcbench.conformance.progress import Progress
from pcbench.output.display import Lines, Terminal
from pcbench.report.evidence import OUTCOMES
from pcbench.timing.harness import _JUDGED
from tests.report.test_report import verdict

EVERYTHING = [verdict(f"law.{outcome}", outcome, message="why so\nand more") for outcome in OUTCOMES]


def terminal(width=100):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, legacy_windows=False, _environ={})
    return stream, Terminal(console)


def test_a_pipe_gets_one_line_for_every_law():
    """Breaks if a log is flooded with redrawn displays, or a law is missing in it."""
    stream = io.StringIO()
    progress = Progress(Lines(Console(file=stream, width=40)))
    progress.start("x 1.0", len(EVERYTHING), 20, 0)
    for number, v in enumerate(EVERYTHING, start=1):
        progress.show_law(0, v.law, 0)
        progress.advance(number)
        progress.verdict(v)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"judging x 1.0: {len(EVERYTHING)} laws"
    assert len(lines) == 1 + len(EVERYTHING)
    assert lines[1].startswith(f"[1/{len(EVERYTHING)}] pass ")
    assert "\x1b" not in stream.getvalue()
    for number, (line, v) in enumerate(zip(lines[1:], EVERYTHING, strict=True), start=1):
        found = _JUDGED.match(line)
        assert found is not None, "a gate reads these lines"
        assert found.groups() == (str(number), str(len(EVERYTHING)))
        assert re.match(rf"\[\d+/\d+\] {v.outcome} +{re.escape(v.law)}( |$)", line)
        assert ("why so" in line) == (v.outcome != "pass")


def test_a_terminal_shows_what_is_going_on_and_keeps_failures():
    """Breaks if the display hides a failure until the end, or leaves the terminal in disorder."""
    stream, display = terminal()
    progress = Progress(display)
    progress.start("x 1.0", 2, 4, 0)
    progress.show_law(0, "law.now", 1)
    progress.advance(1)
    progress.verdict(verdict("law.bad", "fail"))
    progress.verdict(verdict("law.good"))
    progress.close()
    text = stream.getvalue()
    assert "law.bad" in text
    assert "law.now (2)" in text
    assert "1 fail, 1 pass" in text
    assert "1/4" in text
    assert "law.good" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor comes back"


@pytest.mark.parametrize("brief", [False, True])
def test_a_run_that_is_part_of_another_command_shows_no_lines(brief):
    """Breaks if a leaderboard is flooded with the laws of every implementation, or shows no life while they run."""
    stream, display = terminal()
    pipe = io.StringIO()
    for progress in (Progress(display, brief=brief), Progress(Lines(Console(file=pipe)), brief=brief)):
        progress.start("x 1.0", 2, 4, 0)
        progress.show_law(0, "law.now", 1)
        progress.verdict(verdict("law.bad", "fail"))
        progress.close()
    assert ("law.bad" not in stream.getvalue()) == brief
    assert (pipe.getvalue() == "") == brief
    assert "law.now" in stream.getvalue()
