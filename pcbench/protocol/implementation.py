r"""Protocol of an implementation under test: the `Implementation` and its `Manifest`.

An implementation answers questions on NumPy arrays; its manifest says what it can do (`Capabilities`) and how its
numbers are to be read (`Conventions`).  Adapters never convert: they return what their library returns and declare the
convention, and `pcbench.worker.subject` converts.  This module runs inside foreign environments on Python 3.10 and
later, so it imports only NumPy, the standard library and the layers below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from pcbench.errors import ManifestError
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, PLACEMENTS, Activities, Network

OPTIONAL_METHODS = (
    "weight_gradients",
    "activity_gradients",
    "layer_energies",
    "equilibrium",
    "train",
    "fixed_prediction_gradients",
    "zero_divergence_gradients",
    "compilations",
)
"""Methods whose presence is itself the claim of a capability of the same name."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "scalings": ("native", "folded"),
    "shapes": ("free", "palette"),
    "energy_reduction": ("mean", "sum"),
    "energy_lag": (0, 1),
    "step_size": ("per-sample", "batch-mean"),
    "update_order": ("simultaneous", "input-first", "output-first"),
    "activity_order": ("input-first", "output-first"),
    "layer_energy_order": ("input-first", "output-first"),
    "gradient_sign": (1, -1),
    "gradient_reduction": ("mean", "sum"),
    "gradient_point": ("final", "previous", "previous-errors"),
    "activity_gradient_sign": (1, -1),
    "activity_gradient_reduction": ("mean", "sum"),
    "weight_layout": ("out-in", "in-out"),
}
"""The values that each field of `Capabilities` or `Conventions` with a choice of one may have."""
_SUBSETS = {
    "activations": ACTIVATIONS,
    "placements": PLACEMENTS,
    "losses": LOSSES,
    "dtypes": DTYPES,
    "architectures": ("mlp", "cnn", "transformer"),
    "devices": ("cpu", "gpu"),
}


