"""PCNs over chains of layer functions: as MLPs against the oracle and the stacked reference, and on uneven shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcbench.errors import ProblemError
from pcbench.oracle import mlp as oracle
from pcbench.problem import arrays
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.reference.architectures import chain as chains
from pcbench.reference.architectures import equilibrium as chain_equilibrium
from pcbench.reference.architectures.chain import Chain, Dense
from pcbench.reference.compilation import compilations, counted_jit
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.equilibrium.outcome import Outcome
from pcbench.reference.network import PCN

TANH = Problem(input_dim=3, width=6, depth=6, output_dim=2, batch=3, activation="tanh", residual=True, seed=5)
PLAIN = TANH.replace(residual=False, depth=3, loss="ce", activation="gelu", output_precision=0.4)
LINEAR = TANH.replace(activation="linear", output_precision=1.7)
BOTH = pytest.mark.parametrize("problem", [TANH, PLAIN], ids=["loop", "unrolled"])

answers = counted_jit()(chains.energies_and_gradients)
infer = counted_jit()(chains.infer)
forward = jax.jit(lambda chain, x, e: chain.forward(x, e))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def mlp(network: Network) -> Chain:
    """The chain whose layers are those of an MLP with the activation before the weight."""
    layers = [
        Dense("linear" if l == 0 else network.activation, skip=bool(skip)) for l, skip in enumerate(network.skips)
    ]
    return Chain.from_layers(
        layers,
        network.weights,
        network.scalings,
        loss=network.loss,
        precision=network.precision,
        activation=network.activation,
        affine=network.linear,
    )


def assert_close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@BOTH
def test_an_mlp_as_a_chain_is_the_mlp(problem):
    """If this fails, the energy, a gradient, inference or backpropagation of chains is not that of the definition."""
    network, x, y = problem.network(), problem.input(), problem.target()
    chain, z = mlp(network), problem.activities()
    each, for_activities, for_weights = answers(chain, x, y, tuple(z))
    assert_close(each, oracle.layer_energies(network, x, y, z).mean(axis=0))
    assert_close(for_activities, oracle.activity_gradients(network, x, y, z))
    assert_close(for_weights, oracle.weight_gradients(network, x, y, z))
    assert_close(infer(chain, x, y, tuple(z), np.int64(7), np.float64(0.2)), oracle.infer(network, x, y, 7, 0.2, z))
    assert_close(jax.jit(chains.backpropagation)(chain, x, y), oracle.backprop_gradients(network, x, y))
    assert_close(forward(chain, x, None)[1], oracle.predict(network, x))
    assert_close(forward(chain, x, tuple(z))[0], oracle.states_from_errors(network, x, z))


@BOTH
def test_the_single_functions_agree_with_the_joint_one(problem):
    """If this fails, `energy`, `activity_gradients` or `weight_gradients` differs from the joint backward pass."""
    x, y, z = problem.input(), problem.target(), tuple(problem.activities())
    chain = mlp(problem.network())
    each, for_activities, for_weights = answers(chain, x, y, z)
    alone = jax.jit(lambda c: (chains.energy(c, x, y, z), chains.activity_gradients(c, x, y, z),
                               chains.weight_gradients(c, x, y, z)))(chain)  # fmt: skip
    assert_close(alone, (np.sum(each), for_activities, for_weights))


@pytest.mark.parametrize("problem", [TANH, LINEAR], ids=["tanh", "linear"])
def test_the_equilibrium_is_that_of_the_other_solver(problem):
    """If this fails, ravelling the errors of a sample changed the equilibrium or its certificate."""
    network, x, y = problem.network(), problem.input(), problem.target()
    found = chain_equilibrium.solve(mlp(network), x, y, tolerance=1e-24)
    other = equilibrium_linear if problem.linear else equilibrium_nonlinear
    expected = other.solve(PCN.from_network(network), x, y, tolerance=1e-24)
    assert_close(found.activities, list(expected.activities), 1e-9)
    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    assert found.certified
    assert found.outcome is Outcome.CONVERGED
    assert_close(found.curvature, expected.curvature, 0.02)  # Lanczos starts elsewhere and stops early


def test_only_an_affine_chain_is_certified_without_an_estimate():
    """If this fails, the certificate claims a global bound where there is none, or pays for one that is free."""
    x, y = LINEAR.input(), LINEAR.target()
    state = chain_equilibrium.solve(mlp(LINEAR.network()), x, y)
    assert state.certificate_evaluations == 1
    assert "everywhere" in state.reason
    state = chain_equilibrium.solve(mlp(TANH.network()), x, y)
    assert state.certificate_evaluations > 1
    assert "local" in state.reason


def test_kinks_are_never_certified():
    """If this fails, a gradient norm at a kink of relu passes for a certificate."""
    problem = TANH.replace(activation="relu")
    state = chain_equilibrium.solve(mlp(problem.network()), problem.input(), problem.target())
    assert not state.certified
    assert np.isinf(state.certificate).all()


def test_what_does_not_converge_is_a_value():
    """If this fails, a NaN in the weights raises or hangs, or an unconverged state looks like an equilibrium."""
    x, y = TANH.input(), TANH.target()
    state = chain_equilibrium.solve(mlp(TANH.network()), x, y, tolerance=1e-20, max_evaluations=3)
    assert state.outcome is Outcome.BUDGET
    assert state.evaluations == 3
    network = TANH.network()
    network.weights[1][0, 0] = np.nan
    state = chain_equilibrium.solve(mlp(network), x, y)
    assert state.outcome is Outcome.NOT_FINITE
    assert not state.certified


# ---- layers of any shape ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outer:
    """A vector to the matrix tanh(s theta z^T)."""

    def __call__(self, parameters: Any, scaling: Any, below: jax.Array) -> jax.Array:
        return jnp.tanh(scaling * parameters["left"][:, None] * below[:, None, :])


@dataclass(frozen=True)
class Total:
    """A matrix to the sums of its columns; nothing to learn."""

    def __call__(self, parameters: Any, scaling: Any, below: jax.Array) -> jax.Array:
        return jnp.sum(below, axis=1)


def uneven_chain() -> tuple[Chain, Any, Any, Any]:
    """Input 3 -> matrix 2x3 -> vector 3 -> output 2, and random activities."""
    left, weight = arrays.normal(1, "left", 2), arrays.normal(1, "readout", 2, 3)
    chain = Chain.from_layers(
        [Outer(), Total(), Dense()],
        [{"left": left}, (), weight],
        [0.7, (), 0.5],
        precision=2.0,
        activation="tanh",
    )
    z = arrays.normal(1, "matrix", 4, 2, 3), arrays.normal(1, "vector", 4, 3)
    return chain, arrays.normal(1, "input", 4, 3), arrays.normal(1, "target", 4, 2), z


def test_the_energy_sums_over_all_axes_of_a_sample():
    """If this fails, layers of more than one axis count with another weight than their numbers."""
    chain, x, y, (z1, z2) = uneven_chain()
    each = chains.sample_energies(chain, x, y, (z1, z2))
    f1 = np.tanh(0.7 * np.einsum("i,bj->bij", chain.parameters[0]["left"], x))
    expected = np.stack([
        0.5 * np.einsum("bij,bij->b", z1 - f1, z1 - f1),
        0.5 * np.sum((z2 - z1.sum(axis=1)) ** 2, axis=1),
        2.0 * 0.5 * np.sum((y - 0.5 * z2 @ chain.parameters[2].T) ** 2, axis=1),
    ])  # fmt: skip
    assert_close(each, expected, 1e-14)


def test_gradients_have_the_structure_of_the_parameters():
    """If this fails, a layer without parameters, or with several, gets the wrong gradients."""
    chain, x, y, z = uneven_chain()
    _, _, gradients = answers(chain, x, y, z)
    assert jax.tree.structure(gradients) == jax.tree.structure(chain.parameters)
    step = 1e-6

    def energy(left: np.ndarray) -> float:
        return float(chains.energy(chain.with_parameters(({"left": left}, *chain.parameters[1:])), x, y, z))

    left = chain.parameters[0]["left"]
    finite = [(energy(left + step * d) - energy(left - step * d)) / (2 * step) for d in np.eye(2)]
    assert_close(gradients[0]["left"], np.array(finite), 1e-8)


def test_ravelled_vectors_come_back():
    """If this fails, the solver moves the errors of one layer by the gradient of another."""
    _, _, _, z = uneven_chain()
    vectors = chain_equilibrium.ravel(z)
    assert vectors.shape == (1, 4, 9)
    assert_close(chain_equilibrium.unravel(vectors, z), z, 0)


def test_sequence_losses_are_sums_over_tokens():
    """If this fails, the cross-entropy of a sequence is a mean over its tokens, or over the wrong axis."""
    chain, _, _, _ = uneven_chain()
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.125, 0.5, 0.375]]]))
    target = jnp.array([[[1.0, 0, 0], [1.0, 0, 0]]])
    loss = chains.output_loss(
        Chain.from_layers(chain.layers, chain.parameters, chain.scalings, loss="ce"), logits, target
    )
    assert_close(loss, [4 * np.log(2)], 1e-14)


def test_values_do_not_recompile():
    """If this fails, new weights, scalings, data or numbers of steps of equal shape cost a compilation each."""

    def run_everything(problem: Problem, steps: int) -> None:
        chain, x, y = mlp(problem.network()), problem.input(), problem.target()
        z = tuple(problem.activities())
        infer(chain, x, y, z, np.int64(steps), np.float64(0.01 * steps))
        answers(chain, x, y, z)
        chain_equilibrium.solve(chain, x, y, tolerance=10.0**-steps)

    run_everything(TANH, 3)
    before = compilations()
    run_everything(TANH.replace(seed=8, output_precision=3.0, output_multiplier=2.0), 5)
    assert compilations() == before


def test_a_long_chain_is_a_small_program():
    """If this fails, layers that repeat are unrolled, and compiling takes time in proportion to the depth."""

    def lines(depth: int) -> int:
        problem = TANH.replace(depth=depth)
        arguments = mlp(problem.network()), problem.input(), problem.target(), tuple(problem.activities())
        return jax.make_jaxpr(chains.activity_gradients)(*arguments).pretty_print().count("dot_general")

    assert lines(40) == lines(8)


def test_what_a_chain_refuses():
    """If this fails, a chain that contradicts itself fails later with a message about shapes."""
    with pytest.raises(ProblemError, match=r"1 layers.*at least 2"):
        Chain.from_layers([Dense()], [np.eye(2)], [1.0])
    with pytest.raises(ProblemError, match="2 layers, 1 parameters"):
        Chain.from_layers([Dense(), Dense()], [np.eye(2)], [1.0, 1.0])
    with pytest.raises(ProblemError, match="loss='hinge'"):
        Chain.from_layers([Dense(), Dense()], [np.eye(2)] * 2, [1.0, 1.0], loss="hinge")
    with pytest.raises(ProblemError, match="activation='step'"):
        Chain.from_layers([Dense(), Dense()], [np.eye(2)] * 2, [1.0, 1.0], activation="step")
    chain, x, y, z = uneven_chain()
    with pytest.raises(ProblemError, match=r"target of shape \(4,\): needed .*\(4, 2\)"):
        chains.energy(chain, x, y[:, 0], z)
