r"""The equilibrium of a nonlinear network: preconditioned L-BFGS in error space, every sample on its own.

The error-space Hessian is \(I + \lambda J^\top H J\) plus curvature.  \(K\) backward passes at the feedforward point
give \(J\); the first step solves the linearised network exactly (a Gauss-Newton step, for `ce` the \(K\)-dimensional
convex problem), and the inverse of \(I + \lambda J^\top H J\), a \(K \times K\) solve by Woodbury's identity, is the
initial inverse Hessian of L-BFGS, which then has only the curvature left to learn.

Each turn of the loop is one gradient evaluation of the whole batch: a sample either accepts its trial step and gets a
new direction or shortens its step, and a converged sample stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference import output_space
from pcbench.reference.compilation import counted_jit
from pcbench.reference.energy import output_loss
from pcbench.reference.equilibrium import EquilibriumState, judged
from pcbench.reference.equilibrium_linear import rounding_floor
from pcbench.reference.error_space import dot, energy_and_gradient, errors_of, smallest_curvature
from pcbench.reference.network import PCN

MEMORY = 12
LANCZOS_STEPS = 6
_ARMIJO = 1e-4
_SHORTEST = 1e-9

Apply = Callable[[jax.Array], jax.Array]


class _State(NamedTuple):
    """The loop of L-BFGS; arrays of `(batch,)` are per sample, `(MEMORY, ...)` a ring of past steps."""

    errors: jax.Array
    energy: jax.Array
    gradient: jax.Array
    direction: jax.Array
    length: jax.Array
    steps: jax.Array
    changes: jax.Array
    weights: jax.Array
    evaluations: jax.Array


def linearise(network: PCN, input: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Feedforward activities, output, and every sample's \(J\), `(K, L-1, batch, N)`, by \(K\) backward passes."""
    zero = jnp.zeros((network.depth - 1, input.shape[0], network.first.shape[0]), input.dtype)
    output, pull, activities = jax.vjp(lambda e: network.forward(input, e)[::-1], zero, has_aux=True)
    basis = jnp.eye(output.shape[-1], dtype=output.dtype)[:, None, :] * jnp.ones_like(output)
    return activities, output, jax.vmap(lambda row: pull(row)[0])(basis)


@counted_jit()
def solve_arrays(
    network: PCN, input: jax.Array, target: jax.Array, tolerance: jax.Array, max_evaluations: jax.Array
) -> tuple[jax.Array, ...]:
    """Activities, energy, residual, curvature, converged, stalled and evaluations, inside one program."""
    feedforward, output, J = linearise(network, input)
    M = jnp.einsum("ilbn,jlbn->bij", J, J, precision=lax.Precision.HIGHEST)
    v = output_space.solve(network, output, target, M)
    start = jnp.einsum("bk,klbn->lbn", v, J)

    # Woodbury: the inverse of I + lambda J^T H J is I - J^T C J with the small matrix C below.
    H = network.precision * output_space.loss_hessian(network, output + jnp.einsum("bij,bj->bi", M, v), target)
    C = jnp.linalg.solve(jnp.eye(H.shape[-1], dtype=H.dtype) + H @ M, H)

    def precondition(q: jax.Array) -> jax.Array:
        return q - jnp.einsum("bij,jb,ilbn->lbn", C, dot(J, q), J)

    feedforward_energy = network.precision * output_loss(network, output, target)
    floor = rounding_floor(network, feedforward, output, target, jnp.trace(M, axis1=-2, axis2=-1))
    allowed = jnp.maximum(tolerance * feedforward_energy, floor)

    # The gradient at zero errors is J^T (lambda loss gradient): no evaluation is needed for it.
    slope = network.precision * output_space.loss_gradient(network, output, target)
    gradient = jnp.einsum("bk,klbn->lbn", slope, J)
    begun = 1 + J.shape[0]
    final = _lbfgs(
        lambda e: energy_and_gradient(network, input, target, e),
        precondition,
        (jnp.zeros_like(start), feedforward_energy, gradient, start),
        allowed,
        max_evaluations - begun,
    )
    z, _ = network.forward(input, final.errors)
    errors = errors_of(network, input, z)
    each, gradient = energy_and_gradient(network, input, target, errors)
    residual = jnp.sqrt(dot(gradient, gradient))
    curvature = smallest_curvature(network, input, target, errors, LANCZOS_STEPS)
    done = 0.5 * residual**2 <= 4 * allowed  # the errors were recomputed from the activities, a rounding away
    stalled = jnp.all(done | (final.length < _SHORTEST))
    return z, jnp.mean(each), residual, curvature, jnp.all(done), stalled, final.evaluations + begun


