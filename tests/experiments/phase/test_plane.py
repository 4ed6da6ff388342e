"""Growth exponents and the phase diagram: sizes against training with dense weights, regimes against theory."""

import math

import numpy as np
import pytest
from click.testing import CliRunner

from pcbench import theory
from pcbench.cli.phase import PLANES, command
from pcbench.errors import UsageError
from pcbench.experiments.phase import figure as phase_figure
from pcbench.experiments.phase import growth as phase_growth
from pcbench.experiments.phase import plane as phase
from pcbench.experiments.power_law import growth_exponents
from pcbench.oracle import mlp as oracle
from pcbench.output.table import read_rows
from pcbench.problem.mlp import Problem
from pcbench.problem.parameterisation import Exponents
from pcbench.theory import operators, stability
from pcbench.theory.stability import Regime

CASES = [
    Exponents(),
    Exponents(output=0.5, rate=0),
    Exponents(output=0.25, rate=-0.5),
    Exponents(output_init=0.5, hidden_init=0.25, input=-0.25, depth=0.75),
]


def network_of(width=6, depth=5, seed=3):
    base = Problem(
        input_dim=3, width=width, depth=depth, output_dim=2, batch=4, residual=True, parameterisation=Exponents(),
        seed=seed,
    )  # fmt: skip
    return base, base.weights(), base.input(), base.target()


def strengths_of(cases, width, depth, rate=0.7, multiplier=1.5):
    return phase_growth.strengths(
        cases, width=width, depth=depth, input_dim=3, base_rate=rate, output_multiplier=multiplier
    )


def rms(x):
    return math.sqrt(np.mean(np.square(x)))


def train_densely(exponents, base, rule, steps, rate, multiplier):
    """The sizes after training as everybody would write it: dense weights, gradients of `theory`, differences."""
    problem = base.replace(parameterisation=exponents, output_multiplier=multiplier)
    first, x, y = problem.network(), problem.input(), problem.target()
    eta = rate * base.width**-exponents.rate
    network, sizes = first, dict.fromkeys(phase_growth.QUANTITIES, 0.0)

    def feedforward(n):
        return operators.propagate(n, x, None)

    sizes["initial_hidden"], sizes["initial_output"] = rms(feedforward(first)[-1]), rms(theory.predict(first, x))
    for _ in range(steps):
        if rule == "pc":
            shift = theory.equilibrium_activities(network, x, y)[-1] - feedforward(network)[-1]
            sizes["shift"] = max(sizes["shift"], rms(shift))
        gradients = (theory.equilibrium_weight_gradients if rule == "pc" else oracle.backprop_gradients)(network, x, y)
        network = network.with_weights([w - eta * g for w, g in zip(network.weights, gradients, strict=True)])
        z = feedforward(network)
        learnt = sum(
            network.scalings[l] * z[l - 1] @ (network.weights[l] - first.weights[l]).T for l in range(1, base.depth - 1)
        )
        sizes["hidden"] = max(sizes["hidden"], rms(z[-1] - feedforward(first)[-1]))
        sizes["output"] = max(sizes["output"], rms(theory.predict(network, x) - theory.predict(first, x)))
        sizes["branches"] = max(sizes["branches"], rms(learnt))
    return sizes


@pytest.mark.parametrize("rule", phase_growth.RULES)
@pytest.mark.parametrize("memory", [1 << 29, 1])
def test_sizes_are_those_of_training_with_dense_weights(rule, memory, monkeypatch):
    """If this fails, the updates of rank K, the equilibrium or the batching over parameterisations is wrong."""
    monkeypatch.setattr(phase_growth, "_MEMORY", memory)
    base, weights, x, y = network_of()
    scalars = strengths_of(CASES, 6, 5)
    sizes = phase_growth.measure_sizes(weights, x, y, scalars, steps=3, rule=rule)
    for i, exponents in enumerate(CASES):
        expected = train_densely(exponents, base, rule, 3, 0.7, 1.5)
        for name, value in expected.items():
            assert sizes[name][i] == pytest.approx(value, rel=1e-8), (name, exponents)


def test_tiny_changes_are_not_lost_beside_activities():
    """If this fails, an exponent of -4 cannot be measured: changes come from differences of activities."""
    _, weights, x, y = network_of()
    sizes = [
        phase_growth.measure_sizes(weights, x, y, strengths_of([Exponents()], 6, 5, rate), steps=2, rule="pc")
        for rate in (1e-9, 1e-29)
    ]
    for name in ("hidden", "output", "branches"):
        assert sizes[0][name] / sizes[1][name] == pytest.approx(1e20, rel=1e-6)


