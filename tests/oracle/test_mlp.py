"""The executable specification against the same energy written in JAX, automatic differentiation and differences."""

import itertools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import ACTIVATIONS, LOSSES

JAX_PHI = {
    "linear": lambda z: z,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "gelu-tanh": lambda z: jax.nn.gelu(z, approximate=True),
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
}
CASES = [
    (a, p, loss, r)
    for a, p, loss, r in itertools.product(ACTIVATIONS, ("before-weight", "after-weight"), LOSSES, (False, True))
    if not (a == "linear" and p == "after-weight")
]


def problem(activation="tanh", placement="before-weight", loss="mse", residual=True, **changes):
    return Problem(
        **{"input_dim": 3, "width": 4, "depth": 4, "output_dim": 3, "batch": 2, "output_precision": 2.5,
           "activation": activation, "placement": placement, "loss": loss, "residual": residual,
           "parameterisation": "ntp", "output_multiplier": 0.5, "seed": 5, **changes}
    )  # fmt: skip


def arrays_of(p):
    """Network, input, target and activities; targets of cross-entropy are made soft, which one-hot ones would hide."""
    y = p.target()
    if p.loss == "ce":
        y = 0.5 * y + np.linspace(0.1, 0.9, y.size).reshape(y.shape)
    return p.network(), p.input(), y, p.activities()


def jax_prediction(n, l, W, below):
    """f_l from its definition, once more."""
    phi = JAX_PHI[n.activation]
    if n.placement == "before-weight":
        branch = n.scalings[l] * jnp.einsum("oi,bi->bo", W, below if l == 0 else phi(below))
    else:
        branch = n.scalings[l] * jnp.einsum("oi,bi->bo", W, below)
        branch = branch if l == n.depth - 1 else phi(branch)
    return branch + below if n.skips[l] else branch


def jax_loss(n, y, output):
    if n.loss == "mse":
        return jnp.mean(0.5 * jnp.sum((y - output) ** 2, axis=1))
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(output), axis=1))


def jax_energy(n, weights, x, y, z):
    values, total = [x, *z], 0.0
    for l in range(n.depth - 1):
        total += 0.5 * jnp.mean(jnp.sum((values[l + 1] - jax_prediction(n, l, weights[l], values[l])) ** 2, axis=1))
    return total + n.precision * jax_loss(n, y, jax_prediction(n, n.depth - 1, weights[-1], values[-1]))


def jax_backprop(n, weights, x, y):
    below = x
    for l, W in enumerate(weights):
        below = jax_prediction(n, l, W, below)
    return n.precision * jax_loss(n, y, below)


def close(got, expected, scale=1.0):
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-11, atol=1e-13 * scale)


@pytest.mark.parametrize(("activation", "placement", "loss", "residual"), CASES)
def test_energy_and_gradients_by_automatic_differentiation(activation, placement, loss, residual):
    """If this fails, the specification itself is wrong, and every law judges against a wrong formula."""
    n, x, y, z = arrays_of(problem(activation, placement, loss, residual))
    with jax.enable_x64(True):
        W = [jnp.asarray(w) for w in n.weights]
        value, (for_weights, for_activities) = jax.value_and_grad(
            lambda W, z: jax_energy(n, W, x, y, z), argnums=(0, 1)
        )(W, [jnp.asarray(a) for a in z])
        backprop = jax.grad(lambda W: jax_backprop(n, W, x, y))(W)
        value, for_weights, for_activities, backprop = jax.tree.map(
            np.asarray, (value, for_weights, for_activities, backprop)
        )
    assert oracle.energy(n, x, y, z) == pytest.approx(float(value), rel=1e-13)
    close(oracle.weight_gradients(n, x, y, z), for_weights)
    close(oracle.activity_gradients(n, x, y, z), [len(x) * g for g in for_activities])
    close(oracle.backprop_gradients(n, x, y), backprop)


