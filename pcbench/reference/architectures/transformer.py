r"""A small transformer as a PCN: embedding, residual blocks of attention and an MLP, linear head.

A block adds \(\beta\,\mathrm{Attention}(\nu(z))\) to \(z\), then \(\beta\,\mathrm{MLP}(\nu(z))\), with \(\nu\) layer
normalisation (without parameters) or the identity, and an MLP of four times the width.  A block is one layer of the
chain, or its two branches are layers of their own.  With \(N\) the width, \(h\) heads of \(d = N/h\)
units, and \(L\) residual branches in all,

| name | embedding | hidden weights | logits | \(\beta\) | head | std of the weights |
| --- | --- | --- | --- | --- | --- | --- |
| `sp` | 1 | 1 | \(d^{-1/2}\) | 1 | \(1/\gamma\) | fan-in\(^{-1/2}\) |
| `mupc` | 1 | fan-in\(^{-1/2}\) | \(d^{-1}\) | \(L^{-1/2}\) | \(N^{-1}/\gamma\) | 1 |
| `mupc-limits` | 1 | 1 | \(d^{-1}\) | \(2/L\) | \(N^{-1}/\gamma\) | 0.02 |

where the embedding adds that of the token and that of the position over \(\sqrt2\), or with continuous inputs of
\(D\) numbers a token, \(W x/\sqrt D\) in place of the former.

`mupc-limits` is what the experiments of arXiv 2602.07697 compute.  Its hidden weights have the same standard deviation
at every width and no multiplier, so its branches grow with the width (the factor \(N^{-1/2}\) stands in the branch of
their code for `sp`).  Its head of standard deviation 0.02 makes the excess \(S - I\) of order \(4\cdot10^{-4} L/N\), so
energy and loss agree at every width; the weight gradients do not, for the errors are as large beside the small
activities as under `mupc`.  Departures from their code: their embedding is not over \(\sqrt2\), their final
normalisation is a layer of its own, and they multiply the branches by \(1/n\) for \(n\) blocks under `sp` too.

Measured at certified equilibria (4 blocks, 4 heads, 16 tokens, 17 words, 8 sequences; N = 8, 32, 128):

| name | excess | loss over \(F^*\), less 1 | relative error of the gradient |
| --- | --- | --- | --- |
| `mupc` | 1.0, 0.18, 0.046 | 0.17, 0.031, 0.0077 | 1.3, 0.32, 0.075 |
| `mupc-limits` | 2.8e-4, 6.1e-5, 1.6e-5 | 4.9e-5, 1.0e-5, 2.6e-6 | 1.4, 0.31, 0.076 |
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
from pcbench.reference.architectures.chain import Chain, Layer
from pcbench.reference.network import matmul

PARAMETERISATIONS = ("sp", "mupc", "mupc-limits")
LATENTS = ("block", "branch")
_EXPANSION = 4
_LIMITS_STD = 0.02
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
    """The layer functions of `transformer`, in order; `discrete` if the input is integers."""
    groups = (("attention", "mlp"),) if latents == "block" else (("attention",), ("mlp",))
    block = [Block(branches, heads, activation, softmax, normalised, causal) for branches in groups]
    return [Embedding(discrete), *block * blocks, Head(normalised)]


def transformer(
    *,
    seed: int,
    tokens: int,
    width: int,
    blocks: int,
    heads: int,
    outputs: int,
    vocabulary: int | None = None,
    input_dim: int | None = None,
    latents: str = "block",
    softmax: bool = True,
    normalised: bool = False,
    causal: bool = True,
    activation: str = "gelu",
    parameterisation: str = "mupc",
    loss: str = "ce",
    precision: float = 1.0,
    output_multiplier: float = 1.0,
    dtype: str = "float64",
) -> Chain:
    r"""A transformer of sequences of `tokens` tokens, with weights drawn from `seed`.

    **Arguments:** `vocabulary` for inputs `(batch, tokens)` of integers, or `input_dim` for `(batch, tokens, D)`;
    `outputs` numbers or classes a token; `latents`: activities for each `block` or each `branch` of it;
    `output_multiplier` \(\gamma\).

    **Raises:** `ProblemError` for a size below 1, a width that the heads do not divide, an unknown name, or both or
    neither of `vocabulary` and `input_dim`.
    """
    fan_in = _checked_fan_in(vocabulary, input_dim)
    _check(parameterisation, latents, tokens=tokens, width=width, blocks=blocks, heads=heads, outputs=outputs)
    discrete = input_dim is None

    def weight(role: str, fan_out: int, fan_in: int, *, embedding: bool = False) -> np.ndarray:
        std = {"sp": 1.0 if embedding else 1 / math.sqrt(fan_in), "mupc": 1.0, "mupc-limits": _LIMITS_STD}
        return np.asarray(std[parameterisation] * arrays.normal(seed, f"weights/{role}", fan_out, fan_in), dtype)

    layers = transformer_layers(
        blocks=blocks,
        heads=heads,
        discrete=discrete,
        latents=latents,
        softmax=softmax,
        normalised=normalised,
        causal=causal,
        activation=activation,
    )
    token = weight("token", *((fan_in, width) if discrete else (width, fan_in)), embedding=True)
    parameters: list[Any] = [{"token": token, "position": weight("position", tokens, width, embedding=True)}]
    for index, layer in enumerate(layers[1:-1]):
        block = index // (len(layers[1:-1]) // blocks)
        branches = layer.branches if isinstance(layer, Block) else ()
        parameters.append(_block_weights(weight, f"block {block}", width, branches))
    parameters.append(weight("head", outputs, width))
    numbers = _multipliers(parameterisation, width, blocks, width // heads)
    first, last = 1 / math.sqrt(fan_in), (1 if parameterisation == "sp" else 1 / width) / output_multiplier
    scalings = [first, *[numbers] * (len(layers) - 2), last]
    return Chain.of(layers, parameters, scalings, loss=loss, precision=precision, activation=activation)


def _checked_fan_in(vocabulary: int | None, input_dim: int | None) -> int:
    """The one of the two that is given."""
    fan_in = vocabulary if input_dim is None else input_dim
    if fan_in is None or (vocabulary is not None and input_dim is not None) or fan_in < 1:
        raise ProblemError(f"vocabulary={vocabulary} and input_dim={input_dim}: needed one of them, 1 or more")
    return fan_in


def _check(parameterisation: str, latents: str, **sizes: int) -> None:
    """Refuse what is no network."""
    for name, value in sizes.items():
        if value < 1:
            raise ProblemError(f"{name}={value}: needed 1 or more")
    if sizes["width"] % sizes["heads"]:
        heads = sizes["heads"]
        raise ProblemError(f"width={sizes['width']} with {heads} heads: needed a multiple of {heads}")
    for name, value, allowed in (
        ("parameterisation", parameterisation, PARAMETERISATIONS),
        ("latents", latents, LATENTS),
    ):
        if value not in allowed:
            raise ProblemError(f"{name}={value!r}: needed one of {', '.join(allowed)}")


def _block_weights(weight: Any, role: str, width: int, branches: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The weights of the branches of a block; query, key and value are one matrix, in this order."""
    wide, found = _EXPANSION * width, {}
    if "attention" in branches:
        found["mixing"] = weight(f"{role}/mixing", 3 * width, width)
        found["joining"] = weight(f"{role}/joining", width, width)
    if "mlp" in branches:
        found["widening"] = weight(f"{role}/widening", wide, width)
        found["narrowing"] = weight(f"{role}/narrowing", width, wide)
    return found


def _multipliers(parameterisation: str, width: int, blocks: int, units: int) -> dict[str, float]:
    """The scalings of a block: of weights with fan-in `width` and 4 times that, of the logits, and of the branches."""
    narrow, wide = 1 / math.sqrt(width), 1 / math.sqrt(_EXPANSION * width)
    return {
        "sp": {"narrow": 1.0, "wide": 1.0, "logit": 1 / math.sqrt(units), "branch": 1.0},
        "mupc": {"narrow": narrow, "wide": wide, "logit": 1 / units, "branch": 1 / math.sqrt(2 * blocks)},
        "mupc-limits": {"narrow": 1.0, "wide": 1.0, "logit": 1 / units, "branch": 1 / blocks},
    }[parameterisation]
