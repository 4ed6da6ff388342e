r"""Networks and activities in groups of neighbouring layers, the form in which inference works in place.

To a compiler a slice of an array is another array, and so is a stack of several.  A program that is given the weights
as `(L-2, N, N)` and multiplies by eight groups of them holds them twice, and one that gives back activities as
`(L-1, batch, N)` holds those twice.  So both are cut before the program and put together after it, if anybody needs
them so: the program takes the pieces and overwrites those of the activities.  Besides, XLA's CPU compiler plans three
arrays for every hidden layer, the activation and the two products, and does not use those of one group again for the
next: with JAX 0.10.2 weights once and activities up to four times, whichever scheduler it is told to use; and weights
twice where `pcbench.reference.inference.orientation` has them copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcbench.problem.network import Network
from pcbench.reference.inference.layout import group_bounds, groups_for
from pcbench.reference.network import PCN

_ALIGNMENT = 64  # bytes


class GroupedPCN(NamedTuple):
    r"""A network by groups.

    **Arguments:** `ends`, the network without hidden weights, all scalings and skips included; `hidden`,
    \(W_2 \dots W_{L-1}\) by groups, `(g, N, N)` each, and `(N, N)` for a layer alone; `scalings` and `skips` of these
    layers, `(g, 1, 1)` and `()`.  They are cut before the program like the rest: to cut them within it, or an axis off
    everything that a layer alone has, takes XLA longer to compile than what is done with them.
    """

    ends: PCN
    hidden: tuple[Any, ...]
    scalings: tuple[Any, ...]
    skips: tuple[Any, ...]

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The first hidden matrix of each group and the one behind its last."""
        bounds, first = [], 0
        for weights in self.hidden:
            size = 1 if is_single(weights) else len(weights)
            bounds.append((first, first + size))
            first += size
        return bounds


class GroupedActivities(NamedTuple):
    r"""\(z_1 \dots z_{L-2}\) by groups and \(z_{L-1}\).

    **Arguments:** `below`, `(g, batch, N)` for each group of weights `(g, N, N)` and `(batch, N)` for a layer
    alone; `top`, `(batch, N)`.
    """

    below: tuple[Any, ...]
    top: Any

    def layers(self) -> list[np.ndarray]:
        """The activities as the protocol has them: one array `(batch, N)` of the caller's own for each layer."""
        groups = (z[None] if is_single(z) else z for z in map(np.asarray, self.below))
        return [np.array(z) for group in groups for z in group] + [np.array(self.top)]


def is_single(group: Any) -> bool:
    """Whether the array of a group is that of a single layer, which has no leading axis."""
    return group.ndim == 2


def group_layers(network: Network | PCN, batch: int, groups: int | None = None) -> GroupedPCN:
    """The network in as many `groups`, by default what is fastest for such a batch; a layer alone is not copied.

    **Raises:** `ProblemError` if hidden layers differ in width.
    """
    if isinstance(network, Network):
        ends, matrices = PCN.from_network(network, hidden=False), network.weights[1:-1]
    else:
        ends = network.with_weights((network.first, network.hidden[:0], network.last))
        matrices = network.hidden
    if groups is None:
        groups = groups_for(len(matrices), ends.first.shape[0], batch)
    bounds = group_bounds(len(matrices), groups)
    scalings, skips = (
        tuple(factors[i] if j - i == 1 else factors[i:j, None, None] for i, j in bounds)
        for factors in (ends.scalings[1:-1], ends.skips)
    )
    return GroupedPCN(ends, tuple(_stack_range(matrices, i, j, stack_aligned) for i, j in bounds), scalings, skips)


def group_activities(network: GroupedPCN, activities: Any) -> GroupedActivities:
    """The activities, `(L-1, batch, N)` or one array a layer, in the groups of the network."""
    return GroupedActivities(tuple(_stack_range(activities, i, j) for i, j in network.bounds), activities[-1])


def stack_activities(activities: GroupedActivities) -> jax.Array:
    """The activities as one array, `(L-1, batch, N)`."""
    return jnp.concatenate([z[None] if is_single(z) else z for z in (*activities.below, activities.top)])


def feedforward(network: GroupedPCN, input: Any) -> GroupedActivities:
    """The activities of the feedforward pass."""
    ends = network.ends

    def step(z: jax.Array, parameters: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        hidden, scaling, skip = parameters
        return ends.layer(hidden, scaling, skip, z), z

    z, below = ends.bottom(input), []
    for weights, scalings, skips in zip(network.hidden, network.scalings, network.skips, strict=True):
        if is_single(weights):  # a loop would copy the weights of its turn
            below.append(z)
            z = ends.layer(weights, scalings, skips, z)
        else:
            z, group = lax.scan(step, z, (weights, scalings[:, 0, 0], skips[:, 0, 0]))
            below.append(group)
    return GroupedActivities(tuple(below), z)


def _stack_range(arrays: Any, i: int, j: int, stack: Callable[[Any], np.ndarray] = np.stack) -> Any:
    """Arrays `i` to `j` as one with a leading axis, or without one the only one, as it is."""
    if j - i == 1:
        return arrays[i]
    return stack(arrays[i:j]) if isinstance(arrays, Sequence) else arrays[i:j]


def stack_aligned(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The arrays as one, at an address from which XLA's CPU client reads it without a copy; for what is not donated.

    Its own copy would cost every call as much as some steps, and lie in small pages, where NumPy asks for large ones.
    """
    shape, dtype = (len(arrays), *arrays[0].shape), arrays[0].dtype
    size = dtype.itemsize * math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % _ALIGNMENT
    return np.stack(arrays, out=memory[offset : offset + size].view(dtype).reshape(shape))
