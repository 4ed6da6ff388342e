r"""Laws of symmetry: permuting hidden units, rotating linear layers, moving a factor into a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.measuring.compare import case, compare_numbers, trajectory
from pcbench.oracle import rounding
from pcbench.oracle.numerics import norm
from pcbench.problem import arrays
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.worker.subject import Subject

CONTRACT = ("contract.shapes-and-dtypes",)


def _rotate(network: Network, maps: Sequence[np.ndarray]) -> Network:
    r"""The network in which hidden layer \(l\) is \(Q_l z_l\): \(W_l \to Q_l W_l Q_{l-1}^\top\)."""
    weights = [np.asarray(w, np.float64) for w in network.weights]
    for l, q in enumerate(maps):
        weights[l] = q @ weights[l]
        weights[l + 1] = weights[l + 1] @ q.T
    return network.with_weights([np.asarray(w, network.dtype) for w in weights])


def _maps(problem: Problem, exact: bool) -> list[np.ndarray]:
    """One matrix per hidden layer: the same in all where there are skips, which tie the layers' coordinates."""
    maps = []
    for l in range(1, problem.depth):
        role = "turn" if problem.residual else f"turn/{l}"
        if exact:
            maps.append(np.eye(problem.width)[arrays.permutation(problem.seed, role, problem.width)])
        else:
            maps.append(arrays.rotation(problem.seed, role, problem.width))
    return maps


def _covariance(subject: Subject, problem: Problem, maps: list[np.ndarray], slack: float) -> Measurement:
    """Energy, weight gradients and one inference step of the turned network against the turned originals."""
    network, x, y = case(problem)
    turned = _rotate(network, maps)
    z = problem.activities()
    zt = [np.asarray(np.asarray(a, np.float64) @ q.T, network.dtype) for a, q in zip(z, maps, strict=True)]
    results = []
    if "energy-at-activities" in subject.offers:
        allowance = slack * (rounding.energy_bound(network, x, y, z) + rounding.energy_bound(turned, x, y, zt))
        before, after = subject.energy(network, x, y, z), subject.energy(turned, x, y, zt)
        results.append(compare_numbers(after, before, allowance, what="energy"))
    if "start" in subject.offers and "simultaneous" in subject.offers:
        before = subject.infer(network, x, y, 1, problem.step_size, z).activities
        after = subject.infer(turned, x, y, 1, problem.step_size, zt).activities
        bound = trajectory(network, x, y, z, 1, problem.step_size)[1]
        bound += trajectory(turned, x, y, zt, 1, problem.step_size)[1]
        error = norm([a - b @ q.T for a, b, q in zip(after, before, maps, strict=True)])
        results.append(Measurement(error=error, allowance=slack * bound, details={"what": "inference step"}))
    if "weight-gradients" in subject.offers:
        before, after = subject.weight_gradients(network, x, y, z), subject.weight_gradients(turned, x, y, zt)
        sides = [np.eye(problem.input_dim), *maps, np.eye(problem.output_dim)]
        expected = [q @ g @ p.T for p, g, q in zip(sides[:-1], before, sides[1:], strict=True)]
        size = norm(rounding.weight_gradient_bounds(network, x, y, z))
        size += norm(rounding.weight_gradient_bounds(turned, x, y, zt))
        error = norm([a - e for a, e in zip(after, expected, strict=True)])
        results.append(Measurement(error=error, allowance=slack * size, details={"what": "weight gradients"}))
    results = [r for r in results if r.inconclusive is None] or results
    return max(results, key=lambda m: m.margin)


@law(
    "symmetry.hidden-permutation",
    statement=(
        "Relabelling hidden units, with their rows and columns, leaves F unchanged and relabels steps and gradients."
    ),
    citation="theory E6; paper facts P6",
    failing_means="a unit treated differently from its neighbours: an index off by one, a mask, a dropped tail",
    needs=("energy-at-activities",),
    depends_on=CONTRACT,
)
def hidden_permutation(subject: Subject, problem: Problem) -> Measurement:
    """Permutations do not round, so the bounds are those of the two evaluations."""
    return _covariance(subject, problem, _maps(problem, exact=True), 1.0)


@law(
    "symmetry.hidden-rotation",
    statement=(
        "In a linear net, rotating the coordinates of hidden layers leaves F unchanged and rotates steps and gradients."
    ),
    citation="theory E6; paper facts P6",
    failing_means="an elementwise operation where the net is declared linear",
    needs=("energy-at-activities",),
    domain=Domain(
        activations=("linear",), losses=("mse",), data_laws=("gaussian",), weight_laws=("gaussian", "orthogonal")
    ),
    depends_on=CONTRACT,
)
def hidden_rotation(subject: Subject, problem: Problem) -> Measurement:
    """The rotated weights are rounded once more, which triples the bounds."""
    return _covariance(subject, problem, _maps(problem, exact=False), 3.0)


@law(
    "symmetry.output-multiplier",
    statement=r"Dividing the output by gamma is dividing the output weights by gamma.",
    citation="paper facts P7, section 1.4",
    failing_means="gamma applied twice, or to a layer other than the output's",
    needs=("energy-at-activities", "native-scalings"),
    domain=Domain(output_multipliers=(0.5, 4.0)),
    depends_on=CONTRACT,
)
def output_multiplier(subject: Subject, problem: Problem) -> Measurement:
    """The multiplier is a power of two, so folding it does not round."""
    network, x, y = case(problem)
    g = problem.output_multiplier
    folded = replace(
        network,
        weights=(*network.weights[:-1], np.asarray(network.weights[-1] / g, network.dtype)),
        scalings=(*network.scalings[:-1], network.scalings[-1] * g),
        output_multiplier=1.0,
    )
    z = problem.activities()
    allowance = 2 * rounding.energy_bound(network, x, y, z)
    return compare_numbers(subject.energy(folded, x, y, z), subject.energy(network, x, y, z), allowance)


@law(
    "symmetry.sign-of-odd-activations",
    statement="With an odd activation, F(-x, -y, -z) = F(x, y, z).",
    citation="theory E6",
    failing_means="a bias or an offset where the network has none",
    needs=("energy-at-activities",),
    domain=Domain(activations=("linear", "tanh"), losses=("mse",)),
    depends_on=CONTRACT,
)
def sign_of_odd_activations(subject: Subject, problem: Problem) -> Measurement:
    """Negation does not round."""
    network, x, y = case(problem)
    z = problem.activities()
    allowance = 2 * rounding.energy_bound(network, x, y, z)
    return compare_numbers(
        subject.energy(network, -x, -y, [-a for a in z]), subject.energy(network, x, y, z), allowance
    )
