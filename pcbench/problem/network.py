r"""A predictive coding network as data: weights, scalings, skips, activation and energy, with no behaviour.

Every road to a number starts here: the oracle and the theory read it, adapters receive it, the worker ships it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pcbench.errors import ProblemError

ACTIVATIONS = ("linear", "tanh", "relu", "gelu", "gelu-tanh", "silu", "softplus")
r"""`gelu` is \(z\Phi(z)\) exactly, `gelu-tanh` its usual approximation by a hyperbolic tangent."""
PLACEMENTS = ("before-weight", "after-weight")
LOSSES = ("mse", "ce")
DTYPES = ("float64", "float32")

Activities = list[np.ndarray]
r"""The activities \(z_1, \dots, z_{L-1}\), input side first, each `(batch, width)`, without the clamped ends."""


@dataclass(frozen=True, kw_only=True)
class Network:
    r"""A multi-layer perceptron as a PCN with \(L\) weight matrices.

    The prediction of layer \(l\) is \(f_l = \tau_l z_{l-1} + a_l W_l \phi(z_{l-1})\) with placement `before-weight`
    (\(\phi\) is the identity in layer 1) and \(f_l = \tau_l z_{l-1} + \phi(a_l W_l z_{l-1})\) with `after-weight`
    (\(\phi\) is the identity in layer \(L\)).  The energy is

    \[F = \frac1B \sum_b \Big[\tfrac12 \sum_{l<L} \|z_l - f_l\|^2 + \lambda\,\ell(y, f_L)\Big],\]

    with \(\ell = \tfrac12\|y - f_L\|^2\) for `mse` and softmax cross-entropy for `ce`.

    **Arguments:**

    - `weights`: \(W_1 \dots W_L\), each `(fan_out, fan_in)`, all of one dtype, float32 or float64.
    - `scalings`: \(a_1 \dots a_L\), the output multiplier \(1/\gamma\) included in the last.
    - `skips`: \(\tau_1 \dots \tau_L\); the first and the last are 0.
    - `precision`: \(\lambda\), of the output energy.
    - `parameterisation`, `output_multiplier`: the name and \(\gamma\) from which the scalings came, for libraries that
      have parameterisations of their own; `scalings` is what counts.

    **Raises:** `ProblemError` if shapes do not chain or a value is out of range.
    """

    weights: tuple[np.ndarray, ...]
    scalings: tuple[float, ...]
    skips: tuple[float, ...]
    activation: str = "linear"
    placement: str = "before-weight"
    loss: str = "mse"
    precision: float = 1.0
    parameterisation: str = "general"
    output_multiplier: float = 1.0

    def __post_init__(self) -> None:
        depth = len(self.weights)
        if depth < 2:
            raise ProblemError(f"network with {depth} weight matrices: a PCN has at least 2, for one hidden layer")
        if not len(self.scalings) == len(self.skips) == depth:
            raise ProblemError(
                f"network with {depth} weights, {len(self.scalings)} scalings and {len(self.skips)} skips: "
                "needed one of each for every layer"
            )
        for lower, upper in zip(self.weights[:-1], self.weights[1:], strict=True):
            if upper.shape[1] != lower.shape[0]:
                raise ProblemError(f"weight shapes {lower.shape} then {upper.shape}: fan-in must equal fan-out below")
        if self.skips[0] or self.skips[-1]:
            raise ProblemError(f"skips={self.skips}: only hidden-to-hidden layers have one, so both ends are 0")
        for name, value, allowed in (
            ("activation", self.activation, ACTIVATIONS),
            ("placement", self.placement, PLACEMENTS),
            ("loss", self.loss, LOSSES),
        ):
            if value not in allowed:
                raise ProblemError(f"network {name}={value!r}: needed one of {', '.join(allowed)}")
        if not (math.isfinite(self.precision) and self.precision > 0):
            raise ProblemError(f"network precision={self.precision!r}: needed a positive number")

    @property
    def depth(self) -> int:
        r"""The number of weight matrices, \(L\)."""
        return len(self.weights)

    @property
    def dims(self) -> tuple[int, ...]:
        """Layer sizes from the input to the output, `L + 1` of them."""
        return (self.weights[0].shape[1], *(w.shape[0] for w in self.weights))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the output, and of the target, of one sample."""
        return (self.weights[-1].shape[0],)

    @property
    def activity_shapes(self) -> tuple[tuple[int, ...], ...]:
        r"""The shapes of \(z_1 \dots z_{L-1}\) of one sample."""
        return tuple((w.shape[0],) for w in self.weights[:-1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the weights, which is that of every array an implementation returns."""
        return self.weights[0].dtype

    @property
    def residual(self) -> bool:
        """Whether any layer has a skip."""
        return any(self.skips)

    @property
    def linear(self) -> bool:
        """Whether the activation is the identity."""
        return self.activation == "linear"

    def effective_weights(self) -> list[np.ndarray]:
        r"""\(a_l W_l\) in float64, without the skips."""
        return [a * np.asarray(w, np.float64) for a, w in zip(self.scalings, self.weights, strict=True)]

    def with_weights(self, weights: Sequence[np.ndarray]) -> Network:
        """The same network with other weights."""
        return replace(self, weights=tuple(weights))

    def astype(self, dtype: str) -> Network:
        """The same network with its weights rounded (or widened) to `dtype`."""
        return replace(self, weights=tuple(np.asarray(w, dtype=dtype) for w in self.weights))

    def folded(self) -> Network:
        """The same function with the scalings multiplied into the weights, all scalings 1; itself if they are."""
        if all(a == 1.0 for a in self.scalings):
            return self
        weights = tuple(
            np.asarray(np.float64(a) * w, dtype=self.dtype) for a, w in zip(self.scalings, self.weights, strict=True)
        )
        return replace(self, weights=weights, scalings=(1.0,) * self.depth)
