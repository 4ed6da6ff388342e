r"""Gradients of the energy with respect to activities and weights, by JAX from `pcbench.reference.energy`.

Reverse mode of the stacked energy is the same two batched matrix products per inference step as a gradient written by
hand, and measures the same.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pcbench.reference.energy import sample_energies, total_energy
from pcbench.reference.network import PCN

Weights = tuple[jax.Array, jax.Array, jax.Array]


def activity_gradients_from(network: PCN, bottom: jax.Array, target: jax.Array, activities: jax.Array) -> jax.Array:
    r"""\(\partial F_b/\partial z_l\) of each sample's own energy, `(L-1, batch, N)`: not divided by the batch.

    `bottom` is \(f_1(x)\), which no step of inference changes.
    """
    return jax.grad(lambda z: jnp.sum(sample_energies(network, bottom, target, z)))(activities)


def weight_gradients(network: PCN, input: jax.Array, target: jax.Array, activities: jax.Array) -> Weights:
    r"""\(\partial F/\partial W_l\) at fixed activities, stacked as `PCN.weights`; mean over the batch."""
    return jax.grad(lambda w: total_energy(network.with_weights(w), input, target, activities))(network.weights)


def energies_and_gradients(
    network: PCN, input: jax.Array, target: jax.Array, activities: jax.Array
) -> tuple[jax.Array, jax.Array, Weights]:
    """The energy of each layer, and the gradients for activities and weights, from one forward and one backward pass.

    Shapes and normalisation are those of `layer_energies`, `activity_gradients_from` and `weight_gradients`.  What a
    compiled program does not return of these, it does not compute.
    """

    def energies(weights: Weights, activities: jax.Array) -> jax.Array:
        net = network.with_weights(weights)
        return sample_energies(net, net.bottom(input), target, activities)

    each, pull = jax.vjp(energies, network.weights, activities)
    for_weights, for_activities = pull(jnp.ones_like(each))
    batch = input.shape[0]
    return jnp.mean(each, axis=1), for_activities, jax.tree.map(lambda g: g / batch, for_weights)


def backpropagation(network: PCN, input: jax.Array, target: jax.Array) -> Weights:
    r"""The gradient of \(\lambda\) times the loss of the feedforward pass: the yardstick, not a part of PC."""

    def loss(weights: Weights) -> jax.Array:
        net = network.with_weights(weights)
        # At the feedforward activities every hidden error is zero, so the energy is the loss and no other formula of
        # it is needed; the derivative goes through the activities as well.
        return total_energy(net, input, target, net.forward(input)[0])

    return jax.grad(loss)(network.weights)
