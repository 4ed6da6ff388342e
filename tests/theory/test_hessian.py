"""The activity Hessian: dense against central differences, spectra against exact ones, step sizes against descent."""

import itertools

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import TheoryError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.theory import hessian, linear

CASES = [
    Problem(
        input_dim=3,
        width=4,
        depth=depth,
        output_dim=output_dim,
        batch=1,
        residual=residual,
        parameterisation=name,
        output_precision=precision,
        seed=7,
    )
    for name, residual, precision, depth, output_dim in itertools.product(
        ("sp", "ntp", "mupc"), (False, True), (1.0, 3.0), (2, 3, 6), (2, 5)
    )
]


def orthogonal_chain(depth: int, width: int, output_dim: int) -> Network:
    rng = np.random.default_rng(depth)
    hidden = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(depth - 1)]
    last = np.linalg.qr(rng.standard_normal((width, width)))[0][:output_dim]
    return Network(weights=(*hidden, last), scalings=(1.0,) * depth, skips=(0.0,) * depth)


@pytest.mark.parametrize("problem", CASES[::5], ids=Problem.line)
def test_dense_hessian_is_the_derivative_of_the_activity_gradient(problem: Problem):
    """Breaks if a block of H is wrong: the gradient of a quadratic is differenced exactly, column by column."""
    network, x, y = problem.network(), problem.input(), problem.target()
    H = theory.activity_hessian(network)
    z0 = [np.zeros((1, problem.width)) for _ in range(problem.depth - 1)]
    base = np.hstack(oracle.activity_gradients(network, x, y, z0))
    for column in range(len(H)):
        unit = np.zeros((1, len(H)))
        unit[0, column] = 1.0
        moved = np.hstack(oracle.activity_gradients(network, x, y, np.split(unit, problem.depth - 1, axis=1)))
        np.testing.assert_allclose(H[:, column], (moved - base)[0], atol=1e-13 * np.abs(H).max())


@pytest.mark.parametrize("problem", CASES, ids=Problem.line)
def test_products_and_solves_agree_with_the_dense_matrix(problem: Problem):
    """Breaks if the matrix-free product or the factorised inverse differs from the matrix."""
    network = problem.network()
    H = theory.activity_hessian(network)
    v = np.random.default_rng(0).standard_normal((3, len(H)))
    parts = np.split(v, problem.depth - 1, axis=1)
    np.testing.assert_allclose(np.hstack(theory.hessian_product(network, parts)), v @ H, atol=1e-12 * np.abs(H).max())
    solved = np.hstack(hessian._solve(network, linear.factor(network), parts))
    np.testing.assert_allclose(solved @ H, v, atol=1e-13 * np.linalg.cond(H))


@pytest.mark.parametrize("problem", CASES[::3], ids=Problem.line)
def test_lanczos_finds_the_dense_extremes(problem: Problem, monkeypatch: pytest.MonkeyPatch):
    """Breaks if the iterative road, which large networks take, ends elsewhere than a dense decomposition."""
    network = problem.network()
    values = np.linalg.eigvalsh(theory.activity_hessian(network))
    monkeypatch.setattr(hessian, "_EIGEN_LIMIT", 0)
    low, high = theory.extreme_eigenvalues(network)
    assert low == pytest.approx(values[0], rel=1e-9)
    assert high == pytest.approx(values[-1], rel=1e-9)
    vector = theory.top_eigenvector(network)
    product = theory.hessian_product(network, [v[None, :] for v in vector])
    assert np.linalg.norm(np.hstack(vector)) == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(np.hstack(product)[0], high * np.hstack(vector), atol=1e-6 * high)


@pytest.mark.parametrize(("depth", "width", "output_dim"), [(2, 3, 1), (3, 3, 3), (5, 4, 2), (8, 5, 1), (8, 5, 5)])
def test_orthogonal_chain_has_the_exact_spectrum(depth: int, width: int, output_dim: int):
    """Breaks if an angle or a multiplicity of L8 is wrong; K = N included."""
    network = orthogonal_chain(depth, width, output_dim)
    exact = theory.orthogonal_chain_spectrum(depth, width, output_dim)
    np.testing.assert_allclose(np.linalg.eigvalsh(theory.activity_hessian(network)), exact, atol=1e-13)
    low, high = theory.extreme_eigenvalues(network)
    assert (low, high) == pytest.approx((exact[0], exact[-1]), rel=1e-12)


