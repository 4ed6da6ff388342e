r"""Laws of learning: the weight update, and two variants of inference that give backpropagation exactly."""

from __future__ import annotations

import numpy as np

from pcbench.laws.definition import SMOOTH, Domain, Measurement, law
from pcbench.laws.measuring.compare import case, compare_states, slope_bound, trajectory
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import gamma, norm
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.worker.subject import Subject

PREDICTION = ("feedforward.prediction-matches-definition",)
DOMAIN = Domain(weight_scales=(1.0, 0.3), data_scales=(1.0, 0.1), steps=(1, 12), costly=True)


@law(
    "learning.update-is-rate-times-gradient",
    statement=(
        r"One update after T steps of inference is W_l <- W_l - rate dF/dW_l at the activities where "
        r"inference ended."
    ),
    citation="theory section 2; paper facts section 2.2",
    failing_means="stale activities or errors in the gradient, a rate applied twice, a sum over the batch",
    needs=("train", "zero-steps"),
    domain=DOMAIN,
    depends_on=PREDICTION,
)
def update_is_rate_times_gradient(subject: Subject, problem: Problem) -> Measurement:
    """The gradient is the oracle's at the activities of the implementation's own inference."""
    network, x, y = case(problem)
    network = subject.as_sent(network)
    rate = 0.125
    updated = subject.train(network, x, y, 1, rate, problem.steps, problem.step_size)
    start = subject.infer(network, x, y, 0, problem.step_size).activities
    z = subject.infer(network, x, y, problem.steps, problem.step_size).activities
    gradients = oracle.weight_gradients(network, x, y, z)
    expected = [np.asarray(w, np.float64) - rate * g for w, g in zip(network.weights, gradients, strict=True)]
    bounds = rounding.weight_gradient_bounds(network, x, y, z)
    _, distance = trajectory(network, x, y, start, problem.steps, problem.step_size)
    shift = _gradient_sensitivity(network, x, y, z) * distance
    bound = rate * (2 * norm(bounds) + shift) + 2 * gamma(0, network.dtype) * norm(expected)
    # what is compared is the change: the weights themselves would hide it
    moved = [u - np.asarray(w, np.float64) for u, w in zip(updated, network.weights, strict=True)]
    return compare_states(moved, [-rate * g for g in gradients], bound)


def _gradient_sensitivity(network: Network, x: np.ndarray, y: np.ndarray, z: list[np.ndarray]) -> float:
    """How much weight gradients move per unit of activities, in norm: the product rule, layer by layer."""
    below = [np.asarray(x, np.float64), *z]
    errors = oracle.weighted_errors(network, x, y, z)
    total = 0.0
    for l in range(1, network.depth + 1):
        slope = slope_bound(network, l) * max(1.0, network.precision)
        a = abs(network.scalings[l - 1]) / len(x)
        total += a * (
            (1 + slope) * rounding.LIPSCHITZ * (norm(below[l - 1]) + 1) + rounding.LIPSCHITZ * norm(errors[l - 1])
        )
    return total


def _backprop_bound(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    """How far gradients from one forward and one backward pass may be from the oracle's, in norm."""
    z = oracle.feedforward(network, x)
    below = [np.asarray(x, np.float64), *z]
    deltas = oracle.backprop_deltas(network, x, y)
    local = rounding.error_bounds(network, x, y, z)
    slopes = [slope_bound(network, l) for l in range(1, network.depth + 1)]
    forward = [0.0]
    for l in range(1, network.depth):
        forward.append((slopes[l - 1] if l > 1 else 0.0) * forward[-1] + norm(local[l - 1]))
    total, backward = 0.0, 0.0
    for l in range(network.depth, 0, -1):
        if l == network.depth:
            backward = network.precision * (slopes[-1] * forward[-1] + norm(local[-1]))
        else:
            bend = 0.0 if network.linear else 1.2 * slopes[l] * forward[l] * norm(deltas[l])
            relative = gamma(max(network.dims), network.dtype) * (1 + slopes[l]) * norm(deltas[l])
            backward = slopes[l] * backward + bend + relative + norm(local[l - 1])
        a = abs(network.scalings[l - 1]) / len(x)
        size, shift = norm(below[l - 1]) + 1, rounding.LIPSCHITZ * forward[l - 1]
        bend = 0.0 if network.linear or network.placement == "before-weight" else 1.2 * slopes[l - 1] * forward[l - 1]
        total += a * (
            (backward + bend * norm(deltas[l - 1])) * (size + shift)
            + norm(deltas[l - 1]) * (shift + gamma(len(x), network.dtype) * size)
        )
    return total


def _equals_backprop(subject: Subject, problem: Problem, variant: str) -> Measurement:
    network, x, y = case(problem)
    gradients = subject.variant_gradients(variant, network, x, y)
    return compare_states(gradients, oracle.backprop_gradients(network, x, y), 2 * _backprop_bound(network, x, y))


@law(
    "learning.fixed-prediction-is-backprop",
    statement=(
        "With predictions held at the feedforward pass, equilibrium errors are backpropagation's deltas, exactly."
    ),
    citation="Millidge, Tschantz and Buckley 2020 (arXiv 2006.04182); theory E7; paper facts P27",
    failing_means="predictions or derivatives that move with the activities",
    needs=("fixed-prediction-gradients",),
    domain=Domain(activations=SMOOTH, weight_scales=(1.0, 0.3), data_scales=(1.0, 0.1), costly=True),
    depends_on=PREDICTION,
)
def fixed_prediction(subject: Subject, problem: Problem) -> Measurement:
    """Weight gradients of all layers against BP."""
    return _equals_backprop(subject, problem, "fixed_prediction_gradients")


@law(
    "learning.zero-divergence-is-backprop",
    statement="Inference with step size 1 in which layer l is updated at step L - l gives backpropagation, exactly.",
    citation="Song, Lukasiewicz, Xu and Bogacz 2020; theory E7; paper facts P26",
    failing_means="a layer updated one step early or late",
    needs=("zero-divergence-gradients",),
    domain=Domain(activations=SMOOTH, weight_scales=(1.0, 0.3), data_scales=(1.0, 0.1), costly=True),
    depends_on=PREDICTION,
)
def zero_divergence(subject: Subject, problem: Problem) -> Measurement:
    """Weight gradients of all layers against BP."""
    return _equals_backprop(subject, problem, "zero_divergence_gradients")
