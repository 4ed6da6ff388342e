"""Adapter of the built-in JAX reference for residual CNNs and transformers.

As `pcbench.adapters.reference`, on `pcbench.problem.architecture.Architecture` in place of `Network`: activities are
lists of arrays of the shapes of `Architecture.activity_shapes`, weight gradients are lists structured as its
parameters.
"""

from __future__ import annotations

import platform
from typing import Any

import jax
import numpy as np

from pcbench.problem.architecture import Architecture
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, Activities
from pcbench.protocol.implementation import Capabilities, Equilibrium, Inference, Manifest
from pcbench.reference.architectures import chain as chains
from pcbench.reference.architectures import equilibrium as chain_equilibrium
from pcbench.reference.architectures.chain import Chain
from pcbench.reference.architectures.models import chain_of
from pcbench.reference.compilation import compilations, counted_jit
from pcbench.reference.equilibrium.outcome import Outcome
from pcbench.version import __version__

_TOLERANCE = {"float64": 1e-20, "float32": 1e-10}


@counted_jit()
def _state(chain: Chain, input: Any, target: Any, start: Any, given: Any, steps: Any, step_size: Any) -> dict[str, Any]:
    """Everything about the state after `steps` steps from `start`, or from the feedforward pass."""
    feedforward, output = chain.forward(input)
    z = jax.tree.map(lambda a, b: jax.numpy.where(given, a, b), start, feedforward)
    z = chains.infer(chain, input, target, z, steps, step_size)
    each, for_activities, for_weights = chains.energies_and_gradients(chain, input, target, z)
    return {
        "activities": z,
        "output": output,
        "layer_energies": each,
        "activity_gradients": for_activities,
        "weight_gradients": for_weights,
    }


class ReferenceArchitectures:
    """The built-in JAX reference on CNNs and transformers, behind the protocol of `pcbench.protocol.implementation`."""

    def __init__(self) -> None:
        self.manifest = Manifest(
            name="reference_architectures",
            library="pcbench",
            version=__version__,
            versions={"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__},
            capabilities=Capabilities(
                architectures=("cnn", "transformer"),
                activations=ACTIVATIONS,
                losses=LOSSES,
                dtypes=DTYPES,
                devices=("cpu", "gpu"),
                residual=True,
                precision=True,
                scalings="native",
            ),
        )

    def predict(self, network: Architecture, input: np.ndarray) -> np.ndarray:
        """The output of the feedforward pass, `(batch, *output_shape)`."""
        target = np.zeros((len(input), *network.output_shape), network.dtype)
        return self._state(network, input, target)["output"]

    def energy(self, network: Architecture, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """The total energy, mean over the batch."""
        return float(np.sum(self.layer_energies(network, input, target, activities), dtype=network.dtype))

    def layer_energies(
        self, network: Architecture, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """The energy of each layer, `(depth,)`, mean over the batch."""
        return self._state(network, input, target, activities)["layer_energies"]

    def infer(
        self,
        network: Architecture,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """The activities after `steps` simultaneous steps of `step_size` times each sample's gradient."""
        return Inference(activities=list(self._state(network, input, target, start, steps, step_size)["activities"]))

    def activity_gradients(
        self, network: Architecture, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The gradient of each sample's own energy, one array per layer of activities."""
        return list(self._state(network, input, target, activities)["activity_gradients"])

    def weight_gradients(
        self, network: Architecture, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[Any]:
        """The gradient of the mean energy, structured as the parameters."""
        return list(self._state(network, input, target, activities)["weight_gradients"])

    def equilibrium(self, network: Architecture, input: np.ndarray, target: np.ndarray) -> Equilibrium:
        """The equilibrium of the solver in error space."""
        _check(network, input, target)
        with jax.enable_x64(True):
            result = chain_equilibrium.solve(
                chain_of(network), input, target, tolerance=_TOLERANCE[network.dtype.name], certify=False
            )
            activities = [np.array(z) for z in result.activities]
        return Equilibrium(
            activities=activities,
            energy=result.energy,
            outcome="converged" if result.outcome is Outcome.CONVERGED else result.outcome.value,
            residual=float(np.max(result.residual)),
            evaluations=result.evaluations,
        )

    def compilations(self) -> int:
        """How many programs this process has compiled so far."""
        return compilations()

    def _state(
        self,
        network: Architecture,
        input: np.ndarray,
        target: np.ndarray,
        start: Activities | None = None,
        steps: int = 0,
        step_size: float = 0.0,
    ) -> dict[str, Any]:
        _check(network, input, target)
        if start is None:
            z = tuple(np.zeros((len(input), *shape), network.dtype) for shape in network.activity_shapes)
        else:
            z = tuple(start)
        real = network.dtype.type
        with jax.enable_x64(True):
            answers = _state(
                chain_of(network), input, target, z, np.bool_(start is not None), np.int64(steps), real(step_size)
            )
            return jax.tree.map(np.array, answers)


def _check(network: Architecture, input: np.ndarray, target: np.ndarray) -> None:
    """Refuse data that broadcasting would stretch."""
    shapes = (len(input), *network.input_shape), (len(input), *network.output_shape)
    if (input.shape, target.shape) != shapes:
        raise ValueError(f"input {input.shape} and target {target.shape}: needed {shapes[0]} and {shapes[1]}")


def implementation() -> ReferenceArchitectures:
    """The reference on CNNs and transformers, ready to be tested."""
    return ReferenceArchitectures()
