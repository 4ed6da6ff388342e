"""Interleaved pairs until every row is decided, with measurements that are made up."""

import itertools
import math

import numpy as np
import pytest

from pcbench.errors import AdapterError
from pcbench.gate import pairs
from pcbench.gate.rows import Chosen, Row, Task
from pcbench.gate.signs import Plan
from pcbench.problem.mlp import Problem

NET = Problem(input_dim=1, width=1, depth=2, output_dim=1, batch=1)


def choose_rows(*rows):
    names = dict.fromkeys(row.task for row in rows)
    return Chosen(rows=rows, tasks={name: Task(name=name, method="infer", problem=NET) for name in names})


class Fake:
    """Measures what a function of side and number of the process says, and notes who was asked."""

    def __init__(self, value, noise=0.01, seed=0):
        self.value, self.noise, self.random, self.asked = value, noise, np.random.default_rng(seed), []

    def __call__(self, side, task):
        self.asked.append((task, side))
        value = self.value(side, len(self.asked))
        return {"seconds": value * math.exp(self.noise * self.random.standard_normal())}


def compare(measure, *rows, **settings):
    plan = settings.pop("plan", Plan())
    return pairs.compare_sides(measure, choose_rows(*(rows or (Row(name="time", task="a"),))), plan, seed=3, **settings)


@pytest.mark.parametrize(
    ("factor", "lower", "outcome"),
    [(1.0, True, "cleared"), (1.2, True, "regression"), (0.8, True, "improvement"), (0.8, False, "regression"),
     (1.2, False, "improvement"), (1.03, True, "cleared")],
)  # fmt: skip
def test_verdicts(factor, lower, outcome):
    """If this fails, the gate calls slower faster, or the direction of a row is ignored."""
    fake = Fake(lambda side, n: factor if side == "head" else 1.0)
    (made,) = compare(fake, Row(name="time", task="a", lower_is_better=lower))
    assert made.outcome == outcome
    assert made.ratio == pytest.approx(factor, rel=0.02)
    assert len(made.base) == len(made.head) == 8
    assert len(fake.asked) == 8 + 16  # four pairs of calibration, and the first look decides


def test_order_is_balanced_and_drawn():
    """If this fails, a drift of the machine is taken for a difference, or the order can be foreseen."""
    fake = Fake(lambda side, n: 1.0)
    compare(fake, calibration=0)
    sides = [side for _, side in fake.asked]
    blocks = [tuple(sides[k : k + 4]) for k in range(0, 16, 4)]
    assert set(blocks) <= {("base", "head", "head", "base"), ("head", "base", "base", "head")}
    assert len(set(blocks)) == 2


def test_steady_drift_cancels():
    """If this fails, a machine that slows down by 3 % with every process makes the head slower."""
    (made,) = compare(Fake(lambda side, n: 1.03**n, noise=0.0))
    assert made.outcome == "cleared"
    assert made.ratio == pytest.approx(1.0, abs=1e-9)


def test_noise_takes_more_pairs():
    """If this fails, an undecided row is not looked at again."""
    fake = Fake(lambda side, n: 1.2 if side == "head" else 1.0, noise=0.1, seed=4)
    (made,) = compare(fake)
    assert len(made.base) in Plan().looks[1:]


def test_an_absolute_floor_holds():
    """If this fails, a row that lasts less than anybody notices fails a build."""
    fake = Fake(lambda side, n: 1.3 if side == "head" else 1.0)
    (made,) = compare(fake, Row(name="time", task="a", floor=0.5))
    assert made.outcome == "cleared"


def test_what_is_constant_is_compared_exactly():
    """If this fails, a number of compilations that doubles is not seen because it has no variance."""

    def measure(side, task):
        return {"compilations": 2 if side == "head" else 1, "evaluations": 9, "seconds": 1.0}

    rows = [Row(name=name, task="a", metric=name, floor=1) for name in ("compilations", "evaluations")]
    worse, same = compare(measure, *rows)
    assert (worse.outcome, worse.rule) == ("regression", "exact")
    assert "1 -> 2" in worse.why
    assert (same.outcome, same.ratio) == ("cleared", 1.0)


def test_a_host_that_sees_nothing_is_given_up_after_calibration():
    """If this fails, hours are spent on a host whose equal processes differ by a factor of three."""
    fake = Fake(lambda side, n: 1.0, noise=1.0)
    told = []
    (made,) = compare(fake, tell=told.append)
    assert made.outcome == "noisy"
    assert "20%" in made.why
    assert len(fake.asked) == 8
    assert "spread" in told[0]


def test_undecided_on_a_quiet_host_is_too_little_data():
    """If this fails, lack of pairs is blamed on the host, or passes. One pair of eight disagrees wildly."""
    values = itertools.cycle([1.25] * 7 + [0.78])

    def measure(side, task):
        return {"seconds": next(values) if side == "head" else 1.0}

    (made,) = compare(measure, plan=Plan(looks=(8,)), calibration=20)
    assert made.outcome == "undecided"
    assert "neither shown nor ruled out" in made.why


def test_undecided_on_a_noisy_host_is_the_host():
    """If this fails, more pairs are asked for on a host where they do not help."""
    values = itertools.cycle([1.0, 1.5, 0.7, 1.6])
    (made,) = compare(lambda side, task: {"seconds": next(values)}, plan=Plan(looks=(8,)), calibration=0)
    assert made.outcome == "noisy"


def test_a_failing_process_costs_the_rows_of_its_task_alone():
    """If this fails, one crash ends the gate or goes unseen."""

    def measure(side, task):
        if task == "b" and side == "head":
            raise AdapterError("the head crashed")
        return {"seconds": 1.0, "peak": 5.0}

    rows = [Row(name="t", task="a"), Row(name="u", task="b"), Row(name="v", task="b", metric="peak")]
    made = compare(measure, *rows)
    assert [m.outcome for m in made] == ["cleared", "error", "error"]
    assert "crashed" in made[1].why


def test_a_metric_that_is_not_reported_is_not_applicable():
    """If this fails, an implementation that counts no compilations cannot be gated."""
    made = compare(lambda side, task: {"seconds": 1.0}, Row(name="n", task="a", metric="compilations"))
    assert made[0].outcome == "not-applicable"
    both = compare(
        lambda side, task: {"seconds": 1.0} if side == "head" else {"n": 1.0},
        Row(name="n", task="a", metric="n"),
    )
    assert both[0].outcome == "not-applicable"


def test_decided_tasks_take_no_more_processes():
    """If this fails, quiet rows wait for noisy ones and the gate takes several times as long."""
    random = np.random.default_rng(4)

    def measure(side, task):
        asked.append(task)
        wild = 0.1 * random.standard_normal() if task == "wild" else 0.01 * random.standard_normal()
        return {"seconds": (1.2 if side == "head" else 1.0) * math.exp(wild)}

    asked = []
    compare(measure, Row(name="quiet", task="quiet"), Row(name="wild", task="wild"), calibration=0)
    assert asked.count("quiet") == 16
    assert asked.count("wild") > 16
