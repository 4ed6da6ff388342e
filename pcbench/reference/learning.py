r"""Learning: gradient descent on the weights, each update after inference from the feedforward pass."""

from __future__ import annotations

import jax
from jax import lax

from pcbench.reference.gradients import Weights, weight_gradients
from pcbench.reference.inference.steps import infer
from pcbench.reference.network import PCN


def train(
    network: PCN,
    input: jax.Array,
    target: jax.Array,
    iterations: jax.Array,
    learning_rate: jax.Array,
    steps: jax.Array,
    step_size: jax.Array,
) -> Weights:
    r"""The weights after `iterations` updates \(W_l \leftarrow W_l - \alpha\,\partial F/\partial W_l\) on one batch.

    Every number is a value: one program trains any number of iterations with any number of inference steps.
    """

    def update(_: jax.Array, weights: Weights) -> Weights:
        net = network.with_weights(weights)
        z = infer(net, input, target, net.forward(input)[0], steps, step_size)
        gradients = weight_gradients(net, input, target, z)
        return jax.tree.map(lambda w, g: w - learning_rate * g, weights, gradients)

    return lax.fori_loop(0, iterations, update, jax.tree.map(jax.numpy.asarray, network.weights))
