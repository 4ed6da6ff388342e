r"""The equilibrium of a chain, with its certificate, by the L-BFGS and the Lanczos that serve MLPs.

All errors of a sample are ravelled into one vector, an array `(1, batch, M)`, which those functions read as one
layer of \(M\) units: samples are independent whatever happens within one (attention and normalisation mix its
tokens), so L-BFGS, Lanczos and \(\tfrac12\|\nabla_\varepsilon F_b\|^2/\mu\) hold as they stand.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from pcbench.reference.architectures.chain import Activities, Chain, output_loss, squared_norm
from pcbench.reference.compilation import counted_jit
from pcbench.reference.equilibrium.curvature import lanczos
from pcbench.reference.equilibrium.error_space import dot
from pcbench.reference.equilibrium.nonlinear import SHORTEST, lbfgs
from pcbench.reference.equilibrium.outcome import EquilibriumState, assess, rounding_floor


def ravel(arrays: Activities) -> jax.Array:
    """One vector for each sample, `(1, batch, M)`."""
    return jnp.concatenate([a.reshape(a.shape[0], -1) for a in arrays], axis=-1)[None]


def unravel(vectors: jax.Array, like: Activities) -> Activities:
    """The inverse of `ravel` for arrays of the shapes of `like`."""
    ends = np.cumsum([a.size // a.shape[0] for a in like])[:-1]
    return tuple(v.reshape(a.shape) for v, a in zip(jnp.split(vectors[0], ends, axis=-1), like, strict=True))


def energy_and_gradient(
    chain: Chain, input: jax.Array, target: jax.Array, errors: Activities
) -> tuple[jax.Array, Activities]:
    r"""\(F_b\) `(batch,)` and \(\nabla_\varepsilon F_b\), shaped as the errors: one forward and one backward pass."""

    def total(e: Activities) -> tuple[jax.Array, jax.Array]:
        loss = output_loss(chain, chain.forward(input, e)[1], target)
        each = 0.5 * sum(squared_norm(a) for a in e) + chain.precision * loss
        return jnp.sum(each), each

    gradient, each = jax.grad(total, has_aux=True)(errors)
    return each, gradient


def errors_of(chain: Chain, input: jax.Array, activities: Activities) -> Activities:
    r"""\(\varepsilon_l = z_l - f_l(z_{l-1})\) of any activities."""
    predictions = chain.hidden_predictions(chain.bottom(input), activities)
    return tuple(z - f for z, f in zip(activities, predictions, strict=True))


@counted_jit()
def solve_chain_arrays(chain: Chain, input: Any, target: Any, tolerance: Any, max_evaluations: Any) -> tuple[Any, ...]:
    """Activities, their errors, energy, residual, converged, stalled and evaluations, inside one program."""
    feedforward, output = chain.forward(input)

    def evaluate(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
        each, gradient = energy_and_gradient(chain, input, target, unravel(vectors, feedforward))
        return each, ravel(gradient)

    slope = jax.grad(lambda f: jnp.sum(chain.precision * output_loss(chain, f, target)))(output)
    top, goal = ravel((output,))[0], ravel((target,))[0]

    def allowance(energy: jax.Array, gradient: jax.Array) -> jax.Array:
        gain = dot(gradient, gradient) / jnp.maximum(squared_norm(slope), jnp.finfo(output.dtype).tiny)
        # Of the network, the floor asks for the precision only.
        floor = rounding_floor(cast(Any, chain), ravel(feedforward), top, goal, gain)
        return jnp.maximum(tolerance * energy, floor)

    final = lbfgs(evaluate, jnp.zeros_like(ravel(feedforward)), allowance, max_evaluations)

    z, _ = chain.forward(input, unravel(final.errors, feedforward))
    errors = errors_of(chain, input, z)
    each, gradient = evaluate(ravel(errors))
    residual = jnp.sqrt(dot(gradient, gradient))
    done = 0.5 * residual**2 <= 4 * final.allowed  # the errors were recomputed from the activities, a rounding away
    stalled = jnp.all(done | (final.length < SHORTEST))
    return z, errors, jnp.mean(each), residual, jnp.all(done), stalled, final.evaluations


@counted_jit()
def smallest_chain_curvature(chain: Chain, input: Any, target: Any, errors: Any) -> tuple[jax.Array, jax.Array]:
    """`pcbench.reference.equilibrium.curvature.smallest_curvature` of a chain: `(batch,)` and the products it took."""
    errors = tuple(jnp.asarray(e) for e in errors)
    point = ravel(errors)

    def gradient(vectors: jax.Array) -> jax.Array:
        return ravel(energy_and_gradient(chain, input, target, unravel(vectors, errors))[1])

    start = jax.random.normal(jax.random.key(0), point.shape, point.dtype)
    product = jax.linearize(gradient, point)[1]
    state = lanczos(product, start / jnp.sqrt(dot(start, start))[:, None])
    return state.value - state.error, state.k


def solve(
    chain: Chain,
    input: Any,
    target: Any,
    *,
    tolerance: float = 1e-10,
    max_evaluations: int = 500,
    certify: bool = True,
) -> EquilibriumState:
    r"""The equilibrium reached from the feedforward pass; its `activities` are a tuple of arrays `(batch, ...)`.

    **Arguments:** as those of `pcbench.reference.equilibrium.nonlinear.solve`.  For an affine chain no curvature is
    estimated: its Hessian is at least the identity everywhere, and the certificate no estimate.

    A chain that is not affine may have several equilibria; this is one of them.
    """
    dtype = np.asarray(chain.precision).dtype
    z, errors, energy, residual, converged, stalled, evaluations = solve_chain_arrays(
        chain, input, target, np.asarray(tolerance, dtype), np.asarray(max_evaluations)
    )
    curvature, products = np.full(residual.shape, 1.0 if chain.affine else np.nan), 0
    if certify and not chain.affine and np.isfinite(residual).all():
        curvature, products = smallest_chain_curvature(chain, input, target, errors)
    return assess(
        z,
        energy,
        residual,
        np.asarray(curvature),
        converged=bool(converged),
        stalled=bool(stalled),
        linear=chain.affine,
        activation=chain.activation,
        certify=certify or chain.affine,
        evaluations=int(evaluations),
        certificate_evaluations=1 + 2 * int(products),
    )
