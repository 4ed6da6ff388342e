"""A problem as data: checked on construction, there and back as JSON and as a line, and the arrays it makes."""

# Values of wrong types are handed over on purpose.
# pyright: reportArgumentType=false

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcbench.errors import ProblemError
from pcbench.problem.arrays import LAWS
from pcbench.problem.mlp import Problem
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES
from pcbench.problem.parameterisation import NAMED, Exponents

SMALL = {"input_dim": 3, "width": 5, "depth": 4, "output_dim": 2, "batch": 3}

finite = st.floats(-4, 4)
exponents = st.builds(Exponents, input=finite, hidden=finite, output=finite, depth=finite, rate=finite)
positive = st.floats(min_value=5e-324, allow_infinity=False)


@st.composite
def any_problem(draw):
    """Every valid problem, in sizes that would never be computed with as well."""
    activation, loss = draw(st.sampled_from(ACTIVATIONS)), draw(st.sampled_from(LOSSES))
    dtype = draw(st.sampled_from(DTYPES))
    scale = st.floats(min_value=5e-324, max_value=1e12 if dtype == "float64" else 1e6)
    size = st.integers(1, 1 << 20)
    placements = ["before-weight"] if activation == "linear" else ["before-weight", "after-weight"]
    return Problem(
        input_dim=draw(size), width=draw(size), depth=draw(st.integers(2, 4096)),
        output_dim=draw(st.integers(2 if loss == "ce" else 1, 1 << 20)), batch=draw(size), activation=activation,
        placement=draw(st.sampled_from(placements)), residual=draw(st.booleans()),
        parameterisation=draw(st.one_of(st.sampled_from(NAMED), exponents)), output_multiplier=draw(positive),
        output_precision=draw(positive), loss=loss, dtype=dtype, weight_law=draw(st.sampled_from(LAWS)),
        weight_scale=draw(scale), data_law=draw(st.sampled_from(LAWS)), data_scale=draw(scale),
        seed=draw(st.integers(0, 2**64 - 1)), steps=draw(st.integers(0, 10**7)), step_size=draw(positive),
    )  # fmt: skip


@given(any_problem())
def test_json_there_and_back(problem):
    """If this fails, a problem of a report is not the problem that was judged."""
    assert Problem.from_json(json.loads(json.dumps(problem.to_json()))) == problem


@given(any_problem())
def test_line_there_and_back(problem):
    """If this fails, `pcbench replay` replays another problem than the one printed."""
    line = problem.line()
    assert Problem.from_line(line) == problem
    assert not set(line) & set(" \t\n'\"$&;|<>*?()[]{}\\!`")  # one word for a shell


def test_defaults_are_left_out_of_the_line():
    """If this fails, lines grow to hundreds of characters, or lose what differs from the defaults."""
    assert Problem(**SMALL).line() == "D=3,N=5,L=4,K=2,B=3"
    told = Problem(**SMALL, activation="tanh", residual=True, seed=7, parameterisation=Exponents(output=0.5))
    assert told.line() == (
        "D=3,N=5,L=4,K=2,B=3,activation=tanh,residual=true,parameterisation=general:output=0.5,seed=7"
    )


def test_a_line_may_use_long_names_and_spaces():
    """If this fails, lines typed by hand are refused for their looks."""
    assert Problem.from_line(" input_dim=3, width=5,depth=4 ,K=2,B=3, residual=True ") == Problem(
        **SMALL, residual=True
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, r"width=0: needed an integer from 1 to 1048576"),
        ({"width": 2.0}, r"width=2\.0: needed an integer"),
        ({"width": "5"}, r"width='5': needed an integer"),
        ({"batch": True}, r"batch=True: needed an integer"),
        ({"input_dim": -1}, r"input_dim=-1: needed an integer from 1"),
        ({"output_dim": 1 << 21}, r"output_dim=2097152: needed an integer from 1 to 1048576"),
        ({"depth": 1}, r"depth=1: needed an integer from 2 to 4096"),
        ({"depth": 4097}, r"depth=4097: needed an integer from 2 to 4096"),
        ({"steps": -1}, r"steps=-1: needed an integer from 0"),
        ({"seed": 2**64}, r"seed=18446744073709551616: needed an integer from 0 to 18446744073709551615"),
        ({"seed": -1}, r"seed=-1: needed an integer from 0"),
        ({"activation": "sigmoid"}, r"activation='sigmoid': needed one of linear, tanh, relu"),
        ({"placement": "inside"}, r"placement='inside': needed one of before-weight, after-weight"),
        ({"loss": "mae"}, r"loss='mae': needed one of mse, ce"),
        ({"dtype": "float16"}, r"dtype='float16': needed one of float64, float32"),
        ({"weight_law": "uniform"}, r"weight_law='uniform': needed one of gaussian, orthogonal"),
        ({"data_law": "sparse"}, r"data_law='sparse': needed one of gaussian, orthogonal"),
        ({"parameterisation": "mup"}, r"parameterisation='mup': needed one of sp, ntp, mupc"),
        ({"residual": 1}, r"residual=1: needed true or false"),
        ({"output_multiplier": 0.0}, r"output_multiplier=0\.0: needed a positive finite number"),
        ({"output_precision": -1.0}, r"output_precision=-1\.0: needed a positive finite number"),
        ({"step_size": math.inf}, r"step_size=inf: needed a positive finite number"),
        ({"step_size": True}, r"step_size=True: needed a positive finite number"),
        ({"weight_scale": math.nan}, r"weight_scale=nan: needed a positive finite number of at most 1e\+12 in float64"),
        ({"data_scale": "1"}, r"data_scale='1': needed a positive finite number"),
        ({"data_scale": 1e7, "dtype": "float32"}, r"data_scale=10000000\.0: .* of at most 1e\+06 in float32"),
        ({"weight_scale": 2e12}, r"weight_scale=2000000000000\.0: .* of at most 1e\+12 in float64"),
        ({"loss": "ce", "output_dim": 1}, r"output_dim=1 with loss='ce': the softmax of one class is constant"),
        ({"placement": "after-weight"}, r"placement='after-weight' with activation='linear': .* use 'before-weight'"),
    ],
)
def test_refusals_name_field_value_and_rule(changes, message):
    """If this fails, an impossible problem is accepted, or its author cannot tell what is wrong with it."""
    with pytest.raises(ProblemError, match=message):
        Problem(**{**SMALL, **changes})


