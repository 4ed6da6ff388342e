"""Defects that only the limits of width, precision and weights lay bare, beside the laws that state the definition."""

from __future__ import annotations

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from tests.laws.mutants.register import mutant


@mutant(
    "hidden-energy-missing",
    "Only the output energy is reported, as a library that logs its loss would.",
    "energy.matches-definition",
    "equilibrium.energy-is-the-closed-form",
    "limit.energy-rate-in-width",
)
class HiddenEnergyMissing(NumpyPCN):
    def _energy_term(self, network, l, z, target):
        term = super()._energy_term(network, l, z, target)
        return term if l == network.depth else 0.0 * term  # wrong: hidden layers count nothing


@mutant(
    "energy-over-depth",
    "The energy is averaged over the layers.",
    "energy.matches-definition",
    "energy.feedforward-equals-loss",
    "equilibrium.energy-bounds",
    "limit.energy-rate-in-depth",
)
class EnergyOverDepth(NumpyPCN):
    def energy(self, network, input, target, activities):
        return super().energy(network, input, target, activities) / network.depth  # wrong: a mean over layers


@mutant(
    "energy-constant-shrinks",
    "The energy is one percent too small.",
    "equilibrium.energy-is-the-closed-form",
    "equilibrium.energy-never-below-the-minimum",
)
class EnergyShrinks(NumpyPCN):
    def energy(self, network, input, target, activities):
        return 0.99 * super().energy(network, input, target, activities)  # wrong: 0.99


@mutant(
    "ntp-gradients",
    "Weight gradients carry the constant 1/(1+s) that cosine similarity cannot see.",
    "limit.gradient-converges-in-norm",
    "limit.gradient-rate-in-width",
    "limit.gradient-rate-in-depth",
    "limit.training-follows-backprop",
    "limit.training-tends-to-mean-field",
    "limit.nonlinear-rates-in-width",
    "gradient.weights-match-definition",
)
class ConstantGradients(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        return [0.5 * g for g in super().weight_gradients(network, input, target, activities)]  # wrong: halved


@mutant(
    "small-errors-dropped",
    "Output errors below 1e-3 of the target count as zero, as in sparse coding.",
    "gradient.weights-match-definition",
)
class SmallErrorsDropped(NumpyPCN):
    def _errors(self, network, z, target):
        errors = super()._errors(network, z, target)
        size = float(np.abs(errors[-1]).max())
        return [np.where(np.abs(e) > 1e-2 * size, e, 0).astype(e.dtype) for e in errors]  # wrong: a threshold


@mutant(
    "first-order-gradient-at-origin",
    "A percent of the output weights leaks into their own gradient.",
    "saddle.origin-is-strict",
    "gradient.weights-match-definition",
)
class GradientAtOrigin(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        gradients = super().weight_gradients(network, input, target, activities)
        return [*gradients[:-1], gradients[-1] + 0.01 * network.weights[-1]]  # wrong: weight decay of 0.01


@mutant(
    "gradient-over-root-width",
    "Weight gradients carry a factor 1/sqrt(N), a learning rate's business.",
    "limit.coordinates-in-width",
    "limit.parameterisations-are-stable-together",
    "limit.training-follows-backprop",
    "gradient.weights-match-definition",
)
class GradientOverRootWidth(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        factor = network.dims[1] ** -0.5  # wrong: the optimiser scales, not the gradient
        return [np.asarray(factor * g, g.dtype) for g in super().weight_gradients(network, input, target, activities)]


@mutant(
    "gradient-over-depth",
    "Weight gradients are averaged over the layers.",
    "limit.coordinates-in-depth",
    "gradient.weights-match-definition",
)
class GradientOverDepth(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        return [g / network.depth for g in super().weight_gradients(network, input, target, activities)]  # wrong: 1/L


@mutant(
    "gradient-of-backprop",
    "Weight gradients are backpropagation's, whatever the activities: the library trains another model than it shows.",
    "limit.width-equal-to-depth-does-not-converge",
    "gradient.weights-match-definition",
)
class GradientOfBackprop(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        z = self._feedforward(network, input)
        deltas = self._errors(network, z, target)[-1:]
        for l in range(network.depth, 1, -1):
            deltas.insert(0, self._feedback(network, l, z[l - 1], deltas[0]))
        return self._weight_gradients(network, z, deltas)  # wrong: deltas, not prediction errors


@mutant(
    "first-layer-gradient-doubled",
    "The gradient of the first layer counts twice, as where an input is connected by two edges.",
    "limit.direction-rate-in-width",
    "gradient.weights-match-definition",
)
class FirstLayerDoubled(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        first, *rest = super().weight_gradients(network, input, target, activities)
        return [2 * first, *rest]  # wrong: twice
