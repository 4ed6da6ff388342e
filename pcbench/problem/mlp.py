r"""Test problems for MLPs as data: sizes, network, energy, data, seed and inference settings.

A problem prints as one line that `pcbench replay` accepts, goes to JSON and back, and makes its own arrays, the same
bits on every platform (`pcbench.problem.arrays`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pcbench.errors import ProblemError
from pcbench.problem import arrays
from pcbench.problem.line import check_fields, format_line, parse_line
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, PLACEMENTS, Activities, Network
from pcbench.problem.parameterisation import NAMED, Exponents, initial_std, layer_scalings

_SCALE_LIMIT = {"float64": 1e12, "float32": 1e6}
_SHORT = {"input_dim": "D", "width": "N", "depth": "L", "output_dim": "K", "batch": "B"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    r"""One case for one law.

    **Arguments:**

    - `input_dim`, `width`, `depth`, `output_dim`, `batch`: \(D, N, L, K, B\); `depth` counts weight matrices, so there
      are `depth - 1` hidden layers of `width` units.
    - `activation`, `placement`, `residual`, `loss`, `output_precision` (\(\lambda\)): see
      `pcbench.problem.network.Network`.
    - `parameterisation`: `sp`, `ntp`, `mupc` or `Exponents`; `output_multiplier` is \(\gamma\), dividing the output.
    - `dtype`: float32 or float64; arrays are drawn in float64 and rounded to it.
    - `weight_law`, `data_law`: from `pcbench.problem.arrays.LAWS`; `weight_scale`, `data_scale` multiply what they
      give.
    - `seed`: a 64-bit unsigned integer.
    - `steps`, `step_size`: inference steps \(T\) and the step size \(\eta\) per sample, as in
      \(z \leftarrow z - \eta B\,\partial F/\partial z\).

    **Raises:** `ProblemError`, naming the field, the value and the rule, if the problem is contradictory or impossible.
    """

    input_dim: int
    width: int
    depth: int
    output_dim: int
    batch: int
    activation: str = "linear"
    placement: str = "before-weight"
    residual: bool = False
    parameterisation: str | Exponents = "mupc"
    output_multiplier: float = 1.0
    output_precision: float = 1.0
    loss: str = "mse"
    dtype: str = "float64"
    weight_law: str = "gaussian"
    weight_scale: float = 1.0
    data_law: str = "gaussian"
    data_scale: float = 1.0
    seed: int = 0
    steps: int = 8
    step_size: float = 0.1

    def __post_init__(self) -> None:
        for name in ("input_dim", "width", "output_dim", "batch"):
            self._integer(name, 1, 1 << 20)
        self._integer("depth", 2, 4096)
        self._integer("steps", 0, 10**7)
        self._integer("seed", 0, 2**64 - 1)
        self._one_of("activation", ACTIVATIONS)
        self._one_of("placement", PLACEMENTS)
        self._one_of("loss", LOSSES)
        self._one_of("dtype", DTYPES)
        self._one_of("weight_law", arrays.LAWS)
        self._one_of("data_law", arrays.LAWS)
        if not isinstance(self.residual, bool):
            raise ProblemError(f"residual={self.residual!r}: needed true or false")
        if not isinstance(self.parameterisation, Exponents):
            self._one_of("parameterisation", NAMED)
        for name in ("output_multiplier", "output_precision", "step_size"):
            self._positive(name, math.inf)
        for name in ("weight_scale", "data_scale"):
            self._positive(name, _SCALE_LIMIT[self.dtype])
        if self.loss == "ce" and self.output_dim < 2:
            raise ProblemError(
                f"output_dim={self.output_dim} with loss='ce': the softmax of one class is constant, needed 2 or more"
            )
        if self.activation == "linear" and self.placement == "after-weight":
            raise ProblemError(
                "placement='after-weight' with activation='linear': the identity has no place, use 'before-weight'"
            )

    def _integer(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            raise ProblemError(f"{name}={value!r}: needed an integer from {low} to {high}")
        object.__setattr__(self, name, int(value))

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ProblemError(f"{name}={value!r}: needed one of {', '.join(allowed)}")

    def _positive(self, name: str, limit: float) -> None:
        value = getattr(self, name)
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 < value <= limit:
            bound = "" if limit == math.inf else f" of at most {limit:g} in {self.dtype}"
            raise ProblemError(f"{name}={value!r}: needed a positive finite number{bound}")
        object.__setattr__(self, name, float(value))

    def replace(self, **changes: Any) -> Problem:
        """A copy with some fields changed, validated anew."""
        return replace(self, **changes)

    # ---- text -------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Every field as plain JSON data; exponents become their line form."""
        data = asdict(self)
        if isinstance(self.parameterisation, Exponents):
            data["parameterisation"] = self.parameterisation.line()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Problem:
        """The inverse of `to_json`.

        **Raises:** `ProblemError` for a field that does not exist, is missing or has a bad value.
        """
        values = dict(data)
        check_fields(cls, values)
        named = values.get("parameterisation")
        if isinstance(named, str) and named.startswith("general"):
            values["parameterisation"] = Exponents.from_line(named)
        return cls(**values)

    def line(self) -> str:
        """The problem as one word for a shell, `D=3,N=5,L=4,K=2,B=3,activation=tanh,seed=7`; defaults are left out."""
        return format_line(self, _SHORT)

    @classmethod
    def from_line(cls, text: str) -> Problem:
        """The inverse of `line`.

        **Raises:** `ProblemError` naming the part that is not understood.
        """
        return cls.from_json(parse_line(cls, text, _SHORT))

    # ---- sizes ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """`(D, N, L, K, B)`."""
        return self.input_dim, self.width, self.depth, self.output_dim, self.batch

    @property
    def dims(self) -> tuple[int, ...]:
        """Layer sizes from the input to the output, `depth + 1` of them."""
        return (self.input_dim, *([self.width] * (self.depth - 1)), self.output_dim)

    @property
    def linear(self) -> bool:
        """Whether the activation is the identity."""
        return self.activation == "linear"

    # ---- arrays -----------------------------------------------------------------------------------------------

    def scalings(self) -> tuple[float, ...]:
        """The layer scalings of the parameterisation at these sizes."""
        return layer_scalings(
            self.parameterisation,
            input_dim=self.input_dim,
            width=self.width,
            depth=self.depth,
            residual=self.residual,
            output_multiplier=self.output_multiplier,
        )

    def weights(self, role: str = "weights") -> tuple[np.ndarray, ...]:
        """The weight matrices, `(fan_out, fan_in)` each, in `dtype`; another `role` gives independent ones."""
        layers = range(1, self.depth + 1)
        shapes = [(self.dims[layer], self.dims[layer - 1]) for layer in layers]
        drawn = arrays.matrices(self.weight_law, self.seed, [f"{role}/{layer}" for layer in layers], shapes)
        result = []
        for layer, (_, fan_in), matrix in zip(layers, shapes, drawn, strict=True):
            std = initial_std(self.parameterisation, layer=layer, depth=self.depth, fan_in=fan_in, width=self.width)
            result.append(np.asarray(self.weight_scale * std * matrix, dtype=self.dtype))
        return tuple(result)

    def network(self) -> Network:
        """The network of this problem."""
        hidden = 1.0 if self.residual else 0.0
        named = self.parameterisation
        return Network(
            weights=self.weights(),
            scalings=self.scalings(),
            skips=(0.0, *([hidden] * (self.depth - 2)), 0.0),
            activation=self.activation,
            placement=self.placement,
            loss=self.loss,
            precision=self.output_precision,
            parameterisation=named if isinstance(named, str) else named.line(),
            output_multiplier=self.output_multiplier,
        )

    def input(self) -> np.ndarray:
        """The clamped input, `(batch, input_dim)`, in `dtype`."""
        (drawn,) = arrays.matrices(self.data_law, self.seed, ["input"], [(self.batch, self.input_dim)])
        return np.asarray(self.data_scale * drawn, dtype=self.dtype)

    def target(self) -> np.ndarray:
        """The clamped target, `(batch, output_dim)`, in `dtype`: one-hot rows for `ce`, which no scale multiplies."""
        if self.loss == "ce":
            return np.asarray(arrays.one_hot(self.seed, "target", self.batch, self.output_dim), dtype=self.dtype)
        (drawn,) = arrays.matrices(self.data_law, self.seed, ["target"], [(self.batch, self.output_dim)])
        return np.asarray(self.data_scale * drawn, dtype=self.dtype)

    def activities(self, role: str = "activities") -> Activities:
        """Random Gaussian activities of the size of the data, `depth - 1` arrays `(batch, width)`, in `dtype`."""
        roles = [f"{role}/{layer}" for layer in range(1, self.depth)]
        drawn = arrays.normals(self.seed, roles, [(self.batch, self.width)] * len(roles))
        return [np.asarray(self.data_scale * z, self.dtype) for z in drawn]
