"""The scaling experiments against closed forms: what each measures, at sizes where it is known."""

import itertools
import math

import numpy as np
import pytest

from pcbench import theory
from pcbench.experiments.power_law import exponent
from pcbench.experiments.scaling import (
    alignment,
    images,
)
from pcbench.experiments.scaling import (
    architectures as scaling_architectures,
)
from pcbench.experiments.scaling import (
    figure as scaling_figure,
)
from pcbench.experiments.scaling import (
    initialisation as scaling_initialisation,
)
from pcbench.experiments.scaling import (
    joint_figure as scaling_joint_figure,
)
from pcbench.experiments.scaling import (
    nonlinear as scaling_nonlinear,
)
from pcbench.experiments.scaling import (
    training as scaling_training,
)
from pcbench.experiments.scaling.learning_curves import toy_data
from pcbench.experiments.scaling.options import Options, network_seed
from pcbench.experiments.sweep import run_sweep
from pcbench.oracle import mlp as oracle
from pcbench.output import drawing
from pcbench.problem.mlp import Problem

OPTIONS = Options(widths=(2, 8, 16), depths=(2, 4, 8), repeats=2, seed=5, batch=6)


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


# ---- alignment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("precision", [1.0, 3.0])
def test_alignment_of_a_linear_network_is_the_closed_form(residual, precision):
    """If this fails, every point of every figure about linear networks is in the wrong place."""
    problem = Problem(
        input_dim=5, width=7, depth=4, output_dim=3, batch=6, residual=residual, output_precision=precision, seed=2
    )
    network, x, y = problem.network(), problem.input(), problem.target()
    found = alignment.compare_network(network, x, y)
    loss, energy = precision * theory.loss(network, x, y), theory.equilibrium_energy(network, x, y)
    pc = flat(theory.equilibrium_weight_gradients(network, x, y))
    bp = flat(oracle.backprop_gradients(network, x, y))
    np.testing.assert_allclose(
        [found.loss, found.energy, found.energy_excess], [loss, energy, loss / energy - 1], rtol=1e-11
    )
    np.testing.assert_allclose(found.gradient_error, np.linalg.norm(pc - bp) / np.linalg.norm(bp), rtol=1e-10)
    cosine = pc @ bp / (np.linalg.norm(pc) * np.linalg.norm(bp))
    np.testing.assert_allclose(found.misalignment, 1 - cosine, rtol=1e-10)
    np.testing.assert_allclose(
        found.trace_excess, np.trace(theory.equilibrium_matrix(network)) / 3 - 1 / precision, rtol=1e-12
    )
    assert found.certified


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_alignment_of_a_nonlinear_network_in_its_linear_regime(activation):
    """If this fails, a certified nonlinear point is no equilibrium, or is compared with another gradient.

    At activities of order 1e-5 tanh is the identity to 1e-10, and gelu half of it to 1e-5.
    """
    slope, accuracy = (1.0, 1e-8) if activation == "tanh" else (0.5, 1e-4)
    sizes = {"input_dim": 5, "width": 9, "depth": 4, "output_dim": 3, "batch": 6, "residual": True, "seed": 2}
    problem = Problem(**sizes, activation=activation, data_scale=1e-5)
    linear = Problem(**sizes, data_scale=1e-5).network()
    scalings = (linear.scalings[0], *(slope * a for a in linear.scalings[1:]))
    twin = type(linear)(weights=linear.weights, scalings=scalings, skips=linear.skips)
    found = alignment.compare_network(problem.network(), problem.input(), problem.target())
    expected = alignment.compare_network(twin, problem.input(), problem.target())
    assert found.certified
    assert math.isnan(found.trace_excess)
    np.testing.assert_allclose(found.energy_excess, expected.energy_excess, rtol=accuracy)
    np.testing.assert_allclose(found.gradient_error, expected.gradient_error, rtol=accuracy)
    np.testing.assert_allclose(found.misalignment, expected.misalignment, rtol=accuracy)