@pytest.mark.parametrize(
    ("activation", "placement", "loss", "residual"), [c for c in CASES if c[0] != "relu"]
)  # fmt: skip
def test_gradients_by_finite_differences(activation, placement, loss, residual):
    """If this fails, energy and gradients of the specification are not those of one function."""
    n, x, y, z = arrays_of(problem(activation, placement, loss, residual))
    random, h = np.random.default_rng(0), 1e-5
    dW = [random.standard_normal(w.shape) for w in n.weights]
    dz = [random.standard_normal(a.shape) for a in z]

    def energy_along(t):
        m = n.with_weights([w + t * d for w, d in zip(n.weights, dW, strict=True)])
        return oracle.energy(m, x, y, [a + t * d for a, d in zip(z, dz, strict=True)])

    slope = sum(np.sum(g * d) for g, d in zip(oracle.weight_gradients(n, x, y, z), dW, strict=True))
    slope += sum(np.sum(g * d) for g, d in zip(oracle.activity_gradients(n, x, y, z), dz, strict=True)) / len(x)
    assert (energy_along(h) - energy_along(-h)) / (2 * h) == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_jax(activation):
    """If this fails, an activation of the same name is another function in the field's libraries."""
    z = np.concatenate([np.linspace(-12, 12, 4001), [-745.0, -40.0, 40.0, 745.0, 1e-8, -1e-8]])
    phi, derivative = oracle.PHI[activation]
    with jax.enable_x64(True):
        value = np.asarray(JAX_PHI[activation](jnp.asarray(z)))
        slope = np.asarray(jax.vmap(jax.grad(JAX_PHI[activation]))(jnp.asarray(z)))
    np.testing.assert_allclose(phi(z), value, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(derivative(z), slope, rtol=1e-14, atol=1e-13)
    assert np.all(np.isfinite(phi(z)))
    assert np.all(np.isfinite(derivative(z)))


def test_activations_are_all_there():
    """If this fails, an activation was added without a specification."""
    assert set(oracle.PHI) == set(ACTIVATIONS) == set(JAX_PHI)


def test_literal_values_of_activations():
    """If this fails, exact and approximate gelu are exchanged, or the slope of relu at 0 is not 0."""
    one = np.array([1.0])
    assert oracle.PHI["gelu"][0](one)[0] == pytest.approx(0.8413447460685429, rel=1e-14)  # the normal CDF at 1
    assert oracle.PHI["gelu-tanh"][0](one)[0] == pytest.approx(0.8411919906082768, rel=1e-14)
    assert oracle.PHI["silu"][0](one)[0] == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-14)
    assert oracle.PHI["softplus"][0](0 * one)[0] == pytest.approx(math.log(2), rel=1e-14)
    assert oracle.PHI["relu"][1](np.array([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.0, 1.0]


def test_a_case_worked_by_hand():
    """If this fails, the half, the mean, the precision or a sign is wrong, in the oracle and in JAX alike."""
    p = problem(width=1, depth=2, input_dim=1, output_dim=1, batch=2, activation="relu", residual=False)
    n = replace(
        p.network(), weights=(np.array([[2.0]]), np.array([[3.0]])), scalings=(0.5, 2.0), precision=4.0
    )  # fmt: skip
    x, y, z = np.array([[1.0], [2.0]]), np.array([[1.0], [0.0]]), [np.array([[0.5], [-1.0]])]
    # f_1 = x; eps_1 = -0.5, -3; f_2 = 6 relu(z) = 3, 0; eps_2 = -2, 0.
    assert oracle.layer_energies(n, x, y, z).tolist() == [[0.125, 8.0], [4.5, 0.0]]
    assert oracle.energy(n, x, y, z) == (8.125 + 4.5) / 2
    # eps_1 - 6 relu'(z) 4 eps_2 = -0.5 + 48, and relu' = 0 in the second sample.
    assert oracle.activity_gradients(n, x, y, z)[0].tolist() == [[47.5], [-3.0]]
    # -(a/B) sum eps phi: -(0.5/2)(-0.5 - 6); -(2/2)(-8 * 0.5).
    assert [g.item() for g in oracle.weight_gradients(n, x, y, z)] == [1.625, 4.0]
    assert oracle.inference_step(n, x, y, z, 0.1)[0].tolist() == [[0.5 - 4.75], [-1.0 + 0.30000000000000004]]
    assert oracle.loss(n, x, y) == ((6 - 1) ** 2 + 12**2) / 4


@pytest.mark.parametrize(("activation", "placement", "loss", "residual"), CASES)
def test_feedforward_initialisation(activation, placement, loss, residual):
    """If this fails, E1 does not hold: F = precision times loss, and only the output layer has a gradient, BP's."""
    n, x, y, _ = arrays_of(problem(activation, placement, loss, residual))
    z = oracle.feedforward(n, x)
    assert oracle.energy(n, x, y, z) == pytest.approx(n.precision * oracle.loss(n, x, y), rel=1e-14)
    gradients, backprop = oracle.weight_gradients(n, x, y, z), oracle.backprop_gradients(n, x, y)
    assert all(not g.any() for g in gradients[:-1])
    assert np.array_equal(gradients[-1], backprop[-1])
    assert all(g.any() for g in backprop)
    assert all(not e.any() for e in oracle.prediction_errors(n, x, y, z)[:-1])


@pytest.mark.parametrize("placement", ["before-weight", "after-weight"])
@pytest.mark.parametrize("loss", LOSSES)
def test_envelope(loss, placement):
    """If this fails, E4 does not hold: at equilibrium the total derivative of F* is the partial one."""
    n, x, y, _ = arrays_of(problem("tanh", placement, loss, residual=True, depth=3, output_multiplier=1.0))

    def equilibrium_values(m):
        z = oracle.infer(m, x, y, 1500, 0.1)
        assert max(np.abs(g).max() for g in oracle.activity_gradients(m, x, y, z)) < 1e-12
        return oracle.energy(m, x, y, z), oracle.weight_gradients(m, x, y, z)

    random, h = np.random.default_rng(1), 1e-4
    directions = [random.standard_normal(w.shape) for w in n.weights]
    _, gradients = equilibrium_values(n)
    above, below = (
        equilibrium_values(n.with_weights([w + s * h * d for w, d in zip(n.weights, directions, strict=True)]))[0]
        for s in (1, -1)
    )
    slope = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True))
    assert (above - below) / (2 * h) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("order", ["input-first", "output-first"])
