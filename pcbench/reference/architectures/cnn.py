r"""Residual convolutional networks as PCNs: stages of a convolution, residual blocks and pooling; a linear readout.

A stage is a 3x3 convolution without activation or skip, `blocks` residual blocks \(z + s\,\mathrm{conv}(\phi(z))\), and
2x2 average pooling; after the last stage a linear readout of all pixels and channels.  Each of these is a layer of the
chain, with activities of its own.  With \(N\) channels (the width), \(C\) input channels, \(P\) pixels left at the
readout, \(K\) classes, and \(L\) = blocks + stages + 1 layers of weights,

| name | first convolution | others | blocks | readout | variance of the weights |
| --- | --- | --- | --- | --- | --- |
| `sp` | 1 | 1 | \(g\) | \(1/\gamma\) | 1 / fan-in |
| `mupc` | \((9C)^{-1/2}\) | \((9N)^{-1/2}\) | \(g\,(9NL)^{-1/2}\) | \(N^{-1}P^{-1/2}/\gamma\) | 1 |
| `mupc-limits` | \((9C)^{-1/2}\) | \((9N)^{-1/2}\) | \(g\,(9NL)^{-1/2}\) | \((NP)^{-1}/\gamma\) | 1 |

`mupc-limits` is what the experiments of arXiv 2602.07697 compute.  They divide the readout by its whole fan-in, and
its \(P\) (784 in their images) makes the excess \(S - I\), by which PC differs from backpropagation, some \(P\) times
smaller than in an MLP of that width: both the energies and the gradients agree at every width, so the limit of wide
networks is trivial there.  `mupc` divides by the square root of \(P\), which does not grow with the width and is a
constant to the theory; the uppermost layer then adds \(1/N\) to the excess for any size of image, as in an MLP.
Measured for tanh, squared error, images of 32x32 pixels, one stage with one block (\(P = 256\)), N = 2, 8: relative
error of the gradient 0.022, 0.0051 under `mupc-limits` and 0.46, 0.17 under `mupc`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcbench.errors import ProblemError
from pcbench.problem import arrays
from pcbench.reference.activation import ACTIVATIONS
from pcbench.reference.architectures.chain import Chain, Dense, Layer

PARAMETERISATIONS = ("sp", "mupc", "mupc-limits")


@dataclass(frozen=True)
class Convolution:
    r"""A 3x3 convolution of stride 1 with zero padding, \([z +]\ s\,\mathrm{conv}(\phi(z))\)."""

    activation: str = "linear"
    skip: bool = False

    def __call__(self, weight: jax.Array, scaling: jax.Array, below: jax.Array) -> jax.Array:
        """`(batch, side, side, fan_in)` to `(batch, side, side, fan_out)`, a weight `(fan_out, 3, 3, fan_in)`."""
        image, axes = ACTIVATIONS[self.activation](below), ("NHWC", "OHWI", "NHWC")
        branch = scaling * lax.conv_general_dilated(
            image, jnp.asarray(weight), (1, 1), "SAME", dimension_numbers=axes, precision=lax.Precision.HIGHEST
        )
        return below + branch if self.skip else branch


@dataclass(frozen=True)
class AveragePool:
    """The mean of each 2x2 square of pixels; it has no parameters."""

    def __call__(self, parameters: Any, scaling: Any, below: jax.Array) -> jax.Array:
        """`(batch, side, side, channels)` to `(batch, side/2, side/2, channels)`."""
        batch, side, _, channels = below.shape
        return jnp.mean(below.reshape(batch, side // 2, 2, side // 2, 2, channels), axis=(2, 4))


def cnn_layers(*, stages: int, blocks: int, activation: str) -> list[Layer]:
    """The layer functions of `residual_cnn`, in order."""
    stage = [Convolution(), *[Convolution(activation, skip=True)] * blocks, AveragePool()]
    return [*stage * stages, Dense(flatten=True)]


def residual_cnn(
    *,
    seed: int,
    side: int,
    channels: int,
    width: int,
    stages: int,
    blocks: int,
    classes: int,
    activation: str = "tanh",
    parameterisation: str = "mupc",
    loss: str = "mse",
    precision: float = 1.0,
    output_multiplier: float = 1.0,
    gain: float = 1.0,
    dtype: str = "float64",
) -> Chain:
    r"""A residual CNN of images `(batch, side, side, channels)`, with weights drawn from `seed`.

    **Arguments:** `width` \(N\) channels in every hidden layer; `blocks` residual blocks in each of `stages` stages;
    `output_multiplier` \(\gamma\); `gain` \(g\) of the residual branches (arXiv 2602.07697 has 5/3 for tanh).

    **Raises:** `ProblemError` for a size below 1, a side that the poolings do not divide, or an unknown name.
    """
    _check(parameterisation, side=side, channels=channels, width=width, stages=stages, blocks=blocks, classes=classes)
    standard, pixels, depth = parameterisation == "sp", (side // 2**stages) ** 2, stages * (blocks + 1) + 1
    readout = {"sp": 1.0, "mupc": 1 / (width * math.sqrt(pixels)), "mupc-limits": 1 / (width * pixels)}
    layers = cnn_layers(stages=stages, blocks=blocks, activation=activation)
    parameters: list[Any] = []
    scalings: list[Any] = []
    below = channels
    for index, layer in enumerate(layers, start=1):
        if isinstance(layer, AveragePool):
            parameters.append(())
            scalings.append(())
            continue
        if isinstance(layer, Convolution):
            shape = width, 3, 3, below
            full = gain / math.sqrt(depth) if layer.skip else 1.0
            scaling = (gain if layer.skip else 1.0) if standard else full / math.sqrt(9 * below)
            below = width
        else:
            shape, scaling = (classes, width * pixels), readout[parameterisation] / output_multiplier
        std = 1 / math.sqrt(math.prod(shape[1:])) if standard else 1.0
        parameters.append(np.asarray(std * arrays.normal(seed, f"weights/{index}", *shape), dtype))
        scalings.append(scaling)
    return Chain.of(
        layers,
        parameters,
        scalings,
        loss=loss,
        precision=precision,
        activation=activation,
        affine=activation == "linear",
    )


def _check(parameterisation: str, **sizes: int) -> None:
    """Refuse what is no network."""
    for name, value in sizes.items():
        least = 0 if name == "blocks" else 1
        if value < least:
            raise ProblemError(f"{name}={value}: needed {least} or more")
    if sizes["side"] % 2 ** sizes["stages"]:
        raise ProblemError(
            f"side={sizes['side']} with {sizes['stages']} poolings by 2: needed a multiple of {2 ** sizes['stages']}"
        )
    if parameterisation not in PARAMETERISATIONS:
        raise ProblemError(f"parameterisation={parameterisation!r}: needed one of {', '.join(PARAMETERISATIONS)}")
