r"""Laws of the gradients of the energy with respect to activities and weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pcbench.laws.definition import SMOOTH, Domain, Measurement, law
from pcbench.laws.measuring.compare import (
    case,
    compare_arrays,
    compare_numbers,
    derivative_of,
    direction,
    inner,
    no_decision,
    step_along,
)
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import norm
from pcbench.problem import arrays
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

CONTRACT = ("contract.shapes-and-dtypes",)
SMOOTH_DOMAIN = Domain(activations=SMOOTH, dtypes=("float64",), data_scales=(1.0, 0.1), weight_scales=(1.0, 0.3))


@law(
    "gradient.weights-match-definition",
    statement=r"dF/dW_l = -(a_l/B) sum_b eps_l phi(z_{l-1})^T at any activities.",
    citation="theory section 2; paper facts P3",
    failing_means="a sign, a sum over the batch or a transposed layout, undeclared; a scaling missing from the "
    "gradient; stale activities",
    needs=("weight-gradients",),
    depends_on=CONTRACT,
)
def weights_match(subject: Subject, problem: Problem) -> Measurement:
    """Every entry against the oracle."""
    network, x, y = case(problem)
    z = problem.activities()
    return compare_arrays(
        subject.weight_gradients(network, x, y, z),
        oracle.weight_gradients(network, x, y, z),
        rounding.weight_gradient_bounds(network, x, y, z),
    )


@law(
    "gradient.weights-differentiate-the-energy",
    statement="The reported weight gradients are the derivatives of the reported energy.",
    citation="paper facts P3",
    failing_means="gradient and energy disagree: one of them has a factor, layer or term that the other lacks",
    needs=("weight-gradients", "energy-at-activities"),
    domain=SMOOTH_DOMAIN,
    depends_on=("energy.matches-definition",),
)
def weights_differentiate(subject: Subject, problem: Problem) -> Measurement:
    """Central differences of the implementation's own energy along a random direction in all weights."""
    network, x, y = case(problem)
    z = problem.activities()
    size = max(float(np.abs(w).max()) for w in network.weights) or 1.0
    along = [size * v for v in direction(problem, "weight direction", network.weights)]
    h, values, worst = 1e-3, {}, 0.0
    for offset in (h, -h, h / 2, -h / 2):
        moved = network.with_weights([np.asarray(w) for w in step_along(network.weights, offset, along)])
        values[offset] = subject.energy(moved, x, y, z)
        worst = max(worst, rounding.energy_bound(moved, x, y, z))
    slope, uncertain = derivative_of(values, h, worst)
    gradients = subject.weight_gradients(network, x, y, z)
    bounds = rounding.weight_gradient_bounds(network, x, y, z)
    uncertain += inner(bounds, [np.abs(v) for v in along])
    return compare_numbers(inner(gradients, along), slope, uncertain)


@law(
    "gradient.activities-match-definition",
    statement=r"B dF/dz_l = eps_l - (df_{l+1}/dz_l)^T eps_{l+1} for every sample, at any activities.",
    citation="theory section 2; paper facts P3",
    failing_means="a sign or a mean over the batch, undeclared; activations placed otherwise than declared; a "
    "derivative or a skip missing from the feedback",
    needs=("activity-gradients",),
    depends_on=CONTRACT,
)
def activities_match(subject: Subject, problem: Problem) -> Measurement:
    """Every entry against the oracle."""
    network, x, y = case(problem)
    z = problem.activities()
    return compare_arrays(
        subject.activity_gradients(network, x, y, z),
        oracle.activity_gradients(network, x, y, z),
        rounding.activity_gradient_bounds(network, x, y, z),
    )


@law(
    "gradient.activities-differentiate-the-energy",
    statement="The reported activity gradients are the derivatives of the reported energy.",
    citation="paper facts P3; FabricPC's muPC, whose latent update is not the gradient of its energy",
    failing_means="a feedback message with a gain that the energy does not have",
    needs=("activity-gradients", "energy-at-activities"),
    domain=SMOOTH_DOMAIN,
    depends_on=("energy.matches-definition",),
)
def activities_differentiate(subject: Subject, problem: Problem) -> Measurement:
    """Central differences of the implementation's own energy along a random direction in all activities."""
    network, x, y = case(problem)
    z = problem.activities()
    along = [problem.data_scale * v for v in direction(problem, "activity direction", z)]
    h, values, worst = 1e-3, {}, 0.0
    for offset in (h, -h, h / 2, -h / 2):
        moved = step_along(z, offset, along)
        values[offset] = subject.energy(network, x, y, moved)
        worst = max(worst, rounding.energy_bound(network, x, y, moved))
    slope, uncertain = derivative_of(values, h, worst)
    gradients = subject.activity_gradients(network, x, y, z)
    bounds = rounding.activity_gradient_bounds(network, x, y, z)
    uncertain += inner(bounds, [np.abs(v) for v in along]) / problem.batch
    return compare_numbers(inner(gradients, along) / problem.batch, slope, uncertain)


