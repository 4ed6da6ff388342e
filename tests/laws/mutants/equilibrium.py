"""Solvers that end elsewhere than at the equilibrium, or say so too early."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from tests.laws.mutants.register import mutant


@mutant(
    "closed-form-without-gamma",
    "The closed form solves the network with an output multiplier of 1, as jpc's does under sp and ntp.",
    "equilibrium.closed-form-is-stationary",
    activations=("linear",),
    losses=("mse",),
)
class ClosedFormWithoutGamma(NumpyPCN):
    def _closed_form(self, network, input, target):
        last = network.scalings[-1] * network.output_multiplier  # wrong: gamma is lost
        return super()._closed_form(replace(network, scalings=(*network.scalings[:-1], last)), input, target)

    def equilibrium(self, network, input, target):
        return replace(super().equilibrium(network, input, target), outcome="converged")


@mutant(
    "closed-form-without-precision",
    "The closed form assumes an output precision of 1.",
    "equilibrium.closed-form-is-stationary",
    activations=("linear",),
    losses=("mse",),
)
class ClosedFormWithoutPrecision(NumpyPCN):
    def _closed_form(self, network, input, target):
        return super()._closed_form(replace(network, precision=1.0), input, target)  # wrong: lambda is lost

    def equilibrium(self, network, input, target):
        return replace(super().equilibrium(network, input, target), outcome="converged")


@mutant(
    "equilibrium-declared-early",
    "The solver stops after three iterations and calls it convergence.",
    "equilibrium.claimed-is-stationary",
)
class DeclaredEarly(NumpyPCN):
    def _minimise(self, network, input, target, memory=20, iterations=1000):
        return super()._minimise(network, input, target, memory, 3)  # wrong: three

    def equilibrium(self, network, input, target):
        return replace(super().equilibrium(network, input, target), outcome="converged")


@mutant(
    "equilibrium-is-feedforward",
    "The solver returns the feedforward pass and calls it an equilibrium.",
    "equilibrium.claimed-is-stationary",
    "equilibrium.closed-form-is-stationary",
    "equilibrium.errors-are-a-backward-pass",
)
class EquilibriumIsFeedforward(NumpyPCN):
    def equilibrium(self, network, input, target):
        z = self._feedforward(network, input)[1:]  # wrong: nothing is solved
        return replace(super().equilibrium(network, input, target), activities=z, outcome="converged")


@mutant(
    "equilibrium-above-the-loss",
    "The solver leaves the feedforward pass in the wrong direction.",
    "equilibrium.not-above-the-loss",
    "equilibrium.claimed-is-stationary",
    "equilibrium.errors-are-a-backward-pass",
)
class EquilibriumAboveTheLoss(NumpyPCN):
    def equilibrium(self, network, input, target):
        found, start = super().equilibrium(network, input, target), self._feedforward(network, input)[1:]
        z = [2 * a - b for a, b in zip(start, found.activities, strict=True)]  # wrong: the other way
        return replace(found, activities=z, outcome="converged")


@mutant(
    "equilibrium-reports-the-loss",
    "The solver reports the energy from before it started.",
    "equilibrium.energy-reported-is-the-energy-there",
)
class EquilibriumReportsLoss(NumpyPCN):
    def equilibrium(self, network, input, target):
        before = self.energy(network, input, target, self._feedforward(network, input)[1:])  # wrong: before
        return replace(super().equilibrium(network, input, target), energy=before)


@mutant(
    "gradients-damped",
    "Weight gradients are those of activities moved a percent of the way back to the feedforward pass.",
    "equilibrium.gradient-is-the-total-derivative",
    "gradient.weights-match-definition",
)
class GradientsDamped(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        pass_ = self._feedforward(network, input)[1:]
        mixed = [np.asarray(0.99 * a + 0.01 * b, a.dtype) for a, b in zip(activities, pass_, strict=True)]  # wrong
        return super().weight_gradients(network, input, target, mixed)
