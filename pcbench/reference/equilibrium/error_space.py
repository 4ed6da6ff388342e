r"""The energy as a function of the prediction errors, and the certificate of equilibrium it gives.

With the errors \(\varepsilon\) as variables and \(\hat y(\varepsilon)\) the output of a forward pass to which they are
added, \(F_b = \tfrac12\|\varepsilon\|^2 + \lambda\,\ell(\hat y(\varepsilon))\).  The Hessian is
\(I + \lambda J^\top H J\) plus a curvature term that vanishes in linear networks, so the conditioning does not grow
with depth as it does in the space of activities (arXiv 2505.20137).  Where the Hessian is at least \(\mu I\) between a
point and the equilibrium,

\[F_b - F_b^* \le \frac{1}{2\mu}\|\nabla_\varepsilon F_b\|^2, \qquad
\|\varepsilon - \varepsilon^*\| \le \frac1\mu\|\nabla_\varepsilon F_b\|.\]
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pcbench.reference.energy import output_loss
from pcbench.reference.network import PCN


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """The inner product of each sample over layers and units, `(..., L-1, batch, N)` to `(..., batch)`."""
    return jnp.sum(a * b, axis=(-3, -1))


def energy_and_gradient(
    network: PCN, input: jax.Array, target: jax.Array, errors: jax.Array
) -> tuple[jax.Array, jax.Array]:
    r"""\(F_b\) `(batch,)` and \(\nabla_\varepsilon F_b\) `(L-1, batch, N)`: one forward and one backward pass."""

    def total(e: jax.Array) -> tuple[jax.Array, jax.Array]:
        each = 0.5 * dot(e, e) + network.precision * output_loss(network, network.forward(input, e)[1], target)
        return jnp.sum(each), each

    gradient, each = jax.grad(total, has_aux=True)(errors)
    return each, gradient


def errors_of(network: PCN, input: jax.Array, activities: jax.Array) -> jax.Array:
    r"""\(\varepsilon_l = z_l - f_l(z_{l-1})\) of any activities, `(L-1, batch, N)`."""
    return activities - network.hidden_predictions(network.bottom(input), activities)
