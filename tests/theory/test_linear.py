"""The closed forms of the linear equilibrium, against the oracle's energy, dense solves and central differences."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import TheoryError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.theory import linear

CASES = [
    Problem(
        input_dim=3,
        width=5,
        depth=depth,
        output_dim=2,
        batch=4,
        residual=residual,
        parameterisation=parameterisation,
        output_multiplier=gamma,
        output_precision=precision,
        seed=seed,
    )
    for seed, (parameterisation, residual, gamma, precision, depth) in enumerate(
        itertools.product(("sp", "ntp", "mupc"), (False, True), (1.0, 0.5), (1.0, 3.0, 0.1), (2, 3, 5))
    )
]
SHAPES = [
    Problem(input_dim=1, width=1, depth=2, output_dim=1, batch=1),
    Problem(input_dim=2, width=3, depth=3, output_dim=7, batch=2, residual=True, parameterisation="sp"),
    Problem(input_dim=2, width=1, depth=6, output_dim=3, batch=5, residual=True, parameterisation="ntp"),
    Problem(input_dim=2, width=4, depth=4, output_dim=2, batch=3, weight_law="zero"),
    Problem(input_dim=2, width=4, depth=4, output_dim=2, batch=3, weight_law="low-rank", parameterisation="ntp"),
]
ids = Problem.line


def arrays_of(problem: Problem) -> tuple[Network, np.ndarray, np.ndarray]:
    return problem.network(), problem.input(), problem.target()


@pytest.mark.parametrize("problem", CASES + SHAPES, ids=ids)
def test_equilibrium_energy_is_the_energy_at_the_equilibrium_activities(problem: Problem):
    """Breaks if S, the residual, the precision or the backward-pass form of z* is wrong."""
    network, x, y = arrays_of(problem)
    z = theory.equilibrium_activities(network, x, y)
    np.testing.assert_allclose(
        theory.equilibrium_energies(network, x, y), oracle.sample_energies(network, x, y, z), rtol=1e-12
    )
    assert theory.equilibrium_energy(network, x, y) == pytest.approx(oracle.energy(network, x, y, z), rel=1e-12)


@pytest.mark.parametrize("problem", CASES + SHAPES, ids=ids)
def test_equilibrium_is_stationary(problem: Problem):
    """Breaks if z* is a point where the oracle's activity gradient does not vanish."""
    network, x, y = arrays_of(problem)
    z = theory.equilibrium_activities(network, x, y)
    scale = max(1.0, *(np.abs(a).max() for a in z), np.abs(y).max()) * max(1.0, problem.output_precision)
    for gradient in oracle.activity_gradients(network, x, y, z):
        assert np.abs(gradient).max() <= 1e-13 * scale


@pytest.mark.parametrize("problem", CASES + SHAPES, ids=ids)
def test_equilibrium_energy_is_the_minimum_by_a_dense_solve(problem: Problem):
    """Breaks if the dense Hessian and the closed form disagree: an independent linear solve gives the same minimum."""
    network, x, y = arrays_of(problem)
    A = theory.layer_maps(network)
    b = [np.zeros((problem.batch, problem.width)) for _ in range(problem.depth - 1)]
    b[0] = b[0] + x @ A[0].T
    b[-1] = b[-1] + problem.output_precision * (y @ A[-1])
    solution = np.linalg.solve(theory.activity_hessian(network), np.hstack(b).T).T
    z = np.split(solution, problem.depth - 1, axis=1)
    np.testing.assert_allclose(
        theory.equilibrium_energies(network, x, y), oracle.sample_energies(network, x, y, z), rtol=1e-11
    )


@pytest.mark.parametrize("problem", CASES[::7] + SHAPES, ids=ids)
def test_weight_gradients_are_central_differences_of_the_equilibrium_energy(problem: Problem):
    """Breaks if the envelope theorem is applied with a wrong sign, scaling, precision or activity."""
    network, x, y = arrays_of(problem)
    gradients = theory.equilibrium_weight_gradients(network, x, y)
    rng = np.random.default_rng(0)
    for layer, gradient in enumerate(gradients):
        direction = rng.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)

        def energy(step: float, layer: int = layer, direction: np.ndarray = direction) -> float:
            weights = list(network.weights)
            weights[layer] = weights[layer] + step * direction
            return theory.equilibrium_energy(network.with_weights(weights), x, y)

        # fourth order: the truncation h⁴ and the rounding eps/h are both near 1e-12 of the energy
        h = 1e-3
        numeric = (8 * (energy(h) - energy(-h)) - (energy(2 * h) - energy(-2 * h))) / (12 * h)
        scale = max(np.linalg.norm(gradient), theory.equilibrium_energy(network, x, y))
        assert abs(numeric - np.sum(gradient * direction)) <= 1e-8 * scale


