"""Energies that are wrong: factors, reductions, missing layers, the output precision and the loss."""

from __future__ import annotations

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from tests.laws.mutants.register import mutant


@mutant(
    "half-lost",
    "Hidden layers' energies lack the factor 1/2.",
    "energy.matches-definition",
    "gradient.activities-differentiate-the-energy",
    "limit.energy-converges-to-loss",
)
class HalfLost(NumpyPCN):
    def _energy_term(self, network, l, z, target):
        factor = 2.0 if l < network.depth else 1.0
        return factor * super()._energy_term(network, l, z, target)  # wrong: twice the half


@mutant(
    "energy-summed-over-batch",
    "The energy is a sum over the batch while the manifest declares a mean.",
    "energy.is-a-mean-over-samples",
    "equilibrium.not-above-the-loss",
)
class EnergySummed(NumpyPCN):
    def energy(self, network, input, target, activities):
        return super().energy(network, input, target, activities) * len(input)  # wrong: sum over the batch


@mutant(
    "energy-mean-over-units",
    "A hidden layer's energy is a mean over its units, not a sum.",
    "energy.matches-definition",
    "inference.step-descends-the-reported-energy",
)
class MeanOverUnits(NumpyPCN):
    def _energy_term(self, network, l, z, target):
        term = super()._energy_term(network, l, z, target)
        return term / z[l].shape[1] if l < network.depth else term  # wrong: divided by the width


@mutant(
    "output-energy-missing",
    "The output layer's energy is left out of the total.",
    "energy.feedforward-equals-loss",
    "energy.layers-sum-to-total",
    "equilibrium.energy-bounds",
)
class OutputEnergyMissing(NumpyPCN):
    def energy(self, network, input, target, activities):
        return float(np.sum(self.layer_energies(network, input, target, activities)[:-1]))  # wrong: [:-1]


@mutant(
    "first-energy-missing",
    "The first layer's energy is left out of the total.",
    "energy.layers-sum-to-total",
    "equilibrium.energy-never-below-the-minimum",
)
class FirstEnergyMissing(NumpyPCN):
    def energy(self, network, input, target, activities):
        return float(np.sum(self.layer_energies(network, input, target, activities)[1:]))  # wrong: [1:]


@mutant(
    "layer-energies-reversed",
    "Layer energies are listed from the output, which is not declared.",
    "energy.layer-energies-match-definition",
)
class LayersReversed(NumpyPCN):
    def layer_energies(self, network, input, target, activities):
        return super().layer_energies(network, input, target, activities)[::-1].copy()  # wrong: reversed


@mutant(
    "energy-per-sample",
    "The energy is not reduced over the batch: one number per sample.",
    "contract.shapes-and-dtypes",
)
class EnergyPerSample(NumpyPCN):
    def energy(self, network, input, target, activities):  # pyright: ignore[reportIncompatibleMethodOverride]
        total = super().energy(network, input, target, activities)
        return np.full(len(input), total, dtype=network.dtype)  # wrong: the shape


@mutant(
    "log-likelihood",
    "The energy is reported as a log-likelihood, with the sign that the manifest does not declare.",
    "energy.never-negative",
    "energy.matches-definition",
)
class LogLikelihood(NumpyPCN):
    def energy(self, network, input, target, activities):
        return -super().energy(network, input, target, activities)  # wrong: the sign


@mutant(
    "energy-epsilon",
    "A small constant meant to avoid a division by zero is added to every layer's energy.",
    "energy.scales-quadratically",
    "energy.feedforward-equals-loss",
)
class EnergyEpsilon(NumpyPCN):
    def _energy_term(self, network, l, z, target):
        return super()._energy_term(network, l, z, target) + 1e-6  # wrong: the constant


@mutant(
    "energy-drops-tail",
    "The last sample of a batch of two or more is left out of the energy.",
    "energy.is-a-mean-over-samples",
)
class EnergyDropsTail(NumpyPCN):
    def _energy_term(self, network, l, z, target):
        kept = max(1, len(target) - 1)  # wrong: the tail
        return super()._energy_term(network, l, [a[:kept] for a in z], target[:kept])


