"""Defects that only the limits of width, precision and weights lay bare, beside the laws that state the definition."""

from __future__ import annotations

import numpy as np

from mutants.register import mutant
from pcbench.adapters.numpy import NumpyPCN


@mutant(
    "hidden-energy-missing",
    "Only the output energy is reported, as a library that logs its loss would.",
    "energy.matches-definition",
    "equilibrium.energy-is-the-closed-form",
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
