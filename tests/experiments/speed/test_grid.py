"""What the speed table is made of: counted work, differences of calls, yardsticks that compute the same; no times."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from pcbench.cli.main import main
from pcbench.experiments.speed import (
    equilibrium as speed_equilibrium,
)
from pcbench.experiments.speed import (
    grid as speed_grid,
)
from pcbench.experiments.speed import (
    plain_jax as speed_plain,
)
from pcbench.experiments.speed import (
    report as speed_report,
)
from pcbench.output.table import read_rows
from pcbench.problem.mlp import Problem
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.inference.groups import group_layers
from pcbench.reference.inference.steps import infer
from pcbench.reference.network import PCN
from pcbench.timing.clock import long_enough, step_seconds


def problem(**changes):
    """A small residual network whose output precision is 1, as the yardsticks have it."""
    settings = {"input_dim": 3, "width": 4, "depth": 5, "output_dim": 2, "batch": 3, "residual": True}
    return Problem(**{**settings, **changes})


def cell(**changes):
    """A point of the grid."""
    return {
        "dtype": "float32", "tier": "highest", "width": 4, "depth": 5, "batch": 2, "activation": "tanh",
        "groups": [], "orientations": [], "seconds": 1e-4, "rounds": 1, **changes,
    }  # fmt: skip


def test_overhead_and_slow_rounds_do_not_count():
    """If this fails, what a call costs besides its steps, or other work on the machine, is charged to a step."""
    disturbed = iter([5.0, 0.0, 0.0, 3.0, 0.0, 0.0])
    steppers = {"a": lambda steps: 0.5 + 0.25 * steps + next(disturbed), "b": lambda steps: 2.0 * steps}
    assert step_seconds(steppers, {"a": 8, "b": 4}, rounds=3) == {"a": 0.25, "b": 2.0}


def test_a_difference_that_is_noise_is_replaced_by_its_bound():
    """If this fails, a disturbed call makes an implementation a million times as fast as the machine."""
    assert step_seconds({"a": lambda steps: 5.0 if steps == 1 else 4.5}, {"a": 8}, rounds=2) == {"a": 0.5}


def test_enough_steps_are_found_whatever_the_overhead():
    """If this fails, a call is too short to be timed, or takes minutes."""
    assert 50 <= long_enough(lambda steps: 1e-3 * steps, 0.1) <= 200
    assert long_enough(lambda steps: 9.0 * steps, 0.1) == 2
    assert 5_000 <= long_enough(lambda steps: 0.05 + 1e-5 * steps, 0.1) <= 20_000
    assert 750 <= long_enough(lambda steps: 0.5 + 1e-3 * steps, 0.1) <= 3_000  # not drowned in what a call costs
    interrupted = iter([0.0, 0.0, 30.0] + 100 * [0.0])
    assert 50 <= long_enough(lambda steps: 1e-3 * steps + next(interrupted), 0.1) <= 200


def test_a_call_that_costs_much_besides_its_steps_is_not_charged_to_them():
    """If this fails, whoever brings its weights into another form once a call is said to be slower than it is."""
    noise = iter(np.random.default_rng(1).uniform(0, 0.2, size=1000))

    def step(steps):
        return 9.0 + 0.25 * steps + next(noise)

    assert step_seconds({"a": step}, {"a": long_enough(step, 0.1)}, rounds=3)["a"] == pytest.approx(0.25, rel=0.02)


def test_the_work_of_a_step():
    """If this fails, every ratio to the machine's products is wrong: literal numbers, two products a matrix."""
    point = cell(width=100, depth=6, batch=3)
    assert speed_grid.operations(point) == 2 * 2 * 3 * (4 * 100 * 100 + 100 * 10)
    assert speed_grid.needed_bytes(point) == 4 * (40 * 100 + 4 * 100 * 100 + 100 * 10 + 5 * 3 * 100)


def test_cells_over_the_budget_are_left_out_with_the_reason():
    """If this fails, a run does not end, or leaves cells out in silence."""
    limits = speed_grid.Limits(bytes=2e8, operations=1e9)
    kept, left = speed_grid.points([32, 512, 4096], [4], [1, 2048], [("float32", "highest")], limits)
    assert [(p["width"], p["batch"]) for p in kept] == [(32, 1), (32, 2048), (512, 1)]
    assert [(p["width"], p["batch"], reason) for p, reason in left] == [
        (512, 2048, "4 billion operations a step"), (4096, 1, "0.3 GB"), (4096, 2048, "0.5 GB"),
    ]  # fmt: skip


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_plain_code_computes_what_the_reference_does(activation):
    """If this fails, the reference is set beside other work."""
    p = problem(activation=activation)
    network, z = p.network(), [np.asarray(a) for a in p.activities()]
    with jax.enable_x64(True):
        plain = speed_plain.program(
            network.weights, p.input(), p.target(), z, 0.05, scalings=network.scalings, activation=activation, steps=6
        )
        arrays = map(jnp.asarray, (p.input(), p.target(), np.stack(z), 6, 0.05))
        ours = infer(PCN.from_network(network), *arrays)
    assert np.abs(np.stack(plain) - np.asarray(ours)).max() < 1e-13


@pytest.mark.parametrize("changes", [{}, {"depth": 2}, {"residual": False, "parameterisation": "sp"}])
def test_the_dense_hessian_gives_the_equilibrium(changes):
    """If this fails, the solver is set beside a closed form of another energy."""
    p = problem(**changes)
    network, x, y = PCN.from_network(p.network()), p.input(), p.target()
    with jax.enable_x64(True):
        # As one program, as where it is timed: JAX would otherwise compile one for each of its operations.
        solve = jax.jit(speed_equilibrium.dense_equilibrium)
        dense = np.asarray(solve(*jax.tree.map(jnp.asarray, (network, x, y))))
        exact = np.asarray(equilibrium_linear.solve(network, x, y).activities)
    assert np.abs(dense - exact).max() < 1e-11 * (1 + np.abs(exact).max())