@mutant(
    "energy-of-feedforward-prediction",
    "The output energy is taken at the feedforward prediction in place of that from the activities.",
    "energy.matches-definition",
    "gradient.activities-differentiate-the-energy",
)
class EnergyOfFeedforward(NumpyPCN):
    def _energy_term(self, network, l, z, target):
        stale = self._feedforward(network, z[0]) if l == network.depth else z  # wrong: not these activities
        return super()._energy_term(network, l, stale, target)


@mutant(
    "nan-hidden",
    "A sample whose energy is NaN counts as zero.",
    "contract.nan-is-not-hidden",
)
class NanHidden(NumpyPCN):
    def energy(self, network, input, target, activities):
        return float(np.nan_to_num(super().energy(network, input, target, activities)))  # wrong: nan_to_num


@mutant(
    "target-broadcast",
    "A target of shape (batch,) is subtracted from an output of shape (batch, 1) without a look at the shapes.",
    "contract.target-has-two-axes",
)
class TargetBroadcast(NumpyPCN):
    def _target(self, target, output):
        return target  # wrong: no check


@mutant(
    "precision-squared",
    "The output precision is squared.",
    "energy.affine-in-output-precision",
    "stability.hessian-is-block-tridiagonal",
)
class PrecisionSquared(NumpyPCN):
    def _precision(self, network):
        return network.precision**2  # wrong: squared


@mutant(
    "precision-inverted",
    "The output precision is used as a variance.",
    "energy.affine-in-output-precision",
    "equilibrium.monotone-in-output-precision",
)
class PrecisionInverted(NumpyPCN):
    def _precision(self, network):
        return 1 / network.precision  # wrong: inverted


@mutant(
    "precision-ignored",
    "The output precision is ignored although the manifest claims it.",
    "energy.affine-in-output-precision",
)
class PrecisionIgnored(NumpyPCN):
    def _precision(self, network):
        return 1.0  # wrong: ignored


@mutant(
    "precision-everywhere",
    "The output precision multiplies the energies of all layers.",
    "energy.affine-in-output-precision",
    "energy.layer-energies-match-definition",
)
class PrecisionEverywhere(NumpyPCN):
    def _energy_term(self, network, l, z, target):
        term = super()._energy_term(network, l, z, target)
        return term if l == network.depth else network.precision * term  # wrong: hidden layers too


@mutant(
    "cross-entropy-over-classes",
    "Cross-entropy is averaged over the classes.",
    "energy.matches-definition",
    "equilibrium.cross-entropy-is-a-moreau-envelope",
)
class CrossEntropyOverClasses(NumpyPCN):
    def _loss(self, network, target, output):
        loss = super()._loss(network, target, output)
        return loss / output.shape[1] if network.loss == "ce" else loss  # wrong: averaged


@mutant(
    "log-softmax-overflow",
    "Cross-entropy is log(softmax(x)), whose exponential underflows at large logits.",
    "contract.cross-entropy-finite-at-large-logits",
)
class LogSoftmaxOverflow(NumpyPCN):
    def _loss(self, network, target, output):
        if network.loss != "ce":
            return super()._loss(network, target, output)
        with np.errstate(all="ignore"):
            softmax = np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)  # wrong: no maximum subtracted
            return -np.sum(target * np.log(softmax), axis=1)


@mutant(
    "energy-noise",
    "Every energy carries random noise of 1e-3 of itself.",
    "contract.deterministic",
)
class EnergyNoise(NumpyPCN):
    def energy(self, network, input, target, activities):
        noise = np.random.default_rng().normal()
        return super().energy(network, input, target, activities) * (1 + 1e-3 * noise)  # wrong: not a function


@mutant(
    "gamma-ignored-in-energy",
    "The energy ignores the output multiplier that the rest of the network uses.",
    "symmetry.output-multiplier",
    "gradient.weights-differentiate-the-energy",
)
class GammaIgnoredInEnergy(NumpyPCN):
    def _energy_term(self, network, l, z, target):
        if l == network.depth:
            last = network.scalings[-1] * network.output_multiplier  # wrong: gamma divides the output
            output = last * self._presynaptic(network, l, z[l - 1]) @ network.weights[-1].T
            return np.mean(self._precision(network) * self._loss(network, target, output))
        return super()._energy_term(network, l, z, target)
