"""The one display of all long commands: on a terminal, in a pipe, and when nobody wants to see it."""

import io
import re

import pytest
from rich.console import Console

from pcbench.output.characters import printable
from pcbench.output.display import Lines, Silent, Terminal, choose, clock_text

NASTY = "\x1b[31m[bold]x[/bold] :smile: \x00y"


def make_console(terminal, width=60, **settings):
    stream = io.StringIO()
    environment = {"TERM": "xterm", **settings}
    console = Console(file=stream, width=width, force_terminal=terminal, legacy_windows=False, _environ=environment)
    return stream, console


def use(display):
    """Everything that a command may tell, in an order that occurs."""
    display.note("before anything")
    display.stage("first")
    display.progress(1, 3, "laws")
    display.show_current(0, "here")
    display.show_current(1, "there")
    display.show_current(1, "")
    display.detail("one of three")
    display.note("it is bad " * 12, "bold red")
    display.stage("second")
    display.show_current(0, "elsewhere")
    display.close()
    display.progress(2, 2)
    display.close()
    display.close()


def test_a_pipe_gets_every_line_whole_and_nothing_else():
    """Breaks if a log has control characters, broken lines, or lines for every movement of a bar."""
    stream, console = make_console(terminal=False, width=20)
    use(choose(console))
    assert stream.getvalue().splitlines() == [
        "before anything", "== first", "one of three", "it is bad " * 12, "== second",
    ]  # fmt: skip


def test_lines_arrive_at_once():
    """Breaks if a log of a pipeline shows nothing until the command has ended."""

    class Counting(io.StringIO):
        flushed = 0

        def flush(self):
            self.flushed += 1

    stream = Counting()
    display = Lines(Console(file=stream))
    for number in (1, 2, 3):
        display.note("x")
        assert stream.flushed >= number


def test_a_terminal_shows_bars_and_keeps_notes():
    """Breaks if a stage or a note is lost, a detail is shown that only logs want, or the cursor does not come back."""
    stream, console = make_console(terminal=True)
    use(choose(console))
    text = stream.getvalue()
    for shown in ("before anything", "== first", "== second", "1/3", "laws", "here", "elsewhere", "2/2"):
        assert shown in text
    assert "one of three" not in text
    assert "there" not in text, "a place where nothing is going on takes no line"
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0
    assert text.count("it is bad") == 12
    assert "\x1b[1;31mit is bad" in text


def test_nothing_is_left_of_a_bar():
    """Breaks if the screen fills with bars that are done."""
    stream, console = make_console(terminal=True)
    display = choose(console)
    display.progress(1, 2, "laws")
    display.show_current(0, "here")
    display.close()
    after = stream.getvalue().rpartition("here")[2]
    assert after.count("\x1b[2K") >= 2, "the lines of the bar and of what was running are erased"


def test_times_are_those_of_the_stage(monkeypatch):
    """Breaks if the time left counts what an earlier run has done, or is told before anything can be known."""
    now = [100.0]
    _, console = make_console(terminal=True)
    console.get_time = lambda: now[0]
    display = Terminal(console)

    def figures():
        with console.capture() as captured:
            console.print(display._picture())
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", captured.get())

    display.progress(50, 100, "points")
    assert "50/100  0:00  points" in figures()
    now[0] += 10
    display.progress(60, 100, "points")
    assert "60/100  0:10, 0:40 left  points" in figures()
    display.stage("next")
    assert "0:00" in figures()
    assert "left" not in figures()
    assert "60/100" not in figures()
    display.close()


def test_narrow_terminals_lose_no_figure():
    """Breaks if what is told beside the bar is cut off where the terminal is narrow."""
    stream, console = make_console(terminal=True, width=40)
    display = choose(console)
    counts = "15 pass, 3 not-applicable, 2 expected-failure, 1 fail"
    display.progress(21, 60, counts)
    display.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    for word in ("21/60", "15", "not-applicable", "expected-failure", "fail"):
        assert word in text


@pytest.mark.parametrize("terminal", [True, False])
def test_text_from_elsewhere_is_shown_as_it_is(terminal):
    """Breaks if a message of an implementation moves the cursor, colours the screen or is read as markup."""
    stream, console = make_console(terminal=terminal)
    display = choose(console)
    display.note(NASTY)
    display.note(NASTY, "bold")
    display.detail(NASTY)
    display.show_current(0, NASTY)
    display.progress(1, 2, NASTY)
    display.close()
    assert "\x1b[31m" not in stream.getvalue()
    assert "\x00" not in stream.getvalue()
    assert "[bold]x[/bold] :smile:" in stream.getvalue()


def test_silent_is_silent_and_a_terminal_without_a_cursor_gets_lines():
    """Breaks if --quiet is not, or an editor's terminal that cannot redraw shows nothing at all."""
    stream, console = make_console(terminal=True)
    quiet = choose(console, quiet=True)
    assert isinstance(quiet, Silent)
    use(quiet)
    assert stream.getvalue() == ""
    assert isinstance(choose(make_console(terminal=True, TERM="dumb")[1]), Lines)


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3661, "1:01:01")])
def test_times_are_as_people_write_them(seconds, shown):
    """Breaks if two hours are told as 120 minutes."""
    assert clock_text(seconds) == shown


def test_what_is_printable_stays():
    """Breaks if letters of other alphabets are lost, or an escape sequence is kept."""
    assert printable("µ∇ é 漢\t\n") == "µ∇ é 漢\t\n"
    assert printable("\x1b[2J\ud800") == "�[2J�"
