r"""Measure wide random networks at certified equilibrium for the limit laws, and cache the results.

Several laws look at the same networks from different sides, so what was observed of an implementation is kept while it
lives.  Every quantity belongs to one set of weights: PC and backpropagation are compared at the same parameters, which
two training runs of their own would not give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from pcbench import theory
from pcbench.laws.definition import Measurement
from pcbench.laws.measuring import ladders
from pcbench.laws.measuring.compare import case
from pcbench.laws.measuring.equilibrium import certified_equilibrium
from pcbench.laws.measuring.statistics import Estimate, experiment
from pcbench.oracle import mlp as oracle
from pcbench.oracle.numerics import norm
from pcbench.problem.architectures import AnyProblem
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Activities, Network
from pcbench.problem.parameterisation import Exponents, learning_rate
from pcbench.worker.subject import Subject

CERTIFIED = 1e-9
"""The largest certified gap F - F*, relative to the loss, at which an observation counts."""
RATE = 0.1
"""The learning rate of one update, before the parameterisation's own factor."""
UPDATES = 3
LANCZOS = 24
"""Products for the curvature of a nonlinear network: under `mupc` its Hessian in error space is near the identity."""

_SEEN: WeakKeyDictionary[Subject, dict[tuple[str, str], Any]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Observation:
    r"""One network at initialisation.

    **Arguments:**

    - `energy_excess`: \(\mathrm{loss}/F^* - 1\); `deficit`: \(1 - F^*/\mathrm{loss}\).
    - `gradient_error`: \(\|\nabla F^* - \nabla\mathrm{loss}\| / \|\nabla\mathrm{loss}\|\) over all layers.
    - `misalignment`: \(1 - \cos(\nabla F^*, \nabla\mathrm{loss})\), without cancellation.
    - `activities`: root mean square of the last hidden layer at equilibrium.
    - `errors`, `layer_energy`: root mean square of the hidden prediction errors over that of the output error, and mean
      energy of a hidden layer over that of the output, at equilibrium.
    - `feature_change`, `output_change`: root mean square change of the last hidden layer and of the output in the
      feedforward pass, by one update along PC's gradient, over the size of the output error.
    """

    problem: Problem
    energy_excess: float
    deficit: float
    gradient_error: float
    misalignment: float
    activities: float
    errors: float
    layer_energy: float
    feature_change: float
    output_change: float


@dataclass(frozen=True, kw_only=True)
class Course:
    """A short training run.

    **Arguments:** `difference` is the largest difference of the losses of PC and of backpropagation, over the first
    loss; `deviation` the distance of what training has changed of PC's outputs from the mean-field limit's change, over
    the size of that, NaN under any parameterisation but `mupc`.
    """

    problem: Problem
    difference: float
    deviation: float


def remember(subject: Subject, kind: str, problem: AnyProblem, make: Callable[[], Any]) -> Any:
    """The result of `make`, cached for this implementation, kind of observation and problem."""
    seen = _SEEN.setdefault(subject, {})
    key = kind, problem.line()
    if key not in seen:
        seen[key] = make()
    return seen[key]


def certified_activities(subject: Subject, problem: Problem, network: Network, loss: float) -> Activities | str:
    """The implementation's activities at equilibrium, on the problem's data, or how far from certified they are."""
    settled = certified_equilibrium(subject, problem, network, problem.input(), problem.target(), LANCZOS)
    if settled.gap_bound <= CERTIFIED * loss:
        return settled.activities
    return f"no certificate of equilibrium: F - F* is bounded by {settled.gap_bound / loss:.1e} of the loss"


def observe_network(subject: Subject, problem: Problem) -> Observation | str:
    """One network as the implementation shows it, or why there is no certificate."""
    return remember(subject, "observation", problem, lambda: _observe_network(subject, problem))


def _observe_network(subject: Subject, problem: Problem) -> Observation | str:
    network, x, y = case(problem)
    loss = oracle.loss(network, x, y)
    z = certified_activities(subject, problem, network, loss)
    if isinstance(z, str):
        return z
    energy = subject.energy(network, x, y, z)
    gradients, backprop = subject.weight_gradients(network, x, y, z), oracle.backprop_gradients(network, x, y)
    size = norm(backprop)
    units = [[g / norm(side) for g in side] for side in (gradients, backprop)]
    errors = oracle.prediction_errors(network, x, y, z)
    output_error = rms(errors[-1])
    after = update_weights(network, gradients, problem)
    return Observation(
        problem=problem,
        energy_excess=loss / energy - 1,
        deficit=1 - energy / loss,
        gradient_error=norm([g - b for g, b in zip(gradients, backprop, strict=True)]) / size,
        misalignment=0.5 * norm([a - b for a, b in zip(*units, strict=True)]) ** 2,
        activities=rms(z[-1]),
        errors=rms(np.concatenate(errors[:-1], axis=1)) / output_error,
        layer_energy=_energy(errors[:-1]) / (problem.depth - 1) / _energy(errors[-1:]),
        feature_change=rms(oracle.feedforward(after, x)[-1] - oracle.feedforward(network, x)[-1]) / output_error,
        output_change=rms(oracle.predict(after, x) - oracle.predict(network, x)) / output_error,
    )


def train(subject: Subject, problem: Problem) -> Course | str:
    """PC's loss and backpropagation's from the same weights on the same batch, over `UPDATES` updates."""
    return remember(subject, "course", problem, lambda: _train(subject, problem))


def _train(subject: Subject, problem: Problem) -> Course | str:
    network, x, y = case(problem)
    pc = backprop = network
    first, worst = oracle.loss(network, x, y), 0.0
    for _ in range(UPDATES):
        z = certified_activities(subject, problem, pc, first)
        if isinstance(z, str):
            return z
        pc = update_weights(pc, subject.weight_gradients(pc, x, y, z), problem)
        backprop = update_weights(backprop, oracle.backprop_gradients(backprop, x, y), problem)
        worst = max(worst, abs(oracle.loss(pc, x, y) - oracle.loss(backprop, x, y)))
    return Course(problem=problem, difference=worst / first, deviation=_deviation(problem, network, pc, x, y))


def _deviation(problem: Problem, before: Network, after: Network, x: np.ndarray, y: np.ndarray) -> float:
    if problem.parameterisation != "mupc":
        return float("nan")
    limit = theory.learning_curve(
        x, y, depth=problem.depth, base_rate=RATE, updates=UPDATES, output_multiplier=problem.output_multiplier,
        residual=problem.residual,
    ).outputs[-1]  # fmt: skip
    # The limit starts from an output of zero; a network's own first output is a fluctuation of the same order.
    return norm(oracle.predict(after, x) - oracle.predict(before, x) - limit) / norm(limit)


def update_weights(network: Network, gradients: Sequence[np.ndarray], problem: Problem) -> Network:
    """The network after one update by gradient descent, at `RATE` times the parameterisation's own factor."""
    rate = learning_rate(
        problem.parameterisation, RATE, width=problem.width, depth=problem.depth, residual=problem.residual,
        output_multiplier=problem.output_multiplier,
    )  # fmt: skip
    return network.with_weights([w - rate * g for w, g in zip(network.weights, gradients, strict=True)])


def measure_ladder(
    subject: Subject,
    ladder: str,
    first: Problem,
    estimates: Callable[[Sequence[Any]], list[Estimate]],
    *,
    parameterisations: Sequence[str | Exponents] = ("mupc",),
    look: Callable[[Subject, Problem], Any] = observe_network,
) -> Measurement:
    """The experiment that looks at random networks at every size of a ladder, under each parameterisation."""
    sizes = ladders.rungs(ladder, first)

    def draw(start: int, end: int) -> tuple[list[Any], list[str]]:
        found: list[Any] = []
        lost: list[str] = []
        for number in range(start, end):
            for rung in sizes:
                for name in parameterisations:
                    seen = look(subject, ladders.sample(rung, number).replace(parameterisation=name))
                    (lost if isinstance(seen, str) else found).append(seen)
        return found, lost

    return experiment(draw, estimates, [rung.shape for rung in sizes])


def select_parameterisation(parameterisation: str | Exponents, seen: Sequence[Any]) -> list[Any]:
    """The observations under one parameterisation."""
    return [o for o in seen if o.problem.parameterisation == parameterisation]


def widths(seen: Sequence[Any]) -> list[int]:
    """The widths of observations, also the weights of a fit: the variance of a logarithm falls as 1/N."""
    return [o.problem.width for o in seen]


def depths(seen: Sequence[Any]) -> list[int]:
    """The depths of observations."""
    return [o.problem.depth for o in seen]


def column(name: str, seen: Sequence[Any]) -> list[float]:
    """One quantity of all observations."""
    return [getattr(o, name) for o in seen]


def rms(array: np.ndarray) -> float:
    """The root mean square of an array's entries."""
    return float(np.sqrt(np.mean(array * array)))


def _energy(errors: Sequence[np.ndarray]) -> float:
    return float(np.mean(np.sum([np.sum(e * e, axis=1) for e in errors], axis=0))) / 2