def test_orthogonal_chain_condition_number_grows_as_the_square_of_depth():
    """Breaks if the asymptote 16 L²/pi² of L8 is not met: by 2 % at depth 128."""
    values = theory.orthogonal_chain_spectrum(128, 3, 1)
    assert values[-1] / values[0] == pytest.approx(16 * 128**2 / np.pi**2, rel=0.02)


def test_conditioning_of_residual_mupc_matches_the_published_growth():
    """Breaks if kappa of mupc residual networks at N = 64 leaves 71, 397, 1.9e3 (theory L5) by more than a fifth."""
    for depth, kappa in ((4, 71.0), (8, 397.0), (16, 1.9e3)):
        problem = Problem(input_dim=8, width=64, depth=depth, output_dim=10, batch=1, residual=True)
        low, high = theory.extreme_eigenvalues(problem.network())
        assert high / low == pytest.approx(kappa, rel=0.2)


@pytest.mark.parametrize("problem", CASES, ids=Problem.line)
def test_bound_is_above_the_largest_eigenvalue_and_not_absurd(problem: Problem):
    """Breaks if the cheap bound is no bound, or so loose (a factor 4 at this size) that no step size can use it."""
    network = problem.network()
    high = theory.extreme_eigenvalues(network)[1]
    assert high <= theory.largest_eigenvalue_bound(network) <= 4 * high


@pytest.mark.parametrize("problem", CASES[1::6], ids=Problem.line)
def test_step_size_threshold_is_sharp(problem: Problem):
    """Breaks if 2/lambda_max is off by a part in a thousand: along the top eigenvector one side contracts (E5)."""
    network, x, y = problem.network(), problem.input(), problem.target()
    z = theory.equilibrium_activities(network, x, y)
    start = [a + v[None, :] for a, v in zip(z, theory.top_eigenvector(network), strict=True)]
    for factor, contracts in ((0.999, True), (1.001, False)):
        step = factor * theory.step_size_threshold(network)
        end = [a - step * g for a, g in zip(start, oracle.activity_gradients(network, x, y, start), strict=True)]
        size = float(np.linalg.norm(np.hstack(end) - np.hstack(z)))
        assert (size < 1) is contracts
        assert size == pytest.approx(2 * factor - 1, abs=1e-6)


@pytest.mark.parametrize("problem", CASES[2::6], ids=Problem.line)
def test_contraction_holds_at_the_best_step_size_and_is_attained(problem: Problem):
    """Breaks if the best step size or its rate is wrong: no direction contracts slower, the top one attains it."""
    network, x, y = problem.network(), problem.input(), problem.target()
    z = theory.equilibrium_activities(network, x, y)
    step, rate = theory.best_step_size(network), theory.contraction(network)

    def shrink(direction: list[np.ndarray]) -> float:
        start = [a + d for a, d in zip(z, direction, strict=True)]
        end = [a - step * g for a, g in zip(start, oracle.activity_gradients(network, x, y, start), strict=True)]
        return float(np.linalg.norm(np.hstack(end) - np.hstack(z)) / np.linalg.norm(np.hstack(direction)))

    rng = np.random.default_rng(1)
    for _ in range(10):
        assert shrink([rng.standard_normal(a.shape) for a in z]) <= rate * (1 + 1e-9)
    assert shrink([v[None, :] for v in theory.top_eigenvector(network)]) == pytest.approx(rate, rel=1e-6)


def test_refusals():
    """Breaks if a Hessian that would not fit in memory, is not constant or does not exist is attempted."""
    big = Problem(input_dim=2, width=1100, depth=5, output_dim=1, batch=1, weight_law="zero").network()
    with pytest.raises(TheoryError, match=r"4400 rows.*extreme_eigenvalues"):
        theory.activity_hessian(big)
    for change in ({"activation": "tanh"}, {"loss": "ce"}):
        with pytest.raises(TheoryError):
            theory.extreme_eigenvalues(CASES[0].replace(**change).network())
    with pytest.raises(TheoryError, match="output_dim=4"):
        theory.orthogonal_chain_spectrum(3, 3, 4)
