"""Expectations at initialisation, finite-size rates, and the saddle at the origin."""

import itertools

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import TheoryError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.parameterisation import Exponents


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
    value = theory.expected_excess(
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
    values = np.array([theory.excess(problem.replace(seed=seed).network()) for seed in range(400)])
    error = values.std() / np.sqrt(len(values))
    assert error < 0.1 * values.mean()
    assert abs(values.mean() - theory.expected_excess_of(problem)) <= 4.5 * error


def test_excess_is_the_trace_of_the_equilibrium_matrix():
    """Breaks if the measured side carries the precision or a spectral norm."""
    network = Problem(input_dim=2, width=6, depth=4, output_dim=3, batch=1, output_precision=2.0).network()
    trace = np.trace(theory.equilibrium_matrix(network) - np.eye(3) / 2) / 3
    assert theory.excess(network) == pytest.approx(trace, rel=1e-13)


def test_expected_excess_refusals():
    """Breaks if the formula is applied to nonlinear or correlated weights, or to impossible sizes."""
    problem = Problem(input_dim=2, width=6, depth=4, output_dim=3, batch=1)
    for change in ({"activation": "tanh"}, {"weight_law": "orthogonal"}):
        with pytest.raises(TheoryError, match="needed 'linear' and 'gaussian'"):
            theory.expected_excess_of(problem.replace(**change))
    for sizes in ({"width": 0}, {"depth": 1}, {"variance": -1.0}, {"output_multiplier": 0.0}):
        with pytest.raises(TheoryError, match="needed width >= 1"):
            theory.expected_excess("mupc", **{"width": 4, "depth": 3, "residual": True, **sizes})


@pytest.mark.parametrize(("name", "depth"), [("mupc", 4), ("ntp", 4), ("mupc", 8), ("ntp", 2)])
def test_energy_deficit_is_met_by_wide_networks(name: str, depth: int):
    """Breaks if the leading order of 1 - F*/loss is wrong (W2): 0.79 for ntp at L = 4, s for mupc."""
    problem = Problem(
        input_dim=8, width=256, depth=depth, output_dim=2, batch=4, residual=True, parameterisation=name, seed=1
    )
    network, x, y = problem.network(), problem.input(), problem.target()
    measured = 1 - theory.equilibrium_energy(network, x, y) / oracle.loss(network, x, y)
    predicted = theory.energy_deficit(theory.expected_excess_of(problem))
    assert measured == pytest.approx(predicted, rel=0.25)
    low, high = theory.energy_rate_interval(network)
    assert low <= measured <= high
    if (name, depth) == ("ntp", 4):
        assert predicted == pytest.approx(0.79, abs=0.005)


def test_energy_deficit_falls_as_one_over_width_under_mupc():
    """Breaks if slope -1 in log N at fixed depth is lost (W2)."""
    widths = np.array([32, 64, 128, 256])
    deficits = []
    for width in widths:
        problem = Problem(input_dim=8, width=int(width), depth=4, output_dim=8, batch=8, residual=True, seed=2)
        network, x, y = problem.network(), problem.input(), problem.target()
        deficits.append(1 - theory.equilibrium_energy(network, x, y) / theory.loss(network, x, y))
    assert theory.logarithmic_slope(widths, np.array(deficits)) == pytest.approx(-1.0, abs=0.15)
    assert theory.logarithmic_slope(widths, 3.0 * widths**-1.5) == pytest.approx(-1.5, rel=1e-12)


@pytest.mark.parametrize(
    ("residual", "depth", "precision"),
    [(False, 2, 1.0), (False, 3, 2.0), (False, 4, 1.0), (True, 3, 0.5), (True, 4, 1.0)],
)
def test_origin_spectrum_is_that_of_the_difference_quotients(residual: bool, depth: int, precision: float):
    """Breaks if the saddle's eigenvalues or multiplicities are wrong: F* at the origin, differenced twice (L10)."""
    problem = Problem(
        input_dim=2,
        width=2,
        depth=depth,
        output_dim=2,
        batch=3,
        residual=residual,
        parameterisation="ntp",
        output_precision=precision,
        output_multiplier=0.5,
        weight_law="zero",
    )
    network, x, y = problem.network(), problem.input(), problem.target()
    sizes = np.cumsum([w.size for w in network.weights])

    def energy(flat: np.ndarray) -> float:
        parts = np.split(flat, sizes[:-1])
        weights = [p.reshape(w.shape) for p, w in zip(parts, network.weights, strict=True)]
        return theory.equilibrium_energy(network.with_weights(weights), x, y)

    h, count = 1e-3, sizes[-1]
    steps = h * np.eye(count)
    H = np.empty((count, count))
    for i, j in itertools.product(range(count), repeat=2):
        mixed = [energy(s * steps[i] + t * steps[j]) for s, t in itertools.product((1, -1), repeat=2)]
        H[i, j] = (mixed[0] - mixed[1] - mixed[2] + mixed[3]) / (4 * h * h)
    spectrum = theory.origin_hessian_spectrum(network, x, y)
    exact = spectrum.all()
    assert len(exact) == count
    np.testing.assert_allclose(np.linalg.eigvalsh(H), exact, atol=1e-4 * np.abs(exact).max())
    assert exact[0] < 0


def test_origin_spectrum_of_a_plain_chain_is_minus_the_target_covariance():
    """Breaks if L10 as stated fails: eigenvalues of Y^T Y / B, negated and scaled by a_L², N times each, the rest 0."""
    problem = Problem(input_dim=3, width=5, depth=4, output_dim=2, batch=4)
    network, x, y = problem.network(), problem.input(), problem.target()
    exact = theory.origin_hessian_spectrum(network, x, y).all()
    covariance = np.linalg.eigvalsh(y.T @ y / 4) / 25  # mupc: a_L = 1/N
    np.testing.assert_allclose(exact[:10], np.sort(np.repeat(-covariance, 5)), rtol=1e-12)
    np.testing.assert_array_equal(exact[10:], 0.0)
    assert len(exact) == 15 + 25 + 25 + 10
