r"""Laws of inference: what one step does, what many steps do, and what no step may change."""

from __future__ import annotations

import numpy as np

from pcbench.laws.definition import SMOOTH, Domain, Measurement, law
from pcbench.laws.measuring.compare import (
    case,
    compare_arrays,
    compare_numbers,
    compare_states,
    derivative_of,
    direction,
    inner,
    no_decision,
    perturbation_growth,
    step_along,
    step_bounds,
    trajectory,
)
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import gamma, norm
from pcbench.problem import arrays
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Activities, Network
from pcbench.worker.subject import Subject

CONTRACT = ("contract.shapes-and-dtypes",)


@law(
    "inference.step-follows-definition",
    statement=r"One step is z_l <- z_l - eta B dF/dz_l for every hidden layer, in the declared order.",
    citation="theory section 2",
    failing_means=(
        "a step size for the batch mean or an order of updates, undeclared; feedback of the wrong sign; a derivative "
        "at the wrong argument"
    ),
    needs=("start",),
    depends_on=CONTRACT,
)
def step_follows_definition(subject: Subject, problem: Problem) -> Measurement:
    """One step from random activities, entry by entry."""
    network, x, y = case(problem)
    z = problem.activities()
    order = subject.manifest.conventions.update_order
    moved = subject.infer(network, x, y, 1, problem.step_size, z).activities
    expected = oracle.inference_step(network, x, y, z, problem.step_size, order)
    if order == "simultaneous":
        return compare_arrays(moved, expected, step_bounds(network, x, y, z, problem.step_size), order=order)
    return compare_states(moved, *trajectory(network, x, y, z, 1, problem.step_size, order), order=order)


@law(
    "inference.step-descends-the-reported-energy",
    statement="A step is minus the step size times the gradient of the energy that the implementation reports.",
    citation="paper facts P3; FabricPC's muPC with tanh, 10 % off in its own energy",
    failing_means="inference follows another function than the one reported, such as feedback with its own gain",
    needs=("start", "energy-at-activities", "simultaneous"),
    domain=Domain(activations=SMOOTH, dtypes=("float64",), data_scales=(1.0, 0.1), weight_scales=(1.0, 0.3)),
    depends_on=CONTRACT,
)
def step_descends(subject: Subject, problem: Problem) -> Measurement:
    """Only the implementation is asked: its update against central differences of its energy."""
    network, x, y = case(problem)
    z = problem.activities()
    moved = subject.infer(network, x, y, 1, problem.step_size, z).activities
    gradient = [(np.asarray(a, np.float64) - b) / problem.step_size for a, b in zip(z, moved, strict=True)]
    along = [problem.data_scale * v for v in direction(problem, "descent direction", z)]
    h, values, worst = 1e-3, {}, 0.0
    for offset in (h, -h, h / 2, -h / 2):
        at = step_along(z, offset, along)
        values[offset] = subject.energy(network, x, y, at)
        worst = max(worst, rounding.energy_bound(network, x, y, at))
    slope, uncertain = derivative_of(values, h, worst)
    bounds = [b / problem.step_size for b in step_bounds(network, x, y, z, problem.step_size)]
    uncertain = problem.batch * uncertain + inner(bounds, [np.abs(v) for v in along])
    return compare_numbers(inner(gradient, along), problem.batch * slope, uncertain)


@law(
    "inference.zero-steps-return-the-start",
    statement="No step leaves the activities exactly as they were.",
    citation="theory section 2",
    failing_means="a loop that runs once too often, or a start that is reinitialised",
    needs=("start", "zero-steps"),
    depends_on=CONTRACT,
)
def zero_steps(subject: Subject, problem: Problem) -> Measurement:
    """Exact equality."""
    network, x, y = case(problem)
    z = problem.activities()
    same = subject.infer(network, x, y, 0, problem.step_size, z).activities
    return Measurement(error=norm([a - b for a, b in zip(same, z, strict=True)]), allowance=0.0)


