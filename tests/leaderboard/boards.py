"""What the tests of the leaderboard share: a problem with a closed form, implementations, reports, and boards."""

from __future__ import annotations

import textwrap
from random import Random

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from pcbench.laws import law_set_hash
from pcbench.leaderboard import cases, conformance, measure, session
from pcbench.leaderboard.outcome import Board, Row
from pcbench.output.display import Silent
from pcbench.problem.mlp import Problem
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


def write_mine(folder) -> None:
    """`mine.py`, whose implementations are wrong, lack a feature, are called like another, or end their process."""
    (folder / "mine.py").write_text(textwrap.dedent(FILE))


def settings(**changes):
    values = {"problems": PROBLEMS, "dtypes": ("float64",), "seed": 4, "timeout": 30.0,
              "plan": measure.Plan(rounds=2, seconds=0.05, long_seconds=1e-3)}  # fmt: skip
    return session.Settings(**{**values, **changes})


def make_board(rows, **changes):
    values = {"pcbench": "0", "command": "pcbench bench", "started": "2026-01-01T00:00:00+00:00", "seed": 1,
              "settings": settings().to_json()}  # fmt: skip
    return Board(**{**values, **changes}, rows=rows)
