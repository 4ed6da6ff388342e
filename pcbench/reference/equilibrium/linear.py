r"""The exact equilibrium of a linear network at the cost of a few passes, at any depth.

The rows of the Jacobians \(J_l = \partial\hat y/\partial z_l\) come from \(K\) backward passes, which do not depend on
the data; the equilibrium errors are themselves a backward pass, \(\varepsilon_l^* = J_l^\top v\), with \(v\) from a
\(K\)-dimensional problem (`pcbench.reference.equilibrium.output_space`); a forward pass with the errors added gives the
activities.  \(O(L N^2 (B + K))\) in all, where the activity Hessian would have \(N(L-1)\) rows.

**References:** Innocenti et al. 2024 (arXiv 2408.11979), whose closed-form energy is that of this equilibrium.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcbench.errors import UsageError
from pcbench.reference.compilation import counted_jit
from pcbench.reference.energy import output_loss
from pcbench.reference.equilibrium import output_space
from pcbench.reference.equilibrium.error_space import dot, errors_of
from pcbench.reference.equilibrium.outcome import EquilibriumState, assess, rounding_floor
from pcbench.reference.network import PCN

_EXACT = lax.Precision.HIGHEST


def jacobians(network: PCN) -> jax.Array:
    r"""\(J_1 \dots J_{L-1}\) of a linear network, `(L-1, K, N)`: \(J_{l-1} = \tau_l J_l + a_l J_l W_l\)."""

    def step(rows: jax.Array, layer: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        weight, scaling, skip = layer
        below = skip * rows + scaling * jnp.matmul(rows, weight, precision=_EXACT)
        return below, below

    top = network.scalings[-1] * network.last
    layers = (network.hidden, network.scalings[1:-1], network.skips)
    return jnp.concatenate([lax.scan(step, top, layers, reverse=True)[1], top[None]])


@counted_jit()
def solve_arrays(network: PCN, input: Any, target: Any, tolerance: Any) -> tuple[jax.Array, ...]:
    """The activities with their energy, residual and whether every sample converged, inside one program."""
    rows = jacobians(network)
    M = jnp.einsum("lkn,ljn->kj", rows, rows, precision=_EXACT)[None]
    feedforward, output = network.forward(input)

    def errors(v: jax.Array) -> jax.Array:
        return jnp.einsum("bk,lkn->lbn", v, rows, precision=_EXACT)

    def iterate(_: Any, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        v, _, predicted = state
        v = v + output_space.newton_step(network, v, predicted, target, M)
        return v, *network.forward(input, errors(v))

    # The second turn refines against the output of a real forward pass, which takes out the rounding of M.
    start = output_space.start(network, output, target, M)
    _, z, predicted = lax.fori_loop(0, 2, iterate, (start[0], feedforward, start[1]))
    remaining = errors_of(network, input, z)
    gradient = remaining + errors(network.precision * output_space.loss_gradient(network, predicted, target))
    energy = 0.5 * dot(remaining, remaining) + network.precision * output_loss(network, predicted, target)
    residual = jnp.sqrt(dot(gradient, gradient))
    floor = rounding_floor(network, feedforward, output, target, jnp.trace(M, axis1=-2, axis2=-1))
    allowed = jnp.maximum(tolerance * network.precision * output_loss(network, output, target), floor)
    return z, jnp.mean(energy), residual, jnp.all(0.5 * residual**2 <= allowed)


def solve(network: PCN, input: Any, target: Any, *, tolerance: float = 1e-10) -> EquilibriumState:
    r"""The equilibrium of a linear network, for any loss, with its certificate.

    **Arguments:** `tolerance`: the certificate a sample needs to count as converged, relative to its feedforward
    energy; the solver is direct, so it decides the outcome only.

    **Raises:** `UsageError` if the activation is not linear.
    """
    if network.activation != "linear":
        raise UsageError(
            f"activation={network.activation!r}: needed linear, use pcbench.reference.equilibrium.nonlinear"
        )
    z, energy, residual, converged = solve_arrays(network, input, target, np.asarray(tolerance, network.last.dtype))
    return assess(
        z,
        energy,
        residual,
        np.ones(residual.shape),
        converged=bool(converged),
        stalled=True,
        linear=True,
        activation=network.activation,
        evaluations=network.last.shape[0] + 3,
        certificate_evaluations=2,
    )
