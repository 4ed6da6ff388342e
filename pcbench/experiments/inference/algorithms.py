r"""Inference to a certified equilibrium by several algorithms, with one stopping rule and one unit of cost.

*Stopping.*  A sample has arrived when its certificate \(\tfrac12\|\nabla_\varepsilon F_b\|^2\) is at most the tolerance
times its loss at the feedforward pass, which bounds \(F_b - F_b^*\) in linear networks and, up to the curvature there,
in others (`pcbench.reference.equilibrium.error_space`).  The loop stops when every sample has, without leaving the
device.  In error space that is known after every step; in the space of activities it costs a sweep through the network,
so it is looked at after every `check_every` steps, or every 32nd part of the steps so far if that is more: the number
of steps is then known to 3 % for a number of checks that grows like a logarithm.

*Currency.*  Count multiplications per sample: a pass through all layers but the first is \(m = (L-2)N^2 + NK\).  A
gradient for activities or errors is a pass forward and one back, \(2m\), the prediction of the first layer being
constant; a certificate from a gradient of the activities is a sweep through the hidden layers, \((L-2)N^2\);
backpropagation also multiplies for the weight gradients and does the first layer, \(3m + 2DN\).  So a gradient
evaluation costs 2/3 of a BP gradient where the hidden layers dominate, and a check 1/3.

**References:** the open question of Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697), what inference costs in deep
and wide networks; Goemaere et al. 2025 (arXiv 2505.20137).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcbench.errors import UsageError
from pcbench.experiments.inference.first_order import (
    ADAM,
    GRADIENT_DESCENT,
    HEAVY_BALL,
    NESTEROV,
    Algorithm,
    Settings,
    State,
)
from pcbench.experiments.inference.krylov import CONJUGATE_GRADIENTS, NEWTON
from pcbench.experiments.inference.spaces import Space, make_activity_space, make_error_space
from pcbench.reference.compilation import counted_jit
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.equilibrium.error_space import dot, energy_and_gradient, errors_of
from pcbench.reference.equilibrium.outcome import rounding_floor
from pcbench.reference.equilibrium.output_space import loss_gradient
from pcbench.reference.network import PCN

_IN_ACTIVITIES: dict[str, Algorithm] = {
    "gradient-descent": GRADIENT_DESCENT,
    "heavy-ball": HEAVY_BALL,
    "nesterov": NESTEROV,
    "adam": ADAM,
    "conjugate-gradients": CONJUGATE_GRADIENTS,
}
_IN_ERRORS: dict[str, Algorithm] = {
    "error-gradient-descent": GRADIENT_DESCENT,
    "error-conjugate-gradients": CONJUGATE_GRADIENTS,
    "error-newton": NEWTON,
}
_LBFGS = "error-lbfgs"
ALGORITHMS = (*_IN_ACTIVITIES, *_IN_ERRORS, _LBFGS)
"""The names of the algorithms; `error-` marks those that work in error space, the others move the activities."""
_NEEDS_STEP_SIZE = ("gradient-descent", "heavy-ball", "nesterov", "adam", "error-gradient-descent")
_PATIENT = ("gradient-descent", "adam")
_LARGE = 1 << 14
"""Numbers in a network from which patient algorithms, of thousands of steps, get a program compiled well, not fast."""
_RESOLUTION = 32
_ESCAPED = 1e20  # times the first certificate, a squared norm: no transient of a convergent momentum grows so far


class InferenceOutcome(Enum):
    """Why inference stopped; the value is a sentence to act upon."""

    CONVERGED = "converged: the certificate of every sample is within the strictest tolerance"
    BUDGET = "evaluations ran out before every sample converged: raise max_evaluations or loosen the tolerance"
    DIVERGED = "the activities left every bound or are no numbers: lower the step size, or check weights and data"


@dataclass(frozen=True)
class Passage:
    """What it took to bring every sample within one tolerance; if not `reached`, what had been spent at the end.

    `cost` is that of the algorithm's gradient evaluations, `check_cost` that of looking at the certificate, both in
    gradients of backpropagation.
    """

    tolerance: float
    reached: bool
    steps: int
    evaluations: int
    checks: int
    cost: float
    check_cost: float


@dataclass(frozen=True)
class InferenceResult:
    r"""The answer of `infer_to_equilibrium`.

    **Arguments:** `activities` `(L-1, batch, N)`; `energy` \(F_b\), `loss` that at the feedforward pass, \(\lambda\)
    included, and `certificate` \(\tfrac12\|\nabla_\varepsilon F_b\|^2\), `(batch,)` each, computed anew at the end;
    `passages`, one for each tolerance, the strictest last; `outcome`.
    """

    algorithm: str
    activities: jax.Array
    energy: np.ndarray
    loss: np.ndarray
    certificate: np.ndarray
    passages: tuple[Passage, ...]
    outcome: InferenceOutcome


def evaluation_costs(network: PCN) -> tuple[float, float]:
    """The cost of a gradient for activities or errors, and of a check of the activities, in BP gradients."""
    width, input_dim = network.first.shape
    inner = network.hidden.shape[0] * width * width
    once = inner + width * network.last.shape[0]
    backpropagation = 3 * once + 2 * input_dim * width
    return 2 * once / backpropagation, inner / backpropagation


class _Progress(NamedTuple):
    """The loop: the algorithm's state, `certificate` `(batch,)`, and for each tolerance what was spent, or -1."""

    steps: jax.Array
    checks: jax.Array
    state: State
    certificate: jax.Array
    passed: jax.Array


