"""What an implementation remembers, overwrites, draws or rounds when it should not."""

from __future__ import annotations

import itertools
import time

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from pcbench.protocol.implementation import Inference
from tests.laws.mutants.register import mutant


@mutant(
    "warm-start",
    "Inference starts where the previous call of the same shape ended.",
    "contract.deterministic",
)
class WarmStart(NumpyPCN):
    def __init__(self):
        self.last: list[np.ndarray] = []

    def infer(self, network, input, target, steps, step_size, start=None):
        shape = [(len(input), n) for n in network.dims[1:-1]]
        if start is None and [a.shape for a in self.last] == shape and self.last[0].dtype == network.dtype:
            start = self.last  # wrong: hidden state
        state = super().infer(network, input, target, steps, step_size, start)
        self.last = list(state.activities)
        return state


@mutant(
    "noise-per-call",
    "Every call of inference adds noise of its own to the activities.",
    "contract.deterministic",
)
class NoisePerCall(NumpyPCN):
    def __init__(self):
        self.rng = np.random.default_rng(1)

    def infer(self, network, input, target, steps, step_size, start=None):
        state = super().infer(network, input, target, steps, step_size, start)
        noisy = [a * (1 + 1e-3 * self.rng.normal()) for a in state.activities]  # wrong: the generator is shared
        return Inference(activities=noisy)


@mutant(
    "poisoned-by-an-error",
    "A prediction that raises leaves a mark, at which the next prediction raises too.",
    "contract.goes-on-after-an-error",
)
class PoisonedByAnError(NumpyPCN):
    def __init__(self):
        self.inside = False

    def predict(self, network, input):
        if self.inside:
            self.inside = False
            raise RuntimeError("a trace is already open")
        self.inside = True
        answer = super().predict(network, input)
        self.inside = False  # wrong: not in a finally
        return answer


@mutant(
    "seed-of-the-process",
    "The default seed is taken from the clock when the implementation is made.",
    "contract.deterministic-across-processes",
)
class SeedOfTheProcess(NumpyPCN):
    _made = itertools.count(time.time_ns())

    def __init__(self):
        self.noise = 1e-3 * np.random.default_rng(next(self._made)).normal()

    def predict(self, network, input):
        return super().predict(network, input) * (1 + self.noise)  # wrong: differs between processes


@mutant(
    "first-of-its-shape",
    "The energy is that of the first network of such widths, as with a name for each shape that is taken ever after.",
    "contract.deterministic-across-processes",
)
class FirstOfItsShape(NumpyPCN):
    def __init__(self):
        self.first: dict[tuple, tuple] = {}

    def energy(self, network, input, target, activities):
        kept = self.first.setdefault((network.dims, network.dtype), network.weights)  # wrong: not these weights
        return super().energy(network.with_weights(kept), input, target, activities)


@mutant(
    "input-overwritten",
    "Inference updates the caller's activities in place.",
    "contract.inputs-unmodified",
)
class InputOverwritten(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        state = super().infer(network, input, target, steps, step_size, start)
        for mine, theirs in zip(state.activities, start or (), strict=False):
            theirs[...] = mine  # wrong: it belongs to the caller
        return state


@mutant(
    "weights-overwritten",
    "The scaling is multiplied into the caller's output weights in place.",
    "contract.inputs-unmodified",
)
class WeightsOverwritten(NumpyPCN):
    def predict(self, network, input):
        output = super().predict(network, input)
        network.weights[-1][...] *= 0.5  # wrong: it belongs to the caller
        return output


@mutant(
    "trains-in-place",
    "Training writes the new weights into the caller's.",
    "contract.inputs-unmodified",
)
class TrainsInPlace(NumpyPCN):
    def train(self, network, input, target, iterations, learning_rate, steps, step_size):
        trained = super().train(network, input, target, iterations, learning_rate, steps, step_size)
        for old, new in zip(network.weights, trained, strict=True):
            old[...] = new  # wrong: it belongs to the caller
        return list(network.weights)


@mutant(
    "float32-answers",
    "Activities are float32 whatever the dtype asked for.",
    "contract.shapes-and-dtypes",
)
class Float32Answers(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        state = super().infer(network, input, target, steps, step_size, start)
        return Inference(activities=[np.asarray(a, np.float32) for a in state.activities])  # wrong: the dtype


@mutant(
    "float32-inside",
    "Float64 problems are computed in float32 and cast back.",
    "energy.matches-definition",
    "gradient.weights-match-definition",
)
class Float32Inside(NumpyPCN):
    def _drive(self, network, l, below):
        return super()._drive(network, l, below).astype(np.float32).astype(network.dtype)  # wrong: rounded


@mutant(
    "half-precision-products",
    "Matrix products have the ten-bit mantissa of TF32.",
    "precision.float32-follows-float64",
    "feedforward.prediction-matches-definition",
)
class HalfPrecisionProducts(NumpyPCN):
    def _drive(self, network, l, below):
        exact = super()._drive(network, l, below)
        if network.dtype != np.float32:
            return exact
        return (exact.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)  # wrong: 13 bits dropped


@mutant(
    "activities-reversed",
    "Activities are listed from the output, which is not declared, where all layers are equally wide.",
    "inference.zero-steps-return-the-start",
    "feedforward.errors-are-zero",
)
class ActivitiesReversed(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        state = super().infer(network, input, target, steps, step_size, start)
        return Inference(activities=list(state.activities)[::-1])  # wrong: reversed


@mutant(
    "samples-reversed",
    "Activities come back in reverse order of the samples.",
    "feedforward.errors-are-zero",
    "inference.samples-are-independent",
)
class SamplesReversed(NumpyPCN):
    def infer(self, network, input, target, steps, step_size, start=None):
        state = super().infer(network, input, target, steps, step_size, start)
        return Inference(activities=[a[::-1] for a in state.activities])  # wrong: reversed


@mutant(
    "retraces",
    "Every call of inference compiles anew.",
    "precision.no-retrace-on-equal-shapes",
)
class Retraces(NumpyPCN):
    def __init__(self):
        self.compiled = 0

    def infer(self, network, input, target, steps, step_size, start=None):
        self.compiled += 1  # wrong: once per call, not per shape
        return super().infer(network, input, target, steps, step_size, start)

    def compilations(self):
        return self.compiled
