r"""The \(K\)-dimensional problem behind every equilibrium.

At an equilibrium the errors are \(\varepsilon_l = J_l^\top v\) with \(v = -\lambda\nabla\ell(\hat y)\), where
\(\hat y\) is the output with the errors added.  While the output is linear in the errors, with
\(M = \sum_l J_l J_l^\top\) and output \(\hat y_0\) without errors, \(v\) minimises the convex function

\[\tfrac12 v^\top M v + \lambda\,\ell(\hat y_0 + M v).\]

For `mse` one Newton step solves it exactly: \((I/\lambda + M)v = y - \hat y_0\).

**References:** Innocenti et al. 2024 (arXiv 2408.11979) for `mse`; the general case is the Moreau envelope of the loss
in the metric \(M\).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.energy import output_loss
from pcbench.reference.network import PCN

_NEWTON_STEPS = 50  # quadratic convergence needs about 6; the damped phase of a saturated softmax a few more


def loss_gradient(network: PCN, output: jax.Array, target: jax.Array) -> jax.Array:
    r"""\(\nabla\ell\) with respect to the output, `(batch, K)`; written out, as the loss Hessian below is."""
    if network.loss == "mse":
        return output - target
    return jnp.sum(target, -1, keepdims=True) * jax.nn.softmax(output) - target


def newton_step(network: PCN, v: jax.Array, output: jax.Array, target: jax.Array, M: jax.Array) -> jax.Array:
    r"""The Newton correction \(-(I + \lambda H M)^{-1}(v + \lambda\nabla\ell(\hat y))\) of `v`, `(batch, K)`.

    `output` is the output at `v`, from a real forward pass or from its linear model; `M` is `(1, K, K)`.  The loss
    Hessian \(H\) is written out: the identity for `mse`, so that all samples share one system, and
    \(\sum_k y_k\,(\mathrm{diag}(p) - p p^\top)\) for `ce`; traced from the loss it takes longer than all the rest.
    """
    residual = v + network.precision * loss_gradient(network, output, target)
    identity = jnp.eye(v.shape[-1], dtype=v.dtype)
    if network.loss == "mse":
        return -jnp.linalg.solve(identity + network.precision * M[0], residual.T).T
    p = jax.nn.softmax(output)
    mass = jnp.sum(target, -1)[:, None, None]
    H = mass * (p[:, :, None] * identity - p[:, :, None] * p[:, None, :])
    return -jnp.linalg.solve(identity + network.precision * H @ M, residual[..., None])[..., 0]


def start(network: PCN, output: jax.Array, target: jax.Array, M: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""A `v` from which one Newton step reaches the minimiser, and its output by the linear model, `(batch, K)` both.

    `output` is the output without errors.  For `mse` every `v` will do, for `ce` it is the minimiser.
    """
    zero = jnp.zeros_like(output)
    if network.loss == "mse":
        return zero, output

    def output_at(v: jax.Array) -> jax.Array:
        return output + jnp.einsum("bij,bj->bi", M, v)

    def objective(v: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(v * (output_at(v) - output), -1) + network.precision * output_loss(
            network, output_at(v), target
        )

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        k, v, _ = state
        direction = newton_step(network, v, output_at(v), target, M)
        # Newton may overshoot where the softmax is saturated; the convex objective picks the best of ten lengths.
        lengths = 0.5 ** jnp.arange(10, dtype=v.dtype)
        candidates = v + lengths[:, None, None] * direction
        best = jnp.argmin(jax.vmap(objective)(candidates), axis=0)
        change = jnp.max(jnp.abs(direction)) / (1e-30 + jnp.max(jnp.abs(v)))
        return k + 1, jnp.take_along_axis(candidates, best[None, :, None], 0)[0], change

    def keep_going(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return (state[0] < _NEWTON_STEPS) & (state[2] > 4 * jnp.finfo(output.dtype).eps)

    infinite = jnp.asarray(jnp.inf, output.dtype)
    v = lax.while_loop(keep_going, step, (jnp.asarray(0), zero, infinite))[1]
    return v, output_at(v)
