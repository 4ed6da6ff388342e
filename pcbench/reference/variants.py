r"""Two modifications of PC whose weight gradients are those of backpropagation exactly.

Both are genuine inference, not backpropagation under another name: a defect in the energy or in the order of updates
would show in them.

**References:** Millidge, Tschantz and Buckley 2020 (arXiv 2006.04182), the fixed-prediction assumption; Song,
Lukasiewicz, Xu and Bogacz 2020 (*Can the Brain Do Backpropagation? Exact Implementation of Backpropagation in
Predictive Coding Networks*, NeurIPS), zero-divergence inference learning (Z-IL).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.energy import output_loss
from pcbench.reference.gradients import Weights, activity_gradients_from, weight_gradients
from pcbench.reference.network import PCN


def fixed_prediction_gradients(network: PCN, input: jax.Array, target: jax.Array) -> Weights:
    r"""The weight gradients of PC whose predictions, and their derivatives, stay those of the feedforward pass.

    The activities move by \(-(\varepsilon_l - (\partial f_{l+1}/\partial z_l)^\top \varepsilon_{l+1})\) with step size
    1, which reaches the fixed point in \(L-1\) steps: the errors are then backpropagation's.  Stacked as
    `PCN.weights`, mean over the batch.
    """
    batch = input.shape[0]
    start, output = network.forward(input)
    predictions, pull = jax.vjp(
        lambda w, z: _all_predictions(network.with_weights(w), input, z), network.weights, start
    )
    output_error = -jax.grad(lambda f: jnp.sum(network.precision * output_loss(network, f, target)))(output)

    def step(_: int, z: jax.Array) -> jax.Array:
        errors = z - predictions[0]
        # pull() is the transposed derivative of every prediction at the feedforward pass, kept fixed.
        return z - (errors - pull((errors, output_error))[1])

    errors = lax.fori_loop(0, network.depth - 1, step, start) - predictions[0]
    return jax.tree.map(lambda g: -g / batch, pull((errors, output_error))[0])


def zero_divergence_gradients(network: PCN, input: jax.Array, target: jax.Array) -> Weights:
    r"""The weight gradients of Z-IL: step size 1 from the feedforward pass, layer \(l\) read after \(L - l\) steps.

    At that moment the errors have just arrived at layer \(l\) and the activities below have not moved yet.  Stacked as
    `PCN.weights`, mean over the batch.
    """
    bottom = network.bottom(input)
    layers = jnp.arange(2, network.depth)[:, None, None]

    def step(t: jax.Array, state: tuple[jax.Array, Weights]) -> tuple[jax.Array, Weights]:
        z, (first, hidden, last) = state
        now = weight_gradients(network, input, target, z)
        gradients = (
            jnp.where(t == network.depth - 1, now[0], first),
            jnp.where(layers == network.depth - t, now[1], hidden),
            jnp.where(t == 0, now[2], last),
        )
        return z - activity_gradients_from(network, bottom, target, z), gradients

    start = network.forward(input)[0]
    zeros = jax.tree.map(jnp.zeros_like, network.weights)
    return lax.fori_loop(0, network.depth, step, (start, zeros))[1]


def _all_predictions(network: PCN, input: jax.Array, activities: jax.Array) -> tuple[jax.Array, jax.Array]:
    return network.hidden_predictions(network.bottom(input), activities), network.output(activities[-1])
