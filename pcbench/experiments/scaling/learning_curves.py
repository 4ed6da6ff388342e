r"""Learning curves of backpropagation and of predictive coding at equilibrium, from the same initial weights.

Both train on the same full batch with the same optimiser and step.  Everything about PC is measured at the PC
trajectory's own weights \(\theta_t\), before update \(t\): its loss, its equilibrated energy \(F^*\), and the distance
of its gradient \(\nabla F^*\) from the gradient of the loss *at those weights*.  Comparing the gradients along two
trajectories, or a loss after an update with an energy before it, mixes the difference of the algorithms with that of
their weights.

All updates are one compiled program: the equilibrium of a linear network is exact, that of any other network comes
from the reference's solver, which says at every update whether it converged.

**References:** Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697), Figures 1, 2 and 4, whose toy task is `toy_data`.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcbench.errors import UsageError
from pcbench.problem import arrays
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.problem.parameterisation import learning_rate
from pcbench.reference.compilation import counted_jit
from pcbench.reference.energy import output_loss
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.gradients import Weights, weight_gradients
from pcbench.reference.network import PCN

OPTIMISERS = ("sgd", "adam")
_FIRST_DECAY, _SECOND_DECAY, _EPSILON = 0.9, 0.999, 1e-8
# The solvers' jitted entry points choose compiler options, which a program inside another one cannot have.
_solve_linear = inspect.unwrap(equilibrium_linear.solve_arrays)
_solve_nonlinear = inspect.unwrap(equilibrium_nonlinear.solve_arrays)


@dataclass(frozen=True)
class LearningCurves:
    r"""What was measured at \(\theta_t\) before update \(t\), each `(T+1,)`; the last entry follows the last update.

    - `bp_losses`, `pc_losses`: mean over the batch of the feedforward loss, without \(\lambda\), on each trajectory.
    - `energies`: \(F^*\) at the PC weights, and there
    - `gradient_errors`: \(\|\nabla F^* - \lambda\nabla\mathrm{loss}\| / \|\lambda\nabla\mathrm{loss}\|\) over all
      weights, and `cosines` of the two gradients,
    - `trace_excesses`: \(s = \mathrm{tr}(S - I/\lambda)/K\) of a linear network, NaN of any other,
    - `residuals`: the largest \(\|\nabla_\varepsilon F_b\|\) of a sample at its equilibrium, and `converged`: whether
      all samples met the tolerance (or the rounding of the dtype).
    """

    bp_losses: np.ndarray
    pc_losses: np.ndarray
    energies: np.ndarray
    gradient_errors: np.ndarray
    cosines: np.ndarray
    trace_excesses: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray


def toy_data(seed: int, *, input_dim: int = 40, batch: int = 20) -> tuple[np.ndarray, np.ndarray]:
    r"""The toy task: Gaussian inputs `(batch, input_dim)` and targets `(batch, 1)`, +1 for the first half, -1 after.

    The same bits on every platform, for every network: they depend on `seed` alone.
    """
    labels = np.where(np.arange(batch) < batch // 2, 1.0, -1.0)
    return arrays.normal(seed, "toy/input", batch, input_dim), labels[:, None]


def measure_curves(
    problem: Problem,
    input: np.ndarray,
    target: np.ndarray,
    *,
    base_rate: float,
    updates: int,
    optimiser: str = "sgd",
    tolerance: float = 1e-10,
    max_evaluations: int = 500,
) -> LearningCurves:
    r"""Both curves for the network of a problem, with the learning rate of its parameterisation and sizes.

    **Arguments:** `problem`: sizes, parameterisation, activation and the seed of the weights; its own data, batch and
    inference settings are not used.  `base_rate`: see `pcbench.problem.parameterisation.learning_rate`.  The others are
    those of `train`.

    **Raises:** as `train`, and `ProblemError` for an unknown optimiser.
    """
    rate = learning_rate(
        problem.parameterisation,
        base_rate,
        width=problem.width,
        depth=problem.depth,
        residual=problem.residual,
        output_multiplier=problem.output_multiplier,
        optimiser=optimiser,
    )
    return train(
        problem.network(),
        input,
        target,
        rate=rate,
        updates=updates,
        optimiser=optimiser,
        tolerance=tolerance,
        max_evaluations=max_evaluations,
    )


def train(
    network: Network,
    input: np.ndarray,
    target: np.ndarray,
    *,
    rate: float,
    updates: int,
    optimiser: str = "sgd",
    tolerance: float = 1e-10,
    max_evaluations: int = 500,
) -> LearningCurves:
    r"""Train two copies of a network, one by backpropagation of \(\lambda\,\mathrm{loss}\), one by PC at equilibrium.

    **Arguments:** `input` `(B, D)` and `target` `(B, K)` are computed with in the network's dtype; `rate` multiplies
    the gradient (`sgd`) or Adam's direction (`adam`, with its usual decays of 0.9 and 0.999); `tolerance` and
    `max_evaluations` are those of the equilibrium solver.  One program serves all values of equal shapes; another
    number of updates is another program.

    **Raises:** `UsageError` for an unknown optimiser or data that do not fit the network.
    """
    x, y = np.asarray(input, network.dtype), np.asarray(target, network.dtype)
    dims = network.dims
    if optimiser not in OPTIMISERS:
        raise UsageError(f"optimiser={optimiser!r}: needed one of {', '.join(OPTIMISERS)}")
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or (x.shape[1], y.shape[1]) != (dims[0], dims[-1]):
        raise UsageError(f"input {x.shape} and target {y.shape}: needed (batch, {dims[0]}) and (batch, {dims[-1]})")
    if updates < 0 or not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"updates={updates}, rate={rate}: needed updates of at least 0 and a positive rate")
    with jax.enable_x64(True):
        numbers = (np.asarray(rate, x.dtype), np.asarray(tolerance, x.dtype), np.asarray(max_evaluations, np.int64))
        measured = _train(PCN.from_network(network), x, y, *numbers, updates=updates, optimiser=optimiser)
        return LearningCurves(**{field.name: np.asarray(measured[field.name]) for field in fields(LearningCurves)})


@counted_jit(static=("updates", "optimiser"))
def _train(
    network: PCN,
    input: Any,
    target: Any,
    rate: Any,
    tolerance: Any,
    max_evaluations: Any,
    *,
    updates: int,
    optimiser: str,
) -> dict[str, jax.Array]:
    """The measurements of all updates, stacked, inside one program."""
    weights = jax.tree.map(jnp.asarray, network.weights)
    start = _moments(weights, optimiser)

    def update(carry: tuple[Any, ...], count: jax.Array) -> tuple[tuple[Any, ...], dict[str, jax.Array]]:
        bp, bp_moments, pc, pc_moments = carry
        bp_loss, bp_gradient = _backpropagation(network.with_weights(bp), input, target)
        pc_gradient, measured = _predictive_coding(network.with_weights(pc), input, target, tolerance, max_evaluations)
        bp, bp_moments = _step(bp, bp_gradient, bp_moments, count, rate)
        pc, pc_moments = _step(pc, pc_gradient, pc_moments, count, rate)
        return (bp, bp_moments, pc, pc_moments), {"bp_losses": bp_loss, **measured}

    counts = jnp.arange(1, updates + 2, dtype=input.dtype)
    return lax.scan(update, (weights, start, weights, start), counts)[1]


def _backpropagation(network: PCN, input: Any, target: Any) -> tuple[jax.Array, Weights]:
    r"""The loss, and the gradient of \(\lambda\,\mathrm{loss}\)."""

    def loss(weights: Weights) -> tuple[jax.Array, jax.Array]:
        value = jnp.mean(output_loss(network, network.with_weights(weights).forward(input)[1], target))
        return network.precision * value, value

    gradient, value = jax.grad(loss, has_aux=True)(network.weights)
    return value, gradient


def _predictive_coding(
    network: PCN, input: Any, target: Any, tolerance: Any, max_evaluations: Any
) -> tuple[Weights, dict[str, jax.Array]]:
    """The gradient at equilibrium, and what is measured at these weights."""
    if network.activation == "linear":
        z, energy, residual, converged = _solve_linear(network, input, target, tolerance)
        trace_excess = jnp.sum(equilibrium_linear.jacobians(network) ** 2) / network.last.shape[0]
    else:
        z, _, energy, residual, converged, *_ = _solve_nonlinear(network, input, target, tolerance, max_evaluations)
        trace_excess = jnp.full_like(energy, jnp.nan)
    gradient = weight_gradients(network, input, target, z)
    loss, reference = _backpropagation(network, input, target)
    difference = jax.tree.map(jnp.subtract, gradient, reference)
    size = _norm(reference)
    return gradient, {
        "pc_losses": loss,
        "energies": energy,
        "gradient_errors": _norm(difference) / size,
        "cosines": _inner(gradient, reference) / (_norm(gradient) * size),
        "trace_excesses": trace_excess,
        "residuals": jnp.max(residual),
        "converged": converged,
    }


def _inner(a: Weights, b: Weights) -> jax.Array:
    return sum((jnp.sum(p * q) for p, q in zip(a, b, strict=True)), start=jnp.zeros((), a[0].dtype))


def _norm(a: Weights) -> jax.Array:
    return jnp.sqrt(_inner(a, a))


def _moments(weights: Weights, optimiser: str) -> tuple[Weights, Weights] | tuple[()]:
    """Adam's two moving averages, which gradient descent does not have."""
    zero = jax.tree.map(jnp.zeros_like, weights)
    return (zero, zero) if optimiser == "adam" else ()


def _step(weights: Weights, gradient: Weights, moments: Any, count: Any, rate: Any) -> tuple[Weights, Any]:
    """Descent, or update number `count` (from 1) of Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1)."""
    if not moments:
        return jax.tree.map(lambda w, g: w - rate * g, weights, gradient), moments
    first = jax.tree.map(lambda m, g: _FIRST_DECAY * m + (1 - _FIRST_DECAY) * g, moments[0], gradient)
    second = jax.tree.map(lambda v, g: _SECOND_DECAY * v + (1 - _SECOND_DECAY) * g * g, moments[1], gradient)

    def adam_step(w: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        mean, square = m / (1 - _FIRST_DECAY**count), v / (1 - _SECOND_DECAY**count)
        return w - rate * mean / (jnp.sqrt(square) + _EPSILON)

    return jax.tree.map(adam_step, weights, first, second), (first, second)
