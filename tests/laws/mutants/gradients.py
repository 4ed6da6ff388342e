"""Wrong gradients: feedback to activities, the local rule for weights, derivatives of activations."""

from __future__ import annotations

import math

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from tests.laws.mutants.register import mutant


@mutant(
    "feedback-sign",
    "The feedback from the layer above has the wrong sign.",
    "gradient.activities-match-definition",
    "inference.step-follows-definition",
    "inference.first-arrival",
    "stability.energy-falls-below-the-threshold",
)
class FeedbackSign(NumpyPCN):
    def _activity_gradient(self, network, l, z, errors):
        return errors[l - 1] + self._feedback(network, l + 1, z[l], errors[l])  # wrong: plus


@mutant(
    "derivative-forgotten",
    "The feedback lacks the derivative of the activation.",
    "gradient.activities-match-definition",
    "gradient.activities-differentiate-the-energy",
)
class DerivativeForgotten(NumpyPCN):
    def _phi_derivative(self, network, z):
        return np.ones_like(z)  # wrong: 1


@mutant(
    "derivative-at-output",
    "The derivative is taken at phi(z), as for activations stored after the nonlinearity.",
    "gradient.activities-match-definition",
    "inference.step-descends-the-reported-energy",
)
class DerivativeAtOutput(NumpyPCN):
    def _phi_derivative(self, network, z):
        return super()._phi_derivative(network, self._phi(network, z))  # wrong: the argument


@mutant(
    "derivative-at-activities",
    "With the activation after the weight, its derivative is taken at the activities instead of the drive.",
    "gradient.weights-match-definition",
)
class DerivativeAtActivities(NumpyPCN):
    def _gain(self, network, l, below, error):
        if network.placement == "after-weight" and l < network.depth:
            at = self._phi(network, self._drive(network, l, below))  # wrong: phi of the drive
            return self._phi_derivative(network, at) * error
        return error


@mutant(
    "residual-dropped-from-feedback",
    "The skip is in the prediction and missing from the feedback.",
    "gradient.activities-match-definition",
    "stability.hessian-is-block-tridiagonal",
    "stability.hessian-is-symmetric-positive-definite",
)
class ResidualDropped(NumpyPCN):
    def _skip(self, network, l, below):
        return super()._skip(network, l, below)

    def _feedback(self, network, l, below, error):
        back = super()._feedback(network, l, below, error)
        return back - network.skips[l - 1] * error if network.skips[l - 1] else back  # wrong: no skip


@mutant(
    "output-error-left-out",
    "The last hidden layer does not hear the output error.",
    "inference.first-arrival",
    "equilibrium.theory-is-a-fixed-point",
)
class OutputErrorLeftOut(NumpyPCN):
    def _activity_gradient(self, network, l, z, errors):
        if l == network.depth - 1:
            return errors[l - 1]  # wrong: no feedback here
        return super()._activity_gradient(network, l, z, errors)


@mutant(
    "feedback-one-layer-late",
    "The feedback carries the error of the layer itself through the weights above where widths allow it.",
    "inference.step-follows-definition",
    "gradient.activities-match-definition",
)
class FeedbackLate(NumpyPCN):
    def _activity_gradient(self, network, l, z, errors):
        late = errors[l] if errors[l].shape != errors[l - 1].shape else errors[l - 1]  # wrong: index off by one
        return errors[l - 1] - self._feedback(network, l + 1, z[l], late)


@mutant(
    "direct-feedback",
    "Hidden layers hear backpropagation's delta through the whole network, not the error of the layer above.",
    "gradient.local-in-space",
    "inference.signal-front",
)
class DirectFeedback(NumpyPCN):
    def _step(self, network, z, target, step_size):
        errors = self._errors(network, z, target)
        for l in range(network.depth - 1, 0, -1):
            errors[l - 1] = errors[l - 1] - self._feedback(network, l + 1, z[l], errors[l])  # wrong: accumulates
        return [z[0], *(a - step_size * g for a, g in zip(z[1:], errors[:-1], strict=True))]

    def activity_gradients(self, network, input, target, activities):
        z = [input, *activities]
        return [a - b for a, b in zip(activities, self._step(network, z, target, 1.0)[1:], strict=True)]


