"""The leaderboard: curves from closed forms, counted work, withheld rows, crashes, order, and files; no times."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner

from pcbench.adapters.numpy import NumpyPCN
from pcbench.cli.main import main
from pcbench.errors import UsageError
from pcbench.laws import law_set_hash
from pcbench.leaderboard import cases, conformance, measure, session, summary
from pcbench.leaderboard.outcome import Board, Entrant, Point, Row, Solved, interval
from pcbench.leaderboard.quality import certify_activities, first_index_within
from pcbench.output.display import Silent
from pcbench.output.table import read_rows
from pcbench.problem.mlp import Problem
from pcbench.protocol.implementation import Inference
from pcbench.report.evidence import Verdict
from pcbench.report.report import LawText, Report, RunHeader
from pcbench.worker.client import InProcess
from pcbench.worker.subject import Subject

# One hidden layer and one output: H = I + c c^T with c = a_2 W_2, and the feedforward pass is off along c alone.
SHALLOW = Problem(input_dim=3, width=5, depth=2, output_dim=1, batch=4, seed=3)
PLAN = measure.Plan(rounds=3, tolerances=(1e-2, 1e-4), seconds=60.0, long_seconds=1e-6)


def squared_gain(problem=SHALLOW):
    c = problem.scalings()[1] * np.asarray(problem.weights()[1], np.float64)
    return float(np.sum(c * c))


class Slow(NumpyPCN):
    """Right, but does every step nine times over; counts the steps that it is asked for, and those that it does."""

    def __init__(self):
        self.asked = []
        self.done = 0

    def infer(self, network, input, target, steps, step_size, start=None):
        self.asked.append(steps)
        return super().infer(network, input, target, steps, step_size, start)

    def _step(self, network, z, target, step_size):
        for _ in range(8):
            super()._step(network, z, target, step_size)
        self.done += 9
        return super()._step(network, z, target, step_size)


class Lazy(NumpyPCN):
    """Wrong: takes half of every step."""

    def _step(self, network, z, target, step_size):
        return super()._step(network, z, target, step_size / 2)


class Stuck(NumpyPCN):
    """Wrong: never moves."""

    def _step(self, network, z, target, step_size):
        return z


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


def rows_of_case(implementations, problem=SHALLOW, plan=PLAN, seed=1, fraction=0.8):
    (case,) = cases.make_cases({"one": problem}, (problem.dtype,), fraction)
    subjects = {name: Subject(InProcess(i)) for name, i in implementations.items()}
    rows = {n: Row(case="one", dtype=problem.dtype, implementation=n, batch=problem.batch) for n in implementations}
    saved = []
    order = measure.measure_case(
        case, subjects, rows, plan, Random(seed), display=Silent(), save=lambda: saved.append(1)
    )  # fmt: skip
    assert saved
    return rows, order


# ---- problems --------------------------------------------------------------------------------------------------------


def test_the_stable_step_size_is_two_over_the_largest_eigenvalue():
    """If this fails, implementations descend at another fraction of the stable step size than the table says."""
    (case,) = cases.make_cases({"one": SHALLOW}, ("float64",), 0.25)
    assert case.threshold == pytest.approx(2 / (1 + squared_gain()), rel=1e-12)
    assert case.problem.step_size == pytest.approx(0.5 / (1 + squared_gain()), rel=1e-12)
    gelu = SHALLOW.replace(activation="gelu", loss="mse").network()
    assert cases.step_size_threshold(gelu) == pytest.approx(2 / (1 + 1.44 * squared_gain()), rel=1e-12)
    tanh = SHALLOW.replace(activation="tanh", placement="after-weight").network()
    assert cases.step_size_threshold(tanh) == pytest.approx(2 / (1 + squared_gain()), rel=1e-12)


def test_every_default_problem_descends_and_begins_above_the_loosest_gap():
    """If this fails, a default problem diverges, or is at equilibrium before inference begins."""
    for problems, dtypes in ((cases.QUICK, ("float64",)), (cases.PROBLEMS, ("float32",))):
        for case in cases.make_cases(problems, dtypes, 0.8):
            network, x, y = case.arrays
            z = NumpyPCN().infer(network, x, y, 256, case.problem.step_size).activities
            begins, ends = certify_activities(case, case.start(), 0.0), certify_activities(case, list(z), 0.0)
            assert begins.relative_residual > 2e-3, case.name
            assert ends.relative_residual < 0.5 * begins.relative_residual, case.name


@pytest.mark.parametrize(
    ("fraction", "dtypes", "said"),
    [(1.0, ("float64",), "less than 1"), (0.0, ("float64",), "more than 0"), (0.5, ("half",), "needed some of"),
     (0.5, (), "needed some of")],
)  # fmt: skip
def test_cases_that_mean_nothing_are_refused(fraction, dtypes, said):
    """If this fails, a step size at the threshold is measured, where nothing converges."""
    with pytest.raises(UsageError, match=said):
        cases.make_cases({"one": SHALLOW}, dtypes, fraction)


def test_equal_sizes_get_names_of_their_own():
    """If this fails, two problems fall together into one row."""
    found = cases.name_problems(["D=3,N=5,L=2,K=1,B=4,seed=1", "D=3,N=5,L=2,K=1,B=4,seed=2"])
    assert list(found) == ["linear-N5-L2", "linear-N5-L2'"]
    assert [p.seed for p in found.values()] == [1, 2]


# ---- quality ---------------------------------------------------------------------------------------------------------


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


# ---- rounds ----------------------------------------------------------------------------------------------------------


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


# ---- conformance -----------------------------------------------------------------------------------------------------


SPEC = "pcbench.adapters.numpy:implementation"


def report(outcomes=None, name="numpy", laws=conformance.LAWS, dtypes=("float64",), **header):
    found = dict.fromkeys(laws, "pass") | (outcomes or {})
    manifest = {**NumpyPCN.manifest.to_json(), "name": name}
    values = {"pcbench": "1", "law_set": law_set_hash(), "implementation": name, "spec": SPEC, **header}
    return Report(
        header=RunHeader(manifest=manifest, dtypes=dtypes, **values),
        laws=tuple(LawText(id=law, statement="") for law in found),
        verdicts=tuple(Verdict(law=law, outcome=o, message=f"about {law}\nmore") for law, o in found.items()),
    )


def test_the_laws_exist():
    """If this fails, a law has changed its name and rows rest on fewer."""
    from pcbench.laws import REGISTRY

    assert set(conformance.LAWS) <= set(REGISTRY)
    assert set(conformance.NEEDED) <= set(conformance.LAWS)


@pytest.mark.parametrize(
    ("outcomes", "conforms", "said"),
    [
        ({}, True, "12 laws hold"),
        ({"gradient.activities-match-definition": "not-applicable"}, True, "11 laws hold"),
        ({"inference.steps-compose": "fail"}, False, "inference.steps-compose: fail, about inference.steps-compose"),
        ({"inference.steps-compose": "inconclusive"}, False, "inconclusive"),
        ({"inference.steps-compose": "timeout"}, False, "timeout"),
        ({"energy.matches-definition": "not-applicable"}, False, "energy.matches-definition was not judged"),
        (dict.fromkeys(conformance.LAWS, "not-applicable"), False, "was not judged"),
    ],
)
def test_what_does_not_pass_is_withheld(outcomes, conforms, said):
    """If this fails, a speed is shown beside laws that are broken, undecided, or were never judged."""
    found = conformance.standing("numpy", "float64", report(outcomes), conformance.LAWS, "this run")
    assert found.conforms is conforms
    assert said in found.why
    assert "\n" not in found.why


def test_other_laws_are_not_asked():
    """If this fails, a broken law of training withholds the speed of inference."""
    judged = report({"limit.training-follows-backprop": "fail"})
    assert conformance.standing("numpy", "float64", judged, conformance.LAWS, "").conforms


def test_a_report_must_fit(tmp_path):
    """If this fails, another version's conformance vouches for the one that is measured."""
    path = tmp_path / "r.json"
    here = Entrant(name="numpy", given="numpy", spec=SPEC, manifest=NumpyPCN.manifest.to_json())
    path.write_text(report(dtypes=("float64", "float32")).dumps())
    found = conformance.read([str(path)], conformance.LAWS)
    assert set(conformance.assign(found, [here])) == {("numpy", "float64"), ("numpy", "float32")}
    for entrant, said in (
        (replace(here, manifest={**here.manifest, "version": "0.1"}), "with version"),
        (replace(here, manifest={**here.manifest, "versions": {"python": "3.9"}}), "python 3.9"),
        (replace(here, name="other"), "needed one of other"),
        (replace(here, spec=SPEC + "_quick"), "implementation_quick is timed"),
    ):
        with pytest.raises(UsageError, match=said):
            conformance.assign(found, [entrant])
    for other, said in (
        (report(law_set="old"), "law set old"),
        (report(partial="interrupted"), "interrupted"),
        (report({"inference.steps-compose": "not-run"}), "inference.steps-compose"),
        (report(laws=conformance.LAWS[:3]), "were not judged"),
    ):
        path.write_text(other.dumps())
        with pytest.raises(UsageError, match=said):
            conformance.read([str(path)], conformance.LAWS)