@counted_jit(static=("algorithm",))
def _run(
    network: PCN,
    input: Any,
    target: Any,
    settings: Settings,
    tolerances: Any,
    max_evaluations: Any,
    check_every: Any,
    algorithm: str,
) -> tuple[jax.Array, ...]:
    """Activities, energy, loss, certificate, the spent at each tolerance and at the end, converged and diverged."""
    in_activities = algorithm in _IN_ACTIVITIES
    space = (make_activity_space if in_activities else make_error_space)(network, input, target)
    init, step = (_IN_ACTIVITIES if in_activities else _IN_ERRORS)[algorithm]
    loss, first, allowed = _stopping_rule(network, input, target, tolerances)

    def advance(progress: _Progress) -> _Progress:
        left = jnp.maximum(1, max_evaluations - progress.state.evaluations)
        stride = jnp.minimum(jnp.maximum(check_every, progress.steps // _RESOLUTION), left)
        stride = jnp.ones_like(stride) if space.free_certificate else stride
        state = lax.fori_loop(0, stride, lambda _, state: step(space, settings, state), progress.state)
        checked = _check_certificate(space, state, progress, stride)
        within = jnp.all(checked.certificate <= allowed, axis=-1)
        return checked._replace(passed=_record_arrivals(checked, within))

    def keep_going(progress: _Progress) -> jax.Array:
        waiting = jnp.any(progress.passed[:, 0] < 0)
        return waiting & ~_has_escaped(progress.certificate, first) & (progress.state.evaluations < max_evaluations)

    zero = jnp.asarray(0)
    start = _Progress(zero, zero, init(space, settings), first, jnp.full((allowed.shape[0], 3), -1))
    start = start._replace(passed=_record_arrivals(start, jnp.all(first <= allowed, axis=-1)))
    final = lax.while_loop(keep_going, advance, start)

    z = space.activities(final.state.point)
    energy, gradient = energy_and_gradient(network, input, target, errors_of(network, input, z))
    certificate = 0.5 * dot(gradient, gradient)
    # A gradient that was carried along may have drifted from the truth, which decides; a rounding is forgiven.
    converged = (final.passed[:, 0] >= 0) & (jnp.all(certificate <= 4 * allowed[-1]) | (allowed[:, 0] > allowed[-1, 0]))
    spent = jnp.stack([final.steps, final.state.evaluations, final.checks])
    return z, energy, loss, certificate, final.passed, spent, converged, _has_escaped(final.certificate, first)


_run_well = jax.jit(inspect.unwrap(_run), static_argnames=("algorithm",))


def _stopping_rule(network: PCN, input: Any, target: Any, tolerances: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The loss and certificate of the feedforward pass, `(batch,)`, and the certificates allowed `(T, batch)`."""
    feedforward, output = network.forward(input)
    loss, gradient = energy_and_gradient(network, input, target, jnp.zeros_like(feedforward))
    squared = dot(gradient, gradient)
    slope = network.precision * loss_gradient(network, output, target)
    gain = squared / jnp.maximum(jnp.sum(slope**2, -1), jnp.finfo(output.dtype).tiny)
    floor = rounding_floor(network, feedforward, output, target, gain)
    return loss, 0.5 * squared, jnp.maximum(tolerances[:, None] * loss, floor)


def _check_certificate(space: Space, state: State, progress: _Progress, stride: jax.Array) -> _Progress:
    certificate = space.certificate(state.point, state.gradient)
    checks = progress.checks if space.free_certificate else progress.checks + 1
    return _Progress(progress.steps + stride, checks, state, certificate, progress.passed)


def _record_arrivals(progress: _Progress, within: jax.Array) -> jax.Array:
    spent = jnp.stack([progress.steps, progress.state.evaluations, progress.checks])
    new = (within & (progress.passed[:, 0] < 0))[:, None]
    return jnp.where(new, spent.astype(progress.passed.dtype), progress.passed)


def _has_escaped(certificate: jax.Array, first: jax.Array) -> jax.Array:
    tiny = jnp.finfo(first.dtype).tiny
    return ~jnp.all(certificate / _ESCAPED <= jnp.maximum(first, tiny))  # false for NaN as well


def infer_to_equilibrium(
    network: PCN,
    input: Any,
    target: Any,
    algorithm: str,
    *,
    step_size: float | None = None,
    momentum: float = 0.9,
    second_momentum: float = 0.999,
    tolerances: Sequence[float] = (1e-10,),
    max_evaluations: int = 100_000,
    check_every: int = 1,
) -> InferenceResult:
    r"""Inference from the feedforward pass until every sample is certified within the strictest of `tolerances`.

    **Arguments:**

    - `algorithm`: one of `ALGORITHMS`.
    - `step_size`: needed by the first-order algorithms; \(\eta\) multiplies the gradient of each sample's own energy.
    - `momentum`: \(\beta\) of the heavy ball, \(\beta_1\) of Adam; `second_momentum`: \(\beta_2\) of Adam.
    - `tolerances`: certificates relative to the loss; what was spent is reported for each.
    - `max_evaluations`: of the gradient, a Hessian product counted as two (as one where the energy is quadratic).
    - `check_every`: steps between two looks at the certificate of activities, at least.

    All but `algorithm` and the number of tolerances are values: nothing recompiles for them.  Failure is an `outcome`.

    **Raises:** `UsageError` for an unknown algorithm, one without the step size it needs, or settings out of range.
    """
    ordered = _checked_settings(algorithm, step_size, tolerances, max_evaluations, check_every)
    costs = evaluation_costs(network)
    if algorithm == _LBFGS:
        return _lbfgs(network, input, target, ordered, max_evaluations, costs)
    real = network.last.dtype.type
    settings = Settings(real(step_size or 1.0), real(momentum), real(second_momentum))
    patient = algorithm in _PATIENT and sum(np.size(w) for w in network.weights) >= _LARGE
    z, energy, loss, certificate, passed, spent, converged, diverged = (_run_well if patient else _run)(
        network,
        input,
        target,
        settings,
        np.asarray(ordered, real),
        np.asarray(max_evaluations),
        np.asarray(check_every),
        algorithm=algorithm,
    )
    passages = tuple(
        _passage(tolerance, bool(ok), row if ok else spent, costs)
        for tolerance, ok, row in zip(ordered, np.asarray(converged), np.asarray(passed), strict=True)
    )
    outcome = InferenceOutcome.BUDGET
    if passages[-1].reached:
        outcome = InferenceOutcome.CONVERGED
    elif bool(diverged) or not np.isfinite(np.asarray(certificate)).all():
        outcome = InferenceOutcome.DIVERGED
    arrays = np.asarray(energy), np.asarray(loss), np.asarray(certificate)
    return InferenceResult(algorithm, z, *arrays, passages, outcome)


def _checked_settings(
    algorithm: str, step_size: float | None, tolerances: Sequence[float], max_evaluations: int, check_every: int
) -> tuple[float, ...]:
    """The tolerances, loosest first, or the reason why this cannot run."""
    if algorithm not in ALGORITHMS:
        raise UsageError(f"algorithm={algorithm!r}: needed one of {', '.join(ALGORITHMS)}")
    if step_size is None and algorithm in _NEEDS_STEP_SIZE:
        raise UsageError(
            f"algorithm={algorithm!r} without a step size: give step_size, below 2 over the largest eigenvalue of the "
            "Hessian (pcbench.theory.extreme_eigenvalues for linear networks)"
        )
    if not tolerances or not all(0 < t < np.inf for t in tolerances):
        raise UsageError(f"tolerances={tolerances!r}: needed at least one, all positive")
    if max_evaluations < 1 or check_every < 1:
        raise UsageError(f"max_evaluations={max_evaluations}, check_every={check_every}: both are at least 1")
    return tuple(sorted((float(t) for t in tolerances), reverse=True))


def _passage(tolerance: float, reached: bool, spent: Any, costs: tuple[float, float]) -> Passage:
    steps, evaluations, checks = (int(n) for n in np.asarray(spent))
    return Passage(tolerance, reached, steps, evaluations, checks, evaluations * costs[0], checks * costs[1])


def _lbfgs(
    network: PCN,
    input: Any,
    target: Any,
    tolerances: tuple[float, ...],
    max_evaluations: int,
    costs: tuple[float, float],
) -> InferenceResult:
    """The solver of `pcbench.reference.equilibrium.nonlinear`, whose stopping rule is the same; once per tolerance."""
    real = network.last.dtype.type
    answers = [
        equilibrium_nonlinear.solve_arrays(network, input, target, real(tolerance), np.asarray(max_evaluations))
        for tolerance in tolerances
    ]
    passages = []
    for tolerance, (*_, converged, _, evaluations) in zip(tolerances, answers, strict=True):
        spent = int(evaluations) - 1, int(evaluations), 0
        passages.append(_passage(tolerance, bool(converged), spent, costs))
    z, errors, _, residual, *_ = answers[-1]
    energy, loss, certificate = (np.asarray(a) for a in _final_quantities(network, input, target, errors))
    outcome = InferenceOutcome.BUDGET
    if passages[-1].reached:
        outcome = InferenceOutcome.CONVERGED
    elif not np.isfinite(np.asarray(residual)).all():
        outcome = InferenceOutcome.DIVERGED
    return InferenceResult(_LBFGS, z, energy, loss, certificate, tuple(passages), outcome)


@counted_jit()
def _final_quantities(network: PCN, input: Any, target: Any, errors: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Energy, loss and certificate of each sample at given errors."""
    energy, gradient = energy_and_gradient(network, input, target, errors)
    return energy, energy_and_gradient(network, input, target, jnp.zeros_like(errors))[0], 0.5 * dot(gradient, gradient)
