"""The sweep over what inference costs: its points, its rows against closed forms, its fits and its figure."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import UsageError
from pcbench.experiments.inference import figure as inference_figure
from pcbench.experiments.inference import sweep as inference_scaling
from pcbench.experiments.inference.sweep import fit_exponents, largest_stable_step, measure_point, sweep_points
from pcbench.experiments.scaling.options import Options
from pcbench.output.table import plain_row, read_rows, write_rows
from pcbench.problem.mlp import Problem

SMALL = {
    "depths": [2, 5],
    "width": 8,
    "widths": [8],
    "depth": 5,
    "seeds": [0, 1],
    "input_dim": 3,
    "output_dim": 2,
    "max_evaluations": 3000,
}


def points_with(points, **fields):
    return [p for p in points if all(p.get(name) == value for name, value in fields.items())]


@pytest.fixture(scope="module")
def rows():
    """Gradient descent, conjugate gradients in both spaces and the spectra of all families, measured once."""
    chosen = ["gradient-descent", "conjugate-gradients", "error-conjugate-gradients"]
    return [row for point in sweep_points({**SMALL, "algorithms": chosen}) for row in measure_point(point)]


def test_points_are_plain_distinct_and_complete():
    """If this fails, a sweep cannot be journalled or sent to a worker, measures twice, or leaves an algorithm out."""
    points = sweep_points()
    assert len({json.dumps(p, sort_keys=True) for p in points}) == len(points)
    assert pickle.loads(pickle.dumps(measure_point)) is measure_point
    for algorithm in inference_scaling.ALGORITHMS:
        swept = {(p["depth"], p["width"]) for p in points_with(points, family="mupc", algorithm=algorithm)}
        assert {depth for depth, width in swept if width == 64} == {2, 4, 8, 16, 32, 64}
        assert {width for depth, width in swept if depth == 8} == {16, 32, 64, 128, 256, 512}
    assert {p["family"] for p in points_with(points, kind="spectrum")} == set(inference_scaling.FAMILIES)


def test_options_that_are_none_are_the_defaults():
    """If this fails, a command line that leaves an option out sweeps over nothing."""
    assert sweep_points({"depths": None, "seeds": None}) == sweep_points(None)


def test_the_options_of_the_scaling_experiments_are_understood():
    """If this fails, the command measures other sizes or seeds than it was asked for, or for hours."""
    points = sweep_points(Options(widths=(4, 32, 4096), depths=(3, 6, 128), repeats=2, seed=7))
    assert {(p["depth"], p["width"]) for p in points_with(points, family="mupc")} == {(3, 64), (6, 64), (8, 32)}
    assert all(p["seeds"] == [7, 8] for p in points)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depht": [3]}, "option 'depht'"),
        ({"families": ["mup"]}, "family 'mup'"),
        ({"algorithms": ["sgd"]}, "algorithm 'sgd'"),
    ],
)
def test_misspelt_options_are_refused(options, message):
    """If this fails, a misspelt option sweeps over something else than was asked for."""
    with pytest.raises(UsageError, match=message):
        sweep_points(options)


def test_rows_are_tidy_and_account_for_every_seed_and_tolerance(rows):
    """If this fails, rows cannot be written as a table, or some measurement is missing."""
    assert [plain_row(row) for row in rows] == rows
    cells = points_with(rows, kind="steps", family="mupc", algorithm="gradient-descent", depth=5, width=8)
    assert sorted((r["seed"], r["tolerance"]) for r in cells) == [(s, t) for s in (0, 1) for t in (1e-10, 1e-6, 1e-2)]
    for row in points_with(rows, kind="steps"):
        assert row["reached"] == (row["certificate"] <= 1.01 * row["tolerance"]) or row["tolerance"] > 1e-10
        assert row["cost"] <= row["evaluations"] * 2 / 3


def test_conjugate_gradients_on_errors_stay_within_outputs_plus_one(rows):
    """If this fails, the sweep shows depth where theory L6 has none."""
    own = [
        r
        for r in points_with(rows, algorithm="error-conjugate-gradients", outcome="converged")
        if "tanh" not in r["family"]
    ]
    assert {r["family"] for r in own} == {"mupc", "ntp", "orthogonal chain"}
    assert max(r["steps"] for r in own) <= 3


def test_the_chain_has_its_exact_condition_number(rows):
    """If this fails, the spectrum is not that of the network which was swept: 2 - 2 cos of multiples of pi (L8)."""
    for row in points_with(rows, kind="spectrum", family="orthogonal chain"):
        L = row["depth"]
        # N > K, so both families of cosines are present; for L = 2 the fixed chain has the top, 2.
        smallest = 2 - 2 * math.cos(math.pi / (2 * L - 1))
        largest = max(2 - 2 * math.cos((L - 1) * math.pi / L), 2 - 2 * math.cos((2 * L - 3) * math.pi / (2 * L - 1)))
        assert row["condition"] == pytest.approx(largest / smallest, rel=1e-10)
        assert row["exact_condition"] == pytest.approx(largest / smallest, rel=1e-10)


def test_inference_is_stable_up_to_two_over_the_largest_eigenvalue(rows):
    """If this fails, the measured threshold of divergence is not 2/lambda_max, linear or at a tanh equilibrium."""
    spectra = points_with(rows, kind="spectrum")
    assert {r["family"] for r in spectra} == set(inference_scaling.FAMILIES)
    np.testing.assert_allclose([r["stable_ratio"] for r in spectra], 1, atol=1e-4)


def test_the_stable_step_of_one_unit_by_hand():
    """If this fails, the bisection does not find 2/(1 + b^2), b the output's effective weight."""
    problem = Problem(input_dim=1, width=1, depth=2, output_dim=1, batch=1, parameterisation="sp")
    b = float(problem.network().weights[1][0, 0])
    step = largest_stable_step(problem.network(), problem.input(), problem.target(), np.ones((1, 1, 1)))
    assert step == pytest.approx(2 / (1 + b * b), rel=1e-4)


