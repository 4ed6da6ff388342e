"""Jitted functions whose compilations can be counted, and which compile fast where they have little to do.

A traced function runs its Python body once per compilation and never otherwise, so a counter in the body counts
compilations; what must not recompile (new values of equal shapes) is tested with it.

On small arrays compilation is all the time there is: a conformance run compiles some hundred programs and runs each
for milliseconds.  There the CPU compiler is asked for less optimisation, which takes a third to a half of the time.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np

SMALL = 1 << 18
"""Numbers in the arguments of a call up to which its program is compiled fast rather than well."""

_COUNTS: Counter[str] = Counter()
_FOR_SPEED = ContextVar("for_speed", default=False)
_FAST = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def compilations(name: str | None = None) -> int:
    """How many programs this process has traced so far, in all or of the function called `name`."""
    return sum(_COUNTS.values()) if name is None else _COUNTS[name]


@contextmanager
def for_speed() -> Iterator[None]:
    """Compile every program well, whatever its size: for whoever runs the same shapes again and again."""
    token = _FOR_SPEED.set(True)
    try:
        yield
    finally:
        _FOR_SPEED.reset(token)


class CountedJit:
    """A jitted function whose tracings are counted; unless `for_speed`, small calls of it are compiled fast.

    `well` is always compiled well, which pays where a loop of the program runs for long on small arrays: compiled
    fast it takes three to four times as long.  `donating` is `well` that overwrites the arguments `donate` names.
    """

    def __init__(self, function: Callable[..., Any], static: Sequence[str], donate: Sequence[str]) -> None:
        functools.update_wrapper(self, function)
        self._function, self._static, self._donate = function, tuple(static), tuple(donate)
        self.well = self._jit()

    @functools.cached_property
    def fast(self) -> Any:
        """The function, always compiled fast."""
        return self._jit(compiler_options=_fast_options())

    @functools.cached_property
    def donating(self) -> Any:
        """The function, compiled well, which may overwrite some of its arguments."""
        return self._jit(donate_argnames=self._donate)

    def _jit(self, **options: Any) -> Any:
        function = self._function

        @functools.wraps(function)  # a function of its own, or JAX would trace it once for several compilations
        def count_and_call(*args: Any, **kwargs: Any) -> Any:
            _COUNTS[function.__name__] += 1
            return function(*args, **kwargs)

        return jax.jit(count_and_call, static_argnames=self._static, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The answer of the function, by one of the two."""
        numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(args))
        return (self.well if numbers > SMALL or _FOR_SPEED.get() else self.fast)(*args, **kwargs)


def counted_jit(static: Sequence[str] = (), donate: Sequence[str] = ()) -> Callable[[Callable[..., Any]], CountedJit]:
    """`jax.jit` that counts how often the function is traced; what `static` names is a compile-time constant."""

    def decorate(function: Callable[..., Any]) -> CountedJit:
        return CountedJit(function, static, donate)

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
