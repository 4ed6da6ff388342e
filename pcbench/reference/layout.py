r"""How the products of the hidden layers are laid out: into how many batched ones they go, and in which precision.

Within a step of inference the layers are independent of each other, so all of them can be one batched product, or one
each, or anything between: `groups` batched products of neighbouring layers.
"""

from __future__ import annotations

import itertools
import os
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


_ALONE = 1 << 17  # operations of a layer's step from which it is a product of its own
_GROUPS = 8
_WORTH = ((1 << 22, _GROUPS), (1 << 21, 2))  # operations of a step, and the groups they are worth
_BATCH = 8
_FULL = 1024
_STRIDE = 32


def cut(layers: int, groups: int) -> list[tuple[int, int]]:
    """The bounds of `groups` runs of neighbouring layers whose lengths differ by one at most; none for no layers."""
    groups = min(groups, layers)
    edges = [round(k * layers / groups) for k in range(groups + 1)] if groups else []
    return list(itertools.pairwise(edges))


def groups_for(layers: int, width: int, batch: int) -> int:
    r"""Into how many batched products `layers` hidden layers go, by what is fastest where this runs.

    *CPU.*  XLA has a fast kernel for a product of two matrices, which uses all cores, and runs the layers of a batched
    product one after another, each on as many cores as its shape is worth, which is one for small layers.  So a layer
    goes alone where it is worth the microseconds that a product of its own costs.  Measured with JAX 0.10.2 on two
    cores in float32, ms a step alone and in the best of 1, 2 and 8 groups: 13.7 and 14.4 at N = 512, L = 16, B = 256;
    1.10 and 1.20 at N = 128, L = 16, B = 256; 25.9 and 30.3 at N = 512, L = 128, B = 16; 0.048 and 0.097 at N = 128,
    L = 16, B = 2; 0.138 and 0.273 at N = 32, L = 16, B = 256, but 0.54 and 0.43 at N = 32, L = 128, B = 64, and below
    `_ALONE` operations 0.244 and 0.095, with 8 groups, at N = 32, L = 128, B = 16.  Products that do not wait for each
    other run at the same time, so many small layers go in eight groups, and few in one: 0.020, 0.020, 0.033 with 1, 2
    and 8 at N = 32, L = 16, B = 16.  A product with a vector reads the weights no faster on two cores: 0.62 in one
    group and 0.93 alone at N = 512, L = 16, B = 1; 0.66 and 0.38 at N = 128, L = 128, but compiled in 2 s.  On one core
    a layer alone is 8 to 17 % faster from a million operations on, which is not taken: the workers of a check have one,
    and there compilation counts, 0.8 and 0.3 s at L = 128.  `pcbench speed --groups 1,2,8,126` measures them anew.

    *GPU.*  A layer does not fill the device below `_FULL` units, and a launch costs as much as a small product: one
    batched product.  Above, a layer fills it alone, and groups keep what lies between the products small.
    """
    if layers < 2:
        return layers
    if jax.default_backend() != "cpu":
        return 1 if width < _FULL else min(layers, _GROUPS)
    work = 4 * batch * width * width
    if cores() == 1 or batch == 1:
        return 1
    if work >= _ALONE:
        return layers
    if batch < _BATCH:
        return 1
    return min(layers, next((groups for least, groups in _WORTH if layers * work >= least), 1))


def cores() -> int:
    """Cores that XLA's CPU client has, which reads NPROC before it looks."""
    told = os.environ.get("NPROC", "")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(told) if told.isdecimal() and int(told) else available


def strides() -> int:
    """Steps whose loop has a length the compiler knows.

    A GPU asks the host before every turn of a loop of unknown length; on a CPU the host is the device.
    """
    return 1 if jax.default_backend() == "cpu" else _STRIDE


def prepared(weights: jax.Array, tier: Tier) -> jax.Array:
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
