"""Wrong learning: updates and the two variants that should be backpropagation."""

from __future__ import annotations

from pcbench.adapters.numpy import NumpyPCN
from tests.laws.mutants.register import mutant


@mutant(
    "rate-twice",
    "The learning rate is applied twice.",
    "learning.update-is-rate-times-gradient",
)
class RateTwice(NumpyPCN):
    def _update(self, weight, gradient, learning_rate):
        return weight - learning_rate * learning_rate * gradient  # wrong: squared


@mutant(
    "ascends",
    "Training climbs the energy.",
    "learning.update-is-rate-times-gradient",
)
class Ascends(NumpyPCN):
    def _update(self, weight, gradient, learning_rate):
        return weight + learning_rate * gradient  # wrong: plus


@mutant(
    "weight-decay",
    "Training decays the weights by a thousandth of the rate.",
    "learning.update-is-rate-times-gradient",
)
class WeightDecay(NumpyPCN):
    def _update(self, weight, gradient, learning_rate):
        return weight - learning_rate * (gradient + 1e-3 * weight)  # wrong: decay


@mutant(
    "trains-from-feedforward",
    "Training takes its gradients at the feedforward activities, before inference.",
    "learning.update-is-rate-times-gradient",
)
class TrainsFromFeedforward(NumpyPCN):
    def train(self, network, input, target, iterations, learning_rate, steps, step_size):
        return super().train(network, input, target, iterations, learning_rate, 0, step_size)  # wrong: no inference


@mutant(
    "trains-once-more",
    "Training does one update too many.",
    "learning.update-is-rate-times-gradient",
)
class TrainsOnceMore(NumpyPCN):
    def train(self, network, input, target, iterations, learning_rate, steps, step_size):
        return super().train(network, input, target, iterations + 1, learning_rate, steps, step_size)  # wrong: + 1


@mutant(
    "fixed-prediction-moves",
    "The predictions that should stay fixed follow the activities of the errors found so far.",
    "learning.fixed-prediction-is-backprop",
)
class FixedPredictionMoves(NumpyPCN):
    def fixed_prediction_gradients(self, network, input, target):
        z = self._feedforward(network, input)
        for _ in range(network.depth - 1):
            z = self._step(network, z, target, 0.5)  # wrong: the predictions move too
        return self._weight_gradients(network, z, self._errors(network, z, target))


@mutant(
    "zero-divergence-late",
    "Zero-divergence learning updates every layer one step late.",
    "learning.zero-divergence-is-backprop",
)
class ZeroDivergenceLate(NumpyPCN):
    def zero_divergence_gradients(self, network, input, target):
        z = self._feedforward(network, input)
        gradients = []
        for l in range(network.depth, 0, -1):
            z = self._step(network, z, target, 1.0)  # wrong: before the gradient
            errors = self._errors(network, z, target)
            gradients.insert(0, self._weight_gradient(network, l, z[l - 1], errors[l - 1]))
        return gradients


@mutant(
    "zero-divergence-step",
    "Zero-divergence learning takes steps of 0.9 in place of 1.",
    "learning.zero-divergence-is-backprop",
)
class ZeroDivergenceStep(NumpyPCN):
    def zero_divergence_gradients(self, network, input, target):
        z = self._feedforward(network, input)
        gradients = []
        for l in range(network.depth, 0, -1):
            errors = self._errors(network, z, target)
            gradients.insert(0, self._weight_gradient(network, l, z[l - 1], errors[l - 1]))
            z = self._step(network, z, target, 0.9)  # wrong: 0.9
        return gradients
