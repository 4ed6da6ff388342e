"""Implementations slowed down on purpose, and equally wrapped controls, for testing `pcbench gate`.

`plain` and `slower` differ in `more` alone, so that whatever a wrapper costs is on both sides.  Inference runs a fifth
more steps and throws them away, at least one; every fifth call of any other method is made twice.
"""

from __future__ import annotations

from typing import Any

from pcbench.protocol.loading import load

FRACTION = 0.2


class Planted:
    """An implementation that passes every call to another one and makes it do `more` work than was asked for.

    **Arguments:** `inner`, the implementation that answers; `more`, as a fraction.
    """

    def __init__(self, inner: Any, more: float) -> None:
        self.manifest = inner.manifest
        self._inner, self._more, self._owed = inner, more, 0.0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in ("manifest", "compilations") or not callable(method):
            return method

        def call(*arguments: Any) -> Any:
            answer = method(*arguments)
            self._owed += self._more
            if self._owed > 1 - 1e-9:
                self._owed -= 1
                method(*arguments)
            return answer

        return call

    def predict(self, *arguments: Any) -> Any:
        """The answer of the inner implementation."""
        return self._inner.predict(*arguments)

    def energy(self, *arguments: Any) -> Any:
        """The answer of the inner implementation."""
        return self._inner.energy(*arguments)

    def infer(self, network: Any, input: Any, target: Any, steps: int, step_size: float, start: Any = None) -> Any:
        """The answer after `steps`, from which the steps too many go on."""
        rest = () if start is None else (start,)
        answer = self._inner.infer(network, input, target, steps, step_size, *rest)
        extra = round(self._more * steps)
        if extra:
            self._inner.infer(network, input, target, extra, step_size, list(answer.activities))
        return answer


def _plant(name: str, more: float) -> Planted:
    return Planted(load(f"pcbench.adapters.{name}:implementation"), more)


def numpy_plain() -> Planted:
    """The plain NumPy network."""
    return _plant("numpy", 0.0)


def numpy_slower() -> Planted:
    """The plain NumPy network with a fifth more work."""
    return _plant("numpy", FRACTION)


def reference_plain() -> Planted:
    """The JAX reference."""
    return _plant("reference", 0.0)


def reference_slower() -> Planted:
    """The JAX reference with a fifth more work."""
    return _plant("reference", FRACTION)
