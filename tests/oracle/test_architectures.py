"""The specification of CNNs and transformers: its gradients against differences and JAX, its bounds against float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pcbench.adapters.reference_architectures import implementation
from pcbench.oracle import architectures as oracle
from pcbench.oracle.running_error import Rounded, concatenate, reverse_gradients
from pcbench.problem.architecture import leaves, rebuild
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.worker.client import InProcess
from pcbench.worker.subject import Subject

REFERENCE = Subject(InProcess(implementation()))
TEXT = {"kind": "transformer", "tokens": 3, "width": 6, "blocks": 1, "heads": 3, "outputs": 3, "batch": 2}
PROBLEMS = {
    "cnn": ArchitectureProblem(
        kind="cnn", side=4, channels=2, width=3, stages=1, blocks=1, classes=3, batch=2, gain=1.5, output_precision=0.7
    ),
    "cnn-ce": ArchitectureProblem(
        kind="cnn", side=4, channels=1, width=2, stages=2, blocks=0, classes=3, batch=2, loss="ce", activation="gelu"
    ),
    "softmax": ArchitectureProblem(**TEXT, vocabulary=5, loss="ce", parameterisation="sp"),
    "normalised": ArchitectureProblem(
        **TEXT, input_dim=2, normalised=True, causal=False, latents="branch", activation="silu", output_precision=2.0
    ),
    "linear-attention": ArchitectureProblem(**TEXT, vocabulary=4, softmax=False, normalised=True),
}
EVERY = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def case(problem):
    return problem.architecture(), problem.input(), problem.target(), problem.activities()


def difference(value, arrays, along, h=1e-4):
    """The derivative of `value` along a direction, by central differences extrapolated."""

    def at(step):
        return value([a + step * v for a, v in zip(arrays, along, strict=True)])

    coarse, fine = (at(h) - at(-h)) / (2 * h), (at(h / 2) - at(-h / 2)) / h
    return (4 * fine - coarse) / 3


def directions(arrays, seed):
    random = np.random.default_rng(seed)
    return [random.standard_normal(a.shape) for a in arrays]


def inner(a, b):
    return sum(float(np.sum(u * v)) for u, v in zip(a, b, strict=True))


@EVERY
def test_gradients_are_derivatives_of_the_energy(problem):
    """If this fails, the laws hold everybody's gradients against something that is no derivative."""
    network, x, y, z = case(problem)
    along = directions(z, 1)
    slope = difference(lambda moved: oracle.energy(network, x, y, moved)[0], z, along)
    found, _ = oracle.activity_gradients(network, x, y, z)
    assert inner(found, along) / len(x) == pytest.approx(slope, rel=1e-8)

    weights = leaves(network.parameters)
    along = directions(weights, 2)

    def energy(moved):
        return oracle.energy(network.with_parameters(rebuild(network.parameters, moved)), x, y, z)[0]

    found, _ = oracle.weight_gradients(network, x, y, z)
    assert inner(found, along) == pytest.approx(difference(energy, weights, along), rel=1e-8)

    def loss(moved):
        moved = network.with_parameters(rebuild(network.parameters, moved))
        return network.precision * oracle.sample_loss(moved, y, oracle.feedforward(moved, x)[-1]).value.mean()

    found, _ = oracle.backpropagation(network, x, y)
    assert inner(found, along) == pytest.approx(difference(loss, weights, along), rel=1e-8)


@EVERY
def test_error_gradients_are_derivatives_in_error_space(problem):
    """If this fails, certificates of equilibrium are given for points that are none."""
    network, x, y, z = case(problem)
    errors = [e.value for e in oracle.prediction_errors(network, x, z)]
    again = oracle.forward_with_errors(network, x, [Rounded.exact(e) for e in errors])
    for a, b in zip(again[:-1], z, strict=True):
        np.testing.assert_allclose(a.value, b, atol=1e-12)
    along = directions(errors, 3)

    def energy(moved):
        output = oracle.forward_with_errors(network, x, [Rounded.exact(e) for e in moved])[-1]
        return 0.5 * inner(moved, moved) + network.precision * oracle.sample_loss(network, y, output).value.sum()

    found, _ = oracle.error_gradients(network, x, y, errors)
    assert inner(found, along) == pytest.approx(difference(energy, errors, along), rel=1e-8)