def test_every_field_is_checked():
    """If this fails, a field was added that accepts anything."""
    for field in fields(Problem):
        with pytest.raises(ProblemError, match=field.name):
            Problem(**{**SMALL, field.name: object()})


@pytest.mark.parametrize("value", [[], {}, None, float("nan")])
@pytest.mark.parametrize("name", ["activation", "loss", "dtype", "parameterisation", "seed", "data_scale"])
def test_values_of_other_types_are_refused_as_such(name, value):
    """If this fails, a bad value from a JSON file ends in a traceback instead of a sentence."""
    with pytest.raises(ProblemError, match=f"{name}="):
        Problem.from_json({**SMALL, name: value})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("D=3,N=5,L=4,K=2,B=3,colour=red", r"'colour=red' in the problem: needed field=value, fields are input_dim"),
        ("D=3,N=5,L=4,K=2,B=3,seed", r"'seed' in the problem: needed field=value"),
        ("D=3,N=5,L=4,K=2,B=3,,seed=1", r"'' in the problem: needed field=value"),
        ("", r"'' in the problem: needed field=value"),
        ("D=3,N=5,L=4,K=2,B=3,N=6", r"width is given twice"),
        ("D=3,N=5,width=5,L=4,K=2,B=3", r"width is given twice"),
        ("D=3,N=five,L=4,K=2,B=3", r"width='five': needed a value of type int"),
        ("D=3,N=5.0,L=4,K=2,B=3", r"width='5\.0': needed a value of type int"),
        ("D=3,N=5,L=4,K=2,B=3,residual=yes", r"residual='yes': needed a value of type bool"),
        ("D=3,N=5,L=4,K=2,B=3,step_size=fast", r"step_size='fast': needed a value of type float"),
        ("D=3,N=5,L=4,K=2,B=3,step_size=nan", r"step_size=nan: needed a positive finite number"),
        ("D=3,N=5,L=4,K=2", r"a problem needs batch, which this one lacks"),
        ("D=3,N=5,L=4,K=2,B=3,parameterisation=general:beta=1", r"exponent 'beta' is not one of"),
        ("D=3,N=5,L=4,K=2,B=3,parameterisation=generous", r"parameterisation='generous'|parameterisation 'generous'"),
    ],
)
def test_lines_that_are_not_understood(line, message):
    """If this fails, a line typed wrongly replays something else."""
    with pytest.raises(ProblemError, match=message):
        Problem.from_line(line)


def test_json_that_is_not_understood():
    """If this fails, a report of another version is read as if it were of this one."""
    with pytest.raises(ProblemError, match=r"field 'colour' is not part of a problem; fields are input_dim, width"):
        Problem.from_json({**SMALL, "colour": 1})
    with pytest.raises(ProblemError, match=r"a problem needs width, depth, which this one lacks"):
        Problem.from_json({"input_dim": 1, "output_dim": 1, "batch": 1})


def test_numpy_numbers_become_plain_ones():
    """If this fails, a problem made from an array cannot be written as JSON, or prints as np.float64(...)."""
    p = Problem(**{k: np.int64(v) for k, v in SMALL.items()}, step_size=np.float32(0.5), data_scale=2)
    assert p == Problem(**SMALL, step_size=0.5, data_scale=2.0)
    assert p.line() == "D=3,N=5,L=4,K=2,B=3,data_scale=2.0,step_size=0.5"
    json.dumps(p.to_json())


