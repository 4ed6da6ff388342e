r"""Distance of predictive coding at equilibrium from backpropagation, at the same weights and data.

Direction and norm both: the cosine alone is blind to parameterisations under which PC's gradient is that of
backpropagation times a constant that is not 1 (W4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcbench.problem.network import Network
from pcbench.reference import gradients
from pcbench.reference.architectures import chain as chains
from pcbench.reference.architectures import equilibrium as chain_equilibrium
from pcbench.reference.architectures.chain import Chain
from pcbench.reference.compilation import counted_jit
from pcbench.reference.energy import output_loss
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.equilibrium.outcome import Outcome
from pcbench.reference.network import PCN

COLUMNS = ("loss", "energy", "gap", "gradient_error", "misalignment", "certified", "certificate", "evaluations")
"""What tells of any network, by column, in the order of the tables; see `Alignment.row`."""


@dataclass(frozen=True)
class Alignment:
    r"""PC at equilibrium against backpropagation of \(\lambda\,\mathrm{loss}\).

    - `loss`: \(\lambda\,\mathrm{loss}\); `energy`: \(F^*\), both mean over the batch.
    - `energy_excess`: \(\lambda\,\mathrm{loss}/F^* - 1\).
    - `gradient_error`: \(\|\nabla F^* - \lambda\nabla\mathrm{loss}\| / \|\lambda\nabla\mathrm{loss}\|\).
    - `misalignment`: \(1 - \cos\) of the two gradients, from the difference of the unit vectors, so that it keeps its
      digits where the cosine is 1 to rounding.
    - `trace_excess`: \(\mathrm{tr}(S - I/\lambda)/K\) of a linear network, NaN of any other.
    - `certified`: whether the solver converged and its certificate of equilibrium holds for every sample.
    - `certificate`: the largest bound on \(F_b - F_b^*\) of a sample over its feedforward energy; infinite if there is
      none.
    - `evaluations`: gradient evaluations of the solver.
    """

    loss: float
    energy: float
    energy_excess: float
    gradient_error: float
    misalignment: float
    trace_excess: float
    certified: bool
    certificate: float
    evaluations: int

    def row(self, *names: str) -> dict[str, Any]:
        """The columns of a table: these fields, or what the tables call `gap` and `excess`."""
        columns = {"gap": self.energy_excess, "excess": self.trace_excess}
        return {name: columns[name] if name in columns else getattr(self, name) for name in names}


@counted_jit()
def compare_at(network: PCN, input: Any, target: Any, activities: Any) -> tuple[jax.Array, ...]:
    r"""\(\lambda\ell\) of each sample, gradient error and misalignment of PC at any activities, equilibrium or not."""
    each = network.precision * output_loss(network, network.forward(input)[1], target)
    pc = gradients.weight_gradients(network, input, target, activities)
    return each, *distances(pc, gradients.backpropagation(network, input, target))


@counted_jit()
def _compare_chain_at(chain: Chain, input: Any, target: Any, activities: Any) -> tuple[jax.Array, ...]:
    each = chain.precision * chains.output_loss(chain, chain.forward(input)[1], target)
    pc = chains.weight_gradients(chain, input, target, activities)
    return each, *distances(pc, chains.backpropagation(chain, input, target))


@counted_jit()
def _trace_excess(network: PCN) -> jax.Array:
    return jnp.sum(equilibrium_linear.jacobians(network) ** 2) / network.last.shape[0]


def compare_network(
    network: Network, input: np.ndarray, target: np.ndarray, *, tolerance: float = 1e-16, max_evaluations: int = 1000
) -> Alignment:
    """The alignment of a multi-layer perceptron, at its exact equilibrium if it is linear, else at a certified one.

    **Arguments:** `input` `(batch, D)`, `target` `(batch, K)`; `tolerance` and `max_evaluations` as in
    `pcbench.reference.equilibrium.nonlinear.solve`.
    """
    x, y, pcn = np.asarray(input, network.dtype), np.asarray(target, network.dtype), PCN.from_network(network)
    with jax.enable_x64(network.dtype == np.float64):
        pcn = jax.device_put(pcn)  # once: three programs use it
        if network.linear:
            state, trace_excess = equilibrium_linear.solve(pcn, x, y, tolerance=tolerance), float(_trace_excess(pcn))
        else:
            limits: dict[str, Any] = {"tolerance": tolerance, "max_evaluations": max_evaluations}
            state, trace_excess = equilibrium_nonlinear.solve(pcn, x, y, **limits), float("nan")
        return _alignment(state, trace_excess, compare_at(pcn, x, y, state.activities))


def compare_chain(
    chain: Chain, input: np.ndarray, target: np.ndarray, *, tolerance: float = 1e-16, max_evaluations: int = 1000
) -> Alignment:
    """The alignment of any chain of layers, such as a CNN or a transformer, at a certified equilibrium."""
    double = np.asarray(chain.precision).dtype == np.float64
    limits: dict[str, Any] = {"tolerance": tolerance, "max_evaluations": max_evaluations}
    with jax.enable_x64(bool(double)):
        chain = jax.device_put(chain)
        state = chain_equilibrium.solve(chain, input, target, **limits)
        return _alignment(state, float("nan"), _compare_chain_at(chain, input, target, state.activities))


def _alignment(state: Any, trace_excess: float, measured: tuple[Any, ...]) -> Alignment:
    each, error, misalignment = (np.asarray(m, np.float64) for m in measured)
    loss = float(each.mean())
    return Alignment(
        loss=loss,
        energy=state.energy,
        energy_excess=loss / state.energy - 1,
        gradient_error=float(error),
        misalignment=float(misalignment),
        trace_excess=trace_excess,
        certified=state.certified and state.outcome is Outcome.CONVERGED,
        certificate=float(np.max(state.certificate / each)),
        evaluations=state.evaluations,
    )


def distances(gradient: Any, reference: Any) -> tuple[jax.Array, jax.Array]:
    r"""\(\|g - h\|/\|h\|\) and \(1 - \cos(g, h)\) of two pytrees of arrays, each taken as one vector."""

    def norm(tree: Any) -> jax.Array:
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))

    g, h = norm(gradient), norm(reference)
    between = jax.tree.map(lambda a, b: a / g - b / h, gradient, reference)
    return norm(jax.tree.map(jnp.subtract, gradient, reference)) / h, norm(between) ** 2 / 2
