"""Learning curves of finite networks: against training loops in NumPy, and against the infinite-width curve."""

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import ProblemError, UsageError
from pcbench.experiments.power_law import exponent
from pcbench.experiments.scaling.learning_curves import measure_curves, toy_data, train
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.reference.compilation import compilations
from pcbench.theory.mean_field import learning_curve

SMALL = Problem(input_dim=5, width=7, depth=4, output_dim=2, batch=3, seed=5)


def flat(gradients):
    return np.concatenate([g.ravel() for g in gradients])


def equilibrium(network, x, y):
    """Energy and weight gradients at equilibrium: a closed form if linear, else 2 000 steps of inference."""
    if network.linear and network.loss == "mse":
        return theory.equilibrium_energy(network, x, y), theory.equilibrium_weight_gradients(network, x, y)
    z = oracle.infer(network, x, y, 2000, 0.3)
    assert max(np.abs(g).max() for g in oracle.activity_gradients(network, x, y, z)) < 1e-12
    return oracle.energy(network, x, y, z), oracle.weight_gradients(network, x, y, z)


def step(network, gradients, rate, moments, count):
    """One update of gradient descent, or of Adam as published where there are moments, changed in place."""
    if moments is not None:
        directions = []
        for i, g in enumerate(gradients):
            moments[i][0] = 0.9 * moments[i][0] + 0.1 * g
            moments[i][1] = 0.999 * moments[i][1] + 0.001 * g**2
            mean, square = moments[i][0] / (1 - 0.9**count), moments[i][1] / (1 - 0.999**count)
            directions.append(mean / (np.sqrt(square) + 1e-8))
        gradients = directions
    return network.with_weights([w - rate * g for w, g in zip(network.weights, gradients, strict=True)])


def train_by_hand(network, x, y, rate, updates, optimiser):
    """What `train` returns, from the oracle's backpropagation and the equilibrium, one update after the other."""
    bp = pc = network
    moments = [[[[0.0, 0.0] for _ in network.weights] for _ in range(2)], [None, None]][optimiser == "sgd"]
    rows = []
    for count in range(1, updates + 2):
        energy, gradients = equilibrium(pc, x, y)
        reference = flat(oracle.backprop_gradients(pc, x, y))
        g, size = flat(gradients), np.linalg.norm(reference)
        cosine = g @ reference / (np.linalg.norm(g) * size)
        trace_excess = (
            np.trace(theory.equilibrium_matrix(pc)) / pc.dims[-1] - 1 / pc.precision if network.linear else np.nan
        )
        rows.append(
            (
                oracle.loss(bp, x, y),
                oracle.loss(pc, x, y),
                energy,
                np.linalg.norm(g - reference) / size,
                cosine,
                trace_excess,
            )
        )
        bp = step(bp, oracle.backprop_gradients(bp, x, y), rate, moments[0], count)
        pc = step(pc, gradients, rate, moments[1], count)
    return np.array(rows).T


MEASURED = ("bp_losses", "pc_losses", "energies", "gradient_errors", "cosines", "trace_excesses")


@pytest.mark.parametrize(
    ("problem", "optimiser", "rate", "accuracy"),
    [
        (SMALL, "sgd", 1.5, 1e-11),
        (SMALL.replace(residual=True, output_precision=2.0, parameterisation="ntp"), "sgd", 0.1, 1e-11),
        (SMALL.replace(depth=2, output_multiplier=0.5), "adam", 0.02, 1e-9),
        (SMALL.replace(loss="ce"), "sgd", 1.5, 1e-9),
        (SMALL.replace(activation="tanh", residual=True), "adam", 0.02, 1e-7),
    ],
    ids=lambda value: value.line() if isinstance(value, Problem) else None,
)
def test_training_is_what_a_loop_in_numpy_does(problem, optimiser, rate, accuracy):
    """If this fails, an update, a measurement or the index of a measurement is wrong.

    Losses, energies and both gradients belong to the same weights, before the update of their index.
    """
    network, x, y = problem.network(), problem.input(), problem.target()
    curves = train(network, x, y, rate=rate, updates=6, optimiser=optimiser, tolerance=1e-18)
    expected = train_by_hand(network, x, y, rate, 6, optimiser)
    assert expected[1, -1] < 0.97 * expected[1, 0]  # it learns
    assert np.abs(expected[0] - expected[1]).max() > 1e3 * accuracy  # and the two trajectories differ
    for name, values in zip(MEASURED, expected, strict=True):
        np.testing.assert_allclose(getattr(curves, name), values, rtol=accuracy, atol=accuracy, err_msg=name)
    assert curves.converged.all()
    assert curves.residuals.max() < 1e-7


def test_unconverged_equilibria_are_reported():
    """If this fails, a curve of a solver that ran out of evaluations passes for one at equilibrium."""
    problem = SMALL.replace(activation="tanh")
    curves = train(problem.network(), problem.input(), problem.target(), rate=0.1, updates=2, max_evaluations=2)
    assert not curves.converged.any()
    assert (curves.residuals > 1e-6).all()


