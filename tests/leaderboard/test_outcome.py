"""The data of a board: derived numbers, the text that it is kept in, and its exit code."""

from __future__ import annotations

import json
import math

import pytest

from pcbench.errors import UsageError
from pcbench.leaderboard.outcome import Board, Point, Row, Solved, interval
from tests.leaderboard.boards import make_board


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([3.0], (3, 3, 3)),
        ([5.0, 1.0, 2.0, 4.0, 3.0], (3, 1, 5)),
        (list(range(1, 10)), (5, 2, 8)),
        ([1, 2], (1.5, 1, 2)),
    ],
)
def test_the_interval_is_of_order_statistics(values, found):
    """If this fails, the bracket in the table has another coverage: 1 - 2 P(Bin(9, 1/2) <= 1) = 0.961 for nine."""
    assert interval(values) == found
    with pytest.raises(UsageError):
        interval([])


def test_a_step_is_the_difference_of_two_calls():
    """If this fails, what a call costs besides is in the throughput: 10 s a call, half a second a step, 8 samples."""
    row = Row(case="c", dtype="float64", implementation="i", batch=8, outcome="measured", more_steps=20,
              short=[10.5] * 3, long=[20.5] * 3)  # fmt: skip
    assert row.sample_steps == (16.0, 16.0, 16.0)
    assert row.overhead == pytest.approx(10.0)


def test_a_board_comes_back_from_its_text_as_it_was():
    """If this fails, raw timings or what is not finite is lost on the way to the disk."""
    row = Row(
        case="c", dtype="float64", implementation="i", batch=2, outcome="error", why="late", first_call=1.5,
        more_steps=3, short=[0.1], long=[0.4], stopped="2 steps", notes=["odd"],
        curve=[Point(steps=1, gap=None, residual=math.inf), Point(steps=2, gap=1e-3, residual=1e-3, seconds=[0.25])],
        equilibrium=Solved(outcome="converged", gap=None, residual=math.inf, evaluations=7, seconds=[1.0]),
    )  # fmt: skip
    board = make_board([row])
    text = board.dumps()
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert Board.loads(text) == board
    for bad, said in (
        ("[]", "no leaderboard"),
        ("{", "no leaderboard"),
        (text.replace('"schema": 1', '"schema": 9'), "schema"),
    ):
        with pytest.raises(UsageError, match=said):
            Board.loads(bad)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [(["measured", "withheld"], 0), (["withheld", "not-applicable"], 1), (["measured", "error"], 3),
     (["measured", "timeout"], 3), (["error"], 1), ([], 1)],
)  # fmt: skip
def test_the_exit_code_says_what_was_lost(outcomes, code):
    """If this fails, a pipeline cannot tell a complete table from one with holes."""
    rows = [Row(case="c", dtype="float64", implementation=str(k), batch=1, outcome=o) for k, o in enumerate(outcomes)]
    board = make_board(rows)
    assert board.exit_code == code
    board.partial = "interrupted"
    assert board.exit_code == 130