@law(
    "inference.trajectory-follows-definition",
    statement="T steps from the feedforward pass are T times one step.",
    citation="theory section 2",
    failing_means="a step short or too many, momentum or adaptive steps that are not declared, stale errors",
    needs=("zero-steps",),
    domain=Domain(steps=(1, 12)),
    depends_on=CONTRACT,
)
def trajectory_follows(subject: Subject, problem: Problem) -> Measurement:
    """The oracle starts at the implementation's own feedforward pass, so only inference is compared."""
    network, x, y = case(problem)
    order = subject.manifest.conventions.update_order
    start = subject.infer(network, x, y, 0, problem.step_size).activities
    end = subject.infer(network, x, y, problem.steps, problem.step_size).activities
    expected, distance = trajectory(network, x, y, start, problem.steps, problem.step_size, order)
    moved = norm([a - b for a, b in zip(expected, start, strict=True)])
    result = compare_states(end, expected, distance)
    if not result.failed and distance > 0.1 * moved:
        return no_decision("the activities hardly move", moved=moved)
    return result


@law(
    "inference.steps-compose",
    statement="s + t steps are t steps from where s steps ended.",
    citation="theory section 2",
    failing_means="state hidden between steps, or an off-by-one in the number of steps",
    needs=("start",),
    domain=Domain(steps=(2, 12)),
    depends_on=CONTRACT,
)
def steps_compose(subject: Subject, problem: Problem) -> Measurement:
    """Both sides are the implementation's own."""
    network, x, y = case(problem)
    first = problem.steps // 2
    z = problem.activities()
    through = subject.infer(network, x, y, problem.steps, problem.step_size, z).activities
    middle = subject.infer(network, x, y, first, problem.step_size, z).activities
    onward = subject.infer(network, x, y, problem.steps - first, problem.step_size, middle).activities
    _, distance = trajectory(
        network, x, y, middle, problem.steps - first, problem.step_size, subject.manifest.conventions.update_order
    )
    return compare_states(onward, through, 2 * distance)


@law(
    "inference.energy-reported-with-inference",
    statement="The energy that inference reports is the energy at the declared activities.",
    citation="pcbench protocol; FabricPC's state after T steps carries the energy of the step before",
    failing_means="an energy that lags the activities by a step without saying so",
    needs=("reported-energy", "start"),
    domain=Domain(steps=(1, 12)),
    depends_on=CONTRACT,
)
def reported_energy(subject: Subject, problem: Problem) -> Measurement:
    """The declared point is rebuilt from the implementation's own activities."""
    network, x, y = case(problem)
    lag = subject.manifest.conventions.energy_lag
    start = problem.activities()
    state = subject.infer(network, x, y, problem.steps, problem.step_size, start)
    if state.energy is None:
        return Measurement(error=1.0, allowance=0.5, details={"reported": "no energy, though the manifest claims one"})
    z = state.activities
    if lag:
        earlier = problem.steps - 1
        z = subject.infer(network, x, y, earlier, problem.step_size, start).activities if earlier else start
    return compare_numbers(
        state.energy, oracle.energy(network, x, y, z), 4 * rounding.energy_bound(network, x, y, z), lag=lag
    )


@law(
    "inference.signal-front",
    statement=r"After t simultaneous steps from the feedforward pass, eps_l = 0 exactly for l < L - t.",
    citation="theory E3; paper facts P10, section 3.8",
    failing_means="layers updated one after another, an error that jumps a layer, or a random start",
    needs=("simultaneous",),
    domain=Domain(depth=(3, 64), steps=(1, 24)),
    depends_on=CONTRACT,
)
def signal_front(subject: Subject, problem: Problem) -> Measurement:
    """Layers below the front are judged by the rounding of their own pass, and of feeding that rounding back."""
    network, x, y = case(problem)
    steps = 1 + problem.steps % (problem.depth - 2)
    z = subject.infer(network, x, y, steps, problem.step_size).activities
    quiet = problem.depth - steps - 1
    predicted = oracle.predictions(network, x, z)
    return compare_arrays(
        z[:quiet], predicted[:quiet], _quiet_bounds(problem, network, x, y, z, steps)[:quiet], steps=steps
    )


