"""Jitted functions whose compilations can be counted, and which compile fast where they have little to do.

A traced function runs its Python body once per compilation and never otherwise, so a counter in the body counts
compilations; what must not recompile (new values of equal shapes) is tested with it.

On small arrays compilation is all the time there is: a conformance run compiles some hundred programs and runs each
for milliseconds.  There the CPU compiler is asked for less optimisation, which takes a third to a half of the time.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

SMALL = 1 << 18
"""Numbers in the arguments of a call up to which its program is compiled fast rather than well."""

_COUNTS: Counter[str] = Counter()
_FAST = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def compilations(name: str | None = None) -> int:
    """How many programs this process has traced so far, in all or of the function called `name`."""
    return sum(_COUNTS.values()) if name is None else _COUNTS[name]


def counted_jit(static: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`jax.jit` that counts how often the function is traced; what `static` names is a compile-time constant."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            _COUNTS[function.__name__] += 1
            return function(*args, **kwargs)

        well = jax.jit(traced, static_argnames=tuple(static))

        @functools.cache
        def fast() -> Callable[..., Any]:
            return jax.jit(traced, static_argnames=tuple(static), compiler_options=_fast_options())

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(args))
            return (fast() if numbers <= SMALL else well)(*args, **kwargs)

        return call

    return decorate


@functools.cache
def _fast_options() -> dict[str, Any]:
    """Those of `_FAST` that this version of the compiler knows; none on other devices than CPU."""
    if jax.default_backend() != "cpu":
        return {}
    known = {}
    for name, value in _FAST.items():
        try:  # options come and go with XLA's versions, and nothing lists them
            jax.jit(lambda x: x, compiler_options={name: value})(0.0)
        except Exception as error:
            if name not in str(error):
                raise
            continue
        known[name] = value
    return known