def test_misalignment_keeps_its_digits():
    """If this fails, 1 - cos of nearly equal gradients is rounding, and its slope of -2 ends at 1e-16."""
    g, h = {"a": np.array([1.0, 0.0])}, {"a": np.array([1.0, 1e-4])}
    error, misalignment = alignment.distances(g, h)  # outside of x64: float32, in which 1 - cos would be 0
    np.testing.assert_allclose(error, 1e-4, rtol=1e-5)
    np.testing.assert_allclose(misalignment, 5e-9, rtol=1e-3)


# ---- initialisation ---------------------------------------------------------------------------------------------


def test_initialisation_has_every_size_and_the_controls_at_the_middle_depth():
    """If this fails, a figure has holes, or the controls are missing."""
    found = scaling_initialisation.points(OPTIONS)
    assert sorted((p["depth"], p["width"]) for p in found) == [(d, w) for d in (2, 4, 8) for w in (2, 8, 16)]
    assert all((len(p["cases"]) == 5) == (p["depth"] == 4) for p in found)


def test_excess_at_initialisation_is_the_expectation():
    """If this fails, the points do not lie on the line of theory, or the line is another one.

    The expected values are those of W1 written out: at L = 4, N = 8 residual 4/8 (1.25^3 - 1), plain 3/8; ntp times N;
    sp of variance 1/fan-in 2^3 - 1 and 3.
    """
    cases = [["mupc", True], ["mupc", False], ["ntp", True], ["sp", True], ["sp", False]]
    point = {"width": 8, "depth": 4, "cases": cases, "repeats": 60, "seed": 1, "data": None, "batch": 4}
    rows = scaling_initialisation.measure_point(point)
    for (name, residual), expected in zip(cases, (0.4765625, 0.375, 3.8125, 7.0, 3.0), strict=True):
        at = [r for r in rows if (r["parameterisation"], r["residual"]) == (name, residual)]
        assert len(at) == 60
        np.testing.assert_allclose([r["expected_excess"] for r in at], expected, rtol=1e-13)
        excess = np.array([r["excess"] for r in at])
        assert abs(excess.mean() - expected) < 4 * excess.std(ddof=1) / math.sqrt(len(excess))
        assert all(r["certified"] and r["data"] == images.STAND_IN for r in at)


def test_networks_are_independent_and_reproducible():
    """If this fails, points of different sizes share weights, or a worker draws other ones."""
    seeds = {network_seed(5, width, depth, repeat) for width in (2, 8) for depth in (2, 4) for repeat in range(3)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**64 for seed in seeds)


# ---- training ---------------------------------------------------------------------------------------------------


def test_toy_task_during_training():
    """If this fails, PC and its energy are not measured at the same weights.

    With one output S is a number, so that loss/F* is S at every update, and the loss starts from equal weights.
    """
    rows = scaling_training.measure_point({"task": "toy", "width": 8, "depth": 4, "repeats": 2, "seed": 5})
    assert [r["update"] for r in rows] == [*range(101), *range(101)]
    np.testing.assert_allclose([r["gap"] for r in rows], [r["excess"] for r in rows], rtol=1e-9)
    first, second = (r for r in rows if r["update"] == 0)
    assert first["pc_loss"] == pytest.approx(first["bp_loss"], rel=1e-13)
    assert first["pc_loss"] != second["pc_loss"]
    x, y = toy_data(5)
    problem = Problem(
        input_dim=40, width=8, depth=4, output_dim=1, batch=20, seed=network_seed(5, "toy", 8, 4, 1)
    )  # the second network
    found = alignment.compare_network(problem.network(), x, y)
    np.testing.assert_allclose(
        [second["pc_loss"], second["energy"], second["gradient_error"], second["misalignment"]],
        [found.loss, found.energy, found.gradient_error, found.misalignment],
        rtol=1e-9,
    )


