r"""First-order steps of inference: gradient descent, momentum, Adam, on activities or errors alike.

An algorithm is a pair of pure functions, `init` and `step`, over a `State`; the loop around them
(`pcbench.experiments.inference.algorithms`) counts and stops.  Every sample has its own energy and its own state.

For a quadratic energy whose Hessian has eigenvalues between \(\mu\) and \(\Lambda\), \(\kappa = \Lambda/\mu\), the best
constant settings and the contraction of the error per step are

| | gradient descent | heavy ball |
| --- | --- | --- |
| step size | \(2/(\mu+\Lambda)\) | \(4/(\sqrt\mu+\sqrt\Lambda)^2\) |
| momentum | 0 | \((\sqrt\kappa-1)^2/(\sqrt\kappa+1)^2\) |
| contraction | \((\kappa-1)/(\kappa+1)\) | \((\sqrt\kappa-1)/(\sqrt\kappa+1)\) |

**References:** Polyak 1964; Nesterov 1983; O'Donoghue and Candès 2015 (arXiv 1204.3982), restarts; Kingma and Ba 2015
(arXiv 1412.6980).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pcbench.experiments.inference.spaces import Space
from pcbench.reference.equilibrium.error_space import dot


class Settings(NamedTuple):
    r"""Values an algorithm may need; those it has no use for, it ignores.

    - `step_size`: \(\eta\); the trust in the first step of the algorithms that search for theirs.
    - `momentum`: \(\beta\) of the heavy ball, \(\beta_1\) of Adam.
    - `second_momentum`: \(\beta_2\) of Adam.
    """

    step_size: Any
    momentum: Any
    second_momentum: Any


class State(NamedTuple):
    """Point, energy and gradient there, the gradient evaluations so far, and what the algorithm remembers."""

    point: jax.Array
    energy: jax.Array
    gradient: jax.Array
    evaluations: jax.Array
    memory: Any


class Algorithm(NamedTuple):
    """`init(space, settings) -> State` and `step(space, settings, state) -> State`, pure and traceable."""

    init: Callable[[Space, Settings], State]
    step: Callable[[Space, Settings, State], State]


def begin(space: Space, memory: Any) -> State:
    """The state at the start of `space`, one evaluation spent."""
    energy, gradient = space.energy_and_gradient(space.start)
    return State(space.start, energy, gradient, jnp.asarray(1), memory)


def move_to(space: Space, state: State, point: jax.Array, memory: Any) -> State:
    """The state at `point`, one more evaluation spent."""
    energy, gradient = space.energy_and_gradient(point)
    return State(point, energy, gradient, state.evaluations + 1, memory)


# ---- gradient descent -------------------------------------------------------------------------------------------


def _descent_step(space: Space, settings: Settings, state: State) -> State:
    return move_to(space, state, state.point - settings.step_size * state.gradient, ())


# ---- heavy ball -------------------------------------------------------------------------------------------------


def _ball_init(space: Space, settings: Settings) -> State:
    del settings
    return begin(space, jnp.zeros_like(space.start))


def _ball_step(space: Space, settings: Settings, state: State) -> State:
    velocity = settings.momentum * state.memory - settings.step_size * state.gradient
    return move_to(space, state, state.point + velocity, velocity)


# ---- Nesterov ---------------------------------------------------------------------------------------------------


def _nesterov_init(space: Space, settings: Settings) -> State:
    del settings
    state = begin(space, ())
    return state._replace(memory=(space.start, jnp.ones_like(state.energy)))


def _nesterov_step(space: Space, settings: Settings, state: State) -> State:
    """The point is the extrapolated one, where the gradient is known; each sample restarts when momentum climbs."""
    before, t = state.memory
    now = state.point - settings.step_size * state.gradient
    t = jnp.where(dot(state.gradient, now - before) > 0, 1.0, t)
    following = 0.5 * (1 + jnp.sqrt(1 + 4 * t * t))
    point = now + ((t - 1) / following)[:, None] * (now - before)
    return move_to(space, state, point, (now, following))


# ---- Adam -------------------------------------------------------------------------------------------------------


def _adam_init(space: Space, settings: Settings) -> State:
    del settings
    zero = jnp.zeros_like(space.start)
    return begin(space, (zero, zero, jnp.ones((), zero.dtype), jnp.ones((), zero.dtype)))


def _adam_step(space: Space, settings: Settings, state: State) -> State:
    mean, square, bias, square_bias = state.memory
    first, second = settings.momentum, settings.second_momentum
    mean = first * mean + (1 - first) * state.gradient
    square = second * square + (1 - second) * state.gradient**2
    bias, square_bias = first * bias, second * square_bias  # the powers of both decay rates
    # A safeguard against 0/0 far below any gradient of interest: Adam's usual 1e-8 would act at the tolerances here.
    scale = jnp.sqrt(square / (1 - square_bias)) + jnp.sqrt(jnp.finfo(mean.dtype).tiny)
    point = state.point - settings.step_size * (mean / (1 - bias)) / scale
    return move_to(space, state, point, (mean, square, bias, square_bias))


GRADIENT_DESCENT = Algorithm(lambda space, _: begin(space, ()), _descent_step)
HEAVY_BALL = Algorithm(_ball_init, _ball_step)
NESTEROV = Algorithm(_nesterov_init, _nesterov_step)
ADAM = Algorithm(_adam_init, _adam_step)
