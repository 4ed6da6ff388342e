"""Inference to equilibrium by every algorithm: closed forms of linear networks, laws of convergence, accounts."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest

from pcbench import theory
from pcbench.adapters.numpy import NumpyPCN
from pcbench.errors import UsageError
from pcbench.experiments.inference.algorithms import (
    ALGORITHMS,
    InferenceOutcome,
    InferenceResult,
    evaluation_costs,
    infer_to_equilibrium,
)
from pcbench.experiments.inference.spaces import make_activity_space, make_error_space
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.reference.compilation import compilations
from pcbench.reference.network import PCN

LINEAR = Problem(input_dim=3, width=8, depth=5, output_dim=2, batch=3, residual=True)
TANH = LINEAR.replace(activation="tanh", depth=4)
ORACLE = NumpyPCN()
EXACT = [name for name in ALGORITHMS if name != "adam"]  # a constant step of Adam circles the equilibrium


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def condition(network: Network) -> float:
    """The condition number of the activity Hessian of a linear network."""
    low, high = theory.extreme_eigenvalues(network)
    return high / low


def settings_of(network: Network, algorithm: str) -> dict[str, Any]:
    """Step sizes that are right for linear networks, and cautious ones for others."""
    twin = Network(weights=network.weights, scalings=network.scalings, skips=network.skips)
    low, high = theory.extreme_eigenvalues(twin)
    root = math.sqrt(high / low)
    top = 1 + float(np.linalg.eigvalsh(theory.equilibrium_matrix(twin))[-1])
    return {
        "gradient-descent": {"step_size": 2 / (low + high)},
        "heavy-ball": {"step_size": 4 / (low**0.5 + high**0.5) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2},
        "nesterov": {"step_size": 1 / high},
        "adam": {"step_size": 1e-3},
        "error-gradient-descent": {"step_size": 2 / (1 + top)},
    }.get(algorithm, {})


def run(problem: Problem, algorithm: str, **options) -> InferenceResult:
    network = problem.network()
    options = {**settings_of(network, algorithm), **options}
    return infer_to_equilibrium(PCN.from_network(network), problem.input(), problem.target(), algorithm, **options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_reaches_the_closed_form_of_a_linear_network(algorithm):
    """If this fails, an algorithm stops elsewhere than at the equilibrium, or its certificate bounds nothing."""
    network, x, y = LINEAR.network(), LINEAR.input(), LINEAR.target()
    tolerance = 1e-5 if algorithm == "adam" else 1e-16
    result = run(LINEAR, algorithm, tolerances=(tolerance,), max_evaluations=20_000)
    assert result.outcome is InferenceOutcome.CONVERGED
    assert np.all(result.certificate <= 4 * tolerance * result.loss)
    gap = result.energy - theory.equilibrium_energies(network, x, y)
    assert np.all(gap >= -1e-14)
    assert np.all(gap <= result.certificate + 1e-14)
    # F - F* = (z - z*)^T H (z - z*)/2 and the certificate bounds it.
    reach = math.sqrt(2 * float(result.certificate.max()) / theory.extreme_eigenvalues(network)[0])
    expected = np.stack(theory.equilibrium_activities(network, x, y))
    np.testing.assert_allclose(result.activities, expected, rtol=0, atol=reach + 1e-13)


@pytest.mark.parametrize("algorithm", EXACT)
def test_every_algorithm_finds_a_stationary_point_of_a_nonlinear_network(algorithm):
    """If this fails, an algorithm calls a point an equilibrium at which inference would go on."""
    result = run(TANH, algorithm, tolerances=(1e-18,), max_evaluations=20_000)
    assert result.outcome is InferenceOutcome.CONVERGED
    activities = list(np.asarray(result.activities))
    gradients = ORACLE.activity_gradients(TANH.network(), TANH.input(), TANH.target(), activities)
    assert max(float(np.abs(g).max()) for g in gradients) < 1e-7
    assert np.all(result.energy < result.loss)


@pytest.mark.parametrize("change", [{}, {"loss": "ce", "parameterisation": "ntp"}, {"placement": "after-weight"}])
def test_both_spaces_report_the_certificate_of_the_theory(change):
    """If this fails, algorithms in the two spaces stop by different rules."""
    problem = TANH.replace(**change)
    network, x, y, z = problem.network(), problem.input(), problem.target(), problem.activities()
    expected = 0.5 * sum(np.sum(g**2, axis=1) for g in theory.error_gradient(network, x, y, z))
    pcn = PCN.from_network(network)

    def certificates(network, x, y, z):
        errors = z - network.hidden_predictions(network.bottom(x), z)
        for make, point in ((make_activity_space, z), (make_error_space, errors)):
            space = make(network, x, y)
            yield space.certificate(point, space.energy_and_gradient(point)[1]), space.activities(point)

    for certificate, activities in jax.jit(lambda *arrays: list(certificates(*arrays)))(pcn, x, y, np.stack(z)):
        np.testing.assert_allclose(certificate, expected, rtol=1e-11)
        np.testing.assert_allclose(activities, np.stack(z), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("depth", "outputs"), [(5, 2), (40, 3)])
@pytest.mark.parametrize("parameterisation", ["mupc", "ntp"])
def test_conjugate_gradients_on_errors_end_in_one_step_more_than_outputs(depth, outputs, parameterisation):
    """If this fails, the error-space Hessian is not the identity and K further eigenvalues, or CG is not CG."""
    problem = LINEAR.replace(depth=depth, output_dim=outputs, parameterisation=parameterisation)
    result = run(problem, "error-conjugate-gradients", tolerances=(1e-20,))
    assert result.outcome is InferenceOutcome.CONVERGED
    assert 1 <= result.passages[0].steps <= outputs + 1


def decades(result: InferenceResult) -> tuple[float, int]:
    """ln of the ratio of the two tolerances, and the steps between them."""
    first, second = result.passages
    return math.log(first.tolerance / second.tolerance), second.steps - first.steps


@pytest.mark.parametrize("depth", [5, 8])
def test_gradient_descent_contracts_by_its_law(depth):
    """If this fails, gradient descent is slower or faster than (kappa - 1)/(kappa + 1) a step, at the best step."""
    problem = LINEAR.replace(depth=depth)
    factor = theory.contraction(problem.network())
    nats, steps = decades(run(problem, "gradient-descent", tolerances=(1e-10, 1e-20)))
    assert steps == pytest.approx(nats / (2 * math.log(1 / factor)), rel=0.1)


@pytest.mark.parametrize("depth", [5, 8])
def test_the_heavy_ball_contracts_by_the_root_of_kappa(depth):
    """If this fails, momentum buys something else than (sqrt(kappa) - 1)/(sqrt(kappa) + 1) a step."""
    problem = LINEAR.replace(depth=depth)
    root = math.sqrt(condition(problem.network()))
    nats, steps = decades(run(problem, "heavy-ball", tolerances=(1e-8, 1e-22)))
    assert steps == pytest.approx(nats / (2 * math.log((root + 1) / (root - 1))), rel=0.15)


def test_conjugate_gradients_on_activities_beat_their_bound():
    """If this fails, conjugate gradients lose their conjugacy: the bound is that of Chebyshev polynomials."""
    network = LINEAR.network()
    root = math.sqrt(condition(network))
    top = float(np.linalg.eigvalsh(theory.equilibrium_matrix(network))[-1])
    passage = run(LINEAR, "conjugate-gradients", tolerances=(1e-16,)).passages[0]
    # F - F* falls below 4 q^2t of the loss, q = (root - 1)/(root + 1); the certificate is at most lambda_max(S) of it.
    bound = math.log(4 * top / 1e-16) / (2 * math.log((root + 1) / (root - 1)))
    assert passage.reached
    assert passage.steps <= bound


def test_the_stable_step_size_is_sharp():
    """If this fails, divergence is not reported, or reported of an inference that converges slowly."""
    threshold = theory.step_size_threshold(LINEAR.network())
    below = run(LINEAR, "gradient-descent", step_size=0.98 * threshold, tolerances=(1e-6,), max_evaluations=20_000)
    assert below.outcome is InferenceOutcome.CONVERGED
    above = run(LINEAR, "gradient-descent", step_size=1.02 * threshold, tolerances=(1e-6,), max_evaluations=20_000)
    assert above.outcome is InferenceOutcome.DIVERGED
    assert not above.passages[0].reached
    assert above.passages[0].evaluations < 20_000
    assert "step size" in above.outcome.value


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_is_an_outcome(algorithm):
    """If this fails, one NaN raises inside a compiled loop, runs to the budget, or counts as converged."""
    network = LINEAR.network()
    settings = settings_of(network, algorithm)
    weights = [w.copy() for w in network.weights]
    weights[2][0, 0] = np.nan
    pcn = PCN.from_network(network.with_weights(weights))
    result = infer_to_equilibrium(pcn, LINEAR.input(), LINEAR.target(), algorithm, **settings)
    assert result.outcome is InferenceOutcome.DIVERGED
    assert not result.passages[0].reached


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_budget_is_kept(algorithm):
    """If this fails, an unconverged state looks like an equilibrium, or spends what nobody gave it."""
    result = run(TANH, algorithm, tolerances=(1e-2, 1e-22), max_evaluations=7)
    assert result.outcome is InferenceOutcome.BUDGET
    assert not result.passages[-1].reached
    one_step = {"error-newton": 100, "conjugate-gradients": 3, "error-conjugate-gradients": 3}.get(algorithm, 1)
    assert 7 <= result.passages[-1].evaluations < 7 + one_step
    assert np.isfinite(result.activities).all()


def test_an_equilibrium_at_the_start_takes_no_step():
    """If this fails, inference moves away from an equilibrium, or divides by its vanishing gradient."""
    problem = LINEAR.replace(weight_law="zero")
    for algorithm in ("gradient-descent", "conjugate-gradients", "error-newton"):
        result = infer_to_equilibrium(
            PCN.from_network(problem.network()), problem.input(), problem.target(), algorithm, step_size=0.1
        )
        assert result.outcome is InferenceOutcome.CONVERGED
        assert result.passages[0].steps == 0
        assert not np.asarray(result.activities).any()


def test_costs_are_counted_multiplications():
    """If this fails, costs are in no known unit: D=3, N=8, L=5, K=2 by hand, and the limits for wide networks."""
    # Hidden layers 3 * 64, output 16: a pass is 208 multiplications, a BP gradient 3 * 208 + 2 * 3 * 8 = 672.
    gradient, check = evaluation_costs(PCN.from_network(LINEAR.network()))
    assert gradient == pytest.approx(416 / 672, rel=1e-12)
    assert check == pytest.approx(192 / 672, rel=1e-12)
    wide = PCN.from_network(LINEAR.replace(width=300, output_dim=1, input_dim=1, depth=12).network())
    assert evaluation_costs(wide) == pytest.approx((2 / 3, 1 / 3), rel=1e-2)


def test_evaluations_are_those_of_the_algorithm():
    """If this fails, an algorithm hides work: 1 gradient a step, 2 for a Hessian product unless F is quadratic."""
    for problem, algorithm, each in (
        (LINEAR, "gradient-descent", 1),
        (LINEAR, "conjugate-gradients", 1),
        (TANH, "conjugate-gradients", 3),
    ):
        passage = run(problem, algorithm, tolerances=(1e-18,)).passages[0]
        assert passage.evaluations == 1 + each * passage.steps
        costs = evaluation_costs(PCN.from_network(problem.network()))
        assert passage.cost == pytest.approx(passage.evaluations * costs[0])
        assert passage.check_cost == pytest.approx(passage.checks * costs[1])
        assert 0 < passage.checks <= passage.steps
    in_errors = run(LINEAR, "error-conjugate-gradients", tolerances=(1e-16,)).passages[0]
    assert in_errors.checks == 0


def test_looser_tolerances_are_passed_earlier_and_in_any_order():
    """If this fails, the work to a tolerance depends on which others were asked for."""
    both = run(LINEAR, "heavy-ball", tolerances=(1e-18, 1e-4)).passages
    alone = [run(LINEAR, "heavy-ball", tolerances=(t, t)).passages[0].steps for t in (1e-4, 1e-18)]
    assert [p.tolerance for p in both] == [1e-4, 1e-18]
    assert [p.steps for p in both] == alone
    assert alone[0] < alone[1]


def test_checking_rarely_changes_only_the_count_of_checks():
    """If this fails, looking at the certificate disturbs inference, or `check_every` is ignored."""
    often = run(LINEAR, "heavy-ball", tolerances=(1e-18, 1e-4)).passages[1]
    rarely = run(LINEAR, "heavy-ball", tolerances=(1e-18, 1e-4), check_every=25).passages[1]
    assert rarely.steps % 25 == 0
    assert often.steps <= rarely.steps < often.steps + 25
    assert rarely.checks == rarely.steps // 25


@pytest.mark.parametrize("algorithm", ["conjugate-gradients", "error-newton", "nesterov"])
def test_samples_do_not_see_each_other(algorithm):
    """If this fails, a hard sample changes the equilibrium of an easy one."""
    x, y = TANH.input(), TANH.target()
    y[0] *= 30
    pcn, settings = PCN.from_network(TANH.network()), settings_of(TANH.network(), algorithm)
    options = {**settings, "tolerances": (1e-24,), "max_evaluations": 20_000}
    together = np.asarray(infer_to_equilibrium(pcn, x, y, algorithm, **options).activities)
    y[0] *= -1
    other = np.asarray(infer_to_equilibrium(pcn, x, y, algorithm, **options).activities)
    np.testing.assert_allclose(together[:, 1:], other[:, 1:], rtol=0, atol=1e-9)
    assert np.abs(together[:, 0] - other[:, 0]).max() > 1e-2


@pytest.mark.parametrize("algorithm", ["error-newton", "error-conjugate-gradients", "error-lbfgs"])
def test_indefinite_hessians_do_not_send_the_energy_up(algorithm):
    """If this fails, negative curvature makes an algorithm climb: weights and targets so large that the Hessian of
    some sample is indefinite."""
    problem = TANH.replace(weight_scale=4.0, data_scale=10.0, parameterisation="sp", batch=16)
    result = run(problem, algorithm, tolerances=(1e-8,), max_evaluations=2_000)
    assert result.outcome is InferenceOutcome.CONVERGED
    assert np.all(result.energy <= result.loss)


def test_single_precision_stays_single():
    """If this fails, float32 networks are computed in float64 or never converge."""
    for algorithm in ("gradient-descent", "conjugate-gradients", "error-newton"):
        result = run(LINEAR.replace(dtype="float32"), algorithm, tolerances=(1e-8,))
        assert result.activities.dtype == np.float32
        assert result.outcome is InferenceOutcome.CONVERGED


def test_new_values_do_not_recompile():
    """If this fails, every step size, tolerance or network costs a compilation."""
    for algorithm in ALGORITHMS:
        run(LINEAR, algorithm, tolerances=(1e-3,), max_evaluations=50)
    before = compilations()
    for algorithm in ALGORITHMS:
        run(LINEAR.replace(seed=4), algorithm, tolerances=(1e-2,), max_evaluations=30, check_every=2)
    assert compilations() == before


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("newton", {}, "error-newton"),
        ("heavy-ball", {}, "step_size"),
        ("error-newton", {"tolerances": ()}, "tolerances"),
        ("error-newton", {"tolerances": (0.0,)}, "positive"),
        ("error-newton", {"max_evaluations": 0}, "at least 1"),
    ],
)
def test_refusals(algorithm, options, message):
    """If this fails, a misspelt algorithm or a missing step size gives numbers instead of an explanation."""
    with pytest.raises(UsageError, match=message):
        infer_to_equilibrium(PCN.from_network(LINEAR.network()), LINEAR.input(), LINEAR.target(), algorithm, **options)
