"""Jitted functions whose compilations can be counted.

A traced function runs its Python body once per compilation and never otherwise, so a counter in the body counts
compilations; what must not recompile (new values of equal shapes) is tested with it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax

_COUNTS: Counter[str] = Counter()


def compilations(name: str | None = None) -> int:
    """How many programs this process has traced so far, in all or of the function called `name`."""
    return sum(_COUNTS.values()) if name is None else _COUNTS[name]


def counted_jit(static: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`jax.jit` that counts how often the function is traced; arguments named in `static` are compile-time constants."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            _COUNTS[function.__name__] += 1
            return function(*args, **kwargs)

        return jax.jit(traced, static_argnames=tuple(static))

    return decorate
