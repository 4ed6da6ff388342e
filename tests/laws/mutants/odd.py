"""Correct implementations that look odd: every one declares what it does differently, and every law must pass it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from pcbench.problem.network import ACTIVATIONS
from pcbench.protocol.implementation import Capabilities, Conventions, Inference, Manifest
from tests.laws.mutants.register import odd


def _make_manifest(conventions: dict | None = None, **capabilities) -> Manifest:
    """The manifest of `NumpyPCN` with other conventions or capabilities."""
    base = NumpyPCN.manifest
    return replace(
        base,
        conventions=replace(base.conventions, **(conventions or {})),
        capabilities=replace(base.capabilities, **capabilities),
    )


class _Reduced:
    """A `NumpyPCN` inside, of which only what a subclass passes on is offered."""

    manifest = NumpyPCN.manifest

    def __init__(self):
        self.model = NumpyPCN()

    def predict(self, network, input):
        return self.model.predict(network, input)

    def energy(self, network, input, target, activities):
        return self.model.energy(network, input, target, activities)

    def infer(self, network, input, target, steps, step_size, start=None):
        return self.model.infer(network, input, target, steps, step_size, start)


@odd("output-first", "Activities and layer energies are listed from the output.")
class OutputFirst(NumpyPCN):
    manifest = _make_manifest({"activity_order": "output-first", "layer_energy_order": "output-first"})

    def energy(self, network, input, target, activities):
        return float(np.sum(self.layer_energies(network, input, target, activities)))

    def layer_energies(self, network, input, target, activities):
        return super().layer_energies(network, input, target, activities[::-1])[::-1].copy()

    def infer(self, network, input, target, steps, step_size, start=None):
        start = None if start is None else start[::-1]
        state = super().infer(network, input, target, steps, step_size, start)
        return Inference(activities=list(state.activities)[::-1])

    def activity_gradients(self, network, input, target, activities):
        return super().activity_gradients(network, input, target, activities[::-1])[::-1]

    def weight_gradients(self, network, input, target, activities):
        return super().weight_gradients(network, input, target, activities[::-1])

    def equilibrium(self, network, input, target):
        model = NumpyPCN()
        found = model.equilibrium(network, input, target)
        return replace(found, activities=list(found.activities)[::-1])

    def train(self, network, input, target, iterations, learning_rate, steps, step_size):
        return NumpyPCN().train(network, input, target, iterations, learning_rate, steps, step_size)


@odd("sums-over-batch", "Energies and gradients of weights are sums over the batch; energies have no 1/2.")
class SumsOverBatch(NumpyPCN):
    manifest = _make_manifest({"energy_reduction": "sum", "energy_factor": 2.0, "gradient_reduction": "sum"})

    def layer_energies(self, network, input, target, activities):
        return 2 * len(input) * super().layer_energies(network, input, target, activities)

    def weight_gradients(self, network, input, target, activities):
        return [g * len(input) for g in super().weight_gradients(network, input, target, activities)]

    def fixed_prediction_gradients(self, network, input, target):
        return [g * len(input) for g in super().fixed_prediction_gradients(network, input, target)]

    def zero_divergence_gradients(self, network, input, target):
        return [g * len(input) for g in super().zero_divergence_gradients(network, input, target)]

    def train(self, network, input, target, iterations, learning_rate, steps, step_size):
        return NumpyPCN().train(network, input, target, iterations, learning_rate, steps, step_size)


@odd("log-likelihood-declared", "The energy is a log-likelihood: minus the energy.")
class LogLikelihoodDeclared(NumpyPCN):
    manifest = _make_manifest({"energy_factor": -1.0})

    def layer_energies(self, network, input, target, activities):
        return -super().layer_energies(network, input, target, activities)


@odd("updates-transposed", "Gradients are updates (negative), weights' transposed, activities' of the batch mean.")
class UpdatesTransposed(NumpyPCN):
    manifest = _make_manifest(
        {
            "gradient_sign": -1,
            "weight_layout": "in-out",
            "activity_gradient_sign": -1,
            "activity_gradient_reduction": "mean",
        }
    )

    def weight_gradients(self, network, input, target, activities):
        return [-g.T for g in super().weight_gradients(network, input, target, activities)]

    def activity_gradients(self, network, input, target, activities):
        return [-g / len(input) for g in super().activity_gradients(network, input, target, activities)]

    def fixed_prediction_gradients(self, network, input, target):
        return [-g.T for g in super().fixed_prediction_gradients(network, input, target)]

    def zero_divergence_gradients(self, network, input, target):
        return [-g.T for g in super().zero_divergence_gradients(network, input, target)]

    def train(self, network, input, target, iterations, learning_rate, steps, step_size):
        return [w.T for w in NumpyPCN().train(network, input, target, iterations, learning_rate, steps, step_size)]


@odd("float32-only", "Only float32 is offered.")
class Float32Only(NumpyPCN):
    manifest = _make_manifest(dtypes=("float32",))


@odd("sample-by-sample", "Every sample is computed alone, in a Python loop.")
class SampleBySample(NumpyPCN):
    def predict(self, network, input):
        return np.concatenate([NumpyPCN.predict(self, network, x[None]) for x in input])

    def layer_energies(self, network, input, target, activities):
        rows = [
            NumpyPCN.layer_energies(
                self, network, input[b : b + 1], target[b : b + 1], [a[b : b + 1] for a in activities]
            )
            for b in range(len(input))
        ]
        return np.mean(rows, axis=0)

    def infer(self, network, input, target, steps, step_size, start=None):
        ends = []
        for b in range(len(input)):
            one = None if start is None else [a[b : b + 1] for a in start]
            args = (network, input[b : b + 1], target[b : b + 1], steps, step_size, one)
            ends.append(super().infer(*args).activities)
        return Inference(activities=[np.concatenate(layer) for layer in zip(*ends, strict=True)])


@odd("prints", "Every call prints on standard output.")
class Prints(_Reduced):
    def predict(self, network, input):
        print("predicting", flush=True)  # noqa: T201
        return super().predict(network, input)

    def infer(self, network, input, target, steps, step_size, start=None):
        print("step " * steps)  # noqa: T201
        return super().infer(network, input, target, steps, step_size, start)


@odd("views", "Answers are read-only, in Fortran order or strided views.")
class Views(NumpyPCN):
    def predict(self, network, input):
        return np.asfortranarray(super().predict(network, input))

    def infer(self, network, input, target, steps, step_size, start=None):
        state = super().infer(network, input, target, steps, step_size, start)
        views = [np.repeat(a, 2, axis=0)[::2] for a in state.activities]
        for view in views:
            view.flags.writeable = False
        return Inference(activities=tuple(views))

    def weight_gradients(self, network, input, target, activities):
        gradients = super().weight_gradients(network, input, target, activities)
        return [np.asfortranarray(g)[::-1][::-1] for g in gradients]

    def energy(self, network, input, target, activities):  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.array(super().energy(network, input, target, activities), dtype=network.dtype)


@odd("folded", "Scalings are multiplied into the weights by the harness.")
class Folded(NumpyPCN):
    manifest = _make_manifest(scalings="folded", shapes="palette")
    train = None  # type: ignore[assignment]  # updates folded weights, whose rate differs by layer

    def _scaling(self, network, l):
        return 1.0


@odd("batch-mean-steps", "A step descends the gradient of the mean over the batch.")
class BatchMeanSteps(NumpyPCN):
    manifest = _make_manifest({"step_size": "batch-mean"})

    def infer(self, network, input, target, steps, step_size, start=None):
        return super().infer(network, input, target, steps, step_size / len(input), start)


class _Sequential(NumpyPCN):
    outward = True

    def _step(self, network, z, target, step_size):
        z = list(z)
        layers = range(1, network.depth) if self.outward else range(network.depth - 1, 0, -1)
        for l in layers:
            gradient = self._activity_gradient(network, l, z, self._errors(network, z, target))
            z[l] = z[l] - step_size * gradient
        return z

    def zero_divergence_gradients(self, network, input, target):
        return NumpyPCN().zero_divergence_gradients(network, input, target)


@odd("input-first-order", "Layers are updated one after another from the input.")
class InputFirstOrder(_Sequential):
    manifest = _make_manifest({"update_order": "input-first"})


@odd("output-first-order", "Layers are updated one after another from the output.")
class OutputFirstOrder(_Sequential):
    manifest = _make_manifest({"update_order": "output-first"})
    outward = False


@odd("after-weight-only", "The activation comes after the weight, and nothing else is offered.")
class AfterWeightOnly(NumpyPCN):
    manifest = _make_manifest(placements=("after-weight",))


@odd("reports-with-a-lag", "Energy and gradients come with inference, from the step before the last; none otherwise.")
class ReportsWithLag(_Reduced):
    manifest = _make_manifest(
        {"energy_lag": 1, "gradient_point": "previous"}, reports_energy=True, reports_gradients=True
    )

    def infer(self, network, input, target, steps, step_size, start=None):
        before = list(super().infer(network, input, target, max(0, steps - 1), step_size, start).activities)
        return replace(
            super().infer(network, input, target, steps, step_size, start),
            energy=self.energy(network, input, target, before),
            weight_gradients=self.model.weight_gradients(network, input, target, before),
        )


@odd("reports-mixed-gradients", "Gradients come with inference: errors before the last step, activities after it.")
class ReportsMixed(_Reduced):
    manifest = _make_manifest({"gradient_point": "previous-errors"}, reports_energy=True, reports_gradients=True)

    def infer(self, network, input, target, steps, step_size, start=None):
        before = [input, *super().infer(network, input, target, max(0, steps - 1), step_size, start).activities]
        state = super().infer(network, input, target, steps, step_size, start)
        after = list(state.activities)
        z = [input, *after]
        errors = self.model._errors(network, before, target)
        gradients = [
            -(network.scalings[l - 1] / len(input)) * errors[l - 1].T @ self.model._presynaptic(network, l, z[l - 1])
            for l in range(1, network.depth + 1)
        ]
        if network.placement == "after-weight":
            gains = [self.model._gain(network, l, z[l - 1], errors[l - 1]) for l in range(1, network.depth + 1)]
            gradients = [
                -(network.scalings[l] / len(input)) * g.T @ z[l] for l, g in enumerate(gains)
            ]  # the derivative belongs to the drive after the step
        energy = self.energy(network, input, target, after)
        return replace(state, energy=energy, weight_gradients=gradients)


@odd("compiles-per-shape", "A counter says that every new shape is compiled, once.")
class CompilesPerShape(_Reduced):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def predict(self, network, input):
        self.seen.add(("predict", network.dims, input.shape, network.activation, network.placement, network.dtype))
        return super().predict(network, input)

    def infer(self, network, input, target, steps, step_size, start=None):
        settings = (network.activation, network.placement, network.loss, network.residual, network.dtype)
        self.seen.add(("infer", network.dims, input.shape, settings, start is None))
        return super().infer(network, input, target, steps, step_size, start)

    def compilations(self):
        return len(self.seen)


@odd("minimal", "Only predict, energy and infer, from the feedforward pass, in one configuration.")
class Minimal(_Reduced):
    manifest = Manifest(
        name="minimal",
        capabilities=Capabilities(activations=("tanh",), start=False, zero_steps=False, shapes="palette"),
        conventions=Conventions(),
    )

    def infer(self, network, input, target, steps, step_size, start=None):
        if start is not None or steps < 1:
            raise ValueError("not offered")
        return super().infer(network, input, target, steps, step_size)


@odd("linear-only", "Only linear networks, without residuals, precision or own solver.")
class LinearOnly(_Reduced):
    manifest = Manifest(
        name="linear-only", capabilities=Capabilities(activations=("linear",), scalings="native", shapes="free")
    )


@odd("classifier-only", "Only cross-entropy and activations that are not linear.")
class ClassifierOnly(_Reduced):
    manifest = _make_manifest(activations=tuple(a for a in ACTIVATIONS if a != "linear"), losses=("ce",))