@EVERY
def test_the_reference_agrees_within_the_bounds(problem):
    """If this fails, JAX's derivatives of other code and the specification are two models, or a bound is too tight."""
    for dtype in ("float64", "float32"):
        network, x, y, z = case(problem.replace(dtype=dtype))
        for found, (expected, bounds) in (
            ([REFERENCE.layer_energies(network, x, y, z)], [[a] for a in oracle.layer_energies(network, x, y, z)]),
            (REFERENCE.activity_gradients(network, x, y, z), oracle.activity_gradients(network, x, y, z)),
            (leaves(REFERENCE.weight_gradients(network, x, y, z)), oracle.weight_gradients(network, x, y, z)),
        ):
            for a, b, bound in zip(found, expected, bounds, strict=True):
                assert np.all(np.abs(a - b) <= 0.5 * bound)
                # normalisation of few units amplifies: of float32 the laws then leave a problem undecided
                assert dtype == "float32" or np.max(bound) < 1e-7 * (1 + np.max(np.abs(b)))


@EVERY
def test_bounds_of_float32_are_those_of_float32(problem):
    """If this fails, a correct float32 implementation is held to the rounding of float64."""
    network, x, y, z = case(problem)
    narrow = network.with_parameters(
        rebuild(network.parameters, [w.astype(np.float32) for w in leaves(network.parameters)])
    )
    assert narrow.dtype == np.float32
    fine, coarse = oracle.energy(network, x, y, z)[1], oracle.energy(narrow, x, y, z)[1]
    assert 2.0**27 < coarse / fine < 2.0**32


OPERATIONS = {
    "plus-stretched": lambda a, b: [a.plus(b.mean((0, 1), keepdims=True))],
    "product": lambda a, b: [a.product(b.plus(a))],
    "activated": lambda a, b: [a.activate("gelu").product(b)],
    "root": lambda a, b: [a.product(a).inverse_root(0.1).product(b)],
    "through": lambda a, b: [a.apply_weight(b.mean((0,)))],
    "dot": lambda a, b: [a.dot(b.rearrange(lambda z: np.swapaxes(z, -1, -2), lambda z: np.swapaxes(z, -1, -2)))],
    "softmax": lambda a, b: [a.softmax(np.tri(3, 4, 1, dtype=bool)).product(b)],
    "normalised": lambda a, b: [a.normalise(1e-2).product(b)],
    "square": lambda a, b: [concatenate([a, b]).half_square(), a.times(2.0)],
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_operations_send_derivatives_back(operation):
    """If this fails, one operation's derivative is wrong, and so is every law that passes through it."""
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((2, 3, 4)), random.standard_normal((2, 3, 4))]
    along = directions(arrays, 1)

    def total(values):
        return sum(float(r.value.sum()) for r in operation(*(Rounded.exact(v) for v in values)))

    exact = [Rounded.exact(a) for a in arrays]
    pairs = reverse_gradients(operation(*exact), exact)
    assert inner([d for d, _ in pairs], along) == pytest.approx(difference(total, arrays, along), rel=1e-8)
    # the bound of a derivative holds for operands that are off: every entry, between two nearby points
    near = [Rounded(a * (1 + 1e-9), np.abs(a) * 1e-9) for a in arrays]
    if operation is OPERATIONS["through"]:
        near[1] = exact[1]  # weights are given, not computed
    for (d, _), (moved, bound) in zip(pairs, reverse_gradients(operation(*near), near), strict=True):
        assert np.all(np.abs(d - moved) <= 1.05 * bound + 1e-15)


def test_an_operand_that_plays_no_part_has_no_gradient():
    """If this fails, layers without parameters shift the gradients of those after them."""
    a, b = (Rounded.exact(np.ones(3)) for _ in range(2))
    (found, _), (none, _) = reverse_gradients([a.times(3.0)], [a, b])
    assert found.tolist() == [3, 3, 3]
    assert none.tolist() == [0, 0, 0]


def test_a_kink_widens_the_bound():
    """If this fails, relu's derivative is demanded to be right where rounding decides on which side of 0 it is."""
    z = Rounded(np.array([1e-12, 1.0]), np.array([1e-9, 1e-9]))
    ((_, bound),) = reverse_gradients([z.activate("relu")], [z])
    assert bound[0] >= 1
    assert bound[1] < 1e-12


def test_hand_worked_cnn():
    """If this fails, padding, pooling or the readout's order is another than the one documented."""
    problem = ArchitectureProblem(kind="cnn", side=2, channels=1, width=1, stages=1, blocks=0, classes=1, batch=1)
    kernel = np.zeros((1, 3, 3, 1))
    kernel[0, 1, 1, 0], kernel[0, 0, 1, 0] = 1.0, 10.0  # each pixel, and ten times the one above it
    network = replace(problem.architecture(), parameters=(kernel, (), np.array([[2.0]])), scalings=(1.0, (), 0.5))
    x = np.array([[[[1.0], [2.0]], [[3.0], [4.0]]]])
    first, pooled, output = oracle.feedforward(network, x)
    assert first.value[0, :, :, 0].tolist() == [[1, 2], [13, 24]]
    assert pooled.value.tolist() == [[[[10.0]]]]
    assert output.value.tolist() == [[10.0]]