@pytest.mark.parametrize("rule", phase_growth.RULES)
def test_overflow_is_infinite_growth_and_touches_no_neighbour(rule):
    """If this fails, a parameterisation that explodes raises, warns, or spoils those measured with it."""
    _, weights, x, y = network_of()
    wild = Exponents(rate=-250)
    together = phase_growth.measure_sizes(weights, x, y, strengths_of([wild, Exponents()], 6, 5), steps=3, rule=rule)
    alone = phase_growth.measure_sizes(weights, x, y, strengths_of([Exponents()], 6, 5), steps=3, rule=rule)
    assert together["output"][0] == math.inf
    for name in phase_growth.QUANTITIES:
        assert together[name][1] == pytest.approx(alone[name][0], rel=1e-12)


def test_shifted_exponents_are_the_same_scalars():
    """If this fails, a + t, b - t, c - 2t is measured as another parameterisation, although it is the same one."""
    shifted = Exponents(
        input=0.3, hidden=0.8, output=1.3, input_init=-0.3, hidden_init=-0.3, output_init=-0.3, rate=-1.6
    )
    a, b = strengths_of([Exponents()], 50, 4), strengths_of([shifted], 50, 4)
    np.testing.assert_allclose(a.initial, b.initial, rtol=1e-12)
    np.testing.assert_allclose(a.learning, b.learning, rtol=1e-12)


@pytest.mark.parametrize("change", [{"rule": "rtrl"}, {"steps": 0}, {"depth": 2}])
def test_measure_refuses(change):
    """If this fails, a misspelt rule, no training or a network without hidden weights gives numbers all the same."""
    settings = {"rule": "pc", "steps": 2, "depth": 4} | change
    _, weights, x, y = network_of(depth=settings["depth"])
    scalars = strengths_of([Exponents()], 6, settings["depth"])
    with pytest.raises(UsageError, match="needed a rule of pc, bp"):
        phase_growth.measure_sizes(weights, x, y, scalars, steps=settings["steps"], rule=settings["rule"])


def test_growth_exponents_of_power_laws():
    """If this fails, slopes or half widths are wrong: a power law with known residuals, and the 95 % point of t."""
    sizes, noise = [1, math.e, math.e**2], np.array([0.1, -0.2, 0.1])
    values = np.exp(-1.5 * np.arange(3) + noise)[None, :, None]
    slope, half = growth_exponents(sizes, values)
    # residuals 0.1, -0.2, 0.1 are orthogonal to the line: s^2 = 0.06 / 1, spread 2, t(0.975, 1) = 12.706
    assert slope[0] == pytest.approx(-1.5)
    assert half[0] == pytest.approx(12.7062047 * math.sqrt(0.06 / 2), rel=1e-6)
    apart = np.concatenate([values, 100 * values], axis=2)
    assert growth_exponents(sizes, apart, paired=True)[1][0] < 1.0
    assert growth_exponents(sizes, apart)[1][0] > 3.0


def test_growth_of_what_overflows_or_is_zero():
    """If this fails, infinity or zero is fitted, or disturbs the parameterisation beside it."""
    values = np.ones((4, 3, 2))
    values[0, 2, 1], values[1, 2, 0], values[2, 0, 0] = math.inf, math.nan, 0.0
    slope, half = growth_exponents([2, 4, 8], values)
    np.testing.assert_array_equal(slope, [math.inf, math.inf, -math.inf, 0.0])
    np.testing.assert_array_equal(half, 0.0)
    with pytest.raises(UsageError, match="two different sizes"):
        growth_exponents([4, 4], values[:, :2])


@pytest.mark.parametrize(
    ("plane", "centre"), [("output", (1.0, -1.0)), ("initial", (0.0, -1.0)), ("depth", (0.5, 0.0))]
)
@pytest.mark.parametrize("points", [15, 21, 29])
def test_grids_hold_every_regime(plane, centre, points):
    """If this fails, lazy or feature learning parameterisations lie between the points and the diagram shows none."""
    pairs = phase.plane_grid(plane, points)
    assert centre in pairs
    assert len(set(pairs)) == len(pairs)
    assert {phase.expected_regime(plane, *pair) for pair in pairs} == set(Regime)


def test_command_knows_the_planes():
    """If this fails, the command refuses a plane that there is, or offers one that there is not."""
    assert tuple(phase.AXES) == PLANES


@pytest.mark.parametrize(("plane", "points"), [("output", 14), ("output", 5), ("width", 15)])
def test_grid_refuses(plane, points):
    """If this fails, an even grid misses muP without a word."""
    with pytest.raises(UsageError, match="an odd number of 7 or more"):
        phase.plane_grid(plane, points)


