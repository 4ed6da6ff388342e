"""A network as data: what it refuses, what it derives, and that folding keeps the function."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pcbench.errors import ProblemError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network

PLAIN = Problem(input_dim=3, width=4, depth=3, output_dim=2, batch=5, activation="tanh", residual=True)


def network(**changes):
    W = (np.ones((4, 3)), np.ones((4, 4)), np.ones((2, 4)))
    return Network(**{"weights": W, "scalings": (1.0,) * 3, "skips": (0.0, 1.0, 0.0), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": (np.ones((2, 3)),)}, r"network with 1 weight matrices: a PCN has at least 2"),
        ({"scalings": (1.0, 1.0)}, r"network with 3 weights, 2 scalings and 3 skips: needed one of each"),
        ({"skips": (0.0, 0.0)}, r"3 weights, 3 scalings and 2 skips"),
        (
            {"weights": (np.ones((4, 3)), np.ones((4, 5)), np.ones((2, 4)))},
            r"weight shapes \(4, 3\) then \(4, 5\): fan-in must equal fan-out below",
        ),
        ({"skips": (1.0, 0.0, 0.0)}, r"skips=\(1\.0, 0\.0, 0\.0\): only hidden-to-hidden layers have one"),
        ({"skips": (0.0, 0.0, 1.0)}, r"only hidden-to-hidden layers have one"),
        ({"activation": "sigmoid"}, r"network activation='sigmoid': needed one of linear"),
        ({"placement": "x"}, r"network placement='x': needed one of before-weight"),
        ({"loss": "x"}, r"network loss='x': needed one of mse, ce"),
        ({"precision": 0.0}, r"network precision=0\.0: needed a positive number"),
        ({"precision": math.inf}, r"network precision=inf: needed a positive number"),
        ({"precision": math.nan}, r"network precision=nan: needed a positive number"),
    ],
)
def test_refusals(changes, message):
    """If this fails, a network that cannot exist reaches an implementation, which is then blamed for it."""
    with pytest.raises(ProblemError, match=message):
        network(**changes)


def test_what_it_derives():
    """If this fails, adapters build another architecture than the one sent."""
    n = network()
    assert (n.depth, n.dims, n.dtype, n.residual, n.linear) == (3, (3, 4, 4, 2), np.float64, True, True)
    assert not network(skips=(0.0,) * 3).residual
    assert not network(activation="relu").linear


@pytest.mark.parametrize("placement", ["before-weight", "after-weight"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus"])
def test_folding_keeps_the_function(activation, placement):
    """If this fails, implementations without scalings of their own are judged on another network."""
    p = PLAIN.replace(activation=activation, placement=placement)
    n, x = p.network(), p.input()
    f = n.folded()
    assert f.scalings == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(oracle.predict(f, x), oracle.predict(n, x), rtol=1e-13)
    for a, b in zip(n.effective_weights(), f.weights, strict=True):
        assert np.array_equal(a, b)


def test_folding_in_float32_rounds_once():
    """If this fails, folding in float32 rounds the scaling before it multiplies, and every law loses a digit."""
    n = PLAIN.replace(dtype="float32").network()
    for a, w, f in zip(n.scalings, n.weights, n.folded().weights, strict=True):
        assert f.dtype == np.float32
        assert np.array_equal(f, (np.float64(a) * w.astype(np.float64)).astype(np.float32))


def test_copies_leave_the_original_alone():
    """If this fails, one law's network changes under another law."""
    n = PLAIN.network()
    before = [w.copy() for w in n.weights]
    n.folded().weights[0][:] = 7
    n.astype("float32").weights[0][:] = 7
    assert n.with_weights([0 * w for w in n.weights]).weights[0].sum() == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, n.weights, strict=True))
    assert n.astype("float32").dtype == np.float32


def test_with_weights_checks_shapes():
    """If this fails, updated weights of the wrong layout are accepted."""
    n = PLAIN.network()
    with pytest.raises(ProblemError, match="fan-in must equal fan-out"):
        n.with_weights([w.T for w in n.weights])
    assert replace(n, precision=2.0).precision == 2.0
