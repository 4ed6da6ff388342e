"""Layer scalings off by a power of width, depth or gamma, in one place only."""

from __future__ import annotations

from pcbench.adapters.numpy import NumpyPCN
from tests.laws.mutants.register import mutant


@mutant(
    "root-depth-in-hidden",
    "Hidden layers of residual networks are scaled by 1/sqrt(L) once more.",
    "feedforward.prediction-matches-definition",
    "energy.matches-definition",
)
class RootDepthInHidden(NumpyPCN):
    def _scaling(self, network, l):
        extra = network.depth**-0.5 if network.skips[l - 1] else 1.0  # wrong: 1/sqrt(L) twice
        return extra * super()._scaling(network, l)


@mutant(
    "depth-minus-one",
    "Residual branches are scaled by the number of hidden layers instead of the depth.",
    "feedforward.prediction-matches-definition",
)
class DepthMinusOne(NumpyPCN):
    def _scaling(self, network, l):
        extra = (network.depth / (network.depth - 1)) ** 0.5 if network.skips[l - 1] else 1.0  # wrong: L - 1
        return extra * super()._scaling(network, l)


@mutant(
    "root-width-in-output",
    "The output is scaled by sqrt(N) too much, as ntp where mupc is meant.",
    "feedforward.prediction-matches-definition",
    "energy.matches-definition",
)
class RootWidthInOutput(NumpyPCN):
    def _scaling(self, network, l):
        extra = network.dims[-2] ** 0.5 if l == network.depth else 1.0  # wrong: sqrt(N)
        return extra * super()._scaling(network, l)


@mutant(
    "root-width-in-feedback",
    "The feedback, and only it, is scaled by sqrt(N) too little.",
    "gradient.activities-match-definition",
    "inference.step-descends-the-reported-energy",
    "stability.orthogonal-chain-spectrum",
)
class RootWidthInFeedback(NumpyPCN):
    def _feedback(self, network, l, below, error):
        return super()._feedback(network, l, below, error) / network.dims[1] ** 0.5  # wrong: 1/sqrt(N)


@mutant(
    "scaling-missing-in-feedback",
    "The feedback uses the bare weights, without the layer's scaling.",
    "gradient.activities-match-definition",
    "stability.hessian-is-symmetric-positive-definite",
)
class ScalingMissingInFeedback(NumpyPCN):
    def _feedback(self, network, l, below, error):
        skip = self._skip(network, l, error) if network.skips[l - 1] else 0.0
        back = super()._feedback(network, l, below, error) - skip
        return back / self._scaling(network, l) + skip  # wrong: the scaling is gone


@mutant(
    "root-width-in-output-gradient",
    "The gradient of the output weights, and only it, is scaled by sqrt(N) too much.",
    "gradient.weights-match-definition",
    "limit.gradient-converges-in-direction",
    "limit.gradient-converges-in-norm",
)
class RootWidthInOutputGradient(NumpyPCN):
    def _weight_gradient(self, network, l, below, error):
        gradient = super()._weight_gradient(network, l, below, error)
        return gradient * network.dims[-2] ** 0.5 if l == network.depth else gradient  # wrong: sqrt(N)


@mutant(
    "root-depth-in-weight-gradient",
    "Gradients of hidden weights lack the 1/sqrt(L) of the residual branch.",
    "gradient.weights-match-definition",
    "gradient.scaling-folds-into-weights",
)
class RootDepthInWeightGradient(NumpyPCN):
    def _weight_gradient(self, network, l, below, error):
        gradient = super()._weight_gradient(network, l, below, error)
        extra = network.depth**0.5 if network.skips[l - 1] else 1.0  # wrong: undoes 1/sqrt(L)
        return (extra * gradient / max(1.0, self._scaling(network, l))).astype(gradient.dtype)


@mutant(
    "first-scaling-missing-in-gradient",
    "The gradient of W_1 lacks a_1.",
    "gradient.weights-match-definition",
    "gradient.scaling-folds-into-weights",
    "gradient.weights-differentiate-the-energy",
)
class FirstScalingMissing(NumpyPCN):
    def _weight_gradient(self, network, l, below, error):
        gradient = super()._weight_gradient(network, l, below, error)
        return gradient / self._scaling(network, 1) if l == 1 else gradient  # wrong: without a_1


@mutant(
    "first-scaling-missing",
    "The first layer ignores its scaling 1/sqrt(D) everywhere.",
    "feedforward.prediction-matches-definition",
    "gradient.scaling-folds-into-weights",
)
class FirstScalingIgnored(NumpyPCN):
    def _scaling(self, network, l):
        return 1.0 if l == 1 else super()._scaling(network, l)  # wrong: a_1 = 1


@mutant(
    "gamma-twice",
    "The output multiplier divides the output twice.",
    "symmetry.output-multiplier",
    "feedforward.prediction-matches-definition",
)
class GammaTwice(NumpyPCN):
    def _scaling(self, network, l):
        extra = network.output_multiplier if l == network.depth else 1.0  # wrong: already in the scalings
        return super()._scaling(network, l) / extra


@mutant(
    "prediction-unscaled",
    "The prediction forgets the output's scaling, which inference and energy apply.",
    "feedforward.prediction-continues-the-activities",
    "energy.feedforward-equals-loss",
)
class PredictionUnscaled(NumpyPCN):
    def predict(self, network, input):
        return super().predict(network, input) / self._scaling(network, network.depth)  # wrong: without a_L


@mutant(
    "residual-doubled",
    "The skip counts twice in the prediction and once in the feedback.",
    "feedforward.errors-are-zero",
    "gradient.activities-differentiate-the-energy",
)
class ResidualDoubled(NumpyPCN):
    def _prediction(self, network, l, below):
        prediction = super()._prediction(network, l, below)
        return prediction + self._skip(network, l, below) if network.skips[l - 1] else prediction  # wrong: once more
