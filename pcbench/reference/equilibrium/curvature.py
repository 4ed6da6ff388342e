r"""An estimate of the smallest eigenvalue of the error-space Hessian, on which a nonlinear certificate rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.compilation import counted_jit
from pcbench.reference.equilibrium.error_space import dot, energy_and_gradient
from pcbench.reference.network import PCN

STEPS = 24
FEWEST = 10
"""Lanczos steps at least: a random start is dominated by the bulk of eigenvalues near 1, so its first Ritz values are
accurate and yet not the smallest; measured on tanh and gelu, L = 32, ten steps come within 0.1 of it."""


class _State(NamedTuple):
    """Lanczos vectors `(STEPS, L-1, batch, N)`, the two diagonals `(STEPS, batch)`, and the bounds so far."""

    basis: jax.Array
    alpha: jax.Array
    beta: jax.Array
    value: jax.Array
    error: jax.Array
    k: jax.Array


@counted_jit()
def smallest_curvature(network: PCN, input: Any, target: Any, errors: Any) -> tuple[jax.Array, jax.Array]:
    r"""A lower estimate of the smallest eigenvalue of each sample's Hessian, `(batch,)`, and the products it took.

    Lanczos from a fixed random vector until the smallest Ritz value of every sample is known to half its size, at
    least `FEWEST` and at most `STEPS` Hessian-vector products.  The estimate is that value less its residual norm, so
    that an unfinished run errs towards "not positive".  No proof: a direction orthogonal to the start stays unseen.
    """
    errors = jnp.asarray(errors)

    def product(v: jax.Array) -> jax.Array:
        return jax.jvp(lambda e: energy_and_gradient(network, input, target, e)[1], (errors,), (v,))[1]

    start = jax.random.normal(jax.random.key(0), errors.shape, errors.dtype)
    state = lanczos(product, start / jnp.sqrt(dot(start, start))[:, None])
    return state.value - state.error, state.k


def lanczos(product: Callable[[jax.Array], jax.Array], start: jax.Array) -> _State:
    """Lanczos of every sample at once, with full reorthogonalisation."""
    zeros = jnp.zeros((STEPS, start.shape[-2]), start.dtype)
    basis = jnp.zeros((STEPS + 1, *start.shape), start.dtype).at[0].set(start)

    def step(state: _State) -> _State:
        k = state.k
        w = product(state.basis[k])
        alpha = state.alpha.at[k].set(dot(state.basis[k], w))

        def orthogonalise(_: int, w: jax.Array) -> jax.Array:
            return w - jnp.einsum("kb,klbn->lbn", dot(state.basis, w), state.basis)

        w = lax.fori_loop(0, 2, orthogonalise, w)  # twice is enough (Kahan and Parlett)
        size = jnp.sqrt(dot(w, w))
        # Nothing left: the space is invariant, the run of this sample complete, its Ritz values exact.
        size = jnp.where(size > 100 * jnp.finfo(w.dtype).eps * jnp.max(jnp.abs(alpha), axis=0), size, 0)
        follow = jnp.where(size[:, None] > 0, w / jnp.where(size > 0, size, 1)[:, None], 0)
        beta = state.beta.at[k].set(size)
        value, error = _smallest_ritz(alpha, beta, k)
        return _State(state.basis.at[k + 1].set(follow), alpha, beta, value, error, k + 1)

    def keep_going(state: _State) -> jax.Array:
        vague = jnp.any(state.error > 0.5 * jnp.abs(state.value))
        return (state.k < FEWEST) | ((state.k < STEPS) & vague)

    infinite = jnp.full_like(zeros[0], jnp.inf)
    return lax.while_loop(keep_going, step, _State(basis, zeros, zeros, zeros[0], infinite, jnp.asarray(0)))


def _smallest_ritz(alpha: jax.Array, beta: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The smallest eigenvalue of each leading `k + 1` square block, and the residual norm of its vector."""
    row = jnp.arange(STEPS)[:, None]
    # A row counts until the run of its sample is complete.  The others are decoupled from it and get a diagonal no
    # smaller than the rest, so that the smallest eigenvalue is not theirs.
    complete = jnp.concatenate([jnp.zeros_like(beta[:1]), jnp.cumsum(beta == 0, axis=0)[:-1]]) > 0
    used = (row <= k) & ~complete
    diagonal = jnp.where(used, alpha, jnp.max(jnp.where(used, alpha, -jnp.inf), axis=0))
    off = jnp.where(used[1:], beta[:-1], 0)
    matrix = jax.vmap(lambda a, b: jnp.diag(a) + jnp.diag(b, 1) + jnp.diag(b, -1), in_axes=1)(diagonal, off)
    values, vectors = jnp.linalg.eigh(matrix)
    last = jnp.sum(used, axis=0) - 1
    tail = jnp.take_along_axis(vectors[:, :, 0], last[:, None], 1)[:, 0]
    return values[:, 0], jnp.abs(tail) * jnp.take_along_axis(beta, last[None], 0)[0]
