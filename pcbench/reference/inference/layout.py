r"""Into how many batched products the hidden layers are grouped, and in which precision they are computed.

Within a step of inference the layers are independent of each other, so all of them can be one batched product, or one
each, or anything between: `groups` batched products of neighbouring layers.
"""

from __future__ import annotations

import itertools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.errors import UsageError

Tier = Literal["highest", "tf32", "bfloat16"]
"""The precision of the products of hidden layers, everything else being of the network's dtype.

- `highest`: that of the dtype.
- `tf32`: float32 with factors of 10 bits, on GPUs that have it.
- `bfloat16`: factors of 7 bits, sums in float32.
"""
TIERS = ("highest", "tf32", "bfloat16")


ALONE = 1 << 17
"""Operations of a layer's step from which it is a product of its own on a CPU."""
_GROUPS = 8
_WORTH = 10**6  # operations of a step from which its layers go in groups
_SINGLE, _MANY, _NARROW = 14, 1 << 22, 128  # groups of a single sample, from these operations and up to this width
_FULL = 1024
_STRIDE = 32


def group_bounds(layers: int, groups: int) -> list[tuple[int, int]]:
    """The bounds of `groups` runs of neighbouring layers whose lengths differ by one at most; none for no layers."""
    groups = min(groups, layers)
    edges = [round(k * layers / groups) for k in range(groups + 1)] if groups else []
    return list(itertools.pairwise(edges))


def groups_for(layers: int, width: int, batch: int) -> int:
    r"""Into how many batched products `layers` hidden layers go, by what is fastest where this runs.

    *CPU.*  XLA has a fast kernel for a product of two matrices, which uses all cores, and runs the layers of a batched
    product one after another, each on as many cores as its shape is worth, which is one for small layers.  So a layer
    goes alone where it is worth the microseconds that a product of its own costs: all in one group then take up to four
    times as long.  Products that do not wait for each other run at the same time, so many layers below `ALONE` go in
    eight groups, which takes half the time of one group at N = 32, L = 128, B = 16, and few in one.  A product with a
    vector is none of two matrices: 126 of them compile in seconds, and one batched product of them is as fast, but at
    N = 128, L = 128, where 14 groups take 0.6 to 0.9 of its time (`pcbench speed --batches 1 --groups 1,14,126`).
    `ci/reports/speed-groups.md` has the figures, and the command is in `docs/results.md`.

    *GPU.*  A layer does not fill the device below `_FULL` units, and a launch costs as much as a small product: one
    batched product.  Above, a layer fills it alone, and groups keep what lies between the products small.
    """
    if layers < 2:
        return layers
    if jax.default_backend() != "cpu":
        return 1 if width < _FULL else min(layers, _GROUPS)
    work = 4 * batch * width * width
    if batch == 1:
        many = layers * work >= _MANY and width <= _NARROW
        return min(layers, _SINGLE) if many else 1
    if work >= ALONE:
        return layers
    return min(layers, _GROUPS) if layers * work >= _WORTH else 1


def strides() -> int:
    """Steps whose loop has a length the compiler knows.

    A GPU asks the host before every turn of a loop of unknown length; on a CPU the host is the device.
    """
    return 1 if jax.default_backend() == "cpu" else _STRIDE


def prepare_weights(weights: jax.Array, tier: Tier) -> jax.Array:
    """The weights as the products of this tier read them, once for all steps."""
    if tier not in TIERS:
        raise UsageError(f"tier={tier!r}: needed one of {', '.join(TIERS)}")
    if tier == "highest":
        return weights
    if weights.dtype != jnp.float32:
        raise UsageError(f"tier={tier!r} of a network in {weights.dtype}: needed float32, or tier='highest'")
    if tier == "tf32" and jax.default_backend() == "cpu":
        raise UsageError("tier='tf32' on a CPU: only GPUs have it, needed 'highest' or 'bfloat16'")
    return weights.astype(jnp.bfloat16) if tier == "bfloat16" else weights


def product(activities: jax.Array, weights: jax.Array, *, transposed: bool, tier: Tier) -> jax.Array:
    r"""\(zW^\top\) if `transposed`, else \(zW\), of `(g, batch, N)` and `(g, N, N)`, or of one layer without `g`."""
    stacked = tuple(range(weights.ndim - 2))
    last = weights.ndim - 1
    dimensions = (((last,), (last if transposed else last - 1,)), (stacked, stacked))
    if tier == "highest":
        return lax.dot_general(activities, weights, dimensions, precision=lax.Precision.HIGHEST)
    if tier == "tf32":
        return lax.dot_general(activities, weights, dimensions, precision=lax.DotAlgorithmPreset.TF32_TF32_F32)
    factors = activities.astype(jnp.bfloat16)
    return lax.dot_general(factors, weights, dimensions, preferred_element_type=jnp.float32)