@pytest.mark.parametrize("problem", CASES[::5], ids=ids)
def test_weight_gradients_equal_the_local_rule_at_equilibrium(problem: Problem):
    """Breaks if the gradient is not the oracle's local learning rule at z*."""
    network, x, y = arrays_of(problem)
    local = oracle.weight_gradients(network, x, y, theory.equilibrium_activities(network, x, y))
    for ours, theirs in zip(theory.equilibrium_weight_gradients(network, x, y), local, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13 * np.abs(theirs).max())


@pytest.mark.parametrize("problem", CASES[::5], ids=ids)
def test_equilibrium_errors_are_the_prediction_errors_and_last_is_raw(problem: Problem):
    """Breaks if eps_L carries the precision, or a hidden error has the wrong sign."""
    network, x, y = arrays_of(problem)
    errors = theory.equilibrium_errors(network, x, y)
    z = theory.equilibrium_activities(network, x, y)
    A = theory.layer_maps(network)
    for e, above, below, W in zip(errors, [*z, y], [x, *z], A, strict=True):
        np.testing.assert_allclose(e, above - below @ W.T, atol=1e-12 * max(1, np.abs(above).max()))


@pytest.mark.parametrize("problem", CASES + SHAPES, ids=ids)
def test_energy_lies_between_its_bounds_and_below_the_feedforward_energy(problem: Problem):
    """Breaks if the extreme eigenvalues of S are swapped or the precision is lost (L3)."""
    network, x, y = arrays_of(problem)
    low, high = theory.energy_bounds(network, theory.loss(network, x, y))
    energy = theory.equilibrium_energy(network, x, y)
    feedforward = problem.output_precision * oracle.loss(network, x, y)
    assert low * (1 - 1e-12) <= energy <= high * (1 + 1e-12)
    assert high <= feedforward * (1 + 1e-12)
    eigenvalues = np.linalg.eigvalsh(theory.equilibrium_matrix(network))
    assert low * eigenvalues[-1] == pytest.approx(oracle.loss(network, x, y), rel=1e-11)
    assert high * eigenvalues[0] == pytest.approx(oracle.loss(network, x, y), rel=1e-11)


def test_energy_bounds_are_reached_by_eigenvectors():
    """Breaks if the bounds are loose: a residual along an eigenvector of S attains them."""
    problem = Problem(input_dim=3, width=6, depth=4, output_dim=3, batch=1, residual=True, parameterisation="ntp")
    network, x, _ = arrays_of(problem)
    _, vectors = np.linalg.eigh(theory.equilibrium_matrix(network))
    for column, end in ((-1, 0), (0, 1)):
        y = oracle.predict(network, x) + vectors[:, column]
        bound = theory.energy_bounds(network, oracle.loss(network, x, y))[end]
        assert theory.equilibrium_energy(network, x, y) == pytest.approx(bound, rel=1e-12)


def test_depth_two_scalar_network_by_hand():
    """Breaks if any factor is off: W = (2, 3), a = (1/2, 1/3), x = 1, y = 4, precision 2, with pencil and paper."""
    network = Network(
        weights=(np.array([[2.0]]), np.array([[3.0]])),
        scalings=(0.5, 1 / 3),
        skips=(0.0, 0.0),
        precision=2.0,
    )
    x, y = np.array([[1.0]]), np.array([[4.0]])
    # F = (z - 1)²/2 + (4 - z)²: z* = 3, F* = 2 + 1 = 3; S = 1/2 + 1 = 3/2, r = 3, r²/(2S) = 3
    assert theory.equilibrium_matrix(network)[0, 0] == pytest.approx(1.5, rel=1e-15)
    assert theory.equilibrium_activities(network, x, y)[0][0, 0] == pytest.approx(3.0, rel=1e-15)
    assert theory.equilibrium_energy(network, x, y) == pytest.approx(3.0, rel=1e-15)
    assert [e[0, 0] for e in theory.equilibrium_errors(network, x, y)] == pytest.approx([2.0, 1.0], rel=1e-15)
    # -a_1 eps_1 x = -1; -a_2 (lambda eps_2) z* = -(1/3)(2)(3) = -2
    gradients = theory.equilibrium_weight_gradients(network, x, y)
    assert [g[0, 0] for g in gradients] == pytest.approx([-1.0, -2.0], rel=1e-15)


