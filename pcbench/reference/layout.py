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


_GROUPS = 8
_WORTH = ((1 << 22, _GROUPS), (1 << 21, 2))  # operations of a step, and the groups they are worth
_BATCH = 8
_READING, _READING_GROUPS = 16, 16  # units a sample from which weights are most of what is read, and their groups
_FULL = 1024
_STRIDE = 32


def cut(layers: int, groups: int) -> list[tuple[int, int]]:
    """The bounds of `groups` runs of neighbouring layers whose lengths differ by one at most; none for no layers."""
    groups = min(groups, layers)
    edges = [round(k * layers / groups) for k in range(groups + 1)] if groups else []
    return list(itertools.pairwise(edges))


def groups_for(layers: int, width: int, batch: int) -> int:
    r"""Into how many batched products `layers` hidden layers go, by what is fastest where this runs.

    *CPU.*  XLA runs the layers of a batched product one after another, each on as many cores as its shape is worth,
    which is one for small layers; products that do not wait for each other it runs at the same time.  So one product
    leaves all cores but one idle, and eight fill them.  Measured with JAX 0.10.2 on two cores, ms a step with 1, 2, 4
    and 8 groups: 0.054 with 2 and 0.069 with 8 or 1 at N = 32, L = 16, B = 64, 3.7 million operations; 0.24, 0.19,
    0.15, 0.078 at N = 32, L = 128, B = 16, 8.3 million; 0.37, 0.35, 0.33, 0.23 at N = 32, L = 16, B = 256, 15 million;
    14.9, 7.9, and 7.4 with 8 at N = 128, L = 64, B = 256.  A product with a vector reads the weights no faster on two
    cores: 0.079, 0.095, and 0.148 with 8 at N = 512, L = 8, B = 1.  Where weights are most of what is read, small
    groups keep them in the cache from a layer's first product to its second: 30.2, 28.5, 26.2 with 8, 16 and 32 groups
    at N = 512, L = 128, B = 16, but 32 take more than a second to compile; 2.0, 1.9 with 8 and 14 at L = 16.  Each
    group adds some microseconds a step and some 40 ms to the compilation.  Alone on one core groups gain nothing that
    is worth a rule: 0 to 4 % in most shapes.  `pcbench speed --groups 1,2,4,8` measures them anew.

    *GPU.*  A layer does not fill the device below `_FULL` units, and a launch costs as much as a small product: one
    batched product.  Above, a layer fills it alone, and groups keep what lies between the products small.
    """
    if layers < 2:
        return layers
    if jax.default_backend() != "cpu":
        return 1 if width < _FULL else min(layers, _GROUPS)
    work = 4 * batch * layers * width * width
    if cores() == 1 or batch < _BATCH:
        return 1
    groups = next((groups for least, groups in _WORTH if work >= least), 1)
    if groups == _GROUPS and width >= _READING * batch:
        groups = _READING_GROUPS
    return min(layers, groups)


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
    r"""\(zW^\top\) if `transposed`, else \(zW\), of `(g, batch, N)` and `(g, N, N)`."""
    dimensions = (((2,), (2 if transposed else 1,)), ((0,), (0,)))
    if tier == "highest":
        return lax.dot_general(activities, weights, dimensions, precision=lax.Precision.HIGHEST)
    if tier == "tf32":
        return lax.dot_general(activities, weights, dimensions, precision=lax.DotAlgorithmPreset.TF32_TF32_F32)
    factors = activities.astype(jnp.bfloat16)
    return lax.dot_general(factors, weights, dimensions, preferred_element_type=jnp.float32)
