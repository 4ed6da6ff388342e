"""A whole run of the leaderboard: withheld rows, crashes, interrupts, and files."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from pcbench.cli.main import main
from pcbench.leaderboard import conformance, measure, session, summary
from pcbench.leaderboard.outcome import Board
from pcbench.output.display import Silent
from pcbench.output.table import read_rows
from pcbench.report.report import Report
from tests.leaderboard.boards import PROBLEMS, SHALLOW, report, settings, write_mine


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with the implementations of `mine.py`."""
    write_mine(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def all_conform(monkeypatch):
    def judge(entrant, dtype, **rest):
        return report(name=entrant.name, dtypes=(dtype,))

    monkeypatch.setattr(conformance, "judge_entrant", judge)


def test_wrong_code_is_withheld_by_the_laws_themselves(place):
    """If this fails, an implementation that takes every step twice is praised for its speed."""
    laws = ("energy.matches-definition", "inference.trajectory-follows-definition")
    entrants = session.parse(["numpy", "mine.py:Twice"])
    board = session.run_leaderboard(entrants, settings(problems={"shallow": SHALLOW}, laws=laws), place, Silent())
    rows = {row.implementation: row for row in board.rows}
    assert rows["numpy"].outcome == "measured"
    assert rows["twice"].outcome == "withheld"
    assert "inference.trajectory-follows-definition: fail, error" in rows["twice"].why
    assert rows["twice"].curve == rows["twice"].short == []
    assert board.exit_code == 0
    assert [s.conforms for s in board.standings] == [True, False]
    judged = Report.loads((place / "conformance-twice-float64.json").read_text())
    assert judged.header.dtypes == ("float64",)
    assert judged.header.spec == "mine.py:Twice"
    # what was judged once can be used again
    again = conformance.read([str(place / "conformance-numpy-float64.json")], laws)
    assert set(conformance.assign(again, board.entrants)) == {("numpy", "float64")}


def test_a_process_that_ends_costs_its_row_alone(place, all_conform):
    """If this fails, a crash stops the run, or the implementation is not started anew for the next problem."""
    entrants = session.parse(["mine.py:Exits", "numpy", "mine.py:Plain", "mine.py:Stillborn"])
    board = session.run_leaderboard(entrants, settings(), place, Silent())
    found = {(row.case, row.implementation): row for row in board.rows}
    assert found["deeper", "exits"].outcome == "error"
    assert "exit status 7" in found["deeper", "exits"].why
    assert found["shallow", "exits"].outcome == "measured"
    assert found["deeper", "numpy"].outcome == found["shallow", "numpy"].outcome == "measured"
    assert found["deeper", "plain"].outcome == "not-applicable"
    assert "residual" in found["deeper", "plain"].why
    assert found["shallow", "plain"].outcome == "measured"
    assert "exit status 9" in found["shallow", "mine.py:Stillborn"].why
    assert board.exit_code == 3
    assert len(board.rows) == 8
    assert "8 rows = 4 measured + 1 not-applicable + 3 error" in board.conclusion
    text = summary.markdown(board)
    for row in board.rows:
        assert summary.cells(board, row)[3] == row.outcome
    assert text.count("💥") == 3
    assert text.count("➖") == 1


def test_an_interrupt_keeps_what_was_measured(place, all_conform, monkeypatch):
    """If this fails, Ctrl-C after an hour leaves nothing."""
    original = measure.measure_case

    def interrupt(case, *rest, **more):
        if case.name == "shallow":
            raise KeyboardInterrupt
        return original(case, *rest, **more)

    monkeypatch.setattr(measure, "measure_case", interrupt)
    board = session.run_leaderboard(session.parse(["numpy"]), settings(), place, Silent())
    assert board.exit_code == 130
    kept = Board.loads((place / "bench.json").read_text())
    assert kept == board
    assert [row.outcome for row in kept.rows] == ["measured", "not-run"]
    assert len(kept.rows[0].short) == 2
    assert "partial: interrupted; 2 rows = 1 measured + 1 not-run" in kept.conclusion


def test_files_say_what_the_board_says(place, all_conform):
    """If this fails, a file lacks a row, a curve, or where it was made."""
    result = CliRunner().invoke(
        main, ["bench", "numpy", "mine.py:Plain", "--output", "out/here", "--seed", "4", "--rounds", "2", "--seconds",
               "0.05", "--problem", PROBLEMS["deeper"].line(), "--problem", SHALLOW.line()],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    out = place / "out" / "here"
    board = Board.loads((out / "bench.json").read_text())
    assert Board.loads(board.dumps()) == board
    assert board.machine["lasting"]["cpus"]
    assert board.machine["lasting"]["threads"] == 1
    assert board.entrants[0].info["versions"]["numpy"] == np.__version__
    rows = read_rows(out / "bench.csv")
    assert [(r["problem"], r["dtype"], r["implementation"]) for r in rows] == [
        (r.case, r.dtype, r.implementation) for r in board.rows
    ]
    one = next(r for r in rows if r["outcome"] == "measured")
    assert one["sample_steps_low"] <= one["sample_steps"] <= one["sample_steps_high"]
    text = (out / "bench.md").read_text()
    assert text.startswith("# Leaderboard: 8 rows = 6 measured + 2 not-applicable")
    assert SHALLOW.replace(step_size=board.cases[2].step_size).line() in text
    assert "(bench.png)" in text
    picture = (out / "bench.svg").read_text()
    assert "<svg" in picture
    assert (out / "bench.png").read_bytes()[:4] == b"\x89PNG"
    assert "linear-N6-L3" in result.output
    assert "wrote out/here/bench.json" in result.output
