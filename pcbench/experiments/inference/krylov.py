r"""Steps of inference that use the Hessian through products: conjugate gradients and Newton.

On a quadratic energy conjugate gradients need no settings and end after as many steps as a sample's Hessian has
distinct eigenvalues among the directions of its gradient: at most \(K + 1\) in error space, where the Hessian is
\(I + \lambda J^\top J\) with \(J\) of \(K\) rows, and some \(\sqrt\kappa\) in the space of activities.  Elsewhere they
are nonlinear, with the curvature along the direction for the length of a step (Polak and Ribière's rule, restarted).

A Hessian product counts as two gradient evaluations, and as one where the energy is quadratic: there it is the
gradient of the homogeneous part, and the compiled program contains nothing else.

**References:** Hestenes and Stiefel 1952; Nocedal and Wright 2006, algorithms 5.4 and 7.1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.experiments.inference.first_order import Algorithm, Settings, State, begin
from pcbench.experiments.inference.spaces import Space
from pcbench.reference.equilibrium.error_space import dot

_ARMIJO = 1e-4
_INNER = 200  # products of one Newton step at most, a guard: K + 1 solve the system where the network is linear
_HALVINGS = 30


def _product_cost(space: Space) -> int:
    return 1 if space.quadratic else 2


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a / b` where `b` is positive, else 0: a sample whose gradient has vanished stands still."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


# ---- conjugate gradients ----------------------------------------------------------------------------------------


def _conjugate_init(space: Space, settings: Settings) -> State:
    del settings
    state = begin(space, ())
    return state._replace(memory=(-state.gradient, jnp.ones_like(state.energy)))


def _conjugate_step(space: Space, settings: Settings, state: State) -> State:
    return _linear_step(space, state) if space.quadratic else _nonlinear_step(space, settings, state)


def _linear_step(space: Space, state: State) -> State:
    direction, trust = state.memory
    product = space.product(state.point, direction)
    squared = dot(state.gradient, state.gradient)
    length = _ratio(squared, dot(direction, product))
    gradient = state.gradient + length[:, None] * product
    direction_next = _ratio(dot(gradient, gradient), squared)[:, None] * direction - gradient
    return State(
        point=state.point + length[:, None] * direction,
        energy=state.energy - 0.5 * length * squared,
        gradient=gradient,
        evaluations=state.evaluations + 1,
        memory=(direction_next, trust),
    )


def _nonlinear_step(space: Space, settings: Settings, state: State) -> State:
    """A step to the minimum of the parabola along the direction, shortened after one that did not lower the energy."""
    direction, trust = state.memory
    slope = dot(state.gradient, direction)
    curvature = dot(direction, space.product(state.point, direction))
    length = trust * jnp.where(curvature > 0, _ratio(-slope, curvature), settings.step_size)
    point = state.point + length[:, None] * direction
    energy, gradient = space.energy_and_gradient(point)
    accept = _sufficient_decrease(state, length * slope, energy, gradient)
    keep = accept[:, None]
    change = dot(gradient, gradient - state.gradient)
    beta = jnp.maximum(0.0, _ratio(change, dot(state.gradient, state.gradient)))
    following = beta[:, None] * direction - gradient
    downhill = dot(gradient, following) < 0
    following = jnp.where(downhill[:, None], following, -gradient)
    return State(
        point=jnp.where(keep, point, state.point),
        energy=jnp.where(accept, energy, state.energy),
        gradient=jnp.where(keep, gradient, state.gradient),
        evaluations=state.evaluations + _product_cost(space) + 1,
        memory=(
            jnp.where(keep, following, -state.gradient),
            jnp.where(accept, jnp.minimum(1.0, 2 * trust), 0.25 * trust),
        ),
    )


def _sufficient_decrease(state: State, decrease: jax.Array, energy: jax.Array, gradient: jax.Array) -> jax.Array:
    """Which samples may move: the energy falls enough, or by less than its rounding while the gradient shrinks."""
    noise = 16 * jnp.finfo(energy.dtype).eps * jnp.abs(state.energy)
    shrinks = dot(gradient, gradient) <= dot(state.gradient, state.gradient)
    sufficient = energy <= state.energy + _ARMIJO * decrease
    return jnp.isfinite(energy) & (sufficient | ((energy <= state.energy + noise) & shrinks))


# ---- Newton -----------------------------------------------------------------------------------------------------


class _Inner(NamedTuple):
    """Conjugate gradients on the Newton system of every sample: solution, residual, direction, who still works."""

    solution: jax.Array
    residual: jax.Array
    direction: jax.Array
    working: jax.Array
    products: jax.Array


def _newton_init(space: Space, settings: Settings) -> State:
    del settings
    state = begin(space, ())
    return state._replace(memory=jnp.sqrt(dot(state.gradient, state.gradient)))


def _newton_step(space: Space, settings: Settings, state: State) -> State:
    r"""A truncated Newton step, \(\|Hs + g\| \le \min(\tfrac12, \sqrt{\|g\|/\|g_0\|})\|g\|\), halved until F falls."""
    del settings
    inner = _newton_direction(space, state)
    slope = dot(state.gradient, inner.solution)

    def attempt(carry: tuple[jax.Array, State, jax.Array, jax.Array]) -> tuple[jax.Array, State, jax.Array, jax.Array]:
        k, best, length, done = carry
        point = state.point + length[:, None] * inner.solution
        energy, gradient = space.energy_and_gradient(point)
        accept = ~done & _sufficient_decrease(state, length * slope, energy, gradient)
        keep = accept[:, None]
        best = State(
            point=jnp.where(keep, point, best.point),
            energy=jnp.where(accept, energy, best.energy),
            gradient=jnp.where(keep, gradient, best.gradient),
            evaluations=best.evaluations + 1,
            memory=best.memory,
        )
        return k + 1, best, jnp.where(done | accept, length, 0.5 * length), done | accept

    def keep_going(carry: tuple[jax.Array, State, jax.Array, jax.Array]) -> jax.Array:
        return (carry[0] < _HALVINGS) & ~jnp.all(carry[3])

    one = jnp.ones_like(slope)
    spent = state.evaluations + _product_cost(space) * inner.products
    start = (jnp.asarray(0), state._replace(evaluations=spent), one, slope >= 0)
    return lax.while_loop(keep_going, attempt, start)[1]


def _newton_direction(space: Space, state: State) -> _Inner:
    gradient = state.gradient
    norm = jnp.sqrt(dot(gradient, gradient))
    allowed = jnp.minimum(0.5, jnp.sqrt(_ratio(norm, state.memory))) * norm

    def step(inner: _Inner) -> _Inner:
        product = space.product(state.point, inner.direction)
        curvature = dot(inner.direction, product)
        # Where curvature is not positive the solution so far is a direction of descent, and at the start -g is.
        positive = curvature > 0
        squared = dot(inner.residual, inner.residual)
        length = jnp.where(inner.working & positive, _ratio(squared, curvature), 0)
        first = inner.working & ~positive & (inner.products == 0)
        solution = inner.solution + length[:, None] * inner.direction
        solution = jnp.where(first[:, None], -gradient, solution)
        residual = inner.residual + length[:, None] * product
        new = dot(residual, residual)
        return _Inner(
            solution=solution,
            residual=residual,
            direction=_ratio(new, squared)[:, None] * inner.direction - residual,
            working=inner.working & positive & (jnp.sqrt(new) > allowed),
            products=inner.products + 1,
        )

    def keep_going(inner: _Inner) -> jax.Array:
        return jnp.any(inner.working) & (inner.products < _INNER)

    start = _Inner(jnp.zeros_like(gradient), gradient, -gradient, norm > 0, jnp.asarray(0))
    return lax.while_loop(keep_going, step, start)


CONJUGATE_GRADIENTS = Algorithm(_conjugate_init, _conjugate_step)
NEWTON = Algorithm(_newton_init, _newton_step)
