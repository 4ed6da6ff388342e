"""On which side of their product weights stand: no orientation changes a step, and none is chosen where it costs."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from pcbench.adapters.reference import compiled_for_speed
from pcbench.errors import UsageError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.reference.compilation import compilations
from pcbench.reference.inference.groups import group_activities, group_layers
from pcbench.reference.inference.orientation import ORIENTATIONS, Orientation, orientation_for
from pcbench.reference.inference.steps import infer_grouped, run_grouped

STEPS, ETA = 3, 0.05
CASES = {
    "tanh-before": Problem(input_dim=3, width=4, depth=5, output_dim=2, batch=3, activation="tanh", residual=True),
    "gelu-ce-after": Problem(
        input_dim=3, width=4, depth=6, output_dim=3, batch=2, activation="gelu", placement="after-weight", loss="ce",
        output_precision=0.3, residual=True,
    ),
    "relu-square": Problem(input_dim=2, width=3, depth=4, output_dim=3, batch=3, activation="relu"),
    "linear-float32": Problem(input_dim=2, width=5, depth=3, output_dim=2, batch=4, dtype="float32"),
}  # fmt: skip


def error_of(problem: Problem, groups: int, orientation: Orientation | None = None) -> float:
    """The largest error of inference over what rounding allows."""
    network, x, y = problem.network(), problem.input(), problem.target()
    expected = oracle.infer(network, x, y, STEPS, ETA, problem.activities())
    with jax.enable_x64(True):
        cut = group_layers(network, problem.batch, groups)
        z, eta = group_activities(cut, problem.activities()), network.dtype.type(ETA)
        layers = run_grouped(cut, x, y, z, STEPS, eta, orientation=orientation).layers()
    # A few roundings of each dtype for every term of a sum and step, of activities of order 1.
    allowed = 50 * problem.width * np.finfo(problem.dtype).eps * (1 + max(np.abs(e).max() for e in expected))
    assert [z.shape for z in layers] == [e.shape for e in expected]
    return max(np.abs(a - e).max() for a, e in zip(layers, expected, strict=True)) / allowed


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("layout", ["alone", "together"])
def test_every_orientation_takes_the_steps_of_the_definition(name, orientation, layout):
    """If this fails, a product is by the transposed weights, or samples and units are confused."""
    problem = CASES[name]
    assert error_of(problem, problem.depth - 2 if layout == "alone" else 1, orientation) < 1


def test_an_orientation_that_there_is_not_is_refused():
    """If this fails, a misspelt one is taken for another."""
    with pytest.raises(UsageError, match="orientation='units-last': needed one of plain, copied, units-first"):
        error_of(CASES["relu-square"], 1, "units-last")  # pyright: ignore[reportArgumentType]  # as in untyped code


@pytest.mark.parametrize(
    ("width", "depth", "batch", "orientation"), [(64, 4, 16, "copied"), (1024, 3, 4, "units-first")]
)
def test_the_orientation_that_is_chosen_takes_the_steps_of_the_definition(width, depth, batch, orientation):
    """If this fails, the rule sends networks of these sizes to a program that nothing else tests at size."""
    problem = Problem(
        input_dim=3, width=width, depth=depth, output_dim=2, batch=batch, activation="tanh", residual=True,
        parameterisation="mupc",
    )  # fmt: skip
    assert orientation_for(group_layers(problem.network(), batch, depth).hidden, batch, "highest") == orientation
    assert error_of(problem, depth - 2) < 1


def test_the_adapter_copies_weights_for_many_steps_only():
    """If this fails, a call of one step of a large network takes as long as ten, or long inference gains nothing."""
    problem = Problem(input_dim=3, width=128, depth=4, output_dim=2, batch=8, activation="tanh", residual=True)
    pcn, network, x, y = compiled_for_speed(), problem.network(), problem.input(), problem.target()
    before = compilations("run_grouped")
    for steps, programs in ((1, 1), (7, 1), (8, 2), (40, 2)):
        answer = pcn.infer(network, x, y, steps, ETA).activities
        assert compilations("run_grouped") - before == programs
        for z, expected in zip(answer, oracle.infer(network, x, y, steps, ETA), strict=True):
            np.testing.assert_allclose(z, expected, rtol=0, atol=1e-11)


def hidden_shapes(layers: int, width: int, dtype: str = "float32", grouped: bool = False) -> list[jax.ShapeDtypeStruct]:
    """Shapes of hidden weights, each alone or all in one group."""
    if grouped:
        return [jax.ShapeDtypeStruct((layers, width, width), dtype)]
    return [jax.ShapeDtypeStruct((width, width), dtype)] * layers


def test_the_rule_of_the_orientation(monkeypatch):
    """If this fails, weights are held twice where that makes inference slower; the figures are in the docstring."""
    assert orientation_for(hidden_shapes(2, 2048), 2, "highest") == "units-first"
    assert orientation_for(hidden_shapes(2, 2048), 2, "highest", steps=8) == "units-first"
    assert (
        orientation_for(hidden_shapes(2, 2048), 2, "highest", steps=7) == "plain"
    )  # the copy costs more than it gains
    assert orientation_for(hidden_shapes(14, 2048, "float64"), 16, "highest") == "units-first"
    assert orientation_for(hidden_shapes(14, 1024), 128, "highest") == "units-first"
    assert orientation_for(hidden_shapes(14, 1024), 256, "highest") == "plain"  # nothing to gain
    assert orientation_for(hidden_shapes(14, 1024, "float64"), 2, "highest") == "plain"
    assert orientation_for(hidden_shapes(100, 2048), 16, "highest") == "plain"  # gigabytes more
    assert orientation_for(hidden_shapes(2, 256), 2, "highest") == "copied"
    assert orientation_for(hidden_shapes(4, 512), 16, "highest") == "copied"
    assert orientation_for(hidden_shapes(14, 512), 16, "highest") == "plain"  # the copy is read from farther away
    assert orientation_for(hidden_shapes(2, 256), 64, "highest") == "plain"
    assert orientation_for(hidden_shapes(2, 2048), 1, "highest") == "plain"
    assert orientation_for(hidden_shapes(3, 7), 5, "highest") == "plain"  # of the size of a law's problem
    assert orientation_for(hidden_shapes(2, 2048, grouped=True), 16, "highest") == "plain"
    assert orientation_for(hidden_shapes(2, 2048), 16, "bfloat16") == "plain"
    assert orientation_for([], 16, "highest") == "plain"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert orientation_for(hidden_shapes(2, 2048), 16, "highest") == "plain"


def test_the_weights_are_transposed_once_and_held_twice():
    """If this fails, the transposed weights are made anew in every step, or held more than once."""
    problem = Problem(input_dim=3, width=1024, depth=4, output_dim=2, batch=4, activation="tanh", dtype="float32")
    cut = group_layers(problem.network(), problem.batch, 2)
    arrays = (cut, problem.input(), problem.target())
    options = {"activities": group_activities(cut, problem.activities()), "steps": 3, "step_size": np.float32(ETA)}

    program = jax.make_jaxpr(infer_grouped)(*arrays, **options)
    (loop,) = (equation for equation in program.eqns if equation.primitive.name == "while")
    square = (problem.width, problem.width)
    assert count_transposes(program.jaxpr, square) == 2
    assert count_transposes(loop.params["body_jaxpr"].jaxpr, square) == 0

    plan = run_grouped.donating.lower(*arrays, **options).compile().memory_analysis()
    weights = 2 * 4 * problem.width**2
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    assert 2 * weights <= held < 2.1 * weights


def count_transposes(jaxpr: Any, shape: tuple[int, ...]) -> int:
    """How many arrays of this shape a program transposes outside its loops."""
    return sum(e.primitive.name == "transpose" and e.outvars[0].aval.shape == shape for e in jaxpr.eqns)
