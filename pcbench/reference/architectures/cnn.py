r"""Residual convolutional networks as PCNs: stages of a convolution, residual blocks and pooling; a linear readout.

A stage is a 3x3 convolution without activation or skip, `blocks` residual blocks \(z + s\,\mathrm{conv}(\phi(z))\), and
2x2 average pooling; after the last stage a linear readout of all pixels and channels.  Each of these is a layer of the
chain, with activities of its own.  `pcbench.problem.architectures` has the tables of scalings and draws the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.activation import ACTIVATIONS
from pcbench.reference.architectures.chain import Dense, Layer


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
    """The layer functions of a residual CNN, in order."""
    stage = [Convolution(), *[Convolution(activation, skip=True)] * blocks, AveragePool()]
    return [*stage * stages, Dense(flatten=True)]
