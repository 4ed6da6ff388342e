r"""The energy of a PCN, written once; every gradient of the reference is JAX's derivative of it.

\[F = \frac1B \sum_b \Big[\tfrac12 \sum_{l<L} \|z_l - f_l\|^2 + \lambda\,\ell(y, f_L)\Big].\]
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pcbench.reference.network import PCN


def output_loss(network: PCN, output: jax.Array, target: jax.Array) -> jax.Array:
    r"""\(\ell(y, \hat y)\) of each sample, `(batch,)`, without \(\lambda\); `output` holds logits for `ce`."""
    if network.loss == "mse":
        return 0.5 * jnp.sum((target - output) ** 2, axis=-1)
    return -jnp.sum(target * jax.nn.log_softmax(output), axis=-1)


def sample_energies(network: PCN, bottom: jax.Array, target: jax.Array, activities: jax.Array) -> jax.Array:
    r"""The energy of each layer and sample, `(L, batch)`, \(\lambda\) included in the last row.

    `bottom` is \(f_1(x)\) from `PCN.bottom`.
    """
    errors = activities - network.hidden_predictions(bottom, activities)
    hidden = 0.5 * jnp.sum(errors**2, axis=-1)
    last = network.precision * output_loss(network, network.output(activities[-1]), target)
    return jnp.concatenate([hidden, last[None]])


def layer_energies(network: PCN, input: jax.Array, target: jax.Array, activities: jax.Array) -> jax.Array:
    """The energy of each layer, `(L,)`, mean over the batch; they add up to `energy`."""
    return jnp.mean(sample_energies(network, network.bottom(input), target, activities), axis=1)


def total_energy(network: PCN, input: jax.Array, target: jax.Array, activities: jax.Array) -> jax.Array:
    """The total energy, mean over the batch."""
    return jnp.sum(layer_energies(network, input, target, activities))
