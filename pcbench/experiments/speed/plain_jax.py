r"""Inference in plain JAX, as a user would write it: a loop over layers, `jax.grad` and `lax.scan`.

The yardstick of `pcbench.experiments.speed.grid`: nothing in here is clever, and the reference must not be slower.
Its program grows with the depth, and so does the time to compile it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pcbench.reference.activation import ACTIVATIONS

PRECISIONS = {"highest": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
"""What a user would hand to `jax.default_matmul_precision` for each tier."""


def energy(
    weights: Sequence[jax.Array], scalings: Sequence[float], activation: str, input: Any, target: Any, z: Any
) -> jax.Array:
    """The energy of a residual MLP with squared error, a sum over the batch."""
    phi = ACTIVATIONS[activation]
    total = 0.5 * jnp.sum((z[0] - scalings[0] * input @ weights[0].T) ** 2)
    for below, above, W, a in zip(z[:-1], z[1:], weights[1:-1], scalings[1:-1], strict=True):
        total += 0.5 * jnp.sum((above - below - a * phi(below) @ W.T) ** 2)
    return total + 0.5 * jnp.sum((target - scalings[-1] * phi(z[-1]) @ weights[-1].T) ** 2)


def infer(
    weights: Sequence[jax.Array],
    input: Any,
    target: Any,
    z: Sequence[Any],
    step_size: Any,
    *,
    scalings: tuple[float, ...],
    activation: str,
    steps: int,
    tier: str = "highest",
) -> Sequence[jax.Array]:
    """The activities after `steps` steps, one array a layer; what stands after the star is a compile-time constant."""

    def step(z: Sequence[jax.Array], _: None) -> tuple[Sequence[jax.Array], None]:
        gradients = jax.grad(energy, argnums=5)(weights, scalings, activation, input, target, z)
        return [a - step_size * g for a, g in zip(z, gradients, strict=True)], None

    with jax.default_matmul_precision(PRECISIONS[tier]):
        return lax.scan(step, list(z), None, length=steps)[0]


program = jax.jit(infer, static_argnames=("scalings", "activation", "steps", "tier"))
