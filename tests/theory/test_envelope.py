"""The Moreau envelope: against the mse closed form, brute-force minimisation of the oracle's energy, and convexity."""

import itertools

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import TheoryError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem

CASES = [
    Problem(
        input_dim=3,
        width=width,
        depth=depth,
        output_dim=output_dim,
        batch=4,
        residual=residual,
        parameterisation=name,
        output_precision=precision,
        loss="ce",
        seed=11,
    )
    for name, residual, precision, depth, (width, output_dim) in itertools.product(
        ("sp", "mupc"), (False, True), (1.0, 3.0), (2, 4), ((5, 3), (2, 6), (1, 2))
    )
]
EXTREMES = [
    Problem(input_dim=3, width=4, depth=3, output_dim=3, batch=4, loss="ce", weight_law="zero"),
    Problem(input_dim=3, width=4, depth=3, output_dim=3, batch=4, loss="ce", weight_law="low-rank"),
    Problem(input_dim=3, width=4, depth=3, output_dim=3, batch=8, loss="ce", weight_scale=20.0, seed=2),
    Problem(input_dim=3, width=4, depth=3, output_dim=3, batch=8, loss="ce", weight_scale=1e-6),
]


@pytest.mark.parametrize("problem", CASES + EXTREMES, ids=Problem.line)
def test_energy_is_attained_at_a_stationary_point(problem: Problem):
    """Breaks if the K-dimensional problem is not the elimination of the hidden layers.

    The energy is convex, so the oracle's energy and gradient at the activities prove the minimum.
    """
    network, x, y = problem.network(), problem.input(), problem.target()
    answer = theory.solve_envelope(network, x, y)
    z = theory.envelope_activities(network, x, y)
    np.testing.assert_allclose(answer.energies, oracle.sample_energies(network, x, y, z), rtol=1e-11, atol=1e-14)
    scale = max(1.0, *(np.abs(a).max() for a in z)) * max(1.0, *(np.abs(w).max() for w in network.effective_weights()))
    for gradient in oracle.activity_gradients(network, x, y, z):
        assert np.abs(gradient).max() <= 1e-9 * scale
    assert np.all(answer.gap_bound <= 1e-10 * answer.energies + 1e-18 * problem.output_precision)


@pytest.mark.parametrize("problem", [CASES[0], CASES[4], CASES[14], CASES[20]], ids=Problem.line)
def test_energy_is_what_gradient_descent_on_activities_finds(problem: Problem):
    """Breaks if the envelope is not the minimum over z: brute force, sharing nothing with the formula."""
    network, x, y = problem.network(), problem.input(), problem.target()
    # softmax has curvature at most 1/2, below that of mse, whose Hessian therefore gives a safe step
    step = 1 / theory.largest_eigenvalue_bound(problem.replace(loss="mse").network())
    z = oracle.feedforward(network, x)
    speed = [np.zeros_like(a) for a in z]
    for _ in range(3000):
        look = [a + 0.95 * s for a, s in zip(z, speed, strict=True)]
        moved = [a - step * g for a, g in zip(look, oracle.activity_gradients(network, x, y, look), strict=True)]
        speed = [b - a for a, b in zip(z, moved, strict=True)]
        z = moved
    answer = theory.solve_envelope(network, x, y)
    np.testing.assert_allclose(answer.energies, oracle.sample_energies(network, x, y, z), rtol=1e-10)
    for ours, theirs in zip(theory.envelope_activities(network, x, y), z, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("problem", CASES, ids=Problem.line)
def test_squared_error_gives_the_closed_form(problem: Problem):
    """Breaks if the two roads to F* differ where both apply."""
    problem = problem.replace(loss="mse")
    network, x, y = problem.network(), problem.input(), problem.target()
    answer = theory.solve_envelope(network, x, y)
    np.testing.assert_allclose(answer.energies, theory.equilibrium_energies(network, x, y), rtol=1e-12)


@pytest.mark.parametrize("problem", CASES + EXTREMES[:2], ids=Problem.line)
def test_energy_lies_between_zero_and_the_feedforward_energy(problem: Problem):
    """Breaks if a sign in the envelope is wrong (L7)."""
    network, x, y = problem.network(), problem.input(), problem.target()
    energy = theory.solve_envelope(network, x, y).energy
    assert 0 <= energy <= problem.output_precision * oracle.loss(network, x, y) * (1 + 1e-13)


def test_zero_weights_leave_the_loss():
    """Breaks if a singular M is inverted: without weights F* is the loss of uniform probabilities, log K."""
    problem = EXTREMES[0]
    answer = theory.solve_envelope(problem.network(), problem.input(), problem.target())
    np.testing.assert_allclose(answer.energies, np.log(3), rtol=1e-15)
    assert not answer.shift.any()


def test_refusals():
    """Breaks if a nonlinear network, a target that is no distribution, or hopeless logits get a number."""
    problem = CASES[0]
    network, x, y = problem.network(), problem.input(), problem.target()
    with pytest.raises(TheoryError, match="activation='tanh'"):
        theory.solve_envelope(problem.replace(activation="tanh").network(), x, y)
    for bad in (2 * y, y - 1 / 3):
        with pytest.raises(TheoryError, match="probability distributions"):
            theory.solve_envelope(network, x, bad)
    huge = problem.replace(depth=4, parameterisation="sp", weight_scale=1e5)
    with pytest.raises(TheoryError, match="smaller weights"):
        theory.solve_envelope(huge.network(), huge.input(), huge.target())