def test_limit_of_the_toy_task_starts_at_the_loss_of_nothing():
    """If this fails, the line of infinite width is that of another task: its output is 0 at first, its targets +-1."""
    rows = scaling_training.measure_point({"task": "limit", "seed": 5, "depth": 4})
    assert rows[0]["pc_loss"] == pytest.approx(0.5, rel=1e-14)
    assert len(rows) == 101
    assert rows[-1]["pc_loss"] < 0.05


def test_images_are_measured_at_the_marks():
    """If this fails, the panels compare other updates than they say."""
    point = {"task": "images", "width": 4, "depth": 2, "data": None, "batch": 6, "repeats": 1, "seed": 5}
    rows = scaling_training.measure_point(point)
    assert [r["update"] for r in rows] == [0, 50, 100]
    assert rows[2]["pc_loss"] < rows[0]["pc_loss"]
    assert {r["data"] for r in rows} == {images.STAND_IN}


# ---- nonlinear networks and inference steps ---------------------------------------------------------------------


def test_nonlinear_rows_say_whether_they_are_certified():
    """If this fails, figures draw points that nothing vouches for."""
    (point,) = [
        p for p in scaling_nonlinear.points(OPTIONS) if (p["activation"], p["width"], p["depth"]) == ("tanh", 16, 4)
    ]
    rows = scaling_nonlinear.measure_point(point)
    assert len(rows) == 2
    assert all(r["certified"] and r["certificate"] < 1e-14 for r in rows)
    assert all(0 < r["energy"] < r["loss"] for r in rows)


def test_inference_steps_approach_the_certified_equilibrium(monkeypatch):
    """If this fails, the figure on too few steps starts or ends at other activities than it says.

    The first step from the feedforward pass moves the uppermost layer alone, so that at depth 2 one step of 0.3 lowers
    the energy; gradient descent below 2/lambda_max never raises it and ends at the equilibrium.
    """
    monkeypatch.setattr(scaling_nonlinear, "_MOST_STEPS", 1000)
    point = {"activation": "tanh", "width": 8, "depth": 3, "repeats": 1, "seed": 5, "data": None, "batch": 4}
    *steps, final = scaling_nonlinear.measure_steps(point)
    energies = [r["energy"] for r in steps]
    assert [steps[0]["steps"], steps[-1]["steps"]] == [1, 1000]
    assert steps[0]["energy"] < steps[0]["loss"]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(energies))
    assert final["equilibrium"]
    assert final["certified"]
    for name in ("energy", "gradient_error", "misalignment"):
        np.testing.assert_allclose(steps[-1][name], final[name], rtol=1e-6)
    assert steps[0]["misalignment"] > 2 * final["misalignment"]


# ---- other architectures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["cnn", "transformer"])
def test_architectures_are_certified_and_the_paper_reads_out_less(architecture):
    """If this fails, the equilibria of the figure are none, or its two scalings are the same.

    The energy at equilibrium is below the loss, and the less so the smaller the readout, whose square S - I has.
    """
    found = {}
    for point in scaling_architectures.points(OPTIONS):
        smallest = 2 if architecture == "cnn" else 8
        if point["architecture"] == architecture and point["width"] == smallest:
            (row,) = scaling_architectures.measure_point({**point, "repeats": 1, "batch": 2})
            found[point["parameterisation"]] = row
    assert all(r["certified"] and r["certificate"] < 1e-10 for r in found.values())
    assert 0 < found["mupc-limits"]["gap"] < found["mupc"]["gap"]


def test_pictures_that_do_not_halve_are_padded(monkeypatch):
    """If this fails, Fashion-MNIST cannot be given to the CNN of the paper: 28 is not halved three times."""
    data = images.Images(np.ones((2, 28 * 28)), np.eye(10)[:2], "there", (28, 28, 1))
    monkeypatch.setattr(images, "load", lambda path, *, batch, seed: data)
    point = {"data": "there", "batch": 2, "seed": 1, "stages": 3, "blocks": 0, "width": 2, "parameterisation": "mupc"}
    name, chain, x, _ = scaling_architectures._cnn(point, 3)
    assert (name, x.shape) == ("there", (2, 32, 32, 1))
    assert chain.forward(x)[1].shape == (2, 10)
    assert x.sum() == 2 * 28 * 28


