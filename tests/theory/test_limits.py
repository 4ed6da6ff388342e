"""What S is on average at initialisation: literal constants, and the mean over sampled networks."""

import itertools

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import TheoryError
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.problem.parameterisation import Exponents


def trace_excess(network: Network) -> float:
    r"""\(\mathrm{tr}(S - I/\lambda)/K\) of one linear network."""
    return sum(float(np.sum(J * J)) for J in theory.output_jacobians(network)) / network.dims[-1]


@pytest.mark.parametrize(
    ("name", "residual", "depth", "width", "gamma", "variance", "expected"),
    [
        ("mupc", False, 5, 64, 1.0, 1.0, 4 / 64),
        ("mupc", False, 5, 64, 2.0, 1.0, 4 / 256),
        ("mupc", True, 4, 64, 1.0, 1.0, 4 / 64 * (1.25**3 - 1)),
        ("mupc", True, 2, 64, 1.0, 1.0, 1 / 64),
        ("ntp", False, 5, 64, 1.0, 1.0, 4.0),
        ("ntp", True, 4, 512, 1.0, 1.0, 3.8125),
        ("sp", False, 4, 7, 1.0, 1 / 3, 1 / 3 + 1 / 9 + 1 / 27),
        ("sp", True, 4, 7, 1.0, 1 / 3, (4 / 3) ** 3 - 1),
        (Exponents(), True, 4, 64, 1.0, 1.0, 4 / 64 * (1.25**3 - 1)),
        (Exponents(depth=1.0, output=0.5), True, 3, 9, 1.0, 1.0, 2 + 1 / 9),
        (Exponents(depth=0.0), True, 4, 10, 1.0, 1.0, (1 + 2 + 4) / 10),
    ],
)
def test_expected_excess_is_the_published_formula(name, residual, depth, width, gamma, variance, expected):
    """Breaks if a constant of W1 changes: literal numbers for every parameterisation."""
    value = theory.expected_trace_excess(
        name, width=width, depth=depth, residual=residual, output_multiplier=gamma, variance=variance
    )
    assert value == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("name", "residual", "depth"),
    list(itertools.product(("sp", "ntp", "mupc", Exponents(depth=0.25, output=0.75)), (False, True), (2, 5))),
)
def test_expected_excess_is_the_mean_over_weights(name, residual, depth):
    """Breaks if E[S] is not what sampled networks have: 400 networks, within 4.5 standard errors of their mean."""
    problem = Problem(
        input_dim=2,
        width=6,
        depth=depth,
        output_dim=3,
        batch=1,
        residual=residual,
        parameterisation=name,
        output_multiplier=0.7,
        weight_scale=0.8,
    )
    values = np.array([trace_excess(problem.replace(seed=seed).network()) for seed in range(400)])
    error = values.std() / np.sqrt(len(values))
    assert error < 0.1 * values.mean()
    assert abs(values.mean() - theory.expected_trace_excess_of(problem)) <= 4.5 * error


def test_expected_excess_refusals():
    """Breaks if the formula is applied to nonlinear or correlated weights, or to impossible sizes."""
    problem = Problem(input_dim=2, width=6, depth=4, output_dim=3, batch=1)
    for change in ({"activation": "tanh"}, {"weight_law": "orthogonal"}):
        with pytest.raises(TheoryError, match="needed 'linear' and 'gaussian'"):
            theory.expected_trace_excess_of(problem.replace(**change))
    for sizes in ({"width": 0}, {"depth": 1}, {"variance": -1.0}, {"output_multiplier": 0.0}):
        with pytest.raises(TheoryError, match="needed width >= 1"):
            theory.expected_trace_excess("mupc", **{"width": 4, "depth": 3, "residual": True, **sizes})
