r"""The activation functions by name; derivatives come from JAX (at the kink of `relu` it says 0)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": lambda z: z,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "gelu-tanh": lambda z: jax.nn.gelu(z, approximate=True),
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
}

SMOOTH = frozenset(ACTIVATIONS) - {"relu"}
"""Activations with a continuous second derivative, for which curvature at a point speaks for its neighbourhood."""
