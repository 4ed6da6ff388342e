r"""Adapter of the built-in JAX reference, which is judged like any other implementation.

Every call runs inside `jax.enable_x64(True)`, so that float64 networks are computed in float64 whatever the process
has chosen, and nothing is switched on for anyone else.  Arrays go in as NumPy, come out as NumPy of the network's
dtype, and a program is compiled once per shape, activation, placement, loss and dtype.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np

from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, PLACEMENTS, Activities, Network
from pcbench.protocol.implementation import Capabilities, Conventions, Equilibrium, Inference, Manifest
from pcbench.reference import gradients, learning, variants
from pcbench.reference.compilation import compilations, counted_jit, for_speed
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.equilibrium.outcome import Outcome
from pcbench.reference.inference import steps as inference_module
from pcbench.reference.inference.groups import feedforward, group_activities, group_layers
from pcbench.reference.inference.orientation import orientation_for
from pcbench.reference.network import PCN
from pcbench.version import __version__

_ALL = ("activities", "output", "layer_energies", "activity_gradients", "weight_gradients")
_SMALL = 1 << 22
"""Multiplications of one pass below which one program answers every question about a state.

A program more costs some 0.2 s to compile, a pass of this size a millisecond to run.
"""
_LONG = 1 << 30
"""Multiplications of all steps from which a program for them is compiled well whatever its size.