def _check_choices(data: Any) -> None:
    """Refuse a value outside the vocabulary, naming field, value and vocabulary."""
    for item in fields(data):
        value = getattr(data, item.name)
        if item.name in CHOICES and value not in CHOICES[item.name]:
            allowed = ", ".join(map(repr, CHOICES[item.name]))
            raise ManifestError(f"{type(data).__name__}.{item.name}={value!r}: needed one of {allowed}")
        if item.name in _SUBSETS:
            value = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
            object.__setattr__(data, item.name, value)
            unknown = [v for v in value if v not in _SUBSETS[item.name]]
            if unknown or not value:
                allowed = ", ".join(_SUBSETS[item.name])
                raise ManifestError(f"{type(data).__name__}.{item.name}={value!r}: needed some of {allowed}")
        if item.type == "bool" and not isinstance(value, bool):
            raise ManifestError(f"{type(data).__name__}.{item.name}={value!r}: needed True or False")


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an implementation can do.  What it cannot is never judged; what it claims is never skipped.

    **Arguments:**

    - `activations`, `placements`, `losses`, `dtypes`, `architectures`, `devices`: subsets of pcbench's vocabulary.
    - `residual`: identity skips over hidden layers.
    - `precision`: an output precision other than 1.
    - `scalings`: `native` if layer scalings are applied by the library, `folded` if the harness should multiply them
      into the weights (and multiply weight gradients back).
    - `start`: `infer` accepts activities to start from; `zero_steps`: `infer` accepts `steps=0`.
    - `energy_at_activities`: `energy` evaluates at any activities (otherwise only after `infer`).
    - `reports_energy`, `reports_gradients`: `infer` returns an energy, or weight gradients, along with the activities.
    - `shapes`: `palette` if a new shape costs a compilation, so that a run should use few; `free` otherwise.
    """

    activations: tuple[str, ...] = ("linear",)
    placements: tuple[str, ...] = ("before-weight",)
    losses: tuple[str, ...] = ("mse",)
    dtypes: tuple[str, ...] = ("float64",)
    architectures: tuple[str, ...] = ("mlp",)
    devices: tuple[str, ...] = ("cpu",)
    residual: bool = False
    precision: bool = False
    scalings: str = "folded"
    start: bool = True
    zero_steps: bool = True
    energy_at_activities: bool = True
    reports_energy: bool = False
    reports_gradients: bool = False
    shapes: str = "palette"

    def __post_init__(self) -> None:
        _check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Conventions:
    r"""How an implementation's numbers are to be read, relative to pcbench's \(F\) (see `Network`).

    **Arguments:**

    - `energy_reduction`: over the batch; `energy_factor`: reported energy over \(F\) (2 without the ½, -1 for a
      log-likelihood); `energy_lag`: 1 if the energy that `infer` returns belongs to the step before the last.
    - `step_size`: `per-sample` if a step of \(\eta\) moves each sample by \(\eta\) times the gradient of its own
      energy, `batch-mean` if by the gradient of the mean over the batch, which is \(B\) times smaller.
    - `update_order`: all layers at once, or layer after layer from either side, each seeing the ones before it.
    - `activity_order`, `layer_energy_order`: whether lists begin at the input or at the output.
    - `gradient_sign`, `gradient_reduction`: of weight gradients; `gradient_point`: the activities to which the
      gradients that `infer` returns belong: `final` \(z_T\), `previous` \(z_{T-1}\), or `previous-errors`
      (\(\varepsilon(z_{T-1})\) times \(z_T\)).
    - `activity_gradient_sign`, `activity_gradient_reduction`: the same for `activity_gradients`; `sum` means the
      gradient of each sample's own energy.
    - `weight_layout`: of weight gradients and weights that are returned, `(fan_out, fan_in)` or transposed.
    """

    energy_reduction: str = "mean"
    energy_factor: float = 1.0
    energy_lag: int = 0
    step_size: str = "per-sample"
    update_order: str = "simultaneous"
    activity_order: str = "input-first"
    layer_energy_order: str = "input-first"
    gradient_sign: int = 1
    gradient_reduction: str = "mean"
    gradient_point: str = "final"
    activity_gradient_sign: int = 1
    activity_gradient_reduction: str = "sum"
    weight_layout: str = "out-in"

    def __post_init__(self) -> None:
        _check_choices(self)
        number = isinstance(self.energy_factor, (int, float)) and not isinstance(self.energy_factor, bool)
        if not number or not self.energy_factor or not np.isfinite(self.energy_factor):
            raise ManifestError(f"Conventions.energy_factor={self.energy_factor!r}: needed a number other than 0")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Who an implementation is, what it can do and how to read it.

    **Arguments:** `name` of the adapter, `library` and `version` behind it, `versions` of what matters beside it
    (interpreter, JAX, PyTorch), `url`, and any `notes` a reader of the report should see.
    """

    name: str
    library: str = ""
    version: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    url: str = ""
    notes: tuple[str, ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)
    conventions: Conventions = field(default_factory=Conventions)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        """The inverse of `to_json`.

        **Raises:** `ManifestError` for a field that does not exist.
        """
        values = dict(data)
        try:
            values["capabilities"] = Capabilities(**values.get("capabilities", {}))
            values["conventions"] = Conventions(**values.get("conventions", {}))
            values["notes"] = tuple(values.get("notes", ()))
            return cls(**values)
        except TypeError as error:
            raise ManifestError(f"manifest not understood: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What `infer` returns: the activities after the last step, and what the library reports along with them.

    **Arguments:** `activities` as declared by `activity_order`; `energy` and `weight_gradients` only if the library
    gives them as part of inference (see `Conventions.energy_lag`, `Conventions.gradient_point`).
    """

    activities: Sequence[np.ndarray]
    energy: float | None = None
    weight_gradients: Sequence[np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """What `equilibrium` returns: activities that the implementation holds for an equilibrium.

    **Arguments:** `energy` as the implementation reports it there; `outcome` is `converged` or the reason why not;
    `residual` any norm the solver has of its own; `evaluations` the number of gradient evaluations it took, if known.
    """

    activities: Sequence[np.ndarray]
    energy: float | None = None
    outcome: str = "converged"
    residual: float | None = None
    evaluations: int | None = None


class Implementation(Protocol):
    """The protocol: a `manifest` and the methods below; the others of `OPTIONAL_METHODS` may be left out.

    Arrays are NumPy arrays of the network's dtype; `input` is `(batch, D)`, `target` `(batch, K)`, activities are the
    hidden layers' only.  An implementation must not modify what it is given.  `infer` starts from the feedforward
    pass unless `start` is given, and takes exactly `steps` steps.

    Optional: `weight_gradients(network, input, target, activities)`, one array per layer;
    `activity_gradients(network, input, target, activities)`, one per hidden layer;
    `layer_energies(network, input, target, activities)`, `(depth,)`, reduced over the batch as `energy` is;
    `equilibrium(network, input, target) -> Equilibrium`;
    `train(network, input, target, iterations, learning_rate, steps, step_size)`, the weights after that many updates
    by gradient descent, each after `steps` of inference from the feedforward pass;
    `fixed_prediction_gradients(network, input, target)` and `zero_divergence_gradients(network, input, target)`, the
    weight gradients of those two variants; `compilations()`, how many programs have been compiled so far.
    """

    manifest: Manifest

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """The output of the feedforward pass, `(batch, K)`; logits for `ce`."""
        ...

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """The total energy at these activities, in the declared convention."""
        ...

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """The state after `steps` steps of gradient descent on the activities."""
        ...


def methods_of(implementation: Any) -> tuple[str, ...]:
    """Which of `OPTIONAL_METHODS` an implementation provides."""
    return tuple(name for name in OPTIONAL_METHODS if callable(getattr(implementation, name, None)))