# ---- options, figures -------------------------------------------------------------------------------------------


def test_options_pick_sizes():
    """If this fails, an experiment runs at sizes that nobody asked for."""
    assert OPTIONS.widths_up_to(8) == (2, 8)
    assert OPTIONS.widths_up_to(1) == (2,)
    assert OPTIONS.some_depths(2, 8) == (2, 8)
    assert OPTIONS.some_depths(3, 4) == (2, 4)
    assert OPTIONS.some_depths(2, 1) == (2,)


def test_exponent_of_a_power_law():
    """If this fails, the exponents printed in the figures are wrong.

    Three points off the line by (e, -2e, e) leave the slope and have the residual variance 6 e^2, the sum of squares of
    the abscissae is 2 log(2)^2, and t with one degree of freedom is tan(0.475 pi).
    """
    slope, half = exponent([1, 2, 4], [8.0, 4.0, 2.0])
    assert slope == pytest.approx(-1, rel=1e-12)
    assert half == pytest.approx(0, abs=1e-6)
    bent = np.array([8.0, 4.0, 2.0]) * np.exp([0.1, -0.2, 0.1])
    slope, half = exponent([1, 2, 4], bent)
    assert slope == pytest.approx(-1, rel=1e-12)
    expected = math.tan(0.475 * math.pi) * math.sqrt(6 * 0.01 / (2 * math.log(2) ** 2))
    assert half == pytest.approx(expected, rel=1e-6)
    slope, half = exponent([2, 4], [1.0, 4.0])
    assert slope == pytest.approx(2)
    assert math.isnan(half)
    assert all(map(math.isnan, exponent([4, 4, 4], [3.0, 2.0, 1.0])))


def test_a_sweep_is_drawn(tmp_path):
    """If this fails, a run measures for minutes and ends without its figure."""
    points = [p for p in scaling_initialisation.points(OPTIONS) if p["depth"] < 8 and p["width"] < 16]
    rows = run_sweep(scaling_initialisation.measure_point, points, tmp_path / "initialisation.csv")
    written = scaling_figure.draw({"initialisation": rows}, tmp_path)
    assert sorted(p.name for p in written) == ["initialisation.png", "initialisation.svg"]
    written = scaling_joint_figure.draw(rows, tmp_path)
    assert sorted(p.name for p in written) == ["width-depth.png", "width-depth.svg"]
    assert len((tmp_path / "initialisation.svg").read_text()) > 20_000
    assert len((tmp_path / "width-depth.svg").read_text()) > 20_000
    assert (tmp_path / "initialisation.png").read_bytes()[:4] == b"\x89PNG"


def test_constants_of_the_law_are_drawn_where_they_are():
    """If this fails, the line called exact is none: at L = 2 it is 1/2, at L = 4 residual 1.25^3 - 1, plain 3/4."""
    rows = [
        {"width": 64, "depth": depth, "residual": skips, "excess": 0.01 * depth, "repeat": 0}
        for depth in (2, 4)
        for skips in (True, False)
    ]
    _, axes = drawing.panels(1, 1, width=3, height=3)
    residual, plain = ([r for r in rows if r["residual"] == skips] for skips in (True, False))
    scaling_joint_figure.constants(axes[0, 0], residual, plain)
    lines = {str(line.get_label()): line.get_xydata() for line in axes[0, 0].get_lines()}
    for name, last in (("residual, exact", 1.25**3 - 1), ("no skips, exact", 0.75)):
        ends = np.asarray(lines[name])[[0, -1]]
        np.testing.assert_allclose(ends, [[2, 0.5], [4, last]], rtol=1e-12)
    np.testing.assert_allclose(np.asarray(lines["paper, $(L+1)/N$"])[0], [2, 1.5])
