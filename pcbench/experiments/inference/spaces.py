r"""The two spaces in which inference minimises one energy: the activities and the prediction errors.

An algorithm sees a `Space`, a function per sample with gradient and Hessian products, and does not know which of the
two it is.  Both report one certificate, \(\tfrac12\|\nabla_\varepsilon F_b\|^2\).  In error space it is half the
squared gradient.  In the space of activities \(\varepsilon_l = z_l - f_l(z_{l-1})\) gives, with \(g\) the gradient for
the errors,

\[\partial F_b/\partial z_l = g_l - (\partial f_{l+1}/\partial z_l)^\top g_{l+1},\]

which one sweep from the top solves for \(g\): half the cost of an activity gradient.

**References:** Goemaere et al. 2025 (arXiv 2505.20137) for error space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.energy import sample_energies
from pcbench.reference.equilibrium.error_space import dot, energy_and_gradient
from pcbench.reference.network import PCN


class Space(NamedTuple):
    r"""What inference minimises over; points and gradients are `(L-1, batch, N)`, energies `(batch,)`.

    - `start`: the feedforward pass.
    - `energy_and_gradient`: \(F_b\) and its gradient, not divided by the batch.
    - `product`: at a point, the Hessian times a direction.
    - `certificate`: from a point and the gradient there, \(\tfrac12\|\nabla_\varepsilon F_b\|^2\).
    - `activities`: of a point.
    - `quadratic`: whether the energy is, so that a Hessian product is a gradient of the homogeneous part.
    - `free_certificate`: whether the certificate costs no pass through the network.
    """

    start: jax.Array
    energy_and_gradient: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    product: Callable[[jax.Array, jax.Array], jax.Array]
    certificate: Callable[[jax.Array, jax.Array], jax.Array]
    activities: Callable[[jax.Array], jax.Array]
    quadratic: bool
    free_certificate: bool


def is_quadratic(network: PCN) -> bool:
    """Whether the energy is a quadratic function of activities and errors."""
    return network.activation == "linear" and network.loss == "mse"


def make_activity_space(network: PCN, input: jax.Array, target: jax.Array) -> Space:
    """The space of the activities, in which inference is local."""
    bottom = network.bottom(input)

    def value(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        def total(z: jax.Array) -> tuple[jax.Array, jax.Array]:
            each = jnp.sum(sample_energies(network, bottom, target, z), axis=0)
            return jnp.sum(each), each

        gradient, each = jax.grad(total, has_aux=True)(z)
        return each, gradient

    def certificate(z: jax.Array, gradient: jax.Array) -> jax.Array:
        g = error_gradient(network, z, gradient)
        return 0.5 * dot(g, g)

    return Space(
        start=network.forward(input)[0],
        energy_and_gradient=value,
        product=_product(value),
        certificate=certificate,
        activities=lambda z: z,
        quadratic=is_quadratic(network),
        free_certificate=False,
    )


def make_error_space(network: PCN, input: jax.Array, target: jax.Array) -> Space:
    """The space of the prediction errors, in which every gradient is a pass up and a pass down."""

    def value(errors: jax.Array) -> tuple[jax.Array, jax.Array]:
        return energy_and_gradient(network, input, target, errors)

    return Space(
        start=jnp.zeros_like(network.forward(input)[0]),
        energy_and_gradient=value,
        product=_product(value),
        certificate=lambda _, gradient: 0.5 * dot(gradient, gradient),
        activities=lambda errors: network.forward(input, errors)[0],
        quadratic=is_quadratic(network),
        free_certificate=True,
    )


def error_gradient(network: PCN, activities: jax.Array, gradient: jax.Array) -> jax.Array:
    r"""\(\nabla_\varepsilon F_b\) from \(\partial F_b/\partial z\), both `(L-1, batch, N)`: one sweep from the top."""

    def step(above: jax.Array, layer: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        weight, scaling, skip, z, own = layer
        pulled = jax.vjp(lambda z: network.layer(weight, scaling, skip, z), z)[1](above)[0]
        return own + pulled, own + pulled

    layers = (network.hidden, network.scalings[1:-1], network.skips, activities[:-1], gradient[:-1])
    below = lax.scan(step, gradient[-1], layers, reverse=True)[1]
    return jnp.concatenate([below, gradient[-1:]])


def _product(
    value: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda point, direction: jax.jvp(lambda p: value(p)[1], (point,), (direction,))[1]
