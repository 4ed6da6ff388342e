"""Rounds of measurement: the order of the implementations, and one that breaks among them; no times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pcbench.adapters.numpy import NumpyPCN
from pcbench.protocol.implementation import Inference
from tests.leaderboard.boards import PLAN, Slow, rows_of_case


class Breaks(NumpyPCN):
    """Right up to 3 steps, then raises."""

    def infer(self, network, input, target, steps, step_size, start=None):
        if steps > 3:
            raise ArithmeticError("no more than 3 steps")
        return super().infer(network, input, target, steps, step_size, start)


class Diverges(NumpyPCN):
    """Answers with numbers that are not finite."""

    def infer(self, network, input, target, steps, step_size, start=None):
        z = super().infer(network, input, target, steps, step_size, start).activities
        return Inference(activities=[np.full_like(a, np.nan) for a in z])


def test_the_order_is_drawn_anew_in_every_round_and_by_the_seed_alone():
    """If this fails, runs are not interleaved, or cannot be repeated."""
    log = []

    def log_call(name):
        class Logged(NumpyPCN):
            def infer(self, network, input, target, steps, step_size, start=None):
                log.append(name)
                return super().infer(network, input, target, steps, step_size, start)

        return Logged()

    names = "abcd"
    plan = replace(PLAN, rounds=8)
    _, order = rows_of_case({n: log_call(n) for n in names}, plan=plan, seed=5)
    assert all(sorted(drawn) == list(names) for drawn in order)
    assert len(order) == 9
    assert len({tuple(drawn) for drawn in order}) > 3
    called = [name for k, name in enumerate(log) if k == 0 or log[k - 1] != name]
    expected = [name for drawn in order for name in drawn]
    assert called == [name for k, name in enumerate(expected) if k == 0 or expected[k - 1] != name]
    again = rows_of_case({n: NumpyPCN() for n in names}, plan=plan, seed=5)[1]
    assert again == order
    assert rows_of_case({n: NumpyPCN() for n in names}, plan=plan, seed=6)[1] != order


@pytest.mark.parametrize(("broken", "said"), [(Breaks, "no more than 3 steps"), (Diverges, "not finite")])
def test_one_that_breaks_leaves_the_others(broken, said):
    """If this fails, a crash of one implementation takes measurements of the others with it."""
    rows, _ = rows_of_case({"good": NumpyPCN(), "bad": broken()})
    assert rows["good"].outcome == "measured"
    assert len(rows["good"].short) == 3
    assert rows["bad"].outcome == "error"
    assert said in rows["bad"].why
    assert rows["bad"].sample_steps is None


def test_one_that_breaks_in_a_round_keeps_whole_rounds():
    """If this fails, a crash in the middle of a round leaves a time without its partner."""

    class Tires(Slow):
        def infer(self, network, input, target, steps, step_size, start=None):
            if self.asked.count(1) > 7:  # four in the first pass, then two a round
                raise RuntimeError("tired")
            return super().infer(network, input, target, steps, step_size, start)

    rows, _ = rows_of_case({"tires": Tires()}, plan=replace(PLAN, rounds=9))
    row = rows["tires"]
    assert row.outcome == "error"
    assert "tired" in row.why
    assert len(row.short) == len(row.long) == 1
    assert {len(p.seconds) for p in row.curve} == {len(row.short)}
