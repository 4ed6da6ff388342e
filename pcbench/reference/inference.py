r"""Inference: gradient descent on the activities, all layers at once, in one compiled loop.

\(z_l \leftarrow z_l - \eta\,\partial F_b/\partial z_l\), each sample by its own energy.  The number of steps and the
step size are values, so no choice of either recompiles.
"""

from __future__ import annotations

import jax
from jax import lax

from pcbench.reference.gradients import activity_gradients_from
from pcbench.reference.network import PCN


def infer(
    network: PCN, input: jax.Array, target: jax.Array, activities: jax.Array, steps: jax.Array, step_size: jax.Array
) -> jax.Array:
    """The activities `(L-1, batch, N)` after exactly `steps` steps from `activities`."""
    bottom = network.bottom(input)

    def step(_: jax.Array, z: jax.Array) -> jax.Array:
        return z - step_size * activity_gradients_from(network, bottom, target, z)

    return lax.fori_loop(0, steps, step, activities)