@mutant(
    "gradient-clipped",
    "Activity gradients of a sample are clipped to a norm of 1 over all its layers.",
    "inference.scales-with-the-data",
    "gradient.activities-match-definition",
)
class GradientClipped(NumpyPCN):
    def _activity_gradient(self, network, l, z, errors):
        gradient = super()._activity_gradient(network, l, z, errors)
        size = np.sqrt(sum(np.sum(e * e, axis=1, keepdims=True) for e in errors))
        return gradient / np.maximum(size, 1)  # wrong: clipped


@mutant(
    "activity-gradient-mean",
    "Activity gradients are those of the mean over the batch while the manifest declares each sample's own.",
    "gradient.activities-match-definition",
    "gradient.activities-differentiate-the-energy",
)
class ActivityGradientMean(NumpyPCN):
    def activity_gradients(self, network, input, target, activities):
        return [g / len(input) for g in super().activity_gradients(network, input, target, activities)]  # wrong: / B


@mutant(
    "softmax-minus-target",
    "The output error of cross-entropy is softmax - y.",
    "gradient.weights-match-definition",
    "inference.step-follows-definition",
)
class SoftmaxMinusTarget(NumpyPCN):
    def _output_error(self, network, target, output):
        error = super()._output_error(network, target, output)
        return -error if network.loss == "ce" else error  # wrong: the sign


@mutant(
    "gelu-is-tanh",
    "GELU is computed by its approximation with a hyperbolic tangent, as some libraries do by default.",
    "feedforward.prediction-matches-definition",
    "gradient.small-error-step-is-backprop",
    activations=("gelu",),
)
class GeluIsTanh(NumpyPCN):
    def _phi(self, network, z):
        if network.activation == "gelu":
            return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))  # wrong: not the exact one
        return super()._phi(network, z)


@mutant(
    "gelu-tanh-is-exact",
    "What is declared as the approximation of GELU is the exact one.",
    "energy.matches-definition",
    activations=("gelu-tanh",),
)
class GeluTanhIsExact(NumpyPCN):
    def _phi(self, network, z):
        if network.activation == "gelu-tanh":
            return super()._phi(_with_activation(network, "gelu"), z)  # wrong: the exact one
        return super()._phi(network, z)


@mutant(
    "relu-derivative-leaks",
    "The derivative of ReLU is 0.01 where it should be 0.",
    "gradient.activities-match-definition",
    activations=("relu",),
)
class ReluLeaks(NumpyPCN):
    def _phi_derivative(self, network, z):
        slope = super()._phi_derivative(network, z)
        return np.maximum(slope, z.dtype.type(0.01)) if network.activation == "relu" else slope  # wrong: leaks


@mutant(
    "weight-gradient-summed",
    "Weight gradients are summed over the batch while the manifest declares the mean.",
    "gradient.weights-match-definition",
    "gradient.weights-differentiate-the-energy",
    "equilibrium.gradient-is-the-total-derivative",
    "limit.gradient-converges-in-norm",
)
class WeightGradientSummed(NumpyPCN):
    def _weight_gradient(self, network, l, below, error):
        return super()._weight_gradient(network, l, below, error) * len(error)  # wrong: the sum