@pytest.fixture(scope="module")
def classified():
    """Small sweeps of all planes, as `pcbench phase` does them."""
    todo = phase.sweep_points(
        ["output", "initial", "depth"], widths=[64, 128, 256], depth=4, depths=[16, 32, 64], width=256, points=7,
        seeds=2, seed=1,
    )  # fmt: skip
    rows = [row for point in todo for row in phase.measure_point(point)]
    return [row for plane in phase.AXES for row in phase.classify(rows, plane, tolerance=phase.tolerance_of(plane, 7))]


def test_pc_bp_and_theory_agree_on_the_regime(classified):
    """If this fails, PC's stable feature-learning parameterisations are not BP's, or not those of theory: W6."""
    for row in classified:
        x, y = (row[name] for name in phase.AXES[row["plane"]])
        exponents, _ = phase.point_exponents(row["plane"], x, y)
        # what widths this small cannot tell apart lies closer to a boundary than the tolerance
        distances = [abs(v) for v in stability.conditions(exponents).values() if v]
        if row["plane"] == "depth" or all(d >= row["tolerance"] for d in distances):
            assert row["regime"] == row["theory"], row
    for row in phase.summarise_planes(classified):
        assert row["pc_is_bp"] == row["points"], row["apart"]


def test_pc_is_tamer_than_bp_where_bp_is_unstable(classified):
    """If this fails, PC no longer damps what BP amplifies (S grows with N), as at p below 1/2 and large rates."""
    growth = {
        (row["p"], row["c"], row["rule"]): row["hidden_exponent"] for row in classified if row["plane"] == "output"
    }
    p = min(k[0] for k in growth)
    rates = sorted({k[1] for k in growth if k[0] == p and k[1] < 0})
    assert all(growth[p, c, "pc"] <= growth[p, c, "bp"] for c in rates)
    assert growth[p, rates[-1], "pc"] < growth[p, rates[-1], "bp"] - 0.5


def test_summary_lists_disagreements(classified):
    """If this fails, a parameterisation at which PC and BP part is counted but not named, or not counted."""
    rows = [dict(row) for row in classified if row["plane"] == "depth"]
    next(r for r in rows if r["rule"] == "pc" and r["regime"] == "lazy")["regime"] = "unstable"
    (found,) = phase.summarise_planes(rows)
    assert (found["points"], found["pc_is_bp"], found["pc_is_theory"], found["bp_is_theory"]) == (12, 11, 11, 12)
    assert [(pc["regime"], bp["regime"]) for pc, bp in found["apart"]] == [("unstable", "lazy")]


def test_figures_are_written(classified, tmp_path):
    """If this fails, a sweep ends in a traceback instead of its figures."""
    rows = [row for row in classified if row["plane"] == "depth"]
    written = phase_figure.draw(rows, tmp_path, note="a note")
    assert {p.name for p in written} == {"phase.svg", "phase.png", "phase-growth.svg", "phase-growth.png"}
    assert all(p.stat().st_size > 5000 for p in written)


@pytest.mark.parametrize("planes", [["output"], ["initial", "depth"]])
@pytest.mark.parametrize("figure", [phase_figure.regimes, phase_figure.draw_exponents])
def test_figures_have_a_row_of_panels_for_every_plane(figure, planes, classified):
    """If this fails, a sweep of some of the planes cannot be drawn, or a plane is left out."""
    rows = [row for row in classified if row["plane"] in planes]
    titles = [axes.get_title(loc="left") for axes in figure(rows, planes).axes]
    assert sum(map(bool, titles)) == 3 * len(planes)


def test_command_writes_tables_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """If this fails, `pcbench phase` loses what it measured, or its CSV is not that of its conclusion."""
    monkeypatch.setattr(phase_figure, "draw", lambda rows, place, note: [])
    words = ["--output", str(tmp_path), "--planes", "output", "--widths", "16,32,64", "--depth", "3", "--grid", "7",
             "--seeds", "1", "--workers", "1"]  # fmt: skip
    first = CliRunner().invoke(command, words, catch_exceptions=False)
    again = CliRunner().invoke(command, words, catch_exceptions=False)
    assert first.exit_code == again.exit_code == 0
    assert "3 points, 3 of them known from a run before" in again.output
    assert first.output.splitlines()[-1] == again.output.splitlines()[-1]
    rows = read_rows(tmp_path / "phase.csv")
    same = sum(a["regime"] == b["regime"] for a in rows for b in rows if (a["rule"], b["rule"]) == ("pc", "bp")
               and (a["p"], a["c"]) == (b["p"], b["c"]))  # fmt: skip
    assert f"PC and BP are of one regime at {same} of 49 parameterisations" in first.output


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--planes", "width"], "needed some of output, initial, depth"), (["--grid", "8"], "an odd number")],
)
def test_command_refuses(words, message, tmp_path):
    """If this fails, a misspelt plane or an even grid is found out after minutes of work."""
    result = CliRunner().invoke(command, ["--output", str(tmp_path), *words])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