def _quiet_bounds(
    problem: Problem, network: Network, x: np.ndarray, y: np.ndarray, z: Activities, steps: int
) -> Activities:
    """Errors of layers that no signal has reached: rounding of the pass, then of `steps` steps that feed it back."""
    passed = rounding.error_bounds(network, x, y, z)
    fed = rounding.activity_gradient_bounds(network, x, y, z)
    return [p + steps * problem.step_size * f for p, f in zip(passed, fed, strict=False)]


@law(
    "inference.first-arrival",
    statement=r"The first error to reach layer L - t, at step t, is eta^t times backpropagation's delta of that layer.",
    citation="paper facts P10, section 3.8; theory E3",
    failing_means="a delay, a gain or a wrong derivative in the feedback",
    needs=("simultaneous",),
    domain=Domain(steps=(1, 4), weight_scales=(1.0, 2.0), weight_laws=("gaussian", "orthogonal"),
                  data_laws=("gaussian",), output_multipliers=(1.0, 0.5)),
    depends_on=CONTRACT,
)  # fmt: skip
def first_arrival(subject: Subject, problem: Problem) -> Measurement:
    """Exact for any activation, because a layer has not moved before its error arrives."""
    network, x, y = case(problem)
    steps = 1 + problem.steps % min(3, problem.depth - 1)
    layer = problem.depth - steps
    z = subject.infer(network, x, y, steps, problem.step_size).activities
    error = z[layer - 1] - oracle.predictions(network, x, z)[layer - 1]
    arrived = problem.step_size**steps * oracle.backprop_deltas(network, x, y)[layer - 1]
    # Rounding of z_l against f_l, of each delta on its way, and of the feedforward pass through the output error.
    local = _quiet_bounds(problem, network, x, y, z, steps)[layer - 1]
    relative = gamma(steps * (problem.width + problem.output_dim), network.dtype)
    pass_error = float(np.max(rounding.prediction_bounds(network, x)))
    gain = problem.step_size**steps * network.precision
    for l in range(network.depth, layer, -1):
        gain *= float(np.abs(network.effective_weights()[l - 1]).sum(axis=0).max()) * rounding.LIPSCHITZ + abs(
            network.skips[l - 1]
        )
    target_size = float(np.max(np.abs(y))) + float(np.max(np.abs(oracle.predict(network, x))))
    bound = local + relative * np.abs(arrived) + 2 * gain * (pass_error + relative * target_size)
    return compare_arrays([error], [arrived], [bound], steps=steps)


@law(
    "inference.zero-residual-is-a-fixed-point",
    statement="Where the target is the prediction, the feedforward pass is an equilibrium: F = 0 and nothing moves.",
    citation="paper facts P14, P30; Bogacz-Group/PredictiveCoding issue 4",
    failing_means="a force that is not the gradient of the energy, such as weight decay on activities",
    domain=Domain(losses=("mse",), weight_laws=("gaussian", "orthogonal", "low-rank")),
    depends_on=CONTRACT,
)
def zero_residual(subject: Subject, problem: Problem) -> Measurement:
    """The activities may drift by the rounding of the steps, started at the rounding of the pass."""
    network, x, _ = case(problem)
    y = np.asarray(subject.predict(network, x), network.dtype)
    steps = max(1, problem.steps)
    start = oracle.feedforward(network, x)
    end = subject.infer(network, x, y, steps, problem.step_size).activities
    rate = perturbation_growth(network, x, y, start, problem.step_size)
    pass_error = _feedforward_distance(network, x, y)
    per_step = norm(step_bounds(network, x, y, start, problem.step_size))
    distance = pass_error * rate**steps + per_step * sum(rate**k for k in range(steps))
    return compare_states(end, start, 4 * distance)


def _feedforward_distance(network, x, y):
    """How far an own feedforward pass may be from the oracle's: each layer's rounding times the slopes above it."""
    z = oracle.feedforward(network, x)
    bounds = rounding.error_bounds(network, x, y, z)
    total, carried = 0.0, 0.0
    for l in range(1, network.depth):
        slope = abs(network.skips[l - 1]) + rounding.LIPSCHITZ * float(
            np.linalg.norm(network.effective_weights()[l - 1], 2)
        )
        carried = slope * carried + norm(bounds[l - 1])
        total += carried
    return total