@mutant(
    "weight-gradient-sign",
    "Weight gradients have the sign of the update, which is not declared.",
    "gradient.weights-differentiate-the-energy",
    "equilibrium.weight-gradients-are-the-closed-form",
)
class WeightGradientSign(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        return [-g for g in super().weight_gradients(network, input, target, activities)]  # wrong: the sign


@mutant(
    "weight-gradient-without-phi",
    "Weight gradients use the activities themselves where the activation comes before the weight.",
    "gradient.weights-match-definition",
)
class WeightGradientWithoutPhi(NumpyPCN):
    def _weight_gradient(self, network, l, below, error):
        outer = self._gain(network, l, below, error).T @ below  # wrong: phi is missing
        return -(self._scaling(network, l) / len(error)) * outer


@mutant(
    "stale-activities",
    "Weight gradients multiply the errors with the feedforward activities.",
    "gradient.weights-match-definition",
    "equilibrium.weight-gradients-are-the-closed-form",
    "equilibrium.gradient-is-the-total-derivative",
)
class StaleActivities(NumpyPCN):
    def _weight_gradients(self, network, z, errors):
        stale = self._feedforward(network, z[0])  # wrong: not where the errors are
        return [self._weight_gradient(network, l, stale[l - 1], errors[l - 1]) for l in range(1, network.depth + 1)]


@mutant(
    "backprop-gradients",
    "Weight gradients are backpropagation's, whatever the activities.",
    "gradient.weights-match-definition",
    "gradient.weights-local-in-space",
)
class BackpropGradients(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        z = self._feedforward(network, input)
        errors = self._errors(network, [input, *activities], target)[-1:]
        for l in range(network.depth, 1, -1):
            errors.insert(0, self._feedback(network, l, z[l - 1], errors[0]))  # wrong: not the local errors
        return self._weight_gradients(network, z, errors)


@mutant(
    "precision-missing-from-output-gradient",
    "The gradient of the output weights lacks the output precision.",
    "gradient.weights-match-definition",
    "gradient.feedforward-output-only",
    "equilibrium.weak-precision-gives-backprop",
)
class PrecisionMissing(NumpyPCN):
    def _weight_gradients(self, network, z, errors):
        errors = [*errors[:-1], errors[-1] / network.precision]  # wrong: divided out
        return super()._weight_gradients(network, z, errors)


@mutant(
    "gradients-clipped-together",
    "Weight gradients of all layers are clipped to a common norm of 1.",
    "gradient.weights-local-in-space",
)
class GradientsClippedTogether(NumpyPCN):
    def weight_gradients(self, network, input, target, activities):
        gradients = super().weight_gradients(network, input, target, activities)
        size = np.sqrt(sum(float(np.sum(g * g)) for g in gradients))
        return [(g / max(1.0, size)).astype(g.dtype) for g in gradients]  # wrong: clipped


@mutant(
    "unit-treated-differently",
    "A mask that should drop padding drops the last unit of the hidden layers from the weight gradients.",
    "symmetry.hidden-permutation",
    "symmetry.hidden-rotation",
)
class UnitTreatedDifferently(NumpyPCN):
    def _weight_gradient(self, network, l, below, error):
        gradient = super()._weight_gradient(network, l, below, error)
        if l < network.depth:
            gradient[-1] = 0  # wrong: the last unit
        return gradient


@mutant(
    "bias-added",
    "Hidden layers have a constant bias that the network does not.",
    "symmetry.sign-of-odd-activations",
    "feedforward.prediction-matches-definition",
)
class BiasAdded(NumpyPCN):
    def _drive(self, network, l, below):
        drive = super()._drive(network, l, below)
        return drive + drive.dtype.type(0.01) if l < network.depth else drive  # wrong: the bias


@mutant(
    "linear-clipped",
    "The identity clips its argument to [-1, 1], as a hard tanh.",
    "symmetry.hidden-rotation",
    "energy.scales-quadratically",
)
class LinearClipped(NumpyPCN):
    def _phi(self, network, z):
        return np.clip(z, -1, 1) if network.linear else super()._phi(network, z)  # wrong: clipped


def _with_activation(network, activation):
    """The network with another activation."""
    from dataclasses import replace

    return replace(network, activation=activation)
