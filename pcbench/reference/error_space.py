r"""The energy as a function of the prediction errors, and the certificate of equilibrium it gives.

With the errors \(\varepsilon\) as variables and \(\hat y(\varepsilon)\) the output of a forward pass to which they are
added, \(F_b = \tfrac12\|\varepsilon\|^2 + \lambda\,\ell(\hat y(\varepsilon))\).  The Hessian is
\(I + \lambda J^\top H J\) plus a curvature term that vanishes in linear networks, so the conditioning does not grow with
depth as it does in the space of activities (arXiv 2505.20137).  Where the Hessian is at least \(\mu I\) between a point
and the equilibrium,

\[F_b - F_b^* \le \frac{1}{2\mu}\|\nabla_\varepsilon F_b\|^2, \qquad
\|\varepsilon - \varepsilon^*\| \le \frac1\mu\|\nabla_\varepsilon F_b\|.\]
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.energy import output_loss
from pcbench.reference.network import PCN


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """The inner product of each sample over layers and units, `(..., L-1, batch, N)` to `(..., batch)`."""
    return jnp.sum(a * b, axis=(-3, -1))


def energy_and_gradient(network: PCN, input: jax.Array, target: jax.Array, errors: jax.Array) -> tuple[jax.Array, ...]:
    r"""\(F_b\) `(batch,)` and \(\nabla_\varepsilon F_b\) `(L-1, batch, N)`: one forward and one backward pass."""

    def total(e: jax.Array) -> tuple[jax.Array, jax.Array]:
        each = 0.5 * dot(e, e) + network.precision * output_loss(network, network.forward(input, e)[1], target)
        return jnp.sum(each), each

    gradient, each = jax.grad(total, has_aux=True)(errors)
    return each, gradient


def errors_of(network: PCN, input: jax.Array, activities: jax.Array) -> jax.Array:
    r"""\(\varepsilon_l = z_l - f_l(z_{l-1})\) of any activities, `(L-1, batch, N)`."""
    return activities - network.hidden_predictions(network.bottom(input), activities)


def smallest_curvature(
    network: PCN, input: jax.Array, target: jax.Array, errors: jax.Array, steps: int = 6
) -> jax.Array:
    r"""An estimate of the smallest eigenvalue of each sample's error-space Hessian, `(batch,)`.

    Lanczos with `steps` Hessian-vector products from a fixed random vector: the smallest Ritz value less its residual
    norm, so that an unfinished run errs towards "not positive".  An estimate, not a proof: a direction that is
    orthogonal to the start stays unseen.
    """

    def product(v: jax.Array) -> jax.Array:
        return jax.jvp(lambda e: energy_and_gradient(network, input, target, e)[1], (errors,), (v,))[1]

    start = jax.random.normal(jax.random.key(0), errors.shape, errors.dtype)
    return _lanczos(product, start / jnp.sqrt(dot(start, start))[:, None], steps)


def _lanczos(product: Callable[[jax.Array], jax.Array], start: jax.Array, steps: int) -> jax.Array:
    """Smallest Ritz value minus its residual, for every sample at once, with full reorthogonalisation."""
    batch, dtype = start.shape[-2], start.dtype
    basis = jnp.zeros((steps, *start.shape), dtype).at[0].set(start)

    def step(k: int, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        basis, alpha, beta = state
        w = product(basis[k])
        alpha = alpha.at[k].set(dot(basis[k], w))
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            w = w - jnp.einsum("kb,klbn->lbn", dot(basis, w), basis)
        size = jnp.sqrt(dot(w, w))
        # An invariant subspace has been found where nothing is left: stop there with a residual of zero.
        size = jnp.where(size > 100 * jnp.finfo(dtype).eps * jnp.abs(alpha[k]), size, 0)
        follow = jnp.where(size[:, None] > 0, w / jnp.where(size > 0, size, 1)[:, None], 0)
        basis = basis.at[jnp.minimum(k + 1, steps - 1)].set(jnp.where(k + 1 < steps, follow, basis[steps - 1]))
        return basis, alpha, beta.at[k].set(size)

    zeros = jnp.zeros((steps, batch), dtype)
    _, alpha, beta = lax.fori_loop(0, steps, step, (basis, zeros, zeros))
    # Rows after a breakdown are decoupled; they get the first diagonal entry, which no minimum can undercut falsely.
    alive = jnp.concatenate([jnp.ones((1, batch), bool), jnp.cumprod(beta[:-1] > 0, axis=0).astype(bool)])
    alpha = jnp.where(alive, alpha, alpha[0])
    off = jnp.where(alive[1:], beta[:-1], 0)
    tridiagonal = jax.vmap(lambda a, b: jnp.diag(a) + jnp.diag(b, 1) + jnp.diag(b, -1), in_axes=1)(alpha, off)
    values, vectors = jnp.linalg.eigh(tridiagonal)
    last = jnp.where(jnp.all(alive, axis=0), beta[-1], 0)
    return values[:, 0] - last * jnp.abs(vectors[:, -1, 0])
