r"""On which side of their product the weights of a layer stand, and whether a transposed copy of them is kept.

A step multiplies by the weights of a layer in both directions, \(\varphi(z)W^\top\) and \(\varepsilon W\), and a matrix
product is not as fast in one as in the other: the kernels of XLA's CPU compiler first bring the second factor into an
order of their own, once for every product.  With few samples that costs more than the product itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
from jax import lax

from pcbench.errors import UsageError
from pcbench.reference.inference_groups import alone
from pcbench.reference.layout import ALONE, Tier, prepared, product

Orientation = Literal["plain", "copied", "units-first"]
r"""How the products of a network are written.

- `plain`: samples first, \(\varphi(z)W^\top\) and \(\varepsilon W\), by the weights as they are.
- `copied`: samples first, the first of the two by a copy of the weights that is transposed once for all steps.
- `units-first`: activities are `(N, batch)` during inference, and products \(W\varphi(z)\) and, with such a copy,
  \(W^\top\varepsilon\): what is brought into another order is the activities.
"""

ORIENTATIONS = get_args(Orientation)

_SAMPLES = 32
_COPIED = 1 << 21  # bytes of weights and copy up to which both are read as fast as the weights alone
_UNITS = ((1024, 2, 1 << 29), (512, 16, 1 << 22))  # from this width and batch on, the same for `units-first`

Product = Callable[[jax.Array], jax.Array]


def orientation_for(hidden: Sequence[Any], batch: int, tier: Tier) -> Orientation:
    r"""How the products by `hidden` weights, in groups, are written for a batch of this size.

    Measured on two cores of a Xeon with 2 MiB of second-level cache each, JAX 0.10.2, float32, ms a step as `plain`,
    `copied` and `units-first`: 5.6, 7.6 and 3.1 at N = 2048, L = 4, B = 16; 11.4, - and 7.7 at N = 1024, L = 16,
    B = 16; 0.45, - and 0.37 at N = 512, L = 4, B = 32, but 0.12, 0.12 and 0.12 at B = 4; 0.030, 0.015 and 0.031 at
    N = 256, L = 4, B = 2; 0.037, 0.025 and 0.056 at N = 128, L = 16, B = 2.  With 256 samples all three are alike.  The
    copy is another array to read: 3.6, - and 5.4 at N = 512, L = 32, B = 16, and 94, - and 139 at N = 2048, L = 16,
    B = 16 in float64.  To make it takes the time that 2 to 5 steps gain: 0.13 ms for a layer at N = 512, 3.5 at 2048.
    """
    single = bool(hidden) and all(map(alone, hidden))
    if jax.default_backend() != "cpu" or tier != "highest" or not single or not 1 < batch <= _SAMPLES:
        return "plain"
    width, both = hidden[0].shape[0], 2 * sum(weights.size * weights.dtype.itemsize for weights in hidden)
    if 4 * batch * width**2 < ALONE:
        return "plain"  # where compiling is what takes the time
    if any(width >= least and batch >= samples and both <= most for least, samples, most in _UNITS):
        return "units-first"
    return "copied" if both <= _COPIED else "plain"


def turned(array: Any, orientation: Orientation) -> jax.Array:
    """Activities or errors as inference holds them, or back again: `units-first` has samples last."""
    return _transposed(array) if orientation == "units-first" else array


def products(weights: jax.Array, tier: Tier, orientation: Orientation) -> tuple[Product, Product]:
    r"""\(z \mapsto zW^\top\) and \(\varepsilon \mapsto \varepsilon W\), of arrays as `turned` gives them.

    To be called once and outside the loop that multiplies: the copy is made here, and what the tier needs.

    **Raises:** `UsageError` for an orientation that there is not.
    """
    if orientation not in ORIENTATIONS:
        raise UsageError(f"orientation={orientation!r}: needed one of {', '.join(ORIENTATIONS)}")
    weights = prepared(weights, tier)
    if orientation == "plain":
        return (
            lambda z: product(z, weights, transposed=True, tier=tier),
            lambda e: product(e, weights, transposed=False, tier=tier),
        )
    copy = _transposed(weights)
    if orientation == "copied":
        return (
            lambda z: product(z, copy, transposed=False, tier=tier),
            lambda e: product(e, weights, transposed=False, tier=tier),
        )
    return (
        lambda z: product(weights, z, transposed=False, tier=tier),
        lambda e: product(copy, e, transposed=False, tier=tier),
    )


def _transposed(array: Any) -> jax.Array:
    """The last two axes change places."""
    *stacked, i, j = range(array.ndim)
    return lax.transpose(array, (*stacked, j, i))
