r"""The reference network: an immutable pytree with stacked hidden weights, its predictions and its feedforward pass.

Hidden layers have equal widths, so their weights are one array `(L-2, N, N)`: a depth of 4 and of 400 trace the same
program, and the predictions of all hidden layers at given activities are one batched matrix product.  Only the
activation, its placement and the loss are static; scalings, skips and precision are values.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcbench.errors import ProblemError
from pcbench.problem.network import Network
from pcbench.reference.activation import ACTIVATIONS


def matmul(weights: jax.Array, activities: jax.Array) -> jax.Array:
    r"""\(z W^\top\) over any leading layer axis, `(..., m, n)` and `(..., batch, n)` to `(..., batch, m)`.

    At highest precision, because the default on accelerators is not that of the dtype; without `einsum`, which takes
    several milliseconds of every trace.
    """
    stack = tuple(range(weights.ndim - 2))
    contracted = ((activities.ndim - 1,), (weights.ndim - 1,))
    return lax.dot_general(activities, weights, (contracted, (stack, stack)), precision=lax.Precision.HIGHEST)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PCN:
    r"""A residual MLP as a PCN; see `pcbench.problem.network.Network` for the equations.

    **Arguments:** `first` \(W_1\) `(N, D)`, `hidden` \(W_2 \dots W_{L-1}\) `(L-2, N, N)`, `last` \(W_L\) `(K, N)`,
    `scalings` \(a_1 \dots a_L\) `(L,)`, `skips` \(\tau_2 \dots \tau_{L-1}\) `(L-2,)`, `precision` \(\lambda\) `()`, all
    of one dtype; `activation`, `placement` and `loss` are static.
    """

    first: Any
    hidden: Any
    last: Any
    scalings: Any
    skips: Any
    precision: Any
    activation: str = field(metadata={"static": True})
    placement: str = field(metadata={"static": True})
    loss: str = field(metadata={"static": True})

    @classmethod
    def from_network(cls, network: Network, *, hidden: bool = True) -> PCN:
        """The same network with NumPy arrays of the network's dtype, hidden weights stacked (copied) or left out.

        **Raises:** `ProblemError` if hidden layers differ in width.
        """
        widths = set(network.dims[1:-1])
        if len(widths) != 1:
            raise ProblemError(
                f"hidden widths {sorted(widths)}: the reference stacks hidden layers, needed equal widths"
            )
        width, dtype = widths.pop(), network.dtype
        inner = network.weights[1:-1] if hidden else ()
        return cls(
            first=network.weights[0],
            hidden=np.stack(inner) if inner else np.zeros((0, width, width), dtype),
            last=network.weights[-1],
            scalings=np.asarray(network.scalings, dtype),
            skips=np.asarray(network.skips[1:-1], dtype),
            precision=np.asarray(network.precision, dtype),
            activation=network.activation,
            placement=network.placement,
            loss=network.loss,
        )

    @property
    def depth(self) -> int:
        r"""The number of weight matrices, \(L\)."""
        return self.hidden.shape[0] + 2

    @property
    def weights(self) -> tuple[Any, Any, Any]:
        r"""\(W_1\), the stacked \(W_2 \dots W_{L-1}\), and \(W_L\): what learning changes."""
        return self.first, self.hidden, self.last

    def with_weights(self, weights: tuple[Any, Any, Any]) -> PCN:
        """The same network with other weights, stacked as in `weights`."""
        return replace(self, first=weights[0], hidden=weights[1], last=weights[2])

    # ---- predictions --------------------------------------------------------------------------------------------

    def bottom(self, input: jax.Array) -> jax.Array:
        r"""\(f_1(x)\), `(batch, N)`, which inference never changes: compute it once."""
        drive = self.scalings[0] * matmul(self.first, input)
        return drive if self.placement == "before-weight" else ACTIVATIONS[self.activation](drive)

    def layer(self, weight: jax.Array, scaling: jax.Array, skip: jax.Array, activities: jax.Array) -> jax.Array:
        r"""\(f_l(z_{l-1})\) of hidden layers, `(..., batch, N)`: one layer, or several stacked along a leading axis."""
        phi = ACTIVATIONS[self.activation]
        scaling, skip = scaling[..., None, None], skip[..., None, None]
        if self.placement == "before-weight":
            return skip * activities + scaling * matmul(weight, phi(activities))
        return skip * activities + phi(scaling * matmul(weight, activities))

    def output(self, activities: jax.Array) -> jax.Array:
        r"""\(f_L(z_{L-1})\), `(batch, K)`: the prediction of the target, logits for `ce`."""
        if self.placement == "before-weight":
            activities = ACTIVATIONS[self.activation](activities)
        return self.scalings[-1] * matmul(self.last, activities)

    def hidden_predictions(self, bottom: jax.Array, activities: jax.Array) -> jax.Array:
        r"""\(f_1 \dots f_{L-1}\) at given activities `(L-1, batch, N)`, all layers at once."""
        above = self.layer(self.hidden, self.scalings[1:-1], self.skips, activities[:-1])
        return jnp.concatenate([bottom[None], above])

    def forward(self, input: jax.Array, errors: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        r"""The activities `(L-1, batch, N)` and output `(batch, K)` of \(z_l = f_l(z_{l-1}) + \varepsilon_l\).

        Without `errors` `(L-1, batch, N)` it is the feedforward pass.  As a function of the errors it is the map
        between the error space and the activities (arXiv 2505.20137).
        """

        def step(below: jax.Array, parameters: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
            weight, scaling, skip, error = parameters
            z = self.layer(weight, scaling, skip, below)
            z = z if error is None else z + error
            return z, z

        z = self.bottom(input)
        z = z if errors is None else z + errors[0]
        above = None if errors is None else errors[1:]
        top, rest = lax.scan(step, z, (self.hidden, self.scalings[1:-1], self.skips, above))
        return jnp.concatenate([z[None], rest]), self.output(top)