def test_replace_validates():
    """If this fails, shrinking a problem produces impossible ones."""
    with pytest.raises(ProblemError, match=r"depth=1"):
        Problem(**SMALL).replace(depth=1)
    assert Problem(**SMALL).replace(depth=2).shape == (3, 5, 2, 2, 3)


# ---- arrays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_dtypes_of_arrays(dtype):
    """If this fails, laws compare arrays of different shapes or precisions."""
    p = Problem(**SMALL, dtype=dtype)
    assert p.dims == (3, 5, 5, 5, 2)
    assert [w.shape for w in p.weights()] == [(5, 3), (5, 5), (5, 5), (2, 5)]
    made = [*p.weights(), p.input(), p.target(), *p.activities()]
    assert [a.shape for a in made[4:]] == [(3, 3), (3, 2), (3, 5), (3, 5), (3, 5)]
    assert {a.dtype for a in made} == {np.dtype(dtype)}


def test_float32_is_float64_rounded():
    """If this fails, float32 and float64 problems of one seed are not the same problem, and cannot be compared."""
    p = Problem(**SMALL, activation="tanh", data_scale=3.0, weight_scale=0.7)
    q = p.replace(dtype="float32")
    for a, b in zip(
        [*p.weights(), p.input(), p.target(), *p.activities()],
        [*q.weights(), q.input(), q.target(), *q.activities()],
        strict=True,
    ):
        assert np.array_equal(a.astype(np.float32), b)


@pytest.mark.parametrize("law", LAWS)
def test_the_largest_float32_problems_are_finite(law):
    """If this fails, the scales that float32 problems may have overflow before anything is computed."""
    p = Problem(**SMALL, dtype="float32", weight_law=law, data_law=law, weight_scale=1e6, data_scale=1e6)
    assert all(np.all(np.isfinite(a)) for a in [*p.weights(), p.input(), p.target(), *p.activities()])


def test_arrays_of_a_problem_are_independent():
    """If this fails, weights of two layers, or input and target, are the same numbers."""
    p = Problem(input_dim=4, width=4, depth=4, output_dim=4, batch=4)
    made = [*p.weights(), p.input(), p.target(), *p.activities(), *p.weights("weights of another")]
    made += p.activities("activities of another")
    for i, a in enumerate(made):
        for b in made[:i]:
            assert not np.any(a == b)


def test_scales_and_initial_variance():
    """If this fails, a scale multiplies twice or not at all."""
    p, q = Problem(**SMALL), Problem(**SMALL, weight_scale=2.0, data_scale=4.0)
    for a, b in zip(p.weights(), q.weights(), strict=True):
        assert np.array_equal(2 * a, b)
    assert np.array_equal(4 * p.input(), q.input())
    assert np.array_equal(4 * p.target(), q.target())
    assert np.array_equal(4 * p.activities()[1], q.activities()[1])
    sp = Problem(**SMALL, parameterisation="sp").weights()
    for fan_in, a, b in zip((3, 5, 5, 5), p.weights(), sp, strict=True):
        np.testing.assert_allclose(b, a / math.sqrt(fan_in), rtol=1e-15)


def test_targets_of_cross_entropy_are_one_hot():
    """If this fails, cross-entropy is judged on targets that are no labels."""
    y = Problem(**{**SMALL, "output_dim": 4, "batch": 50}, loss="ce", data_scale=100.0, data_law="zero").target()
    assert set(np.unique(y)) == {0.0, 1.0}
    assert np.all(y.sum(axis=1) == 1)


def test_the_network_of_a_problem():
    """If this fails, the network that is judged is not the one the line describes."""
    p = Problem(
        input_dim=4, width=9, depth=4, output_dim=2, batch=1, residual=True, output_multiplier=2.0,
        output_precision=3.0, activation="tanh", placement="after-weight",
    )  # fmt: skip
    n = p.network()
    assert n.scalings == pytest.approx((1 / 2, 1 / 6, 1 / 6, 1 / 18))
    assert n.skips == (0.0, 1.0, 1.0, 0.0)
    assert (n.activation, n.placement, n.loss, n.precision) == ("tanh", "after-weight", "mse", 3.0)
    assert (n.parameterisation, n.output_multiplier) == ("mupc", 2.0)
    assert p.replace(residual=False).network().skips == (0.0,) * 4
    assert p.replace(depth=2).network().skips == (0.0, 0.0)
    assert p.replace(parameterisation=Exponents(output=0.5)).network().parameterisation == "general:output=0.5"


def test_problems_are_values():
    """If this fails, problems cannot be counted in sets, or change after they were judged."""
    assert len({Problem(**SMALL), Problem(**SMALL), Problem(**SMALL, seed=1)}) == 2
    with pytest.raises(AttributeError):
        Problem(**SMALL).width = 3  # type: ignore[misc]