@law(
    "inference.samples-are-independent",
    statement="The activities of a sample do not depend on the other samples of its batch, nor on their order.",
    citation="theory E6; paper facts P4",
    failing_means="a statistic over the batch, activities shared between samples, or an index out of place",
    domain=Domain(batch=2, steps=(1, 24)),
    depends_on=CONTRACT,
)
def samples_are_independent(subject: Subject, problem: Problem) -> Measurement:
    """Samples are permuted and one is replaced; the others must follow the permutation."""
    network, x, y = case(problem)
    other = problem.replace(seed=problem.seed ^ 0x9E3779B97F4A7C15)
    order = arrays.permutation(problem.seed, "samples", problem.batch)
    x2, y2 = x[order].copy(), y[order].copy()
    x2[0], y2[0] = other.input()[0], other.target()[0]
    before = subject.infer(network, x, y, problem.steps, problem.step_size).activities
    after = subject.infer(network, x2, y2, problem.steps, problem.step_size).activities
    z = oracle.feedforward(network, x)
    _, distance = trajectory(network, x, y, z, problem.steps, problem.step_size)
    rate = perturbation_growth(network, x, y, z, problem.step_size) ** problem.steps
    distance += rate * _feedforward_distance(network, x, y)
    kept = [a[order][1:] for a in before]
    return compare_states([a[1:] for a in after], kept, 2 * distance)


@law(
    "inference.batch-size-changes-nothing",
    statement="A sample inferred alone ends where it ends inside a batch.",
    citation="theory E6; paper facts P4, P39; jpc's step is divided by the batch size",
    failing_means="a step size that depends on the batch without being declared, or a batch whose tail is dropped",
    domain=Domain(batch=2, steps=(1, 24), costly=True),
    depends_on=("inference.samples-are-independent",),
)
def batch_size_changes_nothing(subject: Subject, problem: Problem) -> Measurement:
    """The last sample, which a dropped tail would miss."""
    network, x, y = case(problem)
    together = subject.infer(network, x, y, problem.steps, problem.step_size).activities
    alone = subject.infer(network, x[-1:], y[-1:], problem.steps, problem.step_size).activities
    z = oracle.feedforward(network, x[-1:])
    _, distance = trajectory(network, x[-1:], y[-1:], z, problem.steps, problem.step_size)
    rate = perturbation_growth(network, x[-1:], y[-1:], z, problem.step_size) ** problem.steps
    distance += rate * _feedforward_distance(network, x[-1:], y[-1:])
    return compare_states([a[-1:] for a in together], alone, 2 * distance)


@law(
    "inference.scales-with-the-data",
    statement=(
        "In a linear net with mse, data c times larger give activities c times larger, after any number of steps."
    ),
    citation="theory E6; jpc's steady-state test fires on small activities",
    failing_means="a stopping rule with an absolute tolerance, a clip, or an epsilon",
    domain=Domain(activations=("linear",), losses=("mse",), data_scales=(1.0,), steps=(1, 24)),
    depends_on=CONTRACT,
)
def scales_with_data(subject: Subject, problem: Problem) -> Measurement:
    """The factor is a power of two, which scales floating-point numbers exactly."""
    network, x, y = case(problem)
    factor = 2.0 ** (-20 if problem.seed % 2 else 20)
    plain = subject.infer(network, x, y, problem.steps, problem.step_size).activities
    scaled = subject.infer(
        network, np.asarray(factor * x, problem.dtype), np.asarray(factor * y, problem.dtype),
        problem.steps, problem.step_size,
    ).activities  # fmt: skip
    z = oracle.feedforward(network, x)
    _, distance = trajectory(network, x, y, z, problem.steps, problem.step_size)
    distance += _feedforward_distance(network, x, y)
    return compare_states([a / factor for a in scaled], plain, 2 * distance, factor=factor)
