"""The infinite-width learning curve: order parameters of two layers, exact special cases, and wide networks."""

import functools
import itertools

import numpy as np
import pytest

from pcbench.errors import TheoryError
from pcbench.experiments.power_law import exponent
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.parameterisation import learning_rate
from pcbench.theory.mean_field import learning_curve

NETWORKS = 32
CHAINS = list(itertools.product((2, 3, 4, 6), (False, True)))


def data(batch, input_dim, output_dim, seed=0):
    drawn = np.random.default_rng(seed)
    return drawn.standard_normal((batch, input_dim)), drawn.standard_normal((batch, output_dim))


def two_layers(x, y, gamma, base_rate, updates):
    """Outputs and kernels from the overlaps C = W'W/N, m = W'v/N, q = v'v/N, which close exactly at infinite width.

    W (N, D) changes by c v e' and v (N, K) by c W e, with e = x'(y - f)/sqrt(D), (D, K), and c the rate over the batch.
    """
    (batch, dim), outputs = x.shape, y.shape[1]
    C, m, q, c = np.eye(dim), np.zeros((dim, outputs)), np.eye(outputs), base_rate * gamma / batch
    history = []
    for _ in range(updates + 1):
        f = x @ m / (gamma * np.sqrt(dim))
        history.append((f, x @ C @ x.T / dim, q))
        e = x.T @ (y - f) / np.sqrt(dim)
        C, m, q = (
            C + c * (m @ e.T + e @ m.T) + c**2 * e @ q @ e.T,
            m + c * (C @ e + e @ q) + c**2 * e @ m.T @ e,
            q + c * (m.T @ e + e.T @ m) + c**2 * e.T @ C @ e,
        )
    return tuple(np.array(part) for part in zip(*history, strict=True))