def test_settings_are_the_best_of_a_linear_network():
    """If this fails, gradient descent and momentum are slower than they can be: from the dense Hessians."""
    network = Problem(input_dim=3, width=5, depth=4, output_dim=2, batch=1, residual=True).network()
    values = np.linalg.eigvalsh(theory.activity_hessian(network))
    low, high = values[0], values[-1]
    settings = inference_scaling.settings_of(network, "gradient-descent")
    assert settings == {"step_size": pytest.approx(2 / (low + high), rel=1e-9)}
    ball = inference_scaling.settings_of(network, "heavy-ball")
    assert ball["step_size"] == pytest.approx(4 / (low**0.5 + high**0.5) ** 2, rel=1e-9)
    root = math.sqrt(high / low)
    assert ball["momentum"] == pytest.approx(((root - 1) / (root + 1)) ** 2, rel=1e-9)
    J = np.concatenate(theory.output_jacobians(network), axis=1)
    top = np.linalg.eigvalsh(np.eye(J.shape[1]) + J.T @ J)[-1]
    step = inference_scaling.settings_of(network, "error-gradient-descent")["step_size"]
    assert step == pytest.approx(2 / (1 + top), rel=1e-9)
    assert inference_scaling.settings_of(network, "error-newton") == {}


def test_exponents_leave_out_what_was_not_reached():
    """If this fails, a budget that ended counts as a number of steps."""
    shared = {"kind": "steps", "family": "mupc", "algorithm": "adam", "width": 8, "tolerance": 1e-10}
    table = [{**shared, "depth": L, "steps": L**3, "cost": 2.0 * L, "reached": L < 40} for L in (2, 8, 16, 32, 64)]
    table.append({"kind": "spectrum", "family": "mupc", "width": 8, "depth": 8, "condition": 3.0})
    fits = {fit["quantity"]: fit for fit in fit_exponents(table, width=8)}
    assert fits["steps"]["exponent"] == pytest.approx(3)
    assert fits["cost"]["exponent"] == pytest.approx(1)
    assert (fits["steps"]["points"], fits["steps"]["left_out"]) == (3, 1)
    assert math.isnan(fits["condition"]["exponent"])


def test_the_figure_is_drawn_from_a_table(rows, tmp_path):
    """If this fails, the figure cannot be drawn from the CSV of a sweep, or changes without its data changing."""
    write_rows(tmp_path / "rows.csv", rows)
    paths = inference_figure.draw(read_rows(tmp_path / "rows.csv"), tmp_path / "one")
    assert [p.name for p in paths] == ["one.svg", "one.png"]
    again = inference_figure.draw(rows, tmp_path / "two.svg")
    assert [p.name for p in again] == ["two.svg", "two.png"]
    assert paths[0].read_bytes() == again[0].read_bytes()
    text = paths[0].read_text()
    assert "<svg" in text


def test_an_empty_figure_is_refused(rows, tmp_path):
    """If this fails, a sweep without algorithms draws an empty picture."""
    with pytest.raises(UsageError, match="at least one algorithm"):
        inference_figure.draw(points_with(rows, kind="spectrum"), tmp_path / "none")
