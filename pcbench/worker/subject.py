r"""The implementation under test as the laws see it: answers are checked and converted to one convention.

Adapters return what their library returns; this is the one place where a declared convention is applied.  Whatever
comes back is checked for structure, shape, dtype and finiteness before any law computes with it, so that a defect is
reported as what it is.  All answers are float64 copies of what the implementation returned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pcbench.errors import AdapterError, ContractError, NotFiniteError
from pcbench.problem.architecture import Architecture, Model
from pcbench.problem.architectures import AnyProblem, ArchitectureProblem
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Activities, Network
from pcbench.protocol.implementation import Capabilities, Manifest


class Transport(Protocol):
    """Where an implementation runs: in this process (`client.InProcess`) or in its own (`client.WorkerClient`)."""

    manifest: Manifest
    methods: tuple[str, ...]
    last_meta: dict[str, Any]

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of one method, or an `ImplementationError`."""
        ...

    def restart(self) -> None:
        """Begin anew, as if nothing had been asked before."""
        ...

    def close(self) -> None:
        """End the process, if there is one."""
        ...


@dataclass(frozen=True, kw_only=True)
class State:
    """Activities after inference, in pcbench's order, with what the implementation reported along with them."""

    activities: Activities
    energy: float | None = None
    weight_gradients: list[np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """Activities that the implementation holds for an equilibrium, the energy it reports there, and its outcome."""

    activities: Activities
    energy: float | None
    outcome: str
    evaluations: int | None


class Subject:
    """An implementation, with its conventions undone.

    **Arguments:** `transport` runs it; `respawn` makes a second, fresh process of the same implementation, for laws
    that compare processes, or is None where that is impossible; `fresh_for_every_problem` asks whoever judges to
    `forget` before each problem.

    `fragile` is set once an error is known to spoil what comes after it: from then on a process that has raised is
    replaced, so that this one defect does not break every other law.
    """

    def __init__(
        self,
        transport: Transport,
        respawn: Callable[[], Transport] | None = None,
        fresh_for_every_problem: bool = False,
    ) -> None:
        self.transport = transport
        self.manifest = transport.manifest
        self.fresh_for_every_problem = fresh_for_every_problem
        self.fragile = False
        self._respawn = respawn
        self._elsewhere: Subject | None = None
        self.calls = 0
        self.seconds = 0.0
        self.modified: list[str] = []
        self.offers = _offers(transport, respawn is not None)

    # ---- what it offers ---------------------------------------------------------------------------------------

    def refuses(self, problem: AnyProblem) -> str | None:
        """Why the manifest does not cover this problem, or None if it does."""
        c = self.manifest.capabilities
        kind, placement = "mlp", ""
        if isinstance(problem, ArchitectureProblem):
            kind = problem.kind
        else:
            placement = problem.placement
        for name, value, offered in (
            ("architecture", kind, c.architectures),
            ("activation", problem.activation, c.activations),
            ("placement", placement, c.placements if placement and problem.activation != "linear" else (placement,)),
            ("loss", problem.loss, c.losses),
            ("dtype", problem.dtype, c.dtypes),
        ):
            if value not in offered:
                return f"{name}={value!r} is not claimed (claimed: {', '.join(offered)})"
        if not isinstance(problem, ArchitectureProblem) and problem.residual and problem.depth > 2 and not c.residual:
            return "residual=True is not claimed"
        if problem.output_precision != 1 and not c.precision:
            return f"output_precision={problem.output_precision!r} is not claimed, only 1"
        return None

    def second_process(self) -> Subject:
        """The same implementation in a fresh process of its own, started on first use."""
        if self._elsewhere is None:
            if self._respawn is None:
                raise ContractError("no second process can be started for this implementation")
            self._elsewhere = Subject(self._respawn())
        return self._elsewhere

    def forget(self) -> None:
        """Begin anew with a fresh process, in which nothing has been asked before."""
        if self._elsewhere is not None:
            self._elsewhere.close()
            self._elsewhere = None
        self.transport.restart()

    def close(self) -> None:
        """End the implementation's processes."""
        if self._elsewhere is not None:
            self._elsewhere.close()
        self.transport.close()

    # ---- questions --------------------------------------------------------------------------------------------

    def predict(self, network: Model, input: np.ndarray) -> np.ndarray:
        """The output of the feedforward pass, `(batch, *network.output_shape)`."""
        answer = self._call("predict", network, input)
        return self._array("predict", answer, network, (len(input), *network.output_shape))

    def energy(self, network: Model, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        r"""\(F\) at these activities."""
        answer = self._call("energy", network, input, target, self._encode_activities(network, activities))
        return self._energy("energy", answer, len(input))

    def layer_energies(
        self, network: Model, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        r"""Each layer's share of \(F\), `(L,)`, input side first."""
        answer = self._call("layer_energies", network, input, target, self._encode_activities(network, activities))
        values = self._array("layer_energies", answer, network, (network.depth,), any_float=True)
        if self.manifest.conventions.layer_energy_order == "output-first":
            values = values[::-1]
        return values / self._energy_divisor(len(input))

    def infer(
        self,
        network: Model,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> State:
        """The state after `steps` steps of `step_size` per sample."""
        c = self.manifest.conventions
        step = step_size * len(input) if c.step_size == "batch-mean" else step_size
        args = () if start is None else (self._encode_activities(network, start),)
        answer = self._call("infer", network, input, target, int(steps), float(step), *args)
        for name in ("activities", "energy", "weight_gradients"):
            if not hasattr(answer, name):
                raise ContractError(f"infer returned {type(answer).__name__}: needed pcbench.Inference(activities=...)")
        energy = None if answer.energy is None else self._energy("infer (energy)", answer.energy, len(input))
        gradients = None
        if answer.weight_gradients is not None:
            gradients = self._weight_gradients("infer (weight_gradients)", answer.weight_gradients, network, len(input))
        activities = self._activities("infer", answer.activities, network, len(input))
        return State(activities=activities, energy=energy, weight_gradients=gradients)

    def weight_gradients(
        self, network: Model, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        r"""\(\partial F/\partial W_l\) at these activities, `(fan_out, fan_in)` each."""
        answer = self._call("weight_gradients", network, input, target, self._encode_activities(network, activities))
        return self._weight_gradients("weight_gradients", answer, network, len(input))

    def variant_gradients(self, variant: str, network: Model, input: np.ndarray, target: np.ndarray) -> list:
        """The weight gradients of `fixed_prediction_gradients` or `zero_divergence_gradients`."""
        return self._weight_gradients(variant, self._call(variant, network, input, target), network, len(input))

    def activity_gradients(
        self, network: Model, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> Activities:
        r"""\(B\,\partial F/\partial z_l\), per sample, `(batch, width)` each."""
        c = self.manifest.conventions
        answer = self._call("activity_gradients", network, input, target, self._encode_activities(network, activities))
        arrays = self._activities("activity_gradients", answer, network, len(input))
        factor = c.activity_gradient_sign * (len(input) if c.activity_gradient_reduction == "mean" else 1)
        return [factor * g for g in arrays]

    def equilibrium(self, network: Model, input: np.ndarray, target: np.ndarray) -> Claimed:
        """What the implementation's own solver returns."""
        answer = self._call("equilibrium", network, input, target)
        for name in ("activities", "energy", "outcome"):
            if not hasattr(answer, name):
                raise ContractError(f"equilibrium returned {type(answer).__name__}: needed pcbench.Equilibrium(...)")
        energy = None if answer.energy is None else self._energy("equilibrium (energy)", answer.energy, len(input))
        return Claimed(
            activities=self._activities("equilibrium", answer.activities, network, len(input)),
            energy=energy,
            outcome=str(answer.outcome),
            evaluations=answer.evaluations,
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
        r"""The weights after `iterations` updates of \(W \leftarrow W - \mathrm{rate}\,\partial F/\partial W\).

        They are the weights of `as_sent(network)`: with folded scalings a rate means something else for each layer.
        """
        step = step_size * len(input) if self.manifest.conventions.step_size == "batch-mean" else step_size
        answer = self._call("train", network, input, target, iterations, learning_rate, steps, step)
        return self._weights("train", answer, network)

    def compilations(self) -> int:
        """How many programs the implementation has compiled so far."""
        count = self._call("compilations")
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise ContractError(f"compilations returned {count!r}: needed an integer")
        return int(count)

    # ---- checks and conversion --------------------------------------------------------------------------------

    def _call(self, method: str, *args: Any) -> Any:
        args = tuple(self._prepare(a) for a in args)
        began = time.perf_counter()
        try:
            return self.transport.call(method, *args)
        except AdapterError:
            if self.fragile:
                self.transport.restart()
            raise
        finally:
            self.calls += 1
            self.seconds += time.perf_counter() - began
            self.modified = list(self.transport.last_meta.get("inputs_modified", ()))

    def as_sent(self, network: Network) -> Network:
        """The network that the implementation receives: with folded scalings if it asks for that."""
        return network.folded() if self.manifest.capabilities.scalings == "folded" else network

    def _prepare(self, argument: Any) -> Any:
        return self.as_sent(argument) if isinstance(argument, Network) else argument

    def _encode_activities(self, network: Model, activities: Activities) -> list[np.ndarray]:
        """Activities in the network's dtype and the implementation's order, always fresh copies."""
        values = [np.array(z, dtype=network.dtype) for z in activities]
        return values[::-1] if self.manifest.conventions.activity_order == "output-first" else values

    def _array(
        self, what: str, value: Any, network: Model, shape: tuple[int, ...], any_float: bool = False
    ) -> np.ndarray:
        if not isinstance(value, np.ndarray):
            raise ContractError(f"{what} returned {_describe(value)}: needed a NumPy array of shape {shape}")
        if value.shape != shape:
            raise ContractError(f"{what} returned shape {value.shape}: needed {shape}")
        if value.dtype != network.dtype and not (any_float and value.dtype.kind == "f"):
            raise ContractError(f"{what} returned {value.dtype}: needed {network.dtype}, the dtype of the weights")
        if not np.all(np.isfinite(value)):
            bad = int(np.size(value) - np.count_nonzero(np.isfinite(value)))
            raise NotFiniteError(f"{what} returned {bad} of {value.size} values that are not finite")
        return np.array(value, dtype=np.float64, order="C")

    def _energy(self, what: str, value: Any, batch: int) -> float:
        if isinstance(value, np.ndarray) and value.shape != ():
            raise ContractError(f"{what} returned shape {value.shape}: needed a single number, reduced over the batch")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ContractError(f"{what} returned {_describe(value)}: needed a number") from None
        if not np.isfinite(number):
            raise NotFiniteError(f"{what} returned {number}: needed a finite number")
        return number / self._energy_divisor(batch)

    def _energy_divisor(self, batch: int) -> float:
        c = self.manifest.conventions
        return c.energy_factor * (batch if c.energy_reduction == "sum" else 1)

    def _sequence(self, what: str, value: Any, count: int, of: str) -> Sequence[Any]:
        if not isinstance(value, (list, tuple)):
            raise ContractError(f"{what} returned {_describe(value)}: needed a list of {count} arrays, one per {of}")
        if len(value) != count:
            raise ContractError(f"{what} returned {len(value)} arrays: needed {count}, one per {of}")
        return value

    def _activities(self, what: str, value: Any, network: Model, batch: int) -> Activities:
        arrays = self._sequence(what, value, network.depth - 1, "hidden layer")
        if self.manifest.conventions.activity_order == "output-first":
            arrays = arrays[::-1]
        return [
            self._array(f"{what}, hidden layer {l}", a, network, (batch, *shape))
            for l, (a, shape) in enumerate(zip(arrays, network.activity_shapes, strict=True), start=1)
        ]

    def _weights(self, what: str, value: Any, network: Network) -> list[np.ndarray]:
        arrays = self._sequence(what, value, network.depth, "weight matrix")
        layout = self.manifest.conventions.weight_layout
        transposed, result = layout == "in-out", []
        for l, (a, w) in enumerate(zip(arrays, network.weights, strict=True), start=1):
            shape = w.shape[::-1] if transposed else w.shape
            if isinstance(a, np.ndarray) and a.shape == shape[::-1] != shape:
                raise ContractError(
                    f"{what}, layer {l} returned shape {a.shape}: needed {shape}, for the manifest declares "
                    f"weight_layout={layout!r}; for transposed ones declare {'out-in' if transposed else 'in-out'!r}"
                )
            array = self._array(f"{what}, layer {l}", a, network, shape)
            result.append(array.T if transposed else array)
        return result

    def _weight_gradients(self, what: str, value: Any, network: Model, batch: int) -> list[np.ndarray]:
        c = self.manifest.conventions
        factor = c.gradient_sign / (batch if c.gradient_reduction == "sum" else 1)
        if isinstance(network, Architecture):
            gradients = self._sequence(what, value, network.depth, "layer")
            pairs = enumerate(zip(network.parameters, gradients, strict=True), start=1)
            return [self._check_structure(f"{what}, layer {l}", g, network, like, factor) for l, (like, g) in pairs]
        folded = self.manifest.capabilities.scalings == "folded"
        arrays = self._weights(what, value, network)
        return [factor * (a if folded else 1.0) * g for a, g in zip(network.scalings, arrays, strict=True)]

    def _check_structure(self, what: str, value: Any, network: Architecture, like: Any, factor: float) -> Any:
        """Gradients of one layer, structured and shaped as its parameters: no layout or folding applies to them."""
        if isinstance(like, dict):
            if not isinstance(value, dict) or set(value) != set(like):
                raise ContractError(f"{what} returned {_describe(value)}: needed a dictionary of {', '.join(like)}")
            return {k: self._check_structure(f"{what} {k}", value[k], network, like[k], factor) for k in like}
        if isinstance(like, tuple):
            if not isinstance(value, (tuple, list)) or len(value):
                raise ContractError(f"{what} returned {_describe(value)}: needed (), as this layer has no parameters")
            return ()
        return factor * self._array(what, value, network, like.shape)


def adapt_problem(problem: Problem, capabilities: Capabilities) -> Problem:
    """The problem, with settings that an implementation does not claim replaced by ones that it does."""
    p, c = problem, capabilities
    changes: dict[str, Any] = {}
    if p.dtype not in c.dtypes:
        changes["dtype"] = c.dtypes[0]
    if p.residual and not c.residual:
        changes["residual"] = False
    if p.loss not in c.losses:
        changes["loss"] = c.losses[0]
    if p.activation not in c.activations:
        changes["activation"] = next((a for a in ("tanh", "gelu", "linear") if a in c.activations), c.activations[0])
    if p.placement not in c.placements and changes.get("activation", p.activation) != "linear":
        changes["placement"] = c.placements[0]
    return p.replace(**changes) if changes else p


def _offers(transport: Transport, second_process: bool) -> frozenset[str]:
    """The names that a law's `needs` refers to."""
    c, v = transport.manifest.capabilities, transport.manifest.conventions
    names = {method.replace("_", "-") for method in transport.methods}
    flags = {
        "start": c.start,
        "zero-steps": c.zero_steps,
        "energy-at-activities": c.energy_at_activities,
        "reported-energy": c.reports_energy,
        "reported-gradients": c.reports_gradients,
        "precision": c.precision,
        "residual": c.residual,
        "native-scalings": c.scalings == "native",
        "simultaneous": v.update_order == "simultaneous",
        "linear": "linear" in c.activations,
        "nonlinear": any(a != "linear" for a in c.activations),
        "second-process": second_process,
        "architectures": any(kind != "mlp" for kind in c.architectures),
    }
    return frozenset(names | {name for name, offered in flags.items() if offered} | {*c.losses, *c.dtypes})


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return " ".join(f"{type(value).__name__} {value!r}"[:80].split())
