"""Wrong inference: number, size and order of steps, and forces that are not the gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from pcbench.protocol.implementation import Inference
from tests.laws.mutants.register import mutant


@mutant(
    "step-short",
    "Inference takes one step less than asked.",
    "inference.trajectory-follows-definition",
    "inference.steps-compose",
    "inference.step-follows-definition",
)
class StepShort(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        return super().infer(network, input, target, max(0, steps - 1), step_size, start)  # wrong: one less


@mutant(
    "step-too-many",
    "Inference takes one step more than asked.",
    "inference.zero-steps-return-the-start",
    "feedforward.errors-are-zero",
    "inference.steps-compose",
)
class StepTooMany(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        return super().infer(network, input, target, steps + 1, step_size, start)  # wrong: one more


@mutant(
    "at-least-one-step",
    "A loop that tests its condition at the end takes one step where none is asked.",
    "inference.zero-steps-return-the-start",
    "gradient.feedforward-output-only",
)
class AtLeastOneStep(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        return super().infer(network, input, target, max(1, steps), step_size, start)  # wrong: at least one


@mutant(
    "step-twice",
    "The step size is applied twice as large as asked.",
    "stability.energy-falls-below-the-threshold",
    "stability.threshold-is-sharp",
    "stability.orthogonal-chain-spectrum",
)
class StepTwice(NumpyPCN):
    def _step(self, network, z, target, step_size):
        return super()._step(network, z, target, 2 * step_size)  # wrong: twice


@mutant(
    "step-of-the-mean",
    "A step descends the mean over the batch, so it shrinks with the batch size, which is not declared.",
    "inference.batch-size-changes-nothing",
    "inference.step-follows-definition",
)
class StepOfTheMean(NumpyPCN):
    def _step(self, network, z, target, step_size):
        return super()._step(network, z, target, step_size / len(target))  # wrong: / B


@mutant(
    "input-moves",
    "The clamped input is updated together with the hidden layers.",
    "inference.trajectory-follows-definition",
)
class InputMoves(NumpyPCN):
    def _step(self, network, z, target, step_size):
        moved = super()._step(network, z, target, step_size)
        pull = self._feedback(network, 1, z[0], self._errors(network, z, target)[0])
        return [z[0] + step_size * pull, *moved[1:]]  # wrong: the input is clamped


@mutant(
    "momentum",
    "Inference has a momentum of 0.9.",
    "inference.trajectory-follows-definition",
    "inference.steps-compose",
    "stability.differences-contract",
)
class Momentum(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        z = [input, *super().infer(network, input, target, 0, step_size, start).activities]
        velocity = [np.zeros_like(a) for a in z]
        for _ in range(steps):
            moved = self._step(network, z, target, step_size)
            velocity = [0.9 * v + m - a for v, m, a in zip(velocity, moved, z, strict=True)]  # wrong: 0.9 v
            z = [a + v for a, v in zip(z, velocity, strict=True)]
        return Inference(activities=z[1:])


@mutant(
    "layer-after-layer",
    "Layers are updated one after another from the output, which is not declared.",
    "inference.step-follows-definition",
    "inference.signal-front",
    "stability.hessian-is-symmetric-positive-definite",
)
class LayerAfterLayer(NumpyPCN):
    def _step(self, network, z, target, step_size):
        z = list(z)
        for l in range(network.depth - 1, 0, -1):
            z[l] = super()._step(network, z, target, step_size)[l]  # wrong: sees the layers above moved
        return z


@mutant(
    "layer-skipped",
    "The first hidden layer is never updated.",
    "inference.step-follows-definition",
    "stability.hessian-is-block-tridiagonal",
)
class LayerSkipped(NumpyPCN):
    def _step(self, network, z, target, step_size):
        moved = super()._step(network, z, target, step_size)
        return [*z[:2], *moved[2:]]  # wrong: z_1 stays


@mutant(
    "stale-errors",
    "A step uses the errors of the step before.",
    "inference.trajectory-follows-definition",
    "inference.steps-compose",
)
class StaleErrors(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        z = [input, *super().infer(network, input, target, 0, step_size, start).activities]
        errors = self._errors(network, z, target)
        for _ in range(steps):
            gradients = [self._activity_gradient(network, l, z, errors) for l in range(1, network.depth)]
            errors = self._errors(network, z, target)  # wrong: before the update
            z = [input, *(a - step_size * g for a, g in zip(z[1:], gradients, strict=True))]
        return Inference(activities=z[1:])


@mutant(
    "early-stop",
    "Inference stops when the activities themselves are smaller than an absolute tolerance, as in jpc.",
    "inference.scales-with-the-data",
)
class EarlyStop(NumpyPCN):
    def _step(self, network, z, target, step_size):
        if max(float(np.abs(a).max()) for a in z[1:]) < 1e-3:  # wrong: tests the state, not its change
            return z
        return super()._step(network, z, target, step_size)


@mutant(
    "activity-decay",
    "Activities decay towards zero by a thousandth of the step.",
    "inference.zero-residual-is-a-fixed-point",
    "equilibrium.theory-is-a-fixed-point",
    "inference.step-descends-the-reported-energy",
)
class ActivityDecay(NumpyPCN):
    def _step(self, network, z, target, step_size):
        moved = super()._step(network, z, target, step_size)
        return [moved[0], *(m - 0.1 * step_size * a for m, a in zip(moved[1:], z[1:], strict=True))]  # wrong: decay


@mutant(
    "samples-shared",
    "The last hidden layer's update is averaged over the batch.",
    "inference.samples-are-independent",
)
class SamplesShared(NumpyPCN):
    def _activity_gradient(self, network, l, z, errors):
        gradient = super()._activity_gradient(network, l, z, errors)
        return np.broadcast_to(gradient.mean(axis=0), gradient.shape)  # wrong: the mean


@mutant(
    "batch-normaliser",
    "A step is divided by the root mean square of the output error over the batch.",
    "inference.samples-are-independent",
    "inference.scales-with-the-data",
)
class BatchNormaliser(NumpyPCN):
    def _step(self, network, z, target, step_size):
        size = float(np.sqrt(np.mean(self._errors(network, z, target)[-1] ** 2)))
        return super()._step(network, z, target, step_size / (1 + size))  # wrong: depends on the batch


@mutant(
    "inference-drops-tail",
    "The last sample of a batch of two or more is never updated.",
    "inference.batch-size-changes-nothing",
)
class InferenceDropsTail(NumpyPCN):
    def _step(self, network, z, target, step_size):
        moved = super()._step(network, z, target, step_size)
        kept = len(target) - 1 if len(target) > 1 else 1
        return [np.concatenate([m[:kept], a[kept:]]) for m, a in zip(moved, z, strict=True)]  # wrong: the tail


@mutant(
    "start-ignored",
    "Activities to start from are replaced by the feedforward pass.",
    "inference.zero-steps-return-the-start",
    "inference.step-follows-definition",
)
class StartIgnored(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        return super().infer(network, input, target, steps, step_size, None)  # wrong: start is lost


@mutant(
    "random-start",
    "Inference starts at random activities in place of the feedforward pass.",
    "feedforward.errors-are-zero",
    "energy.feedforward-equals-loss",
    "inference.signal-front",
)
class RandomStart(NumpyPCN):
    def _feedforward(self, network, input):
        z = super()._feedforward(network, input)
        rng = np.random.default_rng(0)
        return [z[0], *(rng.normal(size=a.shape).astype(a.dtype) for a in z[1:])]  # wrong: not the pass


@mutant(
    "energy-lags",
    "The energy reported with inference is that of the step before, which is not declared.",
    "inference.energy-reported-with-inference",
)
class EnergyLags(NumpyPCN):
    manifest = replace(NumpyPCN.manifest, capabilities=replace(NumpyPCN.manifest.capabilities, reports_energy=True))

    def infer(self, network, input, target, steps, step_size, start=None):
        before = super().infer(network, input, target, max(0, steps - 1), step_size, start)  # wrong: steps - 1
        energy = self.energy(network, input, target, list(before.activities))
        return replace(super().infer(network, input, target, steps, step_size, start), energy=energy)


@mutant(
    "gradients-lag",
    "The weight gradients reported with inference are those of the step before, which is not declared.",
    "gradient.reported-with-inference",
)
class GradientsLag(NumpyPCN):
    manifest = replace(NumpyPCN.manifest, capabilities=replace(NumpyPCN.manifest.capabilities, reports_gradients=True))

    def infer(self, network, input, target, steps, step_size, start=None):
        before = super().infer(network, input, target, max(0, steps - 1), step_size, start)  # wrong: steps - 1
        gradients = self.weight_gradients(network, input, target, list(before.activities))
        return replace(super().infer(network, input, target, steps, step_size, start), weight_gradients=gradients)


@mutant(
    "inference-stops-when-slow",
    "Inference ends once no activity moves by more than 1e-5 of the largest, however many steps were asked for.",
    "equilibrium.relu-is-one-sided-stationary",
    activations=("relu",),
)
class StopsWhenSlow(NumpyPCN):
    def _step(self, network, z, target, step_size):
        moved = super()._step(network, z, target, step_size)
        slow = all(np.max(np.abs(a - b)) <= 1e-5 * np.max(np.abs(a)) for a, b in zip(moved, z, strict=True))
        return z if slow else moved  # wrong: an early end that nobody asked for
