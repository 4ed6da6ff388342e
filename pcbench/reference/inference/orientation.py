r"""Choose on which side of a product the weights stand, and whether a transposed copy of them is kept.

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
from pcbench.reference.inference.groups import is_single
from pcbench.reference.inference.layout import ALONE, Tier, prepare_weights, product

Orientation = Literal["plain", "copied", "units-first"]
r"""How the products of a network are written.

- `plain`: samples first, \(\varphi(z)W^\top\) and \(\varepsilon W\), by the weights as they are.
- `copied`: samples first, the first of the two by a copy of the weights that is transposed once for all steps.
- `units-first`: activities are `(N, batch)` during inference, and products \(W\varphi(z)\) and, with such a copy,
  \(W^\top\varepsilon\): what is brought into another order is the activities.
"""

ORIENTATIONS = get_args(Orientation)

_FEW = 8
_COPIED = (32, 1 << 23)
"""Samples, and bytes of weights and copy together, up to which `copied` is worth it: where both stay in a cache."""
_UNITS = (1 << 10, 1 << 12, 1 << 7, 1 << 31)
"""Units, and samples times units, from which on `units-first` is worth it; samples and bytes up to which it is."""

Product = Callable[[jax.Array], jax.Array]


def orientation_for(hidden: Sequence[Any], batch: int, tier: Tier, steps: int | None = None) -> Orientation:
    r"""How the products by `hidden` weights, in groups, are written for a batch of this size.

    **Arguments:** `steps` of inference, where their number is known.

    As measured by `pcbench speed --orientations plain,copied,units-first`, on two cores in float32 and float64: with a
    few samples `copied` takes two thirds of the time that `plain` takes where weights and copy fit into a cache, and
    `units-first` half to two thirds in layers of 1024 units and more, where the gain ends with some 200 samples.  With
    layers of 512 units `units-first` gains on one machine and loses on another, so they are `plain`.  Elsewhere the
    three are alike, or the copy is one more array to read from memory.  `ci/reports/speed-orientations.md` has those
    in float32.  The copy is made once for a call, which takes what several steps gain.
    """
    single = bool(hidden) and all(map(is_single, hidden))
    if jax.default_backend() != "cpu" or tier != "highest" or not single or batch < 2:
        return "plain"
    if steps is not None and steps < _FEW:
        return "plain"
    width, both = hidden[0].shape[0], 2 * sum(weights.size * weights.dtype.itemsize for weights in hidden)
    if 4 * batch * width**2 < ALONE:
        return "plain"  # where compiling is what takes the time
    units, numbers, samples, most = _UNITS
    if width >= units and batch * width >= numbers and batch <= samples and both <= most:
        return "units-first"
    return "copied" if batch <= _COPIED[0] and both <= _COPIED[1] else "plain"


def orient(array: Any, orientation: Orientation) -> jax.Array:
    """Activities or errors as inference holds them, or back again: `units-first` has samples last."""
    return _transpose(array) if orientation == "units-first" else array


def products(weights: jax.Array, tier: Tier, orientation: Orientation) -> tuple[Product, Product]:
    r"""\(z \mapsto zW^\top\) and \(\varepsilon \mapsto \varepsilon W\), of arrays as `orient` gives them.

    To be called once and outside the loop that multiplies: the copy is made here, and what the tier needs.

    **Raises:** `UsageError` for an orientation that there is not.
    """
    if orientation not in ORIENTATIONS:
        raise UsageError(f"orientation={orientation!r}: needed one of {', '.join(ORIENTATIONS)}")
    weights = prepare_weights(weights, tier)
    if orientation == "plain":
        return (
            lambda z: product(z, weights, transposed=True, tier=tier),
            lambda e: product(e, weights, transposed=False, tier=tier),
        )
    copy = _transpose(weights)
    if orientation == "copied":
        return (
            lambda z: product(z, copy, transposed=False, tier=tier),
            lambda e: product(e, weights, transposed=False, tier=tier),
        )
    return (
        lambda z: product(weights, z, transposed=False, tier=tier),
        lambda e: product(copy, e, transposed=False, tier=tier),
    )


def _transpose(array: Any) -> jax.Array:
    """The last two axes change places."""
    *stacked, i, j = range(array.ndim)
    return lax.transpose(array, (*stacked, j, i))