@pytest.mark.parametrize(
    ("problem", "optimiser", "rate"),
    [
        (SMALL.replace(output_multiplier=2.0), "sgd", 0.05 * 4 * 7),
        (SMALL.replace(residual=True), "adam", 0.05 / np.sqrt(7 * 4)),
        (SMALL.replace(parameterisation="ntp"), "sgd", 0.05),
    ],
    ids=lambda value: value.line() if isinstance(value, Problem) else None,
)
def test_rate_is_that_of_the_parameterisation(problem, optimiser, rate):
    """If this fails, training does not use the learning rate that transfers across widths: gamma^2 N, 1/sqrt(N L)."""
    x, y = problem.input(), problem.target()
    scaled = measure_curves(problem, x, y, base_rate=0.05, updates=3, optimiser=optimiser)
    plain = train(problem.network(), x, y, rate=rate, updates=3, optimiser=optimiser)
    np.testing.assert_allclose(scaled.pc_losses, plain.pc_losses, rtol=1e-13)
    np.testing.assert_allclose(scaled.bp_losses, plain.bp_losses, rtol=1e-13)


def test_new_values_of_equal_shapes_do_not_compile_again():
    """If this fails, a sweep over seeds and rates compiles a program for each."""
    train(SMALL.network(), SMALL.input(), SMALL.target(), rate=0.1, updates=3)
    before = compilations()
    for seed, rate in ((6, 0.2), (7, 0.3)):
        problem = SMALL.replace(seed=seed, output_precision=float(seed))
        train(problem.network(), problem.input(), problem.target(), rate=rate, updates=3, tolerance=1e-6)
    assert compilations() == before


def test_precision_of_the_network_is_kept():
    """If this fails, float32 networks are silently trained in float64, or the other way round."""
    double = train(SMALL.network(), SMALL.input(), SMALL.target(), rate=1.0, updates=3)
    single = train(SMALL.network().astype("float32"), SMALL.input(), SMALL.target(), rate=1.0, updates=3)
    assert double.energies.dtype == np.float64
    assert single.energies.dtype == np.float32
    np.testing.assert_allclose(single.energies, double.energies, rtol=1e-5)
    assert np.abs(single.energies - double.energies).max() > 1e-12


def test_widths_approach_the_mean_field_curve_together():
    """If this fails, PC and backpropagation do not share the infinite-width learning curve of the theory.

    Over widths of 16 to 256 single networks come closer as N^(-1/2), their initial output, and PC comes closer to
    backpropagation as 1/N, in its gradient all along the way.
    """
    x, y = toy_data(1, input_dim=6, batch=4)
    widths = np.array([16, 64, 256])
    limit = learning_curve(x, y, depth=3, base_rate=0.1, updates=30).losses
    assert limit[-1] < 0.4 * limit[0]
    rows = []
    for width in widths:
        problem = Problem(input_dim=6, width=int(width), depth=3, output_dim=1, batch=4)
        runs = [measure_curves(problem.replace(seed=seed), x, y, base_rate=0.1, updates=30) for seed in range(12)]
        rows.append(
            [
                np.sqrt(np.mean([(r.bp_losses - limit) ** 2 for r in runs])),
                np.sqrt(np.mean([(r.pc_losses - limit) ** 2 for r in runs])),
                np.sqrt(np.mean([(r.energies - limit) ** 2 for r in runs])),
                np.mean([np.abs(r.pc_losses - r.bp_losses).max() for r in runs]),
                np.mean([r.gradient_errors for r in runs]),
                np.mean([1 - r.cosines for r in runs]),
            ]
        )
    slopes = [exponent(widths, values)[0] for values in np.array(rows).T]
    assert slopes == pytest.approx([-0.5, -0.5, -0.5, -1.0, -1.0, -2.0], abs=0.3)


def test_toy_data():
    """If this fails, the toy task is not the published one, or its bits depend on something besides the seed."""
    x, y = toy_data(3)
    assert x.shape == (20, 40)
    assert y.shape == (20, 1)
    assert y[:10, 0].tolist() == [1.0] * 10
    assert y[10:, 0].tolist() == [-1.0] * 10
    np.testing.assert_array_equal(x, toy_data(3)[0])
    np.testing.assert_array_equal(toy_data(3, batch=10)[0], x[:10])
    assert np.abs(x - toy_data(4)[0]).max() > 1
    assert abs(x.mean()) < 4 / np.sqrt(800)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / 800)


def test_refusals():
    """If this fails, impossible settings reach JAX and raise something nobody understands."""
    network, x, y = SMALL.network(), SMALL.input(), SMALL.target()
    with pytest.raises(UsageError, match="needed one of sgd, adam"):
        train(network, x, y, rate=0.1, updates=2, optimiser="lion")
    with pytest.raises(ProblemError, match="needed 'sgd' or 'adam'"):
        measure_curves(SMALL, x, y, base_rate=0.1, updates=2, optimiser="lion")
    for bad in ((x[:, 1:], y), (x, y[1:]), (x[0], y[0])):
        with pytest.raises(UsageError, match="needed \\(batch, 5\\) and \\(batch, 2\\)"):
            train(network, *bad, rate=0.1, updates=2)
    for change in ({"rate": 0.0}, {"rate": np.inf}, {"updates": -1}):
        with pytest.raises(UsageError, match="a positive rate"):
            train(network, x, y, **{"rate": 0.1, "updates": 2, **change})
