"""How near an implementation is to equilibrium after each step: curves from closed forms, and certificates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pcbench.adapters.numpy import NumpyPCN
from pcbench.leaderboard import cases, measure, summary
from pcbench.leaderboard.quality import certify_activities, first_index_within
from pcbench.problem.mlp import Problem
from tests.leaderboard.boards import PLAN, SHALLOW, Slow, make_board, rows_of_case, squared_gain


class Lazy(NumpyPCN):
    """Wrong: takes half of every step."""

    def _step(self, network, z, target, step_size):
        return super()._step(network, z, target, step_size / 2)


class Stuck(NumpyPCN):
    """Wrong: never moves."""

    def _step(self, network, z, target, step_size):
        return z


def closed_form(fraction, steps, problem=SHALLOW):
    r"""\(|c|^2 (1 - 2f)^{2T}\): the residual of \(c\,r\) contracts by \(1 - \eta(1 + |c|^2)\) at every step."""
    return squared_gain(problem) * (1 - 2 * fraction) ** (2 * steps)


def test_the_curve_of_a_slow_implementation_is_the_closed_form():
    """If this fails, the certificate, its scale by the loss, the step size or the number of steps is wrong."""
    slow = Slow()
    rows, _ = rows_of_case({"slow": slow})
    row = rows["slow"]
    assert row.outcome == "measured"
    expected = [closed_form(0.8, p.steps) for p in row.curve]
    assert [p.gap for p in row.curve] == pytest.approx(expected, rel=1e-9)
    assert [p.residual for p in row.curve] == pytest.approx(expected, rel=1e-9)
    wanted = [2**k for k in range(40)]
    assert [p.steps for p in row.curve] == wanted[: len(row.curve)]
    # the curve ends at the first power of two that is certified
    assert closed_form(0.8, row.curve[-1].steps) <= 1e-4 < closed_form(0.8, row.curve[-2].steps)
    assert row.stopped == "certified to 0.0001"
    assert slow.done == 9 * sum(slow.asked)
    one_round = [1, *(p.steps for p in row.curve)]  # the longest call of the curve is the one that times a step
    assert row.more_steps == row.curve[-1].steps - 1
    assert slow.asked[-3 * len(one_round) :] == 3 * one_round
    assert all(len(p.seconds) == 3 for p in row.curve)
    assert len(row.short) == len(row.long) == 3


def test_a_wrong_implementation_has_another_curve(monkeypatch):
    """If this fails, what an implementation returns does not reach its curve."""
    monkeypatch.setattr(measure, "MOST_STEPS", 16)
    rows, _ = rows_of_case({"lazy": Lazy(), "stuck": Stuck()}, plan=replace(PLAN, tolerances=(1e-9,)))
    assert [p.gap for p in rows["lazy"].curve] == pytest.approx(
        [closed_form(0.4, p.steps) for p in rows["lazy"].curve], rel=1e-9
    )
    assert [p.gap for p in rows["stuck"].curve] == pytest.approx([squared_gain()] * 5, rel=1e-9)
    assert rows["stuck"].stopped == "16 steps"
    assert summary.arrival(rows["stuck"], 1e-9) is None


def test_the_solver_is_certified_by_the_harness():
    """If this fails, a solver that returns the feedforward pass as its equilibrium is believed."""

    class Believed(NumpyPCN):
        def equilibrium(self, network, input, target):
            return replace(
                super().equilibrium(network, input, target),
                activities=self.infer(network, input, target, 0, 0.1).activities, outcome="converged",
            )  # fmt: skip

    rows, _ = rows_of_case({"honest": NumpyPCN(), "believed": Believed()})
    honest, believed = rows["honest"].equilibrium, rows["believed"].equilibrium
    assert honest is not None
    assert believed is not None
    assert honest.gap is not None
    assert honest.gap < 1e-12
    assert believed.gap == pytest.approx(squared_gain(), rel=1e-9)
    assert len(honest.seconds) == 3
    board = make_board([rows["believed"]])
    assert any(cell.startswith("not there (") for cell in summary.cells(board, rows["believed"]))


def test_single_precision_is_certified_as_what_it_is():
    """If this fails, the certificate of a float32 run is of another network: weights in float32 are the network."""
    rows, _ = rows_of_case({"numpy": NumpyPCN()}, SHALLOW.replace(dtype="float32"))
    gain = squared_gain(SHALLOW.replace(dtype="float32"))
    first = rows["numpy"].curve[0]
    assert first.gap == pytest.approx(gain * 0.6**2, rel=1e-5)


def test_a_nonlinear_network_has_a_residual_first_and_a_certificate_in_the_end():
    """If this fails, curvature is estimated where nobody asks, or a tanh network is never certified."""
    problem = Problem(input_dim=4, width=12, depth=3, output_dim=2, batch=3, activation="tanh", residual=True, seed=5)
    (case,) = cases.make_cases({"one": problem}, ("float64",), 0.8)
    begin = certify_activities(case, case.start(), 1e-9)
    assert begin.relative_gap_bound is None
    assert begin.relative_residual > 1e-9
    network, x, y = case.arrays
    end = certify_activities(case, list(NumpyPCN().equilibrium(network, x, y).activities))
    assert end.relative_gap_bound is not None
    assert end.is_within(1e-8)
    assert end.relative_gap_bound >= end.relative_residual  # m is at most 1/2 of an eigenvalue near 1


def test_activities_that_are_not_finite_have_no_quality():
    """If this fails, NaN counts as equilibrium."""
    (case,) = cases.make_cases({"one": SHALLOW}, ("float64",), 0.8)
    found = certify_activities(case, [np.full((4, 5), np.nan)])
    assert found.relative_gap_bound is None
    assert found.relative_residual == math.inf
    assert not found.is_within(1.0)


@pytest.mark.parametrize(
    ("gaps", "arrives"),
    [([0.5, 1e-3, 1e-5], 1), ([1e-3, 0.5, 1e-3], 2), ([0.5, None, 1e-3], 2), ([1e-3, 1e-3, None], None), ([], None)],
)
def test_a_gap_that_is_lost_again_is_no_arrival(gaps, arrives):
    """If this fails, an iterate that passes by the equilibrium counts as having reached it."""
    assert first_index_within([2**k for k in range(len(gaps))], gaps, 1e-2) == arrives
