"""The certificate of equilibrium: derivatives against differences of the oracle's energy, bounds against gaps."""

import itertools
import math

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import TheoryError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import ACTIVATIONS, Network
from pcbench.theory.activations import derivatives
from pcbench.theory.curvature import ErrorSpace, smallest_curvature

LINEAR = [
    Problem(
        input_dim=3,
        width=4,
        depth=depth,
        output_dim=3,
        batch=5,
        residual=residual,
        parameterisation=name,
        output_precision=precision,
        loss=loss,
        seed=5,
    )
    for name, residual, precision, depth, loss in itertools.product(
        ("sp", "ntp", "mupc"), (False, True), (1.0, 3.0), (2, 5), ("mse", "ce")
    )
]
NONLINEAR = [
    Problem(
        input_dim=3,
        width=4,
        depth=4,
        output_dim=2,
        batch=3,
        residual=residual,
        parameterisation="ntp",
        output_precision=2.0,
        activation=activation,
        placement=placement,
        loss=loss,
        seed=9,
    )
    for activation, placement, residual, loss in itertools.product(
        [a for a in ACTIVATIONS if a != "linear"], ("before-weight", "after-weight"), (False, True), ("mse", "ce")
    )
]
SMOOTH = [p for p in NONLINEAR if p.activation != "relu"]


def space(problem: Problem, activities: list[np.ndarray] | None = None) -> ErrorSpace:
    z = problem.activities() if activities is None else activities
    return ErrorSpace(problem.network(), problem.input(), problem.target(), z)


def split(problem: Problem, rows: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, problem.depth - 1, axis=1)


def equilibrate(problem: Problem, steps: int) -> list[np.ndarray]:
    """Gradient descent on the oracle's energy from the feedforward pass."""
    network, x, y = problem.network(), problem.input(), problem.target()
    z = oracle.feedforward(network, x)
    for _ in range(steps):
        z = [a - 0.1 * g for a, g in zip(z, oracle.activity_gradients(network, x, y, z), strict=True)]
    return z


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_derivatives_are_central_differences(activation: str):
    """Breaks if a first or second derivative is wrong, tails included."""
    z = np.array([-30.0, -5.0, -1.5, -0.3, 0.2, 0.7, 2.5, 6.0, 30.0])
    h = 1e-5
    here, up, down = (derivatives(activation, z + s) for s in (0.0, h, -h))
    np.testing.assert_allclose(here.first, (up.value - down.value) / (2 * h), atol=1e-9)
    np.testing.assert_allclose(here.second, (up.first - down.first) / (2 * h), atol=1e-9)


def test_activation_values_by_definition():
    """Breaks if an activation is another one: values from the definitions at 1, by hand."""
    expected = {
        "linear": 1.0,
        "tanh": math.tanh(1),
        "relu": 1.0,
        "gelu": 0.5 * (1 + math.erf(1 / math.sqrt(2))),
        "gelu-tanh": 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * 1.044715)),
        "silu": 1 / (1 + math.exp(-1)),
        "softplus": math.log(1 + math.e),
    }
    for name, number in expected.items():
        assert derivatives(name, np.array([1.0])).value[0] == pytest.approx(number, rel=1e-14)
    assert derivatives("relu", np.array([0.0])).first[0] == 0.0
    for name in expected:
        far = derivatives(name, np.array([-1e6, 1e6]))
        assert all(np.isfinite(part).all() for part in (far.value, far.first, far.second))
    with pytest.raises(TheoryError, match="activation='sine'"):
        derivatives("sine", np.zeros(1))


