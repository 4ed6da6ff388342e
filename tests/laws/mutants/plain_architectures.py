"""CNNs and transformers in plain NumPy: what the mutants of `architectures` are one line away from.

It is made of the formulas of `pcbench.oracle.architectures`, so it says nothing about the oracle, only about the power
of laws: what they find in it was put there.  Everything else (passes, inference, its solver) is its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pcbench.adapters.numpy import NumpyPCN
from pcbench.oracle import architectures as oracle
from pcbench.oracle.running_error import Rounded, reverse_gradients
from pcbench.problem.architecture import Architecture, rebuild
from pcbench.problem.network import ACTIVATIONS, Activities
from pcbench.protocol.implementation import Capabilities, Conventions, Equilibrium, Inference, Manifest

MEMORY, ITERATIONS = 10, 120


class PlainArchitectures:
    """An implementation of CNNs and transformers for which shapes are free and nothing is compiled."""

    manifest = Manifest(
        name="plain-architectures",
        capabilities=Capabilities(
            architectures=("cnn", "transformer"),
            activations=ACTIVATIONS,
            losses=NumpyPCN.manifest.capabilities.losses,
            dtypes=NumpyPCN.manifest.capabilities.dtypes,
            precision=True,
            residual=True,
            scalings="native",
            shapes="free",
        ),
        conventions=Conventions(),
    )

    def _network(self, network: Architecture) -> Architecture:
        """The network as this implementation understands it."""
        return network

    def predict(self, network, input):
        return self._feedforward(network, input)[-1]

    def _feedforward(self, network, input) -> list[np.ndarray]:
        """The activities of the pass and the output."""
        return _narrow(network, [f.value for f in oracle.feedforward(self._network(network), input)])

    def energy(self, network, input, target, activities):
        return float(np.sum(self.layer_energies(network, input, target, activities)))

    def layer_energies(self, network, input, target, activities):
        values, _ = oracle.layer_energies(self._network(network), input, target, activities)
        return np.asarray(values, network.dtype)

    def activity_gradients(self, network, input, target, activities):
        return _narrow(network, oracle.activity_gradients(self._network(network), input, target, activities)[0])

    def weight_gradients(self, network, input, target, activities):
        flat, _ = oracle.weight_gradients(self._network(network), input, target, activities)
        return list(rebuild(network.parameters, _narrow(network, flat)))

    def infer(self, network, input, target, steps, step_size, start=None):
        z = self._start(network, input, target) if start is None else [np.array(a) for a in start]
        for _ in range(steps):
            z = self._step(network, input, target, z, step_size)
        return Inference(activities=z)

    def _start(self, network, input, target) -> Activities:
        return self._feedforward(network, input)[:-1]

    def _step(self, network, input, target, z, step_size) -> Activities:
        slope = self.activity_gradients(network, input, target, z)
        return [np.asarray(a - step_size * g, network.dtype) for a, g in zip(z, slope, strict=True)]

    def equilibrium(self, network, input, target):
        """By L-BFGS on the errors of all samples together, with steps halved until the energy falls."""
        own = self._network(network)
        shapes = [(len(input), *shape) for shape in own.activity_shapes]
        x = np.zeros(sum(int(np.prod(s)) for s in shapes))
        f, g = _value_and_slope(own, input, target, x, shapes)
        goal, pairs = 1e-18 * (1 + f), list[Any]()
        for _ in range(ITERATIONS):
            if g @ g <= goal:
                break
            along, length = -_inverse_hessian_product(g, pairs), 1.0
            while length > 1e-10:
                f_new, g_new = _value_and_slope(own, input, target, x + length * along, shapes)
                if f_new <= f + 1e-4 * length * (g @ along) + 1e-15 * abs(f):
                    break
                length /= 2
            else:
                break
            s, change = length * along, g_new - g
            pairs = [*pairs, (s, change)][-MEMORY:] if s @ change > 0 else pairs
            x, f, g = x + s, f_new, g_new
        z = [f.value for f in oracle.forward_with_errors(own, input, _errors(own, x, shapes))[:-1]]
        return self._answer(network, input, target, _narrow(network, z), bool(g @ g <= 1e-12 * (1 + f)))

    def _answer(self, network, input, target, z, converged) -> Equilibrium:
        energy = self.energy(network, input, target, z)
        return Equilibrium(activities=z, energy=energy, outcome="converged" if converged else "not converged")


def _narrow(network: Architecture, arrays: Any) -> list[np.ndarray]:
    return [np.asarray(a, network.dtype) for a in arrays]


def _errors(network: Architecture, x: np.ndarray, shapes: list[tuple[int, ...]]) -> list[Rounded]:
    ends = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    return [Rounded.exact(part.reshape(s)) for part, s in zip(np.split(x, ends), shapes, strict=True)]


def _value_and_slope(network: Architecture, input, target, x, shapes) -> tuple[float, np.ndarray]:
    errors = _errors(network, x, shapes)
    loss = oracle.sample_loss(network, target, oracle.forward_with_errors(network, input, errors)[-1]).times(
        network.precision
    )
    slope = np.concatenate([d.ravel() for d, _ in reverse_gradients([loss], errors)])
    return float(0.5 * x @ x + loss.value.sum()), x + slope


def _inverse_hessian_product(g: np.ndarray, pairs: list[Any]) -> np.ndarray:
    """The inverse Hessian of L-BFGS times a gradient (Nocedal and Wright 2006, algorithm 7.4)."""
    q, kept = g.copy(), []
    for s, y in reversed(pairs):
        a = (s @ q) / (s @ y)
        kept.append(a)
        q -= a * y
    for (s, y), a in zip(pairs, reversed(kept), strict=True):
        q += s * (a - (y @ q) / (s @ y))
    return q