def test_sequential_orders(order):
    """If this fails, layer-after-layer inference does not see the layers updated before it."""
    n, x, y, z = arrays_of(problem("gelu"))
    expected, step = [a.copy() for a in z], 0.1
    for l in [0, 1, 2] if order == "input-first" else [2, 1, 0]:
        values = [x, *expected]
        f = [oracle.layer_prediction(n, l + 1, v) for l, v in enumerate(values)]
        upper = n.precision * (y - f[-1]) if l == 2 else expected[l + 1] - f[l + 1]
        gradient = expected[l] - f[l] - oracle.feedback(n, l + 2, expected[l], upper)
        expected[l] = expected[l] - step * gradient
    got = oracle.inference_step(n, x, y, z, step, order)
    close(got, expected)
    assert not np.allclose(got[1], oracle.inference_step(n, x, y, z, step)[1])
    close(oracle.infer(n, x, y, 2, step, z, order), oracle.inference_step(n, x, y, got, step, order))


def test_inference_composes_and_does_not_touch_its_start():
    """If this fails, steps depend on how they are grouped, or a caller's activities are overwritten."""
    n, x, y, z = arrays_of(problem())
    before = [a.copy() for a in z]
    long = oracle.infer(n, x, y, 5, 0.05, z)
    for order in ("simultaneous", "input-first", "output-first"):
        oracle.infer(n, x, y, 1, 0.05, z, order)
    assert all(np.array_equal(a, b) for a, b in zip(z, before, strict=True))
    close(oracle.infer(n, x, y, 2, 0.05, oracle.infer(n, x, y, 3, 0.05, z)), long)
    close(oracle.infer(n, x, y, 0, 0.05), oracle.feedforward(n, x))
    close(oracle.infer(n, x, y, 1, 0.05), oracle.inference_step(n, x, y, oracle.feedforward(n, x), 0.05))


@pytest.mark.parametrize("size", [30.0, 1e3, 1e6, 1e100])
def test_large_logits_are_finite(size):
    """If this fails, the specification of cross-entropy overflows where implementations need not."""
    n, x, y, z = arrays_of(problem("linear", loss="ce", residual=False))
    z[-1] = np.full_like(z[-1], size) * np.sign(z[-1])
    logits = oracle.predictions(n, x, z)[-1]
    loss = oracle.sample_loss(n, y, logits)
    assert np.all(np.isfinite(loss))
    assert np.all(loss >= 0)
    top = logits.max(axis=1, keepdims=True)
    if size >= 1e3:
        np.testing.assert_allclose(loss, np.sum(y * (top - logits), axis=1), rtol=1e-2)
    errors = oracle.output_error(n, y, logits)
    np.testing.assert_allclose(errors.sum(axis=1), 0, atol=1e-12)
    assert np.all(np.isfinite(oracle.energy(n, x, y, z)))
    assert all(np.all(np.isfinite(g)) for g in oracle.activity_gradients(n, x, y, z))


def test_states_from_errors_undo_prediction_errors():
    """If this fails, error space and activity space are not the same space."""
    n, x, y, z = arrays_of(problem("silu", "after-weight"))
    errors = oracle.prediction_errors(n, x, y, z)[:-1]
    close(oracle.states_from_errors(n, x, errors), z)


def test_float32_networks_are_computed_in_float64():
    """If this fails, the specification rounds as the implementations do, and hides their errors."""
    p = problem("tanh", dtype="float32")
    n, x, y, z = arrays_of(p)
    wide = n.astype("float64")
    x64, y64, *z64 = (np.asarray(a, np.float64) for a in (x, y, *z))
    assert oracle.energy(n, x, y, z) == oracle.energy(wide, x64, y64, z64)
    assert oracle.predict(n, x).dtype == np.float64
    assert {g.dtype for g in oracle.weight_gradients(n, x, y, z)} == {np.dtype(np.float64)}
    assert {g.dtype for g in oracle.infer(n, x, y, 2, 0.1)} == {np.dtype(np.float64)}
