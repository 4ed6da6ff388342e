"""The reference adapter of CNNs and transformers, through the same calls and frames as any third party's."""

from __future__ import annotations

import os

import jax
import numpy as np
import pytest

from pcbench.adapters.reference_architectures import implementation
from pcbench.errors import ProblemError
from pcbench.problem import arrays
from pcbench.problem.architecture import Architecture
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.worker.frames import Channel, encode

REFERENCE = implementation()
CNN = ArchitectureProblem(kind="cnn", side=4, channels=2, width=3, stages=1, blocks=3, classes=3, batch=2)
TEXT = ArchitectureProblem(
    kind="transformer", tokens=4, width=8, blocks=3, heads=2, outputs=5, vocabulary=5, loss="ce", batch=2
)
BOTH = pytest.mark.parametrize("problem", [CNN, TEXT], ids=["cnn", "transformer"])


@BOTH
def test_a_problem_is_its_line(problem):
    """If this fails, a replayed problem is another one."""
    assert ArchitectureProblem.from_line(problem.line()) == problem


def test_weights_are_drawn_by_role():
    """If this fails, the network of a line has changed: the weights are those of the seed, by layer or by name."""
    network, text = CNN.architecture(), TEXT.architecture()
    np.testing.assert_array_equal(network.parameters[1], arrays.normal(0, "weights/2", 3, 3, 3, 3))
    np.testing.assert_array_equal(network.parameters[-1], arrays.normal(0, "weights/6", 3, 12))
    np.testing.assert_array_equal(text.parameters[0]["position"], arrays.normal(0, "weights/position", 4, 8))
    np.testing.assert_array_equal(text.parameters[2]["joining"], arrays.normal(0, "weights/block 1/joining", 8, 8))


@BOTH
def test_answers(problem):
    """If this fails, an answer has the wrong shape, or the energy of the feedforward pass is not the loss."""
    network, x, y = problem.architecture(), problem.input(), problem.target()
    output = REFERENCE.predict(network, x)
    assert output.shape == y.shape
    z = list(REFERENCE.infer(network, x, y, 0, 0.0).activities)
    assert [a.shape[1:] for a in z] == list(network.activity_shapes)
    loss = 0.5 * np.sum((y - output) ** 2) if problem.loss == "mse" else np.sum(
        y * (np.log(np.exp(output).sum(-1, keepdims=True)) - output)
    )  # fmt: skip
    assert REFERENCE.energy(network, x, y, z) == pytest.approx(loss / problem.batch, rel=1e-12)
    gradients = REFERENCE.weight_gradients(network, x, y, problem.activities())
    assert jax.tree.structure(gradients) == jax.tree.structure(list(network.parameters))
    equilibrium = REFERENCE.equilibrium(network, x, y)
    assert equilibrium.outcome == "converged"
    slopes = REFERENCE.activity_gradients(network, x, y, list(equilibrium.activities))
    assert max(np.abs(g).max() for g in slopes) < 1e-8
    moved = REFERENCE.infer(network, x, y, 3, 0.1, start=z).activities
    expected = REFERENCE.infer(network, x, y, 3, 0.1).activities
    for a, b in zip(moved, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_targets_that_would_be_stretched_are_refused():
    """If this fails, a target of shape (batch,) becomes (batch, classes) in silence."""
    with pytest.raises(ValueError, match="needed"):
        REFERENCE.infer(CNN.architecture(), CNN.input(), CNN.target()[:, 0], 1, 0.1)


def test_an_architecture_that_contradicts_itself_is_refused():
    """If this fails, a missing layer ends in an error about shapes inside somebody's library."""
    network = CNN.architecture()
    with pytest.raises(ProblemError, match=r"5 parameters and 6 scalings: needed one of each for its 6 layers"):
        network.with_parameters(network.parameters[1:])
    with pytest.raises(ProblemError, match="kind='rnn'"):
        Architecture(kind="rnn", sizes={}, parameters=(), scalings=())


@BOTH
def test_an_architecture_crosses_a_pipe(problem):
    """If this fails, implementations in an interpreter of their own never see CNNs or transformers."""
    network = problem.architecture()
    read, write = os.pipe()
    try:
        Channel(read, write).send(encode(network))
        found = Channel(read, write).receive()
    finally:
        os.close(read)
        os.close(write)
    assert isinstance(found, Architecture)
    assert (found.kind, found.sizes, found.options) == (network.kind, network.sizes, network.options)
    jax.tree.map(np.testing.assert_array_equal, found.parameters, network.parameters)
    assert found.scalings == network.scalings