def _lbfgs(
    evaluate: Callable[[jax.Array], tuple[jax.Array, ...]],
    precondition: Apply,
    start: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    allowed: jax.Array,
    max_evaluations: jax.Array,
) -> _State:
    """Minimise every sample until half its squared gradient norm is `allowed`, its step vanishes, or the budget ends."""
    errors, energy, gradient, direction = start
    ring = jnp.zeros((MEMORY, *errors.shape), errors.dtype)
    state = _State(
        errors, energy, gradient, direction, jnp.ones_like(energy), ring, ring,
        jnp.zeros((MEMORY, *energy.shape), energy.dtype), jnp.asarray(0),
    )  # fmt: skip

    def active(state: _State) -> jax.Array:
        return (0.5 * dot(state.gradient, state.gradient) > allowed) & (state.length >= _SHORTEST)

    def turn(state: _State) -> _State:
        going = active(state)
        length = jnp.where(going, state.length, 0)
        trial = state.errors + length[:, None] * state.direction
        energy, gradient = evaluate(trial)
        slope = dot(state.gradient, state.direction)
        falls = energy <= state.energy + _ARMIJO * length * slope
        # Near the minimum the energy changes by less than its rounding; the gradient still tells.
        noise = 16 * jnp.finfo(energy.dtype).eps * jnp.abs(state.energy)
        shrinks = dot(gradient, gradient) < dot(state.gradient, state.gradient)
        accept = going & jnp.isfinite(energy) & (falls | ((energy <= state.energy + noise) & shrinks))
        # The minimiser of the parabola through both energies and the slope, kept within a tenth and a half.
        parabola = -slope * length / (2 * (energy - state.energy - slope * length))
        shorter = length * jnp.clip(jnp.nan_to_num(parabola, nan=0.1), 0.1, 0.5)
        keep = accept[:, None]
        step, change = trial - state.errors, gradient - state.gradient
        product = dot(step, change)
        good = accept & (product > 1e-8 * jnp.sqrt(dot(step, step) * dot(change, change)))
        slot = state.evaluations % MEMORY
        state = state._replace(
            errors=jnp.where(keep, trial, state.errors),
            energy=jnp.where(accept, energy, state.energy),
            gradient=jnp.where(keep, gradient, state.gradient),
            length=jnp.where(accept, 1, jnp.where(going, shorter, state.length)),
            steps=state.steps.at[slot].set(step),
            changes=state.changes.at[slot].set(change),
            weights=state.weights.at[slot].set(jnp.where(good, 1 / jnp.where(good, product, 1), 0)),
            evaluations=state.evaluations + 1,
        )
        direction = _two_loop(state, precondition)
        steepest = -precondition(state.gradient)
        descends = dot(state.gradient, direction) < 0
        direction = jnp.where(descends[:, None], direction, steepest)
        return state._replace(direction=jnp.where(keep, direction, state.direction))

    def unfinished(state: _State) -> jax.Array:
        return jnp.any(active(state)) & (state.evaluations < max_evaluations)

    return lax.while_loop(unfinished, turn, state)


def _two_loop(state: _State, precondition: Apply) -> jax.Array:
    """The L-BFGS direction of every sample; a weight of zero marks a pair that this sample does not use."""

    def backward(k: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, alphas = carry
        i = (state.evaluations - 1 - k) % MEMORY
        alpha = state.weights[i] * dot(state.steps[i], q)
        return q - alpha[:, None] * state.changes[i], alphas.at[i].set(alpha)

    def forward(k: int, r: jax.Array, alphas: jax.Array) -> jax.Array:
        i = (state.evaluations + k) % MEMORY
        beta = state.weights[i] * dot(state.changes[i], r)
        return r + (alphas[i] - beta)[:, None] * state.steps[i]

    used = jnp.minimum(state.evaluations, MEMORY)
    q, alphas = lax.fori_loop(0, used, backward, (state.gradient, jnp.zeros_like(state.weights)))
    return -lax.fori_loop(MEMORY - used, MEMORY, lambda k, r: forward(k, r, alphas), precondition(q))


def solve(
    network: PCN, input: jax.Array, target: jax.Array, *, tolerance: float = 1e-10, max_evaluations: int = 500
) -> EquilibriumState:
    r"""The equilibrium reached from the feedforward pass, with a certificate that says what it rests on.

    **Arguments:** `tolerance`: \(\tfrac12\|\nabla_\varepsilon F_b\|^2\) at which a sample has converged, relative to its
    feedforward energy; `max_evaluations`: of the gradient, the \(K\) rows of the Jacobian included.  Both are values,
    nothing recompiles for them.  A nonlinear network may have several equilibria; this is one of them.
    """
    z, energy, residual, curvature, converged, stalled, evaluations = solve_arrays(
        network, input, target, jnp.asarray(tolerance, network.last.dtype), jnp.asarray(max_evaluations)
    )
    return judged(
        z,
        energy,
        residual,
        curvature,
        converged=bool(converged),
        stalled=bool(stalled),
        linear=False,
        activation=network.activation,
        evaluations=int(evaluations),
        certificate_evaluations=2 + 2 * LANCZOS_STEPS,
    )
