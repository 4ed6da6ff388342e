r"""Networks beyond MLPs as data: a residual CNN or a transformer, with its weights and scalings and no behaviour.

An `Architecture` stands where a `Network` does in the calls of the protocol.  It is a chain of layers
\(f_l(\theta_l, s_l, z_{l-1})\); its energy is that of `Network`, with sums over every axis of a sample, tokens too.

**cnn**, images `(batch, side, side, channels)`, layers in order: for each of `stages` stages a 3x3 convolution of
stride 1 with zero padding, \(s\,\mathrm{conv}(z)\); `blocks` times \(z + s\,\mathrm{conv}(\phi(z))\); the mean of each
2x2 square of pixels, with parameters `()` and scaling `()`.  Then \(s\,W z\) of all pixels, ravelled row, column,
channel.  Kernels are `(fan_out, 3, 3, fan_in)`, the readout `(classes, fan_in)`, scalings numbers.

**transformer**, `(batch, tokens)` of integers or `(batch, tokens, input_dim)`: an embedding `{"token", "position"}`,
\((E_{x_t} + P_t)/\sqrt2\), or \((s W x_t + P_t)/\sqrt2\); `blocks` blocks `{"mixing", "joining", "widening",
"narrowing"}` with scalings `{"narrow", "wide", "logit", "branch"}`, or their two halves as layers if `latents` is
`branch`; a head \(s\,W z_t\).  See `pcbench.reference.architectures.transformer` for the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pcbench.errors import ProblemError
from pcbench.problem.network import ACTIVATIONS, LOSSES, Network

KINDS = ("cnn", "transformer")
"""What `Capabilities.architectures` may name besides `mlp`, whose data is a `Network`."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    r"""A chain of layers as data.

    **Arguments:**

    - `kind`: one of `KINDS`.
    - `sizes`: integers by name: `side, channels, width, stages, blocks, classes`, or `tokens, width, blocks, heads,
      outputs` and `vocabulary` or `input_dim`.
    - `parameters`, `scalings`: for each layer an array (a number), a dictionary of them, or `()` where there are none.
    - `options`: of a transformer, `latents` (`block`, `branch`), `softmax`, `normalised`, `causal`.
    - `activation`, `loss`, `precision`: as those of `Network`.

    **Raises:** `ProblemError` for an unknown name or parameters that are not as many as scalings.
    """

    kind: str
    sizes: Mapping[str, int]
    parameters: tuple[Any, ...]
    scalings: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    activation: str = "linear"
    loss: str = "mse"
    precision: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in (("kind", KINDS), ("activation", ACTIVATIONS), ("loss", LOSSES)):
            if getattr(self, name) not in allowed:
                raise ProblemError(f"architecture {name}={getattr(self, name)!r}: needed one of {', '.join(allowed)}")
        if not len(self.parameters) == len(self.scalings) == self.depth:
            raise ProblemError(
                f"architecture with {len(self.parameters)} parameters and {len(self.scalings)} scalings: "
                f"needed one of each for its {self.depth} layers"
            )

    @property
    def depth(self) -> int:
        r"""The number of layers, \(L\), one more than there are layers of activities."""
        s = self.sizes
        if self.kind == "cnn":
            return s["stages"] * (s["blocks"] + 2) + 1
        return s["blocks"] * (2 if self.options.get("latents") == "branch" else 1) + 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the weights, which is that of every array an implementation returns."""
        last = self.parameters[-1]
        return last.dtype

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the input of one sample."""
        s = self.sizes
        if self.kind == "cnn":
            return s["side"], s["side"], s["channels"]
        return (s["tokens"], s["input_dim"]) if "input_dim" in s else (s["tokens"],)

    @property
    def activity_shapes(self) -> tuple[tuple[int, ...], ...]:
        r"""The shapes of \(z_1 \dots z_{L-1}\) of one sample."""
        s = self.sizes
        if self.kind == "transformer":
            return ((s["tokens"], s["width"]),) * (self.depth - 1)
        shapes, side = [], s["side"]
        for _ in range(s["stages"]):
            shapes += [(side, side, s["width"])] * (s["blocks"] + 1)
            side //= 2
            shapes.append((side, side, s["width"]))
        return tuple(shapes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the output, and of the target, of one sample."""
        s = self.sizes
        return (s["classes"],) if self.kind == "cnn" else (s["tokens"], s["outputs"])

    def with_parameters(self, parameters: Sequence[Any]) -> Architecture:
        """The same network with other parameters of the same structure."""
        return replace(self, parameters=tuple(parameters))


Model = Network | Architecture
"""What an implementation is asked about: an MLP or something beyond."""


def leaves(tree: Any) -> list[np.ndarray]:
    """The arrays inside parameters or gradients, in the order of layers and of the names within them."""
    if isinstance(tree, np.ndarray):
        return [tree]
    items = tree.values() if isinstance(tree, Mapping) else tree
    return [leaf for item in items for leaf in leaves(item)]


def rebuild(tree: Any, arrays: Iterable[np.ndarray]) -> Any:
    """Parameters structured as `tree` with other arrays, in the order of `leaves`."""
    source = iter(arrays)

    def build(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            return next(source)
        if isinstance(part, Mapping):
            return {name: build(item) for name, item in part.items()}
        return tuple(build(item) for item in part)

    return build(tree)
