"""Wrong CNNs and transformers, and right ones that look odd; see `plain_architectures` for what they are made of."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from unittest import mock

import numpy as np

from pcbench.oracle import architectures as oracle
from pcbench.oracle.running_error import Rounded
from pcbench.problem.architecture import leaves, rebuild
from pcbench.protocol.implementation import Inference
from tests.laws.mutants.plain_architectures import PlainArchitectures
from tests.laws.mutants.register import mutant, odd


def cnn(*names: str) -> tuple[str, ...]:
    """Laws of CNNs by the end of their ids."""
    return tuple(f"architecture.cnn-{name}" for name in names)


def transformer(*names: str) -> tuple[str, ...]:
    """Laws of transformers by the end of their ids."""
    return tuple(f"architecture.transformer-{name}" for name in names)


def both_kinds(*names: str) -> tuple[str, ...]:
    """Laws of both kinds."""
    return cnn(*names) + transformer(*names)


class Patched(PlainArchitectures):
    """A wrong operation, put in the place of the right one while this implementation computes.

    `where` is what holds the operation, `what` its name; `forward` and `backward` say which answers are computed so.
    """

    where: object
    what: str
    forward = backward = True

    def wrong(self, right):
        """The operation in place of `right`."""
        raise NotImplementedError

    def _patch(self, wanted):
        if not wanted:
            return contextlib.nullcontext()
        return mock.patch.object(self.where, self.what, self.wrong(getattr(self.where, self.what)))

    def _feedforward(self, network, input):
        with self._patch(self.forward):
            return super()._feedforward(network, input)

    def layer_energies(self, network, input, target, activities):
        with self._patch(self.forward):
            return super().layer_energies(network, input, target, activities)

    def activity_gradients(self, network, input, target, activities):
        with self._patch(self.backward):
            return super().activity_gradients(network, input, target, activities)

    def weight_gradients(self, network, input, target, activities):
        with self._patch(self.backward):
            return super().weight_gradients(network, input, target, activities)


# ---- another network than the one that was sent -------------------------------------------------------------------


@mutant(
    "architecture-branch-scale",
    "Residual branches are scaled 1 % too strongly, in the energy and in everything that follows from it.",
    *both_kinds("energy-matches-definition", "layer-energies-match-definition", "feedforward-errors-are-zero"),
    *both_kinds("steps-follow-each-other"),
)
class BranchScale(PlainArchitectures):
    def _network(self, network):
        scalings = list(network.scalings)
        for l, (s, p) in enumerate(zip(scalings, network.parameters, strict=True)):
            if isinstance(s, dict):
                scalings[l] = {**s, "branch": 1.01 * s["branch"]}  # wrong: 1.01
            elif network.kind == "cnn" and l % (network.sizes["blocks"] + 2) and isinstance(p, np.ndarray):
                scalings[l] = 1.01 * s  # wrong: 1.01, of the readout too
        return replace(network, scalings=tuple(scalings))


@mutant(
    "architecture-attention-transposed",
    "Keys ask and queries answer: the logits of attention are transposed.",
    *transformer("energy-matches-definition", "activity-gradients-match-definition"),
)
class AttentionTransposed(PlainArchitectures):
    def _network(self, network):
        if network.kind == "cnn":
            return network

        def swap(layer):
            if not isinstance(layer, dict) or "mixing" not in layer:
                return layer
            q, k, v = np.split(layer["mixing"], 3)
            return {**layer, "mixing": np.concatenate([k, q, v])}  # wrong: queries and keys exchanged

        return network.with_parameters([swap(layer) for layer in network.parameters])

    def weight_gradients(self, network, input, target, activities):
        found = super().weight_gradients(network, input, target, activities)
        for layer in found:
            if isinstance(layer, dict) and "mixing" in layer:
                q, k, v = np.split(layer["mixing"], 3)
                layer["mixing"] = np.concatenate([k, q, v])
        return found


@mutant(
    "architecture-sees-the-future",
    "Causal attention sees one token too many.",
    *transformer("energy-matches-definition"),
)
class SeesTheFuture(PlainArchitectures):
    def _network(self, network):
        return replace(network, options={**network.options, "causal": False})  # wrong: whatever was asked for


@mutant(
    "architecture-readout-order",
    "The readout ravels channels before pixels.",
    *cnn("prediction-continues-the-activities", "energy-matches-definition"),
)
class ReadoutOrder(PlainArchitectures):
    def _network(self, network):
        if network.kind != "cnn":
            return network
        readout, (rows, columns, channels) = network.parameters[-1], network.activity_shapes[-1]
        turned = readout.reshape(-1, channels, rows * columns).swapaxes(1, 2).reshape(readout.shape)  # wrong: turned
        return network.with_parameters([*network.parameters[:-1], turned])


# ---- wrong operations ---------------------------------------------------------------------------------------------


@mutant(
    "architecture-normalisation-epsilon",
    "Layer normalisation adds its epsilon to the standard deviation in place of the variance.",
    *transformer("energy-matches-definition", "feedforward-errors-are-zero"),
)
class NormalisationEpsilon(Patched):
    where, what = Rounded, "inverse_root"

    def wrong(self, right):
        def inverse(variance, epsilon):
            value = 1 / (np.sqrt(variance.value) + epsilon)  # wrong: outside the root
            slope = -0.5 * value**2 / np.sqrt(np.maximum(variance.value, 1e-300))
            return variance.derive(value, variance.error, (variance, lambda d, e: (slope * d, e)))

        return inverse


@mutant(
    "architecture-softmax-backward-axis",
    "The derivative of the softmax sums over the queries in place of the keys.",
    *transformer("activity-gradients-match-definition", "weight-gradients-match-definition"),
    *transformer("step-follows-definition"),
)
class SoftmaxBackwardAxis(Patched):
    where, what, forward = Rounded, "softmax", False

    def wrong(self, right):
        def softmax(logits, seen):
            result = right(logits, seen)
            p, axis = result.value, -2 if result.value.ndim > 2 else -1

            def back(d, e):
                return p * (d - np.sum(p * d, axis=axis, keepdims=True)), e  # wrong: axis

            return logits.derive(p, result.error, (logits, back))

        return softmax


@mutant(
    "architecture-padding-wraps",
    "Convolutions pad with the other side of the image in place of zeros.",
    *cnn("energy-matches-definition", "feedforward-errors-are-zero"),
)
class PaddingWraps(Patched):
    where, what = np, "pad"

    def wrong(self, right):
        return lambda image, room: right(image, room, mode="wrap") if image.ndim == 4 else right(image, room)


@mutant(
    "architecture-convolution-not-transposed",
    "The errors are fed back through the convolution itself in place of its transpose.",
    *cnn("activity-gradients-match-definition", "step-follows-definition"),
)
class NotTransposed(Patched):
    where, what, forward = oracle, "_convolution", False

    def wrong(self, right):
        def convolution(z, kernel):
            result = right(z, kernel)
            turned = Rounded.exact(kernel.value[:, ::-1, ::-1], kernel.dtype)
            backward = right(z, turned)  # wrong: the kernel is turned around on the way back
            return result.derive(result.value, result.error, *backward.parents)

        return convolution


@mutant(
    "architecture-pool-sums",
    "Pooling sums the four pixels in place of averaging them.",
    *cnn("energy-matches-definition", "layer-energies-match-definition"),
)
class PoolSums(Patched):
    where, what = Rounded, "mean"

    def wrong(self, right):
        def mean(z, axes, keepdims=False):
            result = right(z, axes, keepdims)
            return result.times(4.0) if axes == (2, 4) else result  # wrong: a sum

        return mean


@mutant(
    "architecture-feedback-without-skip",
    "The skip is missing from the feedback: an error reaches the layer below through the branch only.",
    *both_kinds("activity-gradients-match-definition", "step-follows-definition"),
)
class FeedbackWithoutSkip(PlainArchitectures):
    def activity_gradients(self, network, input, target, activities):
        slope = super().activity_gradients(network, input, target, activities)
        errors = oracle.prediction_errors(network, input, activities)
        result = [np.array(g) for g in slope]
        for l in range(1, network.depth - 1):
            skip = network.kind == "transformer" or 0 < l % (network.sizes["blocks"] + 2) <= network.sizes["blocks"]
            if skip:
                result[l - 1] += np.asarray(errors[l].value, network.dtype)  # wrong: the skip's part taken out again
        return result


# ---- energies -----------------------------------------------------------------------------------------------------


@mutant(
    "architecture-energy-mean-over-places",
    "Energies are means over pixels and tokens in place of sums.",
    *both_kinds("energy-matches-definition", "layer-energies-match-definition"),
)
class EnergyMeanOverPlaces(PlainArchitectures):
    def layer_energies(self, network, input, target, activities):
        each = super().layer_energies(network, input, target, activities)
        shapes = [*network.activity_shapes, network.output_shape]
        places = [int(np.prod(shape[:-1])) for shape in shapes]
        return np.asarray(each / places, network.dtype)  # wrong: divided


@mutant(
    "architecture-energy-without-a-layer",
    "The layer below the readout is left out of the energy.",
    *both_kinds("energy-matches-definition", "layer-energies-match-definition"),
)
class EnergyWithoutALayer(PlainArchitectures):
    def layer_energies(self, network, input, target, activities):
        each = super().layer_energies(network, input, target, activities)
        each[-2] = 0  # wrong: counts nothing
        return each


@mutant(
    "architecture-loss-mean-over-outputs",
    "The output energy is a mean over classes and tokens, the loss is a sum.",
    *both_kinds("feedforward-energy-is-the-loss", "energy-matches-definition"),
)
class LossMeanOverOutputs(PlainArchitectures):
    def layer_energies(self, network, input, target, activities):
        each = super().layer_energies(network, input, target, activities)
        each[-1] /= 1 + np.prod(network.output_shape)  # wrong: another unit than the hidden layers
        return each


@mutant(
    "architecture-energy-is-the-loss",
    "The loss of the feedforward pass is reported as the energy, as a library that logs its loss would.",
    *both_kinds("energy-rate-in-width", "energy-matches-definition"),
)
class EnergyIsTheLoss(PlainArchitectures):
    def energy(self, network, input, target, activities):
        return super().energy(network, input, target, self._feedforward(network, input)[:-1])  # wrong: not there


# ---- passes and inference -----------------------------------------------------------------------------------------


@mutant(
    "architecture-writes-in-place",
    "Inference updates the activities that it is given in place.",
    *both_kinds("answers-keep-the-contract"),
)
class WritesInPlace(PlainArchitectures):
    def infer(self, network, input, target, steps, step_size, start=None):
        state = super().infer(network, input, target, steps, step_size, start)
        if start is not None:
            for mine, yours in zip(state.activities, start, strict=True):
                yours[...] = mine  # wrong: the caller's array
        return state


@mutant(
    "architecture-predicts-otherwise",
    "Prediction is 1 % smaller than what the energy compares with the target.",
    *both_kinds("prediction-continues-the-activities", "feedforward-energy-is-the-loss"),
)
class PredictsOtherwise(PlainArchitectures):
    def predict(self, network, input):
        return np.asarray(0.99 * super().predict(network, input), network.dtype)  # wrong: 0.99


@mutant(
    "architecture-start-is-noisy",
    "Inference starts 1 % away from the feedforward pass.",
    *both_kinds("feedforward-errors-are-zero", "feedforward-gradient-is-the-readouts"),
)
class StartIsNoisy(PlainArchitectures):
    def _start(self, network, input, target):
        noise = np.random.default_rng(0)
        start = super()._start(network, input, target)
        return [np.asarray(a * (1 + 0.01 * noise.standard_normal(a.shape)), network.dtype) for a in start]


@mutant(
    "architecture-layers-in-turn",
    "Layers are updated one after another from the output, each seeing the ones before it.",
    *both_kinds("signal-front", "step-follows-definition"),
)
class LayersInTurn(PlainArchitectures):
    def _step(self, network, input, target, z, step_size):
        z = [np.array(a) for a in z]
        for l in reversed(range(len(z))):
            z[l] -= np.asarray(step_size * self.activity_gradients(network, input, target, z)[l], network.dtype)
        return z


@mutant(
    "architecture-step-over-batch",
    "The step size is divided by the batch, as where the mean energy is descended, and that is not declared.",
    *both_kinds("step-follows-definition", "steps-follow-each-other"),
)
class StepOverBatch(PlainArchitectures):
    def _step(self, network, input, target, z, step_size):
        return super()._step(network, input, target, z, step_size / len(input))  # wrong: / B


@mutant(
    "architecture-momentum",
    "From the second step on inference has momentum.",
    *both_kinds("steps-follow-each-other"),
)
class Momentum(PlainArchitectures):
    def infer(self, network, input, target, steps, step_size, start=None):
        z = self._start(network, input, target) if start is None else [np.array(a) for a in start]
        before = z
        for _ in range(steps):
            moved = self._step(network, input, target, z, step_size)
            after = [np.asarray(m + 0.5 * (a - b), network.dtype) for m, a, b in zip(moved, z, before, strict=True)]
            before, z = z, after
        return Inference(activities=z)


@mutant(
    "architecture-batch-statistics",
    "A step removes 1 % of the mean over the batch from the gradient.",
    *both_kinds("samples-are-independent", "step-follows-definition"),
)
class BatchStatistics(PlainArchitectures):
    def _step(self, network, input, target, z, step_size):
        slope = self.activity_gradients(network, input, target, z)
        slope = [g - 0.01 * g.mean(axis=0) for g in slope]  # wrong: other samples
        return [np.asarray(a - step_size * g, network.dtype) for a, g in zip(z, slope, strict=True)]


# ---- weight gradients -----------------------------------------------------------------------------------------------


@mutant(
    "architecture-one-kernel-over-batch",
    "The gradient of the first kernel or table is not divided by the batch.",
    *both_kinds("weight-gradients-match-definition", "equilibrium-gradient-is-the-total-derivative"),
    *both_kinds("gradient-rate-in-width"),
)
class OneKernelOverBatch(PlainArchitectures):
    def weight_gradients(self, network, input, target, activities):
        found = super().weight_gradients(network, input, target, activities)
        arrays = leaves(found)
        return list(rebuild(found, [arrays[0] * len(input), *arrays[1:]]))  # wrong: a sum


@mutant(
    "architecture-gradient-of-backprop",
    "Weight gradients are backpropagation's, whatever the activities.",
    *both_kinds("weight-gradients-match-definition", "feedforward-gradient-is-the-readouts", "gradient-rate-in-width"),
    *both_kinds("equilibrium-gradient-is-the-total-derivative"),
)
class GradientOfBackprop(PlainArchitectures):
    def weight_gradients(self, network, input, target, activities):
        flat, _ = oracle.backpropagation(network, input, target)
        return list(rebuild(network.parameters, [np.asarray(g, network.dtype) for g in flat]))  # wrong: of the loss


# ---- equilibrium --------------------------------------------------------------------------------------------------


@mutant(
    "architecture-equilibrium-early",
    "The solver stops a tenth of the way before the end and calls it converged.",
    *both_kinds("claimed-equilibrium-is-stationary"),
    *cnn("linear-equilibrium-is-the-closed-form"),
)
class EquilibriumEarly(PlainArchitectures):
    def _answer(self, network, input, target, z, converged):
        first = self._feedforward(network, input)[:-1]
        z = [np.asarray(a + 0.9 * (b - a), network.dtype) for a, b in zip(first, z, strict=True)]  # wrong: 0.9
        return super()._answer(network, input, target, z, True)


@mutant(
    "architecture-equilibrium-climbs",
    "The solver leaves the feedforward pass in the wrong direction and calls it converged.",
    *both_kinds("equilibrium-is-not-above-the-loss", "claimed-equilibrium-is-stationary"),
)
class EquilibriumClimbs(PlainArchitectures):
    def _answer(self, network, input, target, z, converged):
        first = self._feedforward(network, input)[:-1]
        z = [np.asarray(2 * a - b, network.dtype) for a, b in zip(first, z, strict=True)]  # wrong: mirrored
        return super()._answer(network, input, target, z, True)


@mutant(
    "architecture-equilibrium-energy-stale",
    "The energy that the solver reports is that of its start.",
    *both_kinds("equilibrium-energy-is-the-energy-there"),
)
class EquilibriumEnergyStale(PlainArchitectures):
    def _answer(self, network, input, target, z, converged):
        found = super()._answer(network, input, target, z, converged)
        first = self._feedforward(network, input)[:-1]
        return replace(found, energy=self.energy(network, input, target, first))  # wrong: not there


# ---- right, but odd -----------------------------------------------------------------------------------------------


@odd(
    "architecture-output-first",
    "CNNs and transformers listed from the output; sums over the batch, twice the energy, gradients of either sign.",
)
class OutputFirst(PlainArchitectures):
    manifest = replace(
        PlainArchitectures.manifest,
        conventions=replace(
            PlainArchitectures.manifest.conventions,
            activity_order="output-first", layer_energy_order="output-first", energy_reduction="sum", energy_factor=2.0,
            gradient_sign=-1, gradient_reduction="sum", activity_gradient_sign=-1,
            activity_gradient_reduction="mean", step_size="batch-mean",
        ),
    )  # fmt: skip

    def __init__(self):
        self.model = PlainArchitectures()

    def predict(self, network, input):
        return self.model.predict(network, input)

    def layer_energies(self, network, input, target, activities):
        return 2 * len(input) * self.model.layer_energies(network, input, target, activities[::-1])[::-1]

    def activity_gradients(self, network, input, target, activities):
        slope = self.model.activity_gradients(network, input, target, activities[::-1])
        return [-g / network.dtype.type(len(input)) for g in slope[::-1]]

    def weight_gradients(self, network, input, target, activities):
        found = self.model.weight_gradients(network, input, target, activities[::-1])
        return list(rebuild(found, [-g * network.dtype.type(len(input)) for g in leaves(found)]))

    def infer(self, network, input, target, steps, step_size, start=None):
        start = None if start is None else start[::-1]
        state = self.model.infer(network, input, target, steps, step_size / len(input), start)
        return Inference(activities=list(state.activities)[::-1])

    def equilibrium(self, network, input, target):
        found = self.model.equilibrium(network, input, target)
        energy = 2 * len(input) * (found.energy or 0.0)
        return replace(found, activities=list(found.activities)[::-1], energy=energy)


@odd(
    "architecture-cnn-only", "CNNs with tanh and squared error in float64: no energies of layers, no start, no solver."
)
class CnnOnly:
    manifest = replace(
        PlainArchitectures.manifest,
        capabilities=replace(
            PlainArchitectures.manifest.capabilities,
            architectures=("cnn",), activations=("tanh",), losses=("mse",), dtypes=("float64",), precision=False,
            start=False, zero_steps=False,
        ),
    )  # fmt: skip

    def __init__(self):
        self.model = PlainArchitectures()

    def predict(self, network, input):
        return self.model.predict(network, input)

    def energy(self, network, input, target, activities):
        return self.model.energy(network, input, target, activities)

    def infer(self, network, input, target, steps, step_size):
        return self.model.infer(network, input, target, steps, step_size)

    def weight_gradients(self, network, input, target, activities):
        return self.model.weight_gradients(network, input, target, activities)
