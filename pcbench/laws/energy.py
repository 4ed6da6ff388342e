r"""Laws of the energy: its definition, its parts, and its dependence on samples, scale and precision."""

from __future__ import annotations

import numpy as np

from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.measuring.compare import case, compare_arrays, compare_numbers
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import gamma
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

CONTRACT = ("contract.shapes-and-dtypes",)


@law(
    "energy.matches-definition",
    statement=r"F = (1/B) sum_b [1/2 sum_{l<L} |z_l - f_l(z_{l-1})|^2 + lambda loss(y, f_L)] at any activities.",
    citation="arXiv 2602.07697; theory section 2",
    failing_means="a lost 1/2 or a sum over the batch, undeclared; activations placed otherwise than declared; a "
    "scaling or skip left out of one layer",
    needs=("energy-at-activities",),
    depends_on=CONTRACT,
)
def matches_definition(subject: Subject, problem: Problem) -> Measurement:
    """Reported energy against the oracle's at random activities."""
    network, x, y = case(problem)
    z = problem.activities()
    expected = oracle.energy(network, x, y, z)
    return compare_numbers(subject.energy(network, x, y, z), expected, rounding.energy_bound(network, x, y, z))


@law(
    "energy.layers-sum-to-total",
    statement="The energies of the layers add up to the energy.",
    citation="paper facts P2",
    failing_means="a layer missing from the total, or layers and total normalised differently",
    needs=("energy-at-activities", "layer-energies"),
    depends_on=CONTRACT,
)
def layers_sum_to_total(subject: Subject, problem: Problem) -> Measurement:
    """Both sides are the implementation's own."""
    network, x, y = case(problem)
    z = problem.activities()
    total = subject.energy(network, x, y, z)
    layers = subject.layer_energies(network, x, y, z)
    allowance = 2 * rounding.energy_bound(network, x, y, z) + gamma(len(layers), network.dtype) * abs(total)
    return compare_numbers(float(layers.sum()), total, allowance)


@law(
    "energy.layer-energies-match-definition",
    statement=(
        r"The energy of layer l is (1/2B) sum_b |eps_l|^2, the last lambda times the mean loss, in the "
        r"declared order."
    ),
    citation="theory section 2",
    failing_means="layers listed in an undeclared order, or one layer normalised differently from the others",
    needs=("layer-energies",),
    depends_on=CONTRACT,
)
def layer_energies_match(subject: Subject, problem: Problem) -> Measurement:
    """Layer by layer against the oracle."""
    network, x, y = case(problem)
    z = problem.activities()
    energies = oracle.layer_energies(network, x, y, z)
    bounds = rounding.layer_energy_bounds(network, x, y, z) + gamma(len(x), network.dtype) * energies
    return compare_arrays([subject.layer_energies(network, x, y, z)], [energies.mean(axis=0)], [bounds.mean(axis=0)])


@law(
    "energy.feedforward-equals-loss",
    statement="At the feedforward pass the energy is the output precision times the BP loss.",
    citation="arXiv 2602.07697; theory E1; paper facts P1",
    failing_means="energy and loss normalised differently, or a feedforward pass that leaves hidden errors behind",
    needs=("energy-at-activities", "zero-steps"),
    depends_on=CONTRACT,
)
def feedforward_equals_loss(subject: Subject, problem: Problem) -> Measurement:
    """The loss is taken at the implementation's own prediction."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, 0, problem.step_size).activities
    output = subject.predict(network, x)
    loss = network.precision * float(np.mean(oracle.sample_loss(network, y, output)))
    uncertain = rounding.prediction_error_bound(network, network.depth, z[-1])
    allowance = 2 * rounding.energy_bound(network, x, y, z)
    allowance += network.precision * rounding.loss_bound(network, y, output, 2 * uncertain)
    return compare_numbers(subject.energy(network, x, y, z), loss, allowance)


@law(
    "energy.never-negative",
    statement="The energy is never negative.",
    citation="paper facts P2",
    failing_means="a log-likelihood reported without declaring its sign, or a constant dropped",
    needs=("energy-at-activities",),
    depends_on=CONTRACT,
)
def never_negative(subject: Subject, problem: Problem) -> Measurement:
    """At random activities and, where offered, after inference."""
    network, x, y = case(problem)
    z = problem.activities()
    lowest = subject.energy(network, x, y, z)
    return Measurement(
        error=max(0.0, -lowest), allowance=rounding.energy_bound(network, x, y, z), details={"energy": lowest}
    )


@law(
    "energy.affine-in-output-precision",
    statement=(
        r"The output precision enters only the output term: F(3 lambda) - F(lambda) = 2 lambda times the mean "
        r"loss."
    ),
    citation="theory section 1; paper facts P7",
    failing_means="the precision applied to every layer, squared, inverted, or ignored",
    needs=("energy-at-activities", "precision"),
    depends_on=CONTRACT,
)
def affine_in_precision(subject: Subject, problem: Problem) -> Measurement:
    """Two energies at the same activities."""
    low, x, y = case(problem)
    high = problem.replace(output_precision=3 * problem.output_precision).network()
    z = problem.activities()
    change = subject.energy(high, x, y, z) - subject.energy(low, x, y, z)
    top = oracle.layer_prediction(low, low.depth, np.asarray(z[-1], np.float64))
    expected = 2 * low.precision * float(np.mean(oracle.sample_loss(low, y, top)))
    allowance = rounding.energy_bound(low, x, y, z) + rounding.energy_bound(high, x, y, z)
    return compare_numbers(change, expected, allowance)


@law(
    "energy.scales-quadratically",
    statement="A linear net with mse has F(cx, cy, cz) = c^2 F(x, y, z).",
    citation="theory E6",
    failing_means="an absolute tolerance, epsilon or clip that bites at small or large data",
    needs=("energy-at-activities",),
    domain=Domain(activations=("linear",), losses=("mse",), data_scales=(1.0,)),
    depends_on=CONTRACT,
)
def scales_quadratically(subject: Subject, problem: Problem) -> Measurement:
    """The factor is a power of two, which scales floating-point numbers exactly."""
    network, x, y = case(problem)
    z = problem.activities()
    factor = 2.0 ** (-20 if problem.seed % 2 else 20)
    scaled = [np.asarray(factor * a, problem.dtype) for a in (x, y, *z)]
    energy = subject.energy(network, scaled[0], scaled[1], scaled[2:]) / factor**2
    allowance = 2 * rounding.energy_bound(network, x, y, z)
    return compare_numbers(energy, subject.energy(network, x, y, z), allowance, factor=factor)


@law(
    "energy.is-a-mean-over-samples",
    statement="The energy of a batch is the mean of the energies of its samples, each taken alone.",
    citation="theory E6; paper facts P4",
    failing_means="a sum over the batch that is not declared, samples that leak into each other, a dropped tail",
    needs=("energy-at-activities",),
    domain=Domain(batch=2, costly=True),
    depends_on=CONTRACT,
)
def mean_over_samples(subject: Subject, problem: Problem) -> Measurement:
    """Every sample alone, in batches of one."""
    network, x, y = case(problem)
    z = problem.activities()
    alone = [
        subject.energy(network, x[i : i + 1], y[i : i + 1], [a[i : i + 1] for a in z]) for i in range(len(x))
    ]  # fmt: skip
    allowance = 2 * rounding.energy_bound(network, x, y, z)
    return compare_numbers(float(np.mean(alone)), subject.energy(network, x, y, z), allowance)