@pytest.mark.parametrize(
    ("shape", "gamma", "rate"),
    [((3, 5, 1), 1.0, 0.3), ((3, 5, 2), 0.5, 0.3), ((6, 4, 3), 2.0, 0.2), ((5, 5, 1), 3.0, 0.4), ((1, 1, 1), 1.0, 0.5)],
)
def test_two_layers_close_in_three_overlaps(shape, gamma, rate):
    """If this fails, the mean-field theory is wrong where a finite system of order parameters is exact.

    Finite steps, several outputs, more samples than dimensions, feature and gradient kernels included.
    """
    x, y = data(*shape)
    curve = learning_curve(x, y, depth=2, base_rate=rate, updates=15, output_multiplier=gamma)
    outputs, features, gradients = two_layers(x, y, gamma, rate, 15)
    assert np.abs(outputs[-1]).max() > 0.1 * np.abs(y).max()
    np.testing.assert_allclose(curve.outputs, outputs, rtol=0, atol=1e-13)
    np.testing.assert_allclose(curve.feature_kernels[:, 0], features, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(curve.gradient_kernels[:, 0], gradients, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(curve.losses, ((y - outputs) ** 2).sum(axis=2).mean(axis=1) / 2, rtol=1e-12)


def initial_tangent_kernel(depth, residual):
    """The tangent kernel at initialisation over x x'/D: a sum over layers of gradient kernel times feature kernel."""
    if not residual:
        return float(depth)
    growth = 1 + 1 / depth
    return 2 * growth ** (depth - 2) + (depth - 2) / depth * growth ** max(depth - 3, 0)


@pytest.mark.parametrize(("depth", "residual"), CHAINS)
def test_first_update_is_that_of_the_tangent_kernel(depth, residual):
    """If this fails, a layer's share of the first update, or a power of the depth, is wrong.

    At initialisation gradients and activities are uncorrelated, so the first change of the output is linear in the
    rate, for any rate: base_rate/P times the tangent kernel times the target.
    """
    x, y = data(4, 6, 2)
    curve = learning_curve(x, y, depth=depth, base_rate=0.7, updates=1, output_multiplier=1.7, residual=residual)
    expected = 0.7 / 4 * initial_tangent_kernel(depth, residual) * (x @ x.T / 6) @ y
    np.testing.assert_allclose(curve.outputs[1], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(curve.outputs[0], np.zeros((4, 2)))


@pytest.mark.parametrize(("depth", "residual"), CHAINS)
def test_small_output_multiplier_is_the_lazy_limit(depth, residual):
    """If this fails, the kernels move where they must not: at gamma -> 0 training is linear regression.

    The error is then exactly (I - rate/P * kernel)^t y, up to the square of gamma.
    """
    x, y = data(4, 6, 1)
    curve = learning_curve(x, y, depth=depth, base_rate=0.1, updates=20, output_multiplier=1e-5, residual=residual)
    change = np.eye(4) - 0.1 / 4 * initial_tangent_kernel(depth, residual) * x @ x.T / 6
    expected = np.array([y - np.linalg.matrix_power(change, t) @ y for t in range(21)])
    np.testing.assert_allclose(curve.outputs, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("depth", "residual"), CHAINS)
def test_every_layer_reads_the_same_output(depth, residual):
    """If this fails, a response is missing: activity times gradient of any hidden layer is the output (linear nets)."""
    x, y = data(3, 4, 2)
    curve = learning_curve(x, y, depth=depth, base_rate=0.15, updates=25, output_multiplier=2.0, residual=residual)
    assert np.abs(curve.feature_kernels[-1] - curve.feature_kernels[0]).max() > 0.1
    assert curve.residual < 1e-12


@pytest.mark.parametrize("residual", [False, True])
def test_scale_of_the_target_and_repetition_of_samples(residual):
    """If this fails, gamma or the mean over the batch enters wrongly: only their product with the target matters."""
    x, y = data(3, 5, 2)
    settings = {"depth": 4, "base_rate": 0.2, "updates": 12, "residual": residual}
    curve = learning_curve(x, y, output_multiplier=1.5, **settings)
    scaled = learning_curve(x, 2 * y, output_multiplier=0.75, **settings)
    np.testing.assert_allclose(scaled.outputs, 2 * curve.outputs, rtol=1e-11, atol=1e-13)
    twice = learning_curve(np.vstack([x, x]), np.vstack([y, y]), output_multiplier=1.5, **settings)
    np.testing.assert_allclose(twice.losses, curve.losses, rtol=1e-11)
    np.testing.assert_allclose(twice.outputs[:, :3], curve.outputs, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(twice.feature_kernels[:, :, :3, 3:], curve.feature_kernels, rtol=1e-11, atol=1e-13)


@functools.cache
def train_networks(width, depth, residual, count, updates=6, base_rate=0.2):
    """Outputs of `count` networks of finite width under gradient descent with the oracle's backpropagation."""
    x, y = data(3, 4, 2, seed=3)
    rate = learning_rate("mupc", base_rate, width=width, depth=depth, residual=residual, output_multiplier=1.5)
    outputs = []
    for seed in range(count):
        network = Problem(
            input_dim=4,
            width=width,
            depth=depth,
            output_dim=2,
            batch=3,
            residual=residual,
            output_multiplier=1.5,
            seed=seed,
        ).network()
        run = [oracle.predict(network, x)]
        for _ in range(updates):
            gradients = oracle.backprop_gradients(network, x, y)
            network = network.with_weights([w - rate * g for w, g in zip(network.weights, gradients, strict=True)])
            run.append(oracle.predict(network, x))
        outputs.append(run)
    return np.array(outputs), learning_curve(
        x, y, depth=depth, base_rate=base_rate, updates=updates, output_multiplier=1.5, residual=residual
    )


@pytest.mark.parametrize(("depth", "residual"), [(3, False), (4, False), (4, True)])
def test_wide_networks_follow_the_curve(depth, residual):
    """If this fails, the theory of three layers or more is not the limit of finite networks.

    The mean of 32 networks of width 256 is within 5 standard errors everywhere, which are at most 5 % of the outputs.
    """
    outputs, curve = train_networks(256, depth, residual, NETWORKS)
    error = outputs[:, 1:].std(axis=0) / np.sqrt(len(outputs))
    assert error.max() < 0.05 * np.abs(curve.outputs).max()
    assert np.all(np.abs(outputs[:, 1:].mean(axis=0) - curve.outputs[1:]) <= 5 * error)
    moved = curve.feature_kernels[-1] - curve.feature_kernels[0]
    assert np.abs(moved).max() > 1  # features are learnt, so this is not the lazy regime


@pytest.mark.parametrize("residual", [False, True])
def test_distance_from_the_curve_shrinks_as_one_over_root_width(residual):
    """If this fails, the curve is not the limit: single networks deviate by their initial output, N^(-1/2)."""
    widths = (16, 64, 256)
    distances = []
    for width in widths:
        outputs, curve = train_networks(width, 4, residual, NETWORKS)
        distances.append(np.sqrt(np.mean((outputs - curve.outputs) ** 2)))
    assert -0.7 < exponent(widths, distances)[0] < -0.35


def test_refusals():
    """If this fails, the theory answers for sizes, data, memory or rates for which it has no answer."""
    x, y = data(3, 4, 1)
    good = {"depth": 3, "base_rate": 0.1, "updates": 3}
    for change in ({"depth": 1}, {"updates": -1}, {"base_rate": 0.0}, {"output_multiplier": -1.0}):
        with pytest.raises(TheoryError, match="needed depth >= 2"):
            learning_curve(x, y, **{**good, **change})
    for bad in ((x[0], y), (x, y[:, 0]), (x, y[:2]), (x[:0], y[:0])):
        with pytest.raises(TheoryError, match="needed \\(batch, input_dim\\)"):
            learning_curve(*bad, **good)
    with pytest.raises(TheoryError, match="needed finite numbers"):
        learning_curve(x, y * np.inf, **good)
    with pytest.raises(TheoryError, match="take fewer updates or samples"):
        learning_curve(x, y, depth=3, base_rate=0.1, updates=10**5)
    with pytest.raises(TheoryError, match="needed a smaller base_rate"):
        learning_curve(x, y, depth=4, base_rate=50.0, updates=40)


def test_an_input_of_zeros_is_never_learnt():
    """If this fails, the rank of the input is found wrongly: a linear network then always answers 0."""
    curve = learning_curve(np.zeros((2, 3)), np.ones((2, 1)), depth=3, base_rate=0.5, updates=4)
    np.testing.assert_array_equal(curve.losses, np.full(5, 0.5))
