r"""A small transformer as a PCN: embedding, residual blocks of attention and an MLP, linear head.

A block adds \(\beta\,\mathrm{Attention}(\nu(z))\) to \(z\), then \(\beta\,\mathrm{MLP}(\nu(z))\), with \(\nu\) layer
normalisation (without parameters) or the identity, and an MLP of four times the width.  A block is one layer of the
chain, or its two branches are layers of their own.  `pcbench.problem.architectures` has the tables of scalings and
draws the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.activation import ACTIVATIONS
from pcbench.reference.architectures.chain import Layer
from pcbench.reference.network import matmul

_EPSILON = 1e-5


def normalise(z: jax.Array) -> jax.Array:
    """Layer normalisation over the last axis, without gain and bias."""
    centred = z - jnp.mean(z, axis=-1, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + _EPSILON)


@dataclass(frozen=True)
class Embedding:
    """Token and position: `(batch, tokens)` of integers, or `(batch, tokens, D)`, to `(batch, tokens, width)`."""

    discrete: bool

    def __call__(self, parameters: dict[str, jax.Array], scaling: jax.Array, input: jax.Array) -> jax.Array:
        """The sum of what the token and its position stand for."""
        table = jnp.asarray(parameters["token"])
        token = table[input] if self.discrete else scaling * matmul(table, input)
        return (token + parameters["position"]) / math.sqrt(2)


@dataclass(frozen=True)
class Block:
    """A residual block on `(batch, tokens, width)`: the branches it has, one after the other."""

    branches: tuple[str, ...]
    heads: int
    activation: str
    softmax: bool
    normalised: bool
    causal: bool

    def __call__(self, parameters: dict[str, jax.Array], scalings: dict[str, jax.Array], z: jax.Array) -> jax.Array:
        """The activities with every branch added."""
        for branch in self.branches:
            below = normalise(z) if self.normalised else z
            function = self.attention if branch == "attention" else self.perceptron
            z = z + scalings["branch"] * function(parameters, scalings, below)
        return z

    def attention(self, parameters: dict[str, jax.Array], scalings: dict[str, jax.Array], z: jax.Array) -> jax.Array:
        """Multi-head attention; without softmax a mean over the positions seen, weighted by the logits."""
        batch, tokens, width = z.shape
        mixed = scalings["narrow"] * matmul(parameters["mixing"], z)
        query, key, value = jnp.moveaxis(
            mixed.reshape(batch, tokens, 3, self.heads, width // self.heads), (2, 3), (0, 2)
        )
        logits = scalings["logit"] * _product(query, jnp.swapaxes(key, -1, -2))
        seen = jnp.tril(jnp.ones((tokens, tokens), bool)) if self.causal else jnp.ones((tokens, tokens), bool)
        if self.softmax:
            weights = jax.nn.softmax(jnp.where(seen, logits, -jnp.inf), axis=-1)
        else:
            weights = jnp.where(seen, logits, 0) / jnp.sum(seen, axis=-1, keepdims=True)
        heads = jnp.moveaxis(_product(weights, value), 1, 2).reshape(batch, tokens, width)
        return scalings["narrow"] * matmul(parameters["joining"], heads)

    def perceptron(self, parameters: dict[str, jax.Array], scalings: dict[str, jax.Array], z: jax.Array) -> jax.Array:
        """An MLP with one hidden layer, on each token by itself."""
        hidden = ACTIVATIONS[self.activation](scalings["narrow"] * matmul(parameters["widening"], z))
        return scalings["wide"] * matmul(parameters["narrowing"], hidden)


@dataclass(frozen=True)
class Head:
    """The linear head, normalised first if the blocks are: `(batch, tokens, width)` to `(batch, tokens, outputs)`."""

    normalised: bool

    def __call__(self, weight: jax.Array, scaling: jax.Array, z: jax.Array) -> jax.Array:
        """The prediction of every token's target."""
        return scaling * matmul(weight, normalise(z) if self.normalised else z)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def transformer_layers(
    *,
    blocks: int,
    heads: int,
    discrete: bool,
    latents: str = "block",
    softmax: bool = True,
    normalised: bool = False,
    causal: bool = True,
    activation: str = "gelu",
) -> list[Layer]:
    """The layer functions of a transformer, in order; `discrete` if the input is integers."""
    groups = (("attention", "mlp"),) if latents == "block" else (("attention",), ("mlp",))
    block = [Block(branches, heads, activation, softmax, normalised, causal) for branches in groups]
    return [Embedding(discrete), *block * blocks, Head(normalised)]
