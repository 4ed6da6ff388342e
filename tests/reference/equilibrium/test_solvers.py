"""The equilibrium solvers of the reference, against hand-derived equilibria and stationarity measured independently."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcbench.adapters.reference import implementation
from pcbench.errors import UsageError
from pcbench.problem.mlp import Problem
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.equilibrium.curvature import smallest_curvature
from pcbench.reference.equilibrium.error_space import energy_and_gradient
from pcbench.reference.equilibrium.outcome import EquilibriumState, Outcome
from pcbench.reference.network import PCN

REFERENCE = implementation()
LINEAR = Problem(input_dim=3, width=6, depth=5, output_dim=2, batch=4, residual=True)
TANH = Problem(input_dim=3, width=8, depth=4, output_dim=2, batch=4, activation="tanh", residual=True)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def solve(problem: Problem, **settings) -> EquilibriumState:
    module = equilibrium_linear if problem.linear else equilibrium_nonlinear
    return module.solve(PCN.from_network(problem.network()), problem.input(), problem.target(), **settings)


def gradient(problem: Problem, state: EquilibriumState) -> float:
    """The largest entry of the activity gradient at the returned activities."""
    activities = list(np.asarray(state.activities))
    found = REFERENCE.activity_gradients(problem.network(), problem.input(), problem.target(), activities)
    return max(float(np.abs(g).max()) for g in found)


def test_one_hidden_unit_by_hand():
    """F = (z - ax)^2/2 + lambda (y - bz)^2/2 has its minimum at (ax + lambda b y)/(1 + lambda b^2)."""
    problem = Problem(input_dim=1, width=1, depth=2, output_dim=1, batch=1, parameterisation="sp", output_precision=0.7)
    (a,), (b,) = (w[0] for w in problem.network().weights)
    x, y = problem.input()[0, 0], problem.target()[0, 0]
    expected = (a * x + 0.7 * b * y) / (1 + 0.7 * b**2)
    state = solve(problem)
    assert float(state.activities[0, 0, 0]) == pytest.approx(expected, rel=1e-14)
    assert state.energy == pytest.approx(0.5 * 0.7 * (y - a * b * x) ** 2 / (1 + 0.7 * b**2), rel=1e-13)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"parameterisation": "ntp", "depth": 24, "output_precision": 3.0},
        {"loss": "ce"},
        {"loss": "ce", "data_scale": 50.0, "parameterisation": "ntp"},
        {"depth": 2},
        {"width": 1},
        {"weight_law": "zero"},
        {"weight_law": "low-rank", "residual": False},
    ],
)
def test_linear_equilibria_are_stationary(change):
    """The closed form would not be the equilibrium of the energy it belongs to."""
    problem = LINEAR.replace(**change)
    state = solve(problem)
    scale = max(1.0, float(np.abs(state.activities).max()), float(np.abs(problem.target()).max()))
    assert gradient(problem, state) < 1e-12 * scale * max(1.0, problem.output_precision)
    assert state.outcome is Outcome.CONVERGED
    assert state.certified


def test_linear_solver_in_float32():
    """float32 networks would be refused, computed in float64, or called unconverged at their own rounding."""
    problem = LINEAR.replace(dtype="float32", depth=9)
    state = solve(problem)
    assert state.activities.dtype == np.float32
    assert state.outcome is Outcome.CONVERGED
    assert gradient(problem, state) < 1e-5


def test_linear_solver_refuses_what_it_does_not_describe():
    """A linear closed form would be returned for a tanh network."""
    with pytest.raises(UsageError, match="tanh"):
        equilibrium_linear.solve(PCN.from_network(TANH.network()), TANH.input(), TANH.target())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"activation": "gelu", "depth": 12},
        {"loss": "ce", "placement": "after-weight", "activation": "silu"},
        {"depth": 2, "width": 1, "batch": 1, "input_dim": 1, "output_dim": 1},
        {"parameterisation": "ntp", "output_precision": 4.0},
    ],
)
def test_nonlinear_equilibria_are_stationary_and_below_the_loss(change):
    """The solver would stop somewhere else than at an equilibrium, or climb."""
    problem = TANH.replace(**change)
    state = solve(problem, tolerance=1e-22)
    assert state.outcome in (Outcome.CONVERGED, Outcome.NOT_CERTIFIED)
    assert gradient(problem, state) < 1e-8
    feedforward = list(REFERENCE.infer(problem.network(), problem.input(), problem.target(), 0, 0.0).activities)
    assert state.energy <= REFERENCE.energy(problem.network(), problem.input(), problem.target(), feedforward)


def test_the_certificate_bounds_the_gap_to_the_equilibrium():
    """A certificate below the true distance would let a limit law be judged away from equilibrium."""
    best = solve(TANH, tolerance=1e-28)
    for tolerance in (1e-2, 1e-4, 1e-8):
        state = solve(TANH, tolerance=tolerance)
        assert state.certified
        gap = state.energy - best.energy
        assert gap <= np.mean(state.certificate) + 1e-14
        assert gap >= -1e-14


def test_linear_network_through_the_nonlinear_solver_meets_the_closed_form():
    """The two solvers share no formula for the equilibrium: one of them would be wrong."""
    pcn = PCN.from_network(LINEAR.network())
    direct = equilibrium_linear.solve(pcn, LINEAR.input(), LINEAR.target())
    general = equilibrium_nonlinear.solve(pcn, LINEAR.input(), LINEAR.target(), tolerance=1e-26)
    np.testing.assert_allclose(general.activities, direct.activities, rtol=0, atol=1e-11)
    assert general.curvature.min() == pytest.approx(1.0, abs=1e-8)


def test_curvature_is_the_smallest_eigenvalue():
    """Certificates would rest on a number that is not the curvature: against the dense Hessian, indefinite ones too."""
    # Weights and targets this large make the curvature term exceed 1, so that some sample is indefinite.
    problem = TANH.replace(width=2, depth=3, parameterisation="sp", weight_scale=2.0, data_scale=3.0, batch=12)
    pcn = jax.tree.map(jax.numpy.asarray, PCN.from_network(problem.network()))
    x, y = problem.input(), problem.target()
    errors = np.stack(problem.activities())
    estimates, _ = smallest_curvature(pcn, x, y, errors)

    def single(e, x, y):
        return energy_and_gradient(pcn, x[None], y[None], e.reshape(2, 1, 2))[0][0]

    flat = np.moveaxis(errors, 1, 0).reshape(problem.batch, 4)
    exact = np.linalg.eigvalsh(jax.jit(jax.vmap(jax.hessian(single)))(flat, x, y))[:, 0]
    assert min(exact) < 0 < max(exact), "the problem shows both signs"
    np.testing.assert_allclose(estimates, exact, rtol=1e-6, atol=1e-6)


def test_kinks_are_never_certified():
    """A gradient norm at a kink of relu would pass for a certificate."""
    state = solve(TANH.replace(activation="relu"), tolerance=1e-10)
    assert not state.certified
    assert "kinks" in state.reason
    assert np.isinf(state.certificate).all()


def test_running_out_of_evaluations_is_a_value():
    """A user would get an unconverged state that looks like an equilibrium."""
    state = solve(TANH, tolerance=1e-20, max_evaluations=3)
    assert state.outcome is Outcome.BUDGET
    assert state.evaluations == 3
    assert "max_evaluations" in state.outcome.value
    assert np.isfinite(state.activities).all()


@pytest.mark.parametrize("problem", [LINEAR, TANH], ids=["linear", "tanh"])
def test_nan_weights_are_a_value(problem):
    """A NaN in the weights would raise inside a compiled loop, hang it, or be certified."""
    network = problem.network()
    network.weights[1][0, 0] = np.nan
    module = equilibrium_linear if problem.linear else equilibrium_nonlinear
    state = module.solve(PCN.from_network(network), problem.input(), problem.target())
    assert state.outcome is Outcome.NOT_FINITE
    assert not state.certified
    assert REFERENCE.equilibrium(network, problem.input(), problem.target()).outcome.startswith("the energy")


def test_samples_do_not_see_each_other():
    """One hard sample would change, or stop early, the equilibrium of the others."""
    x, y = TANH.input(), TANH.target()
    y[0] *= 30
    pcn = PCN.from_network(TANH.network())
    together = equilibrium_nonlinear.solve(pcn, x, y, tolerance=1e-26).activities
    y[0] *= -1
    other = equilibrium_nonlinear.solve(pcn, x, y, tolerance=1e-26).activities
    np.testing.assert_allclose(together[:, 1:], other[:, 1:], rtol=0, atol=1e-11)


def test_solver_settings_do_not_recompile():
    """Every tolerance would cost a compilation."""
    solve(TANH)
    before = REFERENCE.compilations()
    solve(TANH.replace(seed=5), tolerance=1e-5, max_evaluations=50)
    assert REFERENCE.compilations() == before


def test_lbfgs_is_allowed_what_the_start_allows():
    """If this fails, how exact an equilibrium is depends on where the solver happens to be, not on the loss."""
    goal = np.array([[[3.0, -4.0]], [[1.0, 2.0]]])  # (L - 1, batch, N): the minimum of a parabola

    def evaluate(errors):
        return 0.5 * jnp.sum((errors - goal) ** 2, (0, 2)) + 1.0, errors - goal

    start = jnp.zeros(goal.shape)
    final = equilibrium_nonlinear.lbfgs(evaluate, start, lambda energy, _: 1e-3 * energy, jnp.asarray(20))
    np.testing.assert_array_equal(final.allowed, [1e-3 * 16.0])
    np.testing.assert_allclose(final.errors, goal)
    assert int(final.evaluations) == 2  # at the start, and where the first step ends: the parabola is round
