"""The problems of the leaderboard: their step sizes, where inference begins on them, and their names."""

from __future__ import annotations

import pytest

from pcbench.adapters.numpy import NumpyPCN
from pcbench.errors import UsageError
from pcbench.leaderboard import cases
from pcbench.leaderboard.quality import certify_activities
from tests.leaderboard.boards import SHALLOW, squared_gain


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