# ---- a whole run -----------------------------------------------------------------------------------------------------

FILE = """
import os
from dataclasses import replace
from pcbench.adapters.numpy import NumpyPCN


def called(name, **capabilities):
    old = NumpyPCN.manifest
    return replace(old, name=name, capabilities=replace(old.capabilities, **capabilities))


class Twice(NumpyPCN):
    manifest = called("twice")

    def _step(self, network, z, target, step_size):
        return super()._step(network, z, target, 2 * step_size)


class Exits(NumpyPCN):
    manifest = called("exits")

    def infer(self, network, input, target, steps, step_size, start=None):
        if network.depth == 3 and steps == 1:
            os._exit(7)
        return super().infer(network, input, target, steps, step_size, start)


class Plain(NumpyPCN):
    manifest = called("plain", residual=False)


class Namesake(NumpyPCN):
    pass


class Stillborn(NumpyPCN):
    def __init__(self):
        os._exit(9)
"""
PROBLEMS = {
    "deeper": Problem(input_dim=3, width=6, depth=3, output_dim=2, batch=4, residual=True, seed=2),
    "shallow": SHALLOW,
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def all_conform(monkeypatch):
    def judge(entrant, dtype, **rest):
        return report(name=entrant.name, dtypes=(dtype,))

    monkeypatch.setattr(conformance, "judge", judge)


def settings(**changes):
    values = {"problems": PROBLEMS, "dtypes": ("float64",), "seed": 4, "timeout": 30.0,
              "plan": measure.Plan(rounds=2, seconds=0.05, long_seconds=1e-3)}  # fmt: skip
    return session.Settings(**{**values, **changes})


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


def test_nothing_that_conforms_is_code_1(place, monkeypatch):
    """If this fails, a run that may show nothing looks like a success."""
    bad = {"energy.matches-definition": "fail"}
    monkeypatch.setattr(conformance, "judge", lambda entrant, dtype, **rest: report(bad, entrant.name))
    result = CliRunner().invoke(main, ["bench", "numpy", "--quick", "--output", "out"])
    assert result.exit_code == 1, result.output
    assert "nothing was measured: numpy in float64 did not conform" in result.output
    assert not (place / "out" / "bench.png").exists()
    assert "energy.matches-definition: fail" in (place / "out" / "bench.md").read_text().replace("\\", "")


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nunpy"], "did you mean 'numpy'"),
        (["numpy=/no/such/python"], "does not exist"),
        (["numpy", "numpy"], "given twice"),
        (["numpy", "mine.py:Namesake"], "two implementations are called 'numpy'"),
        (["numpy", "--output", "mine.py"], "cannot be made"),
        (["numpy", "--output", "mine.py/below"], "cannot be made"),
        (["numpy", "--dtypes", "half"], "needed some of"),
        (["numpy", "--problem", "N=3"], "a problem needs input_dim"),
        (["numpy", "--quick", "--problem", "D=1,N=1,L=2,K=1,B=1"], "leave out --problem"),
        (["numpy", "--tolerances", "2"], "needed numbers between 0 and 1"),
        (["numpy", "--conformance", "nothing.json"], "nothing.json"),
        (["mine.py:Absent"], "has no attribute"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_command_is_refused_with_code_2(place, arguments, said):
    """If this fails, a mistake ends in a traceback, or is found out after minutes."""
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (place / "bench" / "bench.json").exists()


def test_the_help_lists_problems_and_exit_codes():
    """If this fails, somebody has to read the source to know what is measured."""
    text = CliRunner().invoke(main, ["bench", "--help"]).output
    for name in (*cases.PROBLEMS, *cases.QUICK):
        assert name in text
    for problem in cases.PROBLEMS.values():
        assert f"N={problem.width}, L={problem.depth}, {problem.batch} samples" in text
    for code in (0, 1, 2, 3, 130):
        assert f"\n    {code} " in text


# ---- data ------------------------------------------------------------------------------------------------------------


def make_board(rows, **changes):
    values = {"pcbench": "0", "command": "pcbench bench", "started": "2026-01-01T00:00:00+00:00", "seed": 1,
              "settings": settings().to_json()}  # fmt: skip
    return Board(**{**values, **changes}, rows=rows)


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