Below a tenth of a second of work, less than such a compilation costs more; no law asks for as much of a small problem.
"""
_TOLERANCE = {"float64": 1e-20, "float32": 1e-10}
"""Certificates relative to the loss: tighter than the solver's default where it costs few evaluations more, because
the relative error of a gradient at the equilibrium is the square root."""


@counted_jit(static=("want",))
def _run(
    network: PCN, input: Any, target: Any, start: Any, given: Any, steps: Any, step_size: Any, want: tuple[str, ...]
) -> dict[str, Any]:
    """The state after `steps` steps from `start`, or from the feedforward pass, and what is wanted of it."""
    feedforward, output = network.forward(input)
    z = jax.numpy.where(given, start, feedforward)
    if want == _ALL:
        z = inference_module.infer(network, input, target, z, steps, step_size)
    each, for_activities, for_weights = gradients.energies_and_gradients(network, input, target, z)
    answers = {
        "activities": z,
        "output": output,
        "layer_energies": each,
        "activity_gradients": for_activities,
        "weight_gradients": for_weights,
    }
    return {name: answers[name] for name in want if name in answers}


@counted_jit()
def _variants(network: PCN, input: Any, target: Any) -> tuple[Any, Any]:
    fixed = variants.fixed_prediction_gradients(network, input, target)
    return fixed, variants.zero_divergence_gradients(network, input, target)


_train = counted_jit()(learning.train)
_feedforward = counted_jit()(feedforward)


class ReferencePCN:
    """The built-in JAX reference behind the protocol of `pcbench.protocol.implementation`.

    **Arguments:** `shared`, whether small problems share one program for all questions, which is compiled fast and runs
    slowly: a conformance run asks thousands of questions of hundreds of shapes.  Without it every question has a
    program of its own, compiled for speed: for whoever asks the same shapes again and again.
    """

    def __init__(self, *, shared: bool = True) -> None:
        self._shared = shared
        self.manifest = Manifest(
            name="reference",
            library="pcbench",
            version=__version__,
            versions={"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__},
            notes=("float64 is switched on inside each call only",),
            capabilities=Capabilities(
                activations=ACTIVATIONS,
                placements=PLACEMENTS,
                losses=LOSSES,
                dtypes=DTYPES,
                devices=("cpu", "gpu"),
                residual=True,
                precision=True,
                scalings="native",
            ),
            conventions=Conventions(),
        )

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """The output of the feedforward pass, `(batch, K)`."""
        target = np.zeros((input.shape[0], network.dims[-1]), network.dtype)
        return self._state(network, input, target, "output")["output"]

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """The total energy, mean over the batch."""
        return float(np.sum(self.layer_energies(network, input, target, activities), dtype=network.dtype))

    def layer_energies(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """The energy of each layer, `(depth,)`, mean over the batch."""
        return self._state(network, input, target, "layer_energies", activities)["layer_energies"]

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """The activities after `steps` simultaneous steps of `step_size` times each sample's gradient."""
        work = _multiplications(network, len(input))
        if self._shared and work <= _SMALL and steps * work < _LONG:
            state = self._state(network, input, target, "activities", start, steps, step_size)
            return Inference(activities=list(state["activities"]))
        _check(network, input, target)
        cut = group_layers(network, len(input))
        with self._compute_context():
            z = _feedforward.well(cut, input) if start is None else group_activities(cut, start)
            count, eta = np.int64(steps), network.dtype.type(step_size)
            written = orientation_for(cut.hidden, len(input), "highest", steps)
            z = inference_module.run_grouped.donating(
                cut, input, target, activities=z, steps=count, step_size=eta, orientation=written
            )
            return Inference(activities=z.layers())

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The gradient of each sample's own energy, one array per hidden layer."""
        return list(self._state(network, input, target, "activity_gradients", activities)["activity_gradients"])

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The gradient of the mean energy, `(fan_out, fan_in)` for each layer."""
        return self._state(network, input, target, "weight_gradients", activities)["weight_gradients"]

    def equilibrium(self, network: Network, input: np.ndarray, target: np.ndarray) -> Equilibrium:
        """The exact equilibrium of a linear network, that of the error-space solver otherwise."""
        _check(network, input, target)
        pcn = PCN.from_network(network)
        tolerance = _TOLERANCE[network.dtype.name]
        with self._compute_context():
            if network.linear:
                result = equilibrium_linear.solve(pcn, input, target, tolerance=tolerance)
            else:  # whoever asks judges the answer with a certificate of their own
                result = equilibrium_nonlinear.solve(pcn, input, target, tolerance=tolerance, certify=False)
            activities = np.array(result.activities)
        converged = result.outcome is Outcome.CONVERGED
        return Equilibrium(
            activities=list(activities),
            energy=result.energy,
            outcome="converged" if converged else result.outcome.value,
            residual=float(np.max(result.residual)),
            evaluations=result.evaluations,
        )

    def train(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        iterations: int,
        learning_rate: float,
        steps: int,
        step_size: float,
    ) -> list[np.ndarray]:
        """The weights after `iterations` updates, each after `steps` of inference from the feedforward pass."""
        _check(network, input, target)
        pcn, real = PCN.from_network(network), network.dtype.type
        with self._compute_context():
            arguments = (np.int64(iterations), real(learning_rate), np.int64(steps), real(step_size))
            return _unstack(_train(pcn, input, target, *arguments))

    def fixed_prediction_gradients(self, network: Network, input: np.ndarray, target: np.ndarray) -> list[np.ndarray]:
        """The weight gradients under the fixed-prediction assumption."""
        _check(network, input, target)
        with self._compute_context():
            return _unstack(_variants(PCN.from_network(network), input, target)[0])

    def zero_divergence_gradients(self, network: Network, input: np.ndarray, target: np.ndarray) -> list[np.ndarray]:
        """The weight gradients of zero-divergence inference learning."""
        _check(network, input, target)
        with self._compute_context():
            return _unstack(_variants(PCN.from_network(network), input, target)[1])

    def compilations(self) -> int:
        """How many programs this process has compiled so far."""
        return compilations()

    @contextmanager
    def _compute_context(self) -> Iterator[None]:
        """Compute in double precision where arrays are, with programs compiled the way that was asked for."""
        with jax.enable_x64(True), nullcontext() if self._shared else for_speed():
            yield

    def _state(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        wanted: str,
        start: Activities | None = None,
        steps: int = 0,
        step_size: float = 0.0,
    ) -> dict[str, Any]:
        """One answer about a state: small problems share one program for all, others compute what is asked."""
        _check(network, input, target)
        pcn, real = PCN.from_network(network), network.dtype.type
        shared = self._shared and _multiplications(network, len(input)) <= _SMALL
        shape = (network.depth - 1, len(input), network.dims[1])
        stacked = np.zeros(shape, network.dtype) if start is None else np.stack(start)
        with self._compute_context():
            run = partial(_run, pcn, input, target, stacked, np.bool_(start is not None))
            answers = run(np.int64(steps), real(step_size), want=_ALL if shared else (wanted,))
            if wanted == "weight_gradients":
                return {wanted: _unstack(answers[wanted])}
            return {wanted: np.array(answers[wanted])}


def _multiplications(network: Network, batch: int) -> int:
    """Those of one pass."""
    return batch * sum(w.size for w in network.weights)


def _check(network: Network, input: np.ndarray, target: np.ndarray) -> None:
    """Refuse data that broadcasting would stretch, such as a target of shape (batch,)."""
    shapes = (len(input), network.dims[0]), (len(input), network.dims[-1])
    if (input.shape, target.shape) != shapes:
        raise ValueError(f"input {input.shape} and target {target.shape}: needed {shapes[0]} and {shapes[1]}")


def _unstack(weights: tuple[Any, Any, Any]) -> list[np.ndarray]:
    first, hidden, last = (np.array(w) for w in weights)
    return [first, *hidden, last]


def implementation() -> ReferencePCN:
    """The reference, ready to be tested."""
    return ReferencePCN()


def compiled_for_speed() -> ReferencePCN:
    """The reference for long or repeated use: every program is compiled for speed, whatever its size."""
    return ReferencePCN(shared=False)
