r"""Inference: gradient descent on the activities, all layers at once, in one compiled loop.

\(z_l \leftarrow z_l - \eta\,\partial F_b/\partial z_l\), each sample by its own energy.  The number of steps and the
step size are values, so no choice of either recompiles.

A step is two matrix products a layer, \(4BN^2\) operations, and everything between them is one pass over memory each:
the activation, the errors, the update.  So the step is written out here, the one gradient of the reference that is, and
reverse mode is left the activation and the output layer: differentiating the energy as a whole puts the scaling of a
layer in front of its transposed product, which costs an array more, and the top layer into a pad and an addition.
Layers do not depend on each other within a step; how many are one batched product is a question of speed alone, which
`pcbench.reference.inference.layout` answers, and on which side of it the weights stand one for
`pcbench.reference.inference.orientation`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.activation import ACTIVATIONS
from pcbench.reference.compilation import counted_jit
from pcbench.reference.energy import output_loss
from pcbench.reference.inference.groups import (
    GroupedActivities,
    GroupedPCN,
    group_activities,
    group_layers,
    is_single,
    stack_activities,
)
from pcbench.reference.inference.layout import Tier, strides
from pcbench.reference.inference.orientation import Orientation, Product, orient, orientation_for, products
from pcbench.reference.network import PCN


class _Group(NamedTuple):
    r"""Hidden layers \(l+1 \dots l+g\): the products by their weights, and scalings and skips `(g, 1, 1)`.

    Of a layer alone, scalings and skips are `()`: a batched product of one is 8 % slower with XLA's CPU compiler.
    """

    forward: Product
    backward: Product
    scalings: jax.Array
    skips: jax.Array


def infer(
    network: PCN,
    input: jax.Array,
    target: jax.Array,
    activities: jax.Array,
    steps: jax.Array,
    step_size: jax.Array,
    *,
    groups: int | None = None,
    tier: Tier = "highest",
    orientation: Orientation | None = None,
) -> jax.Array:
    r"""The activities `(L-1, batch, N)` after exactly `steps` steps from `activities`.

    **Arguments:** `groups`, into how many batched products the hidden layers go, by default what is fastest for these
    shapes; `tier`, the precision of the products of hidden layers, see `pcbench.reference.inference.layout`;
    `orientation`, how these products are written, see `pcbench.reference.inference.orientation`, by default the fastest
    likewise.
    """
    cut = group_layers(network, activities.shape[1], groups)
    start = group_activities(cut, activities)
    return stack_activities(
        infer_grouped(cut, input, target, start, steps, step_size, tier=tier, orientation=orientation)
    )


def infer_grouped(
    network: GroupedPCN,
    input: jax.Array,
    target: jax.Array,
    activities: GroupedActivities,
    steps: jax.Array,
    step_size: jax.Array,
    *,
    tier: Tier = "highest",
    orientation: Orientation | None = None,
) -> GroupedActivities:
    """`infer` on a network and activities that are in groups already."""
    ends = network.ends
    if orientation is None:
        orientation = orientation_for(network.hidden, input.shape[0], tier)
    pairs = (products(weights, tier, orientation) for weights in network.hidden)
    factors = zip(pairs, network.scalings, network.skips, strict=True)
    layers = [_Group(*pair, scalings, skips) for pair, scalings, skips in factors]
    turn = functools.partial(orient, orientation=orientation)
    bottom = turn(ends.bottom(input))

    def step(state: GroupedActivities) -> GroupedActivities:
        return _step(ends, layers, bottom, target, state, step_size, turn)

    return jax.tree.map(turn, _repeat(step, steps, jax.tree.map(turn, activities)))


@counted_jit(static=("tier", "orientation"), donate=("activities",))
def run_grouped(
    network: GroupedPCN,
    input: Any,
    target: Any,
    activities: GroupedActivities,
    steps: Any,
    step_size: Any,
    *,
    tier: Tier = "highest",
    orientation: Orientation | None = None,
) -> GroupedActivities:
    """`infer_grouped` as a compiled program of its own.

    `settle_grouped.donating` is compiled for speed whatever its size and takes the buffers of `activities`, by keyword,
    for the answer, after which the caller's arrays are no more.  What it holds then is told in
    `pcbench.reference.inference.groups`.
    """
    return infer_grouped(network, input, target, activities, steps, step_size, tier=tier, orientation=orientation)


def _step(
    network: PCN,
    layers: list[_Group],
    bottom: jax.Array,
    target: jax.Array,
    state: GroupedActivities,
    step_size: jax.Array,
    turn: Callable[[jax.Array], jax.Array],
) -> GroupedActivities:
    """One simultaneous step; group after group, so that what one has made is still in the cache when it is used."""
    moved = []
    lowest = [z if is_single(z) else z[0] for z in state.below] + [state.top]
    below = lowest[0] - bottom  # the error of the layer below the next group
    for group, z, following in zip(layers, state.below, lowest[1:], strict=True):
        single = is_single(z)
        above = following if single else jnp.concatenate([z[1:], following[None]])
        predicted, pull = _branch(network, group, z)
        errors = above - group.skips * z - predicted
        own = below if single else jnp.concatenate([below[None], errors[:-1]])
        moved.append(z - step_size * (own - group.skips * errors - pull(errors)))
        below = errors if single else errors[-1]

    def loss(top: jax.Array) -> jax.Array:
        return jnp.sum(network.precision * output_loss(network, network.output(turn(top)), target))

    return GroupedActivities(tuple(moved), state.top - step_size * (below + jax.grad(loss)(state.top)))


def _branch(network: PCN, group: _Group, z: jax.Array) -> tuple[jax.Array, Product]:
    r"""\(f_l(z_{l-1})\) without the skip, and the map that pulls errors back through it; of the shape of `z`."""
    phi = ACTIVATIONS[network.activation]
    if network.placement == "before-weight":
        activated, derivative = jax.vjp(phi, z)
        predicted = group.scalings * group.forward(activated)
        return predicted, lambda e: derivative(group.scalings * group.backward(e))[0]
    predicted, derivative = jax.vjp(phi, group.scalings * group.forward(z))
    return predicted, lambda e: group.scalings * group.backward(derivative(e)[0])


def _repeat(
    step: Callable[[GroupedActivities], GroupedActivities], steps: jax.Array, start: GroupedActivities
) -> GroupedActivities:
    """`steps` times `step`; on a GPU in strides of a known length, whose loop needs no word from the host."""
    stride = strides()

    def times(count: Any, state: GroupedActivities) -> GroupedActivities:
        return lax.fori_loop(0, count, lambda _, s: step(s), state)

    if stride == 1:
        return times(steps, start)
    state = lax.fori_loop(0, steps // stride, lambda _, s: times(stride, s), start)
    return times(steps % stride, state)