@law(
    "gradient.feedforward-output-only",
    statement="At the feedforward pass only the output layer has a weight gradient, and it is backpropagation's.",
    citation="theory E1; paper facts P9",
    failing_means="hidden errors that are not zero before inference, or an output gradient evaluated elsewhere",
    needs=("weight-gradients", "zero-steps"),
    depends_on=("gradient.weights-match-definition",),
)
def feedforward_output_only(subject: Subject, problem: Problem) -> Measurement:
    """Hidden layers against 0, the output layer against BP from the implementation's own last activities."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, 0, problem.step_size).activities
    gradients = subject.weight_gradients(network, x, y, z)
    exact = oracle.weight_gradients(network, x, y, z)
    expected = [np.zeros_like(g) for g in exact[:-1]] + [exact[-1]]
    # the oracle's hidden errors at z are rounding of the pass itself, within the same bounds as its own
    bounds = [2 * b for b in rounding.weight_gradient_bounds(network, x, y, z)]
    return compare_arrays(gradients, expected, bounds)


@law(
    "gradient.local-in-space",
    statement=r"dF/dz_l does not change when activities or weights outside the layers l-1, l and l+1 do.",
    citation="theory E2",
    failing_means="backpropagation through the network in place of local messages, or a shared normalisation",
    needs=("activity-gradients",),
    domain=Domain(depth=(4, 64)),
    depends_on=("gradient.activities-match-definition",),
)
def local_in_space(subject: Subject, problem: Problem) -> Measurement:
    """All activities and weights out of reach of one layer are replaced."""
    network, x, y = case(problem)
    z, others = problem.activities(), problem.activities("other activities")
    layer = 1 + problem.seed % (problem.depth - 1)
    swapped = [a if abs(i - layer) <= 1 else b for i, (a, b) in enumerate(zip(z, others, strict=True), start=1)]
    fresh = problem.weights("other weights")
    weights = [
        w if layer <= i <= layer + 1 else v
        for i, (w, v) in enumerate(zip(network.weights, fresh, strict=True), start=1)
    ]  # fmt: skip
    before = subject.activity_gradients(network, x, y, z)[layer - 1]
    after = subject.activity_gradients(network.with_weights(weights), x, y, swapped)[layer - 1]
    bound = rounding.activity_gradient_bounds(network, x, y, z)[layer - 1]
    return compare_arrays([after], [before], [2 * bound], layer=layer)


@law(
    "gradient.weights-local-in-space",
    statement=r"dF/dW_l depends on the activities of layers l-1 and l only.",
    citation="theory section 2 (learning is local)",
    failing_means="weight gradients taken by differentiating through the whole network",
    needs=("weight-gradients",),
    domain=Domain(depth=(4, 64)),
    depends_on=("gradient.weights-match-definition",),
)
def weights_local(subject: Subject, problem: Problem) -> Measurement:
    """All activities that one weight matrix does not touch are replaced."""
    network, x, y = case(problem)
    z, others = problem.activities(), problem.activities("other activities")
    layer = 1 + problem.seed % problem.depth
    swapped = [a if i in (layer - 1, layer) else b for i, (a, b) in enumerate(zip(z, others, strict=True), start=1)]
    before = subject.weight_gradients(network, x, y, z)[layer - 1]
    after = subject.weight_gradients(network, x, y, swapped)[layer - 1]
    bound = rounding.weight_gradient_bounds(network, x, y, z)[layer - 1]
    return compare_arrays([after], [before], [2 * bound], layer=layer)


@law(
    "gradient.scaling-folds-into-weights",
    statement=r"(a_l, W_l) and (a_l/c_l, c_l W_l) have the same energy, and weight gradients that differ by 1/c_l.",
    citation="paper facts P5 (the abc symmetry of Yang and Hu 2021)",
    failing_means="a scaling applied in the energy but not in the gradient, or in one layer only",
    needs=("weight-gradients", "energy-at-activities", "native-scalings"),
    depends_on=("gradient.weights-match-definition",),
)
def scaling_folds(subject: Subject, problem: Problem) -> Measurement:
    """The factors are powers of two, so folding itself does not round."""
    network, x, y = case(problem)
    z = problem.activities()
    factors = [2.0 ** int(k) for k in arrays.bits(problem.seed, "fold", problem.depth) % np.uint64(7)]
    folded = replace(
        network,
        weights=tuple(np.asarray(c * w, network.dtype) for c, w in zip(factors, network.weights, strict=True)),
        scalings=tuple(a / c for a, c in zip(network.scalings, factors, strict=True)),
    )
    before, after = subject.weight_gradients(network, x, y, z), subject.weight_gradients(folded, x, y, z)
    bounds = [2 * b for b in rounding.weight_gradient_bounds(network, x, y, z)]
    gradients = compare_arrays([c * g for c, g in zip(factors, after, strict=True)], before, bounds, what="gradients")
    energies = compare_numbers(
        subject.energy(folded, x, y, z), subject.energy(network, x, y, z),
        2 * rounding.energy_bound(network, x, y, z), what="energy",
    )  # fmt: skip
    return max(gradients, energies, key=lambda m: m.margin)


@law(
    "gradient.small-error-step-is-backprop",
    statement=(
        r"Errors eps_l = s delta_l with BP's deltas give, for small s, hidden weight gradients s times "
        r"backpropagation's."
    ),
    citation="Goemaere et al. 2025 (arXiv 2505.20137); theory L9; paper facts P29",
    failing_means="weight gradients evaluated at activities other than those given",
    needs=("weight-gradients",),
    domain=Domain(activations=SMOOTH, dtypes=("float64",), data_scales=(1.0,), weight_scales=(1.0,),
                  weight_laws=("gaussian", "orthogonal")),
    depends_on=("gradient.weights-match-definition",),
)  # fmt: skip
def small_error_step(subject: Subject, problem: Problem) -> Measurement:
    """The error is O(s): it must shrink about sixteenfold when s does; fourfold is demanded."""
    network, x, y = case(problem)
    target = oracle.backprop_gradients(network, x, y)[:-1]
    deltas = oracle.backprop_deltas(network, x, y)[:-1]
    scale = norm(deltas)
    if scale == 0 or norm(target) == 0:
        return no_decision("backpropagation's hidden gradients are zero")
    errors, slack = [], 0.0
    for s in (1e-3 / scale, 6.25e-5 / scale):
        z = oracle.states_from_errors(network, x, [s * d for d in deltas])
        gradients = subject.weight_gradients(network, x, y, z)[:-1]
        errors.append(norm([g / s - t for g, t in zip(gradients, target, strict=True)]) / norm(target))
        slack = norm(rounding.weight_gradient_bounds(network, x, y, z)[:-1]) / s / norm(target)
    if errors[0] > 0.1:
        return no_decision("the step is not small for this network", error=errors[0])
    return Measurement(error=errors[1], allowance=errors[0] / 4 + slack, details={"at larger step": errors[0]})


@law(
    "gradient.reported-with-inference",
    statement="The weight gradients that inference reports are those at the declared activities.",
    citation="pcbench protocol; Torch2PC and PCTrainer report gradients of the step before the last",
    failing_means="gradients that lag the activities by a step without saying so",
    needs=("reported-gradients", "start"),
    domain=Domain(steps=(1, 24)),
    depends_on=CONTRACT,
)
def reported_with_inference(subject: Subject, problem: Problem) -> Measurement:
    """The declared point is rebuilt from the implementation's own activities."""
    network, x, y = case(problem)
    point = subject.manifest.conventions.gradient_point
    earlier = subject.infer(network, x, y, problem.steps - 1, problem.step_size, problem.activities()).activities
    state = subject.infer(network, x, y, problem.steps, problem.step_size, problem.activities())
    if state.weight_gradients is None:
        return Measurement(error=1.0, allowance=0.5, details={"reported": "no gradients, though the manifest claims"})
    z = state.activities if point == "final" else earlier
    errors = oracle.weighted_errors(network, x, y, z)
    expected = oracle.weight_gradients_from(network, x, state.activities if point == "previous-errors" else z, errors)
    bounds = [2 * b for b in rounding.weight_gradient_bounds(network, x, y, z)]
    return compare_arrays(state.weight_gradients, expected, bounds)
