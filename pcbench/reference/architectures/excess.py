r"""How far PC can be from backpropagation at initialisation: whether a setting tests the limit of wide networks at all.

At an equilibrium the errors are \(\varepsilon_l = J_l^\top v\), those of backpropagation \(J_l^\top r\), with
\(J_l = \partial\hat y/\partial z_l\).  PC departs in two ways, each of which has a number here:

- \(v\) is smaller than \(r\), by the *excess* of \(S = I + \lambda\sum_l J_l J_l^\top\) over the identity;
- the weight gradients pair the errors with activities that the errors have moved, by the *shift*.

They vanish with the width alike in an MLP under `mupc`, but they are not the same: the excess is quadratic in the size
of the readout, the shift linear in it and relative to the size of the activities.  Weights of small standard deviation
make the excess, and with it every difference in energy, negligible at any width, and leave the shift, and with it the
difference in gradients, as it was.

An equilibrium lowers the energy by about the excess times the loss, so the tolerance of its solver, relative to the
loss, must be far below the excess.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.architectures.chain import Chain, squared_norm
from pcbench.reference.architectures.equilibrium import energy_and_gradient
from pcbench.reference.compilation import counted_jit


@counted_jit()
def excess_at_initialisation(chain: Chain, input: Any) -> jax.Array:
    r"""\(\mathrm{tr}(S - I)/K = \frac\lambda K\sum_l \|J_l\|_F^2\) of the feedforward pass, mean over the batch.

    \(K\) counts the outputs of a sample, tokens included; each costs a backward pass.  In an affine chain with squared
    error the loss over the energy of the equilibrium is between 1 and the largest eigenvalue of \(S\).  Where the
    excess is far below 1, that ratio is 1 at this width already, and a comparison of energy and loss tests no limit.
    """
    feedforward, output = chain.forward(input)
    zero = tuple(jnp.zeros_like(z) for z in feedforward)
    pull = jax.vjp(lambda e: chain.forward(input, e)[1], zero)[1]
    count = output.size // output.shape[0]

    def add(k: jax.Array, total: jax.Array) -> jax.Array:
        row = jax.nn.one_hot(k, count, dtype=output.dtype).reshape(output.shape[1:])
        return total + sum(jnp.sum(squared_norm(j)) for j in pull(jnp.broadcast_to(row, output.shape))[0])

    total = lax.fori_loop(0, count, add, jnp.zeros((), output.dtype))
    return chain.precision * total / output.size


@counted_jit()
def shift_at_initialisation(chain: Chain, input: Any, target: Any) -> jax.Array:
    r"""How far the errors of backpropagation move the activities, relatively: \(\|z - \hat z\|/\|\hat z\|\).

    Norms are over all layers of a sample, the mean over the batch.  The activities \(z\) have the errors
    \(-\partial F_b/\partial\varepsilon_l\) of the feedforward pass \(\hat z\), those of PC to first order in the
    excess.  Where excess and shift are far below 1, the weight gradients of PC at equilibrium are those of
    backpropagation whatever the width.
    """
    feedforward, _ = chain.forward(input)
    zero = tuple(jnp.zeros_like(z) for z in feedforward)
    slope = energy_and_gradient(chain, input, target, zero)[1]
    moved, _ = chain.forward(input, tuple(-e for e in slope))
    change = sum(squared_norm(z - f) for z, f in zip(moved, feedforward, strict=True))
    return jnp.mean(jnp.sqrt(change / sum(squared_norm(f) for f in feedforward)))