def test_every_road_arrives():
    """If this fails, the costs compared are those of answers that differ."""
    for activation, roads in (
        ("linear", {"exact", "dense Hessian", "L-BFGS", "gradient descent"}),
        ("tanh", {"L-BFGS", "gradient descent"}),
    ):
        point = {"activation": activation, "width": 8, "depth": 4, "batch": 2, "rounds": 1}
        rows = list(speed_equilibrium.measure_point(point))
        assert {row["road"] for row in rows} == roads
        assert all(row["reached"] and row["certificate"] <= 4 * speed_equilibrium.TOLERANCE for row in rows)
    assert "| L-BFGS |" in speed_report.equilibrium_table(rows)


def test_products_of_the_yardstick_neither_grow_nor_vanish():
    """If this fails, the machine's rate is measured on infinities or on denormal numbers."""
    loop = speed_grid._chain(3, 16, "float32", "highest")
    lengths = [float(np.linalg.norm(np.asarray(loop(steps)))) for steps in (0, 1, 1000)]
    assert lengths[1] == pytest.approx(lengths[0], rel=1e-5)
    assert lengths[2] == pytest.approx(lengths[0], rel=1e-3)


def test_the_products_alone_are_those_of_the_step(monkeypatch):
    """If this fails, the ceiling of a step is that of other products, or of fewer, or of ones that overflow."""
    point = cell(depth=7, batch=3)
    network, *_ = speed_grid._case(point)
    for W in network.weights[1:-1]:
        np.testing.assert_allclose(W.T @ W, np.eye(4), atol=1e-6)
    monkeypatch.setattr(speed_grid, "group_layers", lambda network, batch: group_layers(network, batch, 2))
    program = speed_grid._products_alone(point, network)
    start = [np.asarray(z) for z in program(0)]
    assert [z.shape for z in start] == [(2, 3, 4), (3, 3, 4)]
    for one, other in zip(start, program(1001), strict=True):  # forward and back through a reflection is where it was
        np.testing.assert_allclose(other, one, atol=1e-3)


def test_layouts_that_no_network_of_that_depth_has_are_left_out():
    """If this fails, a table has the same layout twice under two names."""
    kept, _ = speed_grid.points([32], [4, 6], [1], [("float32", "highest")], speed_grid.Limits(), groups=[1, 2, 4])
    assert [(p["depth"], p["groups"]) for p in kept] == [(4, [1, 2]), (6, [1, 2, 4])]


def test_the_command_writes_a_tidy_table_and_goes_on(tmp_path, monkeypatch):
    """If this fails, the table has no row for an implementation, or a finished cell is measured again."""
    monkeypatch.setattr(speed_grid, "_SQUARES", (64,))
    options = ["speed", "--output", str(tmp_path), "--widths", "4", "--depths", "5", "--batches", "2", "--rounds", "1",
               "--groups", "2", "--orientations", "copied", "--seconds", "0.001", "--kinds", "float32,bfloat16",
               "--no-equilibria"]  # fmt: skip
    first = CliRunner().invoke(main, options)
    assert first.exit_code == 0, first.output
    rows = read_rows(tmp_path / "speed.csv")
    assert [(r["tier"], r["implementation"]) for r in rows] == [
        (tier, name)
        for tier in ("highest", "bfloat16")
        for name in ("reference", "reference in 2 groups", "reference copied", "plain JAX")
    ]
    assert [r["orientation"] for r in rows[:3]] == ["plain", "plain", "copied"]
    for row in rows:
        assert row["of_gemm"] == pytest.approx(speed_grid.operations(row) / row["step_seconds"] / row["gemm_rate"])
        assert row["peak_bytes"] > row["needed_bytes"]
    text = (tmp_path / "speed.md").read_text()
    assert "## Inference, float32, bfloat16" in text
    assert "plain JAX, times" in text
    again = CliRunner().invoke(main, [*options, "--quiet"])
    assert again.exit_code == 0
    assert read_rows(tmp_path / "speed.csv") == rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--depths", "1"], "at least 2 weight matrices"),
        (["--kinds", "float16"], "needed some of float32, float64"),
        (["--orientations", "units-last"], "needed some of plain, copied, units-first"),
    ],
)
def test_the_command_refuses_what_cannot_be(tmp_path, options, message):
    """If this fails, a wrong option ends in a traceback or in an empty table."""
    result = CliRunner().invoke(main, ["speed", "--output", str(tmp_path), *options])
    assert result.exit_code == 2
    assert message in result.output + (result.stderr or "")


def test_the_targets_of_the_gpu_program():
    """If this fails, a GPU that misses a target passes."""
    path = Path(__file__).resolve().parents[3] / "ci" / "gpu_speed.py"
    spec = importlib.util.spec_from_file_location("gpu_speed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = {"width": 2048, "depth": 8, "batch": 1024, "dtype": "float32", "tier": "tf32", "implementation": "reference"}
    deep = {**row, "width": 128, "depth": 128, "batch": 64, "implementation": "plain JAX"}
    assert module.missed_targets([{**row, "of_gemm": 0.71}, {**deep, "over_reference": 5.1}]) == []
    assert len(module.missed_targets([{**row, "of_gemm": 0.69}, {**deep, "over_reference": 4.9}])) == 2
    assert module.missed_targets([{**row, "width": 512, "of_gemm": 0.2}]) == []