def exact_energy(network: Network, x: np.ndarray, y: np.ndarray) -> Fraction:
    """r^T S^-1 r / 2 of one sample of a network of two layers, in rational arithmetic."""
    W1, W2 = ([[Fraction(v) for v in row] for row in w.tolist()] for w in network.weights)
    inputs, targets = ([Fraction(v) for v in row] for row in (x[0].tolist(), y[0].tolist()))
    hidden = [sum((w * v for w, v in zip(row, inputs, strict=True)), Fraction(0)) for row in W1]
    r = [t - sum(w * h for w, h in zip(row, hidden, strict=True)) for t, row in zip(targets, W2, strict=True)]
    S = [
        [sum((a * b for a, b in zip(p, q, strict=True)), Fraction(int(i == j))) for j, q in enumerate(W2)]
        for i, p in enumerate(W2)
    ]
    rows = [[*row, v] for row, v in zip(S, r, strict=True)]
    for i in range(len(rows)):  # S is positive definite, so no pivoting
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for k in range(len(rows)):
            if k != i:
                rows[k] = [v - rows[k][i] * p for v, p in zip(rows[k], rows[i], strict=True)]
    return sum((v * row[-1] for v, row in zip(r, rows, strict=True)), Fraction(0)) / 2


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e3, 1e6])
@pytest.mark.parametrize(("width", "output_dim"), [(4, 2), (2, 4)])
def test_energy_is_accurate_to_the_condition_of_its_factor(scale: float, width: int, output_dim: int):
    """Breaks if forming J J^T squares the condition number: exact rationals, singular M (K > N) and large weights."""
    problem = Problem(input_dim=2, width=width, depth=2, output_dim=output_dim, batch=1, parameterisation="sp")
    network, x, y = arrays_of(problem)
    network = network.with_weights((network.weights[0], scale * network.weights[1]))
    y = y + np.round(oracle.predict(network, x))
    # the residual is of order 1, so its own rounding is that of the prediction
    lost = 1 + np.linalg.norm(oracle.predict(network, x)) / np.linalg.norm(theory.residual(network, x, y))
    singular = np.linalg.svd(linear.factor(network), compute_uv=False)
    allowed = 64 * 2.0**-52 * singular[0] / singular[-1] * lost
    exact = float(exact_energy(network, x, y))
    assert abs(theory.equilibrium_energy(network, x, y) - exact) <= allowed * exact


def test_more_outputs_than_units_beside_huge_weights_are_refused():
    """Breaks if directions that rounding has buried get a number: S has eigenvalues 1 and 1e40."""
    problem = Problem(input_dim=2, width=2, depth=2, output_dim=4, batch=1, weight_scale=1e12, output_multiplier=1e-8)
    with pytest.raises(TheoryError, match="no more outputs than units"):
        theory.equilibrium_energy(*arrays_of(problem))


def test_float32_weights_are_taken_as_exact():
    """Breaks if arithmetic happens in float32: float32 weights and their float64 copies give the same bits."""
    problem = CASES[10].replace(dtype="float32")
    network, x, y = arrays_of(problem)
    assert theory.equilibrium_energy(network, x, y) == theory.equilibrium_energy(network.astype("float64"), x, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"activation": "tanh"}, "activation='tanh'.*needs activation='linear'"), ({"loss": "ce"}, "loss='ce'.*envelope")],
)
@pytest.mark.parametrize(
    "function", [theory.equilibrium_energy, theory.equilibrium_activities, theory.equilibrium_weight_gradients]
)
def test_what_the_closed_form_does_not_describe_is_refused(function, change, message):
    """Breaks if a nonlinear or cross-entropy network silently gets the linear answer, as it does in other libraries."""
    network, x, y = arrays_of(CASES[0].replace(**change))
    with pytest.raises(TheoryError, match=message):
        function(network, x, y)


def test_mismatched_arrays_and_overflow_are_refused():
    """Breaks if a wrong batch broadcasts, or an overflow comes back as nan."""
    network, x, y = arrays_of(CASES[0])
    with pytest.raises(TheoryError, match="one batch"):
        theory.equilibrium_energy(network, x, y[:1])
    huge = Problem(input_dim=2, width=3, depth=40, output_dim=2, batch=1, weight_scale=1e12)
    with pytest.raises(TheoryError, match="overflow"):
        theory.equilibrium_energy(huge.network(), huge.input(), huge.target())


def test_skip_between_layers_of_different_width_is_refused():
    """Breaks if a skip is broadcast between unequal widths."""
    network = Network(weights=(np.ones((2, 2)), np.ones((1, 2)), np.ones((1, 1))), scalings=(1,) * 3, skips=(0, 1, 0))
    with pytest.raises(TheoryError, match="a skip needs a square"):
        theory.equilibrium_energy(network, np.ones((1, 2)), np.ones((1, 1)))
