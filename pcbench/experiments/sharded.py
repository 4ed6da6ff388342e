r"""Widths beyond one device: the linear equilibrium and its gradients with every weight matrix spread over a mesh.

The axis that is split is the width: device \(i\) holds the rows of its own hidden units in \(W_1\) and in every hidden
matrix, and their columns in \(W_L\), which is \(1/n\) of all weights and of all gradients.  The programs are those of
`pcbench.reference`; XLA splits them along the weights and inserts the communication, activities `(batch, N)` for every
layer, which is \(N\) times less than the weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pcbench.errors import UsageError
from pcbench.experiments.scaling.alignment import distances
from pcbench.problem.network import Network
from pcbench.reference import gradients
from pcbench.reference.compilation import counted_jit
from pcbench.reference.energy import output_loss
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.network import PCN

AXIS = "width"
_WEIGHTS = (PartitionSpec(AXIS, None), PartitionSpec(None, AXIS, None), PartitionSpec(None, AXIS))
# The solver's jitted entry point chooses compiler options, which a program inside another one cannot have.
_solve = inspect.unwrap(equilibrium_linear.solve_arrays)


@dataclass(frozen=True)
class ShardedEquilibrium:
    r"""PC at the exact equilibrium of a linear network, against backpropagation, over a mesh.

    - `loss`: \(\lambda\,\mathrm{loss}\); `energy`: \(F^*\); both mean over the batch.
    - `residual`: the largest \(\|\nabla_\varepsilon F_b\|\) of a sample, and `converged`: whether it is as small as
      rounding allows.
    - `gradient_error`, `misalignment`: as in `pcbench.experiments.scaling.alignment`.
    - `gradients`: \(\nabla F^*\), stacked as `PCN.weights` and spread as the weights are.
    """

    loss: float
    energy: float
    residual: float
    converged: bool
    gradient_error: float
    misalignment: float
    gradients: tuple[jax.Array, jax.Array, jax.Array]


def mesh_of(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis over `devices`, by default all that JAX has."""
    return Mesh(np.array(jax.devices() if devices is None else list(devices)), (AXIS,))


def place(network: PCN, mesh: Mesh) -> PCN:
    """The network with its weights spread over the mesh; no device ever holds a whole hidden matrix.

    **Raises:** `UsageError` unless the number of devices divides the width.
    """
    width, count = network.last.shape[1], mesh.size
    if width % count:
        raise UsageError(f"width={width} on {count} devices: needed a multiple of {count}, or fewer devices")
    everywhere = NamedSharding(mesh, PartitionSpec())
    first, hidden, last = (
        jax.device_put(weight, NamedSharding(mesh, spec))
        for weight, spec in zip(network.weights, _WEIGHTS, strict=True)
    )
    values = {name: jax.device_put(getattr(network, name), everywhere) for name in ("scalings", "skips", "precision")}
    return replace(network, first=first, hidden=hidden, last=last, **values)


@counted_jit(static=("mesh",))
def _compare(network: PCN, input: Any, target: Any, tolerance: Any, *, mesh: Mesh) -> tuple[Any, ...]:
    z, energy, residual, converged = _solve(network, input, target, tolerance)
    loss = jnp.mean(network.precision * output_loss(network, network.forward(input)[1], target))
    pc = _spread(gradients.weight_gradients(network, input, target, z), mesh)
    bp = _spread(gradients.backpropagation(network, input, target), mesh)
    return loss, energy, jnp.max(residual), converged, *distances(pc, bp), pc


def _spread(weights: Any, mesh: Mesh) -> Any:
    """Gradients where the weights are: without this the compiler may gather them."""
    return tuple(
        jax.lax.with_sharding_constraint(g, NamedSharding(mesh, spec))
        for g, spec in zip(weights, _WEIGHTS, strict=True)
    )


def compare(
    network: Network | PCN, input: np.ndarray, target: np.ndarray, mesh: Mesh, *, tolerance: float = 1e-10
) -> ShardedEquilibrium:
    r"""The equilibrium and gradients of a linear network, computed on all devices of `mesh`.

    **Arguments:** `network`: one in this machine's memory, or one that `place` has spread already; `input`
    `(batch, D)`, `target` `(batch, K)`; `tolerance` as in `pcbench.reference.equilibrium.linear.solve`.

    **Raises:** `UsageError` if the network is not linear, or as `place`.
    """
    pcn = PCN.from_network(network) if isinstance(network, Network) else network
    if pcn.activation != "linear":
        raise UsageError(f"activation={pcn.activation!r} over a mesh: needed linear, whose equilibrium is exact")
    dtype = pcn.last.dtype
    everywhere = NamedSharding(mesh, PartitionSpec())
    with jax.enable_x64(dtype == np.float64):
        pcn = place(pcn, mesh)
        data = (jax.device_put(np.asarray(a, dtype), everywhere) for a in (input, target))
        loss, energy, residual, converged, error, misalignment, found = _compare(
            pcn, *data, np.asarray(tolerance, dtype), mesh=mesh
        )
        return ShardedEquilibrium(
            loss=float(loss),
            energy=float(energy),
            residual=float(residual),
            converged=bool(converged),
            gradient_error=float(error),
            misalignment=float(misalignment),
            gradients=found,
        )