@pytest.mark.parametrize("problem", NONLINEAR + LINEAR[::5], ids=Problem.line)
def test_error_gradient_is_the_difference_quotient_of_the_energy(problem: Problem):
    """Breaks if the backward pass in error space is wrong: differences of the oracle's energy along every error."""
    network, x, y = problem.network(), problem.input(), problem.target()
    z = problem.activities()
    here = oracle.prediction_errors(network, x, y, z)[:-1]
    gradient = np.hstack(theory.error_gradient(network, x, y, z))
    rows = np.hstack(here)
    for column in range(0, rows.shape[1], 2):
        values = []
        for step in (1e-5, -1e-5):
            moved = rows.copy()
            moved[:, column] += step
            states = oracle.states_from_errors(network, x, split(problem, moved))
            values.append(oracle.sample_energies(network, x, y, states))
        quotient = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(gradient[:, column], quotient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("problem", NONLINEAR, ids=Problem.line)
def test_hessian_products_are_differences_of_the_gradient(problem: Problem):
    """Breaks if forward-over-reverse misses a term: the curvature of a layer, of the loss, or a skip."""
    at = space(problem)
    direction = np.random.default_rng(0).standard_normal((problem.batch, (problem.depth - 1) * problem.width))
    parts = split(problem, direction)
    up, down = (np.hstack(at.displace([s * d for d in parts]).gradient()) for s in (1e-6, -1e-6))
    np.testing.assert_allclose(np.hstack(at.hessian_product(parts)), (up - down) / 2e-6, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("problem", SMOOTH[::3] + LINEAR[::7], ids=Problem.line)
def test_smallest_curvature_is_the_smallest_eigenvalue(problem: Problem):
    """Breaks if Lanczos ends above the true smallest eigenvalue of a sample, from the dense matrix."""
    at = space(problem)
    n = (problem.depth - 1) * problem.width
    columns = [
        np.hstack(at.hessian_product(split(problem, np.broadcast_to(e, (problem.batch, n)).copy()))) for e in np.eye(n)
    ]
    H = np.stack(columns, axis=2)
    np.testing.assert_allclose(H, np.swapaxes(H, 1, 2), atol=1e-11 * np.abs(H).max())
    lowest = np.linalg.eigvalsh(H)[:, 0]
    np.testing.assert_allclose(smallest_curvature(at), lowest, atol=1e-9 * np.abs(H).max())


def test_smallest_curvature_of_a_large_network_takes_few_products():
    """Breaks if the default number of Lanczos steps misses a negative eigenvalue among 240, or its residual is lost."""
    problem = NONLINEAR[0].replace(width=80, batch=2, data_scale=2.0, residual=True, loss="mse")
    at = space(problem)
    n = 240
    columns = [np.hstack(at.hessian_product(split(problem, np.broadcast_to(e, (2, n)).copy()))) for e in np.eye(n)]
    lowest = np.linalg.eigvalsh(np.stack(columns, axis=2))[:, 0]
    assert np.all(lowest < 0)
    np.testing.assert_allclose(smallest_curvature(at), lowest, rtol=1e-6)
    # one step's Ritz value less its residual is below it already where a single eigenvalue stands out
    assert np.all(smallest_curvature(at, steps=30) <= lowest * (1 - 1e-6))


@pytest.mark.parametrize("problem", LINEAR, ids=Problem.line)
@pytest.mark.parametrize("distance", [1.0, 1e-3])
def test_linear_bounds_hold_for_any_activities(problem: Problem, distance: float):
    """Breaks if the rigorous bound is no bound, or vacuous: it must also be within the condition number of the gap."""
    network, x, y = problem.network(), problem.input(), problem.target()
    best = theory.solve_envelope(network, x, y)
    optimum = theory.envelope_activities(network, x, y)
    z = [a + distance * (b - a) for a, b in zip(optimum, problem.activities(), strict=True)]
    result = theory.certify(network, x, y, z)
    assert result.holds
    assert result.rigorous
    assert result.gap_bound is not None
    assert result.distance_bound is not None
    gap = oracle.sample_energies(network, x, y, z) - best.energies
    assert np.all(gap <= result.gap_bound * (1 + 1e-10) + 1e-13 * best.energies)
    errors = np.hstack(oracle.prediction_errors(network, x, y, z)[:-1])
    at_optimum = np.hstack(oracle.prediction_errors(network, x, y, optimum)[:-1])
    assert np.all(np.linalg.norm(errors - at_optimum, axis=1) <= result.distance_bound * (1 + 1e-8))
    M = theory.equilibrium_matrix(network) - np.eye(problem.output_dim) / problem.output_precision
    top = 1 + problem.output_precision * np.linalg.eigvalsh(M)[-1]
    assert np.all(result.gap_bound <= gap * top * (1 + 1e-6) + 1e-12 * best.energies * top)


def test_linear_bound_is_attained():
    """Breaks if the bound carries a spare factor: a change no output sees is exactly half its square above F*."""
    problem = Problem(input_dim=3, width=4, depth=2, output_dim=2, batch=1, seed=3)
    network, x, y = problem.network(), problem.input(), problem.target()
    unseen = np.linalg.svd(network.weights[1])[2][-1]
    z = [theory.equilibrium_activities(network, x, y)[0] + unseen[None, :]]
    result = theory.certify(network, x, y, z)
    assert result.mean_gap_bound == pytest.approx(0.5, rel=1e-12)
    assert oracle.energy(network, x, y, z) - theory.equilibrium_energy(network, x, y) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize(
    "problem",
    [p.replace(parameterisation="mupc", depth=3, output_precision=1.0) for p in SMOOTH[::3]],
    ids=Problem.line,
)
def test_local_bounds_hold_on_the_way_to_equilibrium(problem: Problem):
    """Breaks if the local certificate of a smooth network is exceeded by the gap to where descent ends."""
    network, x, y = problem.network(), problem.input(), problem.target()
    end = equilibrate(problem, 1500)
    final = theory.certify(network, x, y, end)
    assert final.holds, final.reason
    assert final.mean_gap_bound < 1e-9
    for steps in (3, 30, 100):
        z = equilibrate(problem, steps)
        result = theory.certify(network, x, y, z)
        assert result.holds, result.reason
        assert not result.rigorous
        assert result.gap_bound is not None
        gap = oracle.sample_energies(network, x, y, z) - oracle.sample_energies(network, x, y, end)
        assert np.all(gap <= result.gap_bound + 1e-12)


def test_negative_curvature_is_refused():
    """Breaks if concave activities get a certificate: one gelu unit, whose Hessian 1 + f'^2 - r f'' is by hand."""
    network = Network(
        weights=(np.ones((1, 1)), np.ones((1, 1))), scalings=(1.0, 1.0), skips=(0.0, 0.0), activation="gelu"
    )
    x, y, z = np.zeros((1, 1)), np.array([[5.0]]), [np.zeros((1, 1))]
    # gelu'(0) = 1/2, gelu''(0) = 2/sqrt(2 pi): 1 + 1/4 - 5 * 0.7979 < 0
    curvature = 1.25 - 5 * 2 / math.sqrt(2 * math.pi)
    result = theory.certify(network, x, y, z)
    assert not result.holds
    assert result.gap_bound is None
    assert result.mean_gap_bound == math.inf
    assert result.curvature[0] == pytest.approx(curvature, rel=1e-12)
    assert "no certificate: the smallest eigenvalue" in result.reason


@pytest.mark.parametrize("placement", ["before-weight", "after-weight"])
def test_relu_is_certified_away_from_kinks_only(placement: str):
    """Breaks if kinks are ignored, or if a relu network that is linear around its equilibrium is refused for nothing.

    Where every unit is active the network is the linear one, whose equilibrium is known in closed form.
    """
    rng = np.random.default_rng(4)
    weights = (rng.uniform(1, 2, (3, 2)), 0.3 * rng.uniform(1, 2, (3, 3)), 0.3 * rng.uniform(1, 2, (2, 3)))
    network = Network(weights=weights, scalings=(1.0,) * 3, skips=(0.0,) * 3, activation="relu", placement=placement)
    linear = Network(weights=weights, scalings=(1.0,) * 3, skips=(0.0,) * 3)
    x = rng.uniform(1, 2, (4, 2))
    y = oracle.predict(linear, x) + 0.1
    z = theory.equilibrium_activities(linear, x, y)
    near = [a + 1e-3 for a in z]
    result = theory.certify(network, x, y, near)
    assert result.holds, result.reason
    assert result.gap_bound is not None
    gap = oracle.sample_energies(linear, x, y, near) - theory.equilibrium_energies(linear, x, y)
    assert np.all(gap <= result.gap_bound)
    far = [a - 0.999 * a for a in z]
    refused = theory.certify(network, x, y, far)
    assert not refused.holds
    assert "kink" in refused.reason


def test_relu_at_a_kink_is_refused():
    """Breaks if a unit that sits exactly on its kink is judged by a gradient norm."""
    problem = Problem(input_dim=2, width=3, depth=3, output_dim=1, batch=1, activation="relu", weight_law="zero")
    z = [np.zeros((1, 3)), np.zeros((1, 3))]
    result = theory.certify(problem.network(), problem.input(), problem.target(), z)
    assert result.residual_norm[0] == 0.0
    assert not result.holds
    assert "6 relu units" in result.reason


def test_activities_that_are_not_finite_are_refused_and_wrong_shapes_raise():
    """Breaks if nan or overflow comes back as a bound, or a wrong shape broadcasts."""
    problem = LINEAR[0]
    network, x, y = problem.network(), problem.input(), problem.target()
    for bad in (np.nan, np.inf, 1e300):
        z = problem.activities()
        z[0][2, 1] = bad
        result = theory.certify(network, x, y, z)
        assert not result.holds
        assert "not finite" in result.reason
    with pytest.raises(TheoryError, match="activities of shapes"):
        theory.certify(network, x, y, [z[0][:, :2] for z in [problem.activities()]])
