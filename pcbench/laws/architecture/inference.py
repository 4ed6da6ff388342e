r"""Laws of inference in CNNs and transformers: steps, speed of signals, and independence of samples."""

from __future__ import annotations

import numpy as np

from pcbench.laws.architecture.energy_and_gradients import ANY, case, for_each_kind, own_predictions
from pcbench.laws.definition import Domain, Measurement
from pcbench.laws.measuring.compare import compare_arrays, no_decision
from pcbench.oracle import architectures as oracle
from pcbench.oracle.numerics import gamma, norm
from pcbench.problem.architecture import Architecture
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.problem.network import Activities
from pcbench.worker.subject import Subject

SEVERAL = Domain(parameterisations=ANY.parameterisations, batch=2, steps=(2, 8))
_TAME = 1e3
"""Activities beyond which a trajectory diverges: cubic attention leaves the numbers of any dtype soon after."""


def step(
    network: Architecture, x: np.ndarray, y: np.ndarray, z: Activities, step_size: float
) -> tuple[Activities, Activities]:
    r"""\(z - \eta\,B\,\partial F/\partial z\) and a bound on its rounding error."""
    gradients, bounds = oracle.activity_gradients(network, x, y, z)
    u = gamma(0, network.dtype)
    moved = [np.asarray(a, np.float64) - step_size * g for a, g in zip(z, gradients, strict=True)]
    off = [
        step_size * (b + u * np.abs(g)) + u * np.abs(a) for a, g, b in zip(z, gradients, bounds, strict=True)
    ]  # fmt: skip
    return moved, off


def diverges(problem: ArchitectureProblem, start: Activities) -> bool:
    """Whether gradient descent at this step size leaves reasonable numbers, by the definition alone."""
    network, x, y = case(problem)
    z = start
    for _ in range(problem.steps):
        z, _ = step(network, x, y, z, problem.step_size)
        if not norm(z) < _TAME:
            return True
    return False


@for_each_kind(
    "step-follows-definition",
    statement="one step is z_l <- z_l - eta B dF/dz_l for every layer of activities, all at once.",
    citation="theory section 2",
    failing_means="a step size that depends on the batch, on pixels or on tokens, or feedback of another network",
    needs=("start", "simultaneous"),
)
def step_follows(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """From random activities, entry by entry."""
    network, x, y = case(problem)
    z = problem.activities()
    moved = subject.infer(network, x, y, 1, problem.step_size, z).activities
    return compare_arrays(moved, *step(network, x, y, z, problem.step_size))


@for_each_kind(
    "steps-follow-each-other",
    statement="after T steps from the feedforward pass inference is one step beyond where it is after T - 1.",
    citation="theory section 2",
    failing_means="momentum, a step size that changes on the way, errors of an earlier step, a number of steps ignored",
    needs=("simultaneous",),
    domain=SEVERAL,
)
def steps_follow(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Both states are the implementation's own, so the rounding of one step is what may lie between them."""
    network, x, y = case(problem)
    if diverges(problem, [f.value for f in oracle.feedforward(network, x)[:-1]]):
        return no_decision("inference diverges at this step size")
    before = subject.infer(network, x, y, problem.steps - 1, problem.step_size).activities
    after = subject.infer(network, x, y, problem.steps, problem.step_size).activities
    expected, bounds = step(network, x, y, before, problem.step_size)
    # another number of steps may be another program, whose path rounds differently
    return compare_arrays(after, expected, [4 * problem.steps * b for b in bounds], steps=problem.steps)


@for_each_kind(
    "signal-front",
    statement="t steps from the feedforward pass, layers l < L - t do not depend on the target: it moves t layers.",
    citation="theory E3; paper facts P10",
    failing_means="layers updated one after another, an error that jumps a layer, a start that knows the target",
    needs=("simultaneous",),
)
def signal_front(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Below the front the same numbers go through the same operations for two targets.

    So what lies between them is 0, or the rounding of sums in another order; the errors there are not judged to be 0,
    for steps multiply their rounding by the curvature, which no bound knows that is not far too wide.
    """
    network, x, y = case(problem)
    steps = 1 + problem.seed % (network.depth - 2)
    other = np.roll(y, 1, axis=-1) if network.loss == "ce" else -y
    z, moved = (subject.infer(network, x, to, steps, problem.step_size).activities for to in (y, other))
    quiet = network.depth - steps - 1
    bounds = [f.error for f in own_predictions(network, x, z)[:quiet]]
    return compare_arrays(moved[:quiet], z[:quiet], bounds, steps=steps)


@for_each_kind(
    "samples-are-independent",
    statement="what a step does to a sample does not depend on the other samples of its batch.",
    citation="theory E6",
    failing_means="a statistic over the batch, as in batch normalisation, or attention across samples",
    needs=("start", "simultaneous"),
    depends_on=("answers-keep-the-contract",),
)
def samples_are_independent(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Input, target and activities of the first sample are replaced; the others must not notice."""
    network, x, y = case(problem)
    z = problem.activities()
    other = problem.replace(seed=problem.seed ^ 0x9E3779B97F4A7C15)
    x2, y2, z2 = x.copy(), y.copy(), [a.copy() for a in z]
    x2[0], y2[0] = other.input()[0], other.target()[0]
    for a, b in zip(z2, other.activities(), strict=True):
        a[0] = b[0]
    before = subject.infer(network, x, y, 1, problem.step_size, z).activities
    after = subject.infer(network, x2, y2, 1, problem.step_size, z2).activities
    _, bounds = step(network, x, y, z, problem.step_size)
    return compare_arrays([a[1:] for a in after], [b[1:] for b in before], [2 * b[1:] for b in bounds])
