"""How a wrong implementation enters the register: a class, what is wrong with it, and the laws that must find out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pcbench.errors import UsageError
from pcbench.worker.client import InProcess
from pcbench.worker.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A wrong implementation.

    **Arguments:** `factory` makes a fresh one; `description` says in one sentence what is wrong; `expected` are the
    ids of laws of which every one must fail it; `corner` restricts the domain of a law to where the defect lives, for
    tests that cannot afford to wait until a problem is drawn there.
    """

    name: str
    factory: Callable[[], Any]
    description: str
    expected: tuple[str, ...]
    corner: dict[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Odd:
    """A correct implementation of unusual form, which every law must let pass."""

    name: str
    factory: Callable[[], Any]
    description: str


MUTANTS: dict[str, Mutant] = {}
ODD: dict[str, Odd] = {}


def mutant(name: str, description: str, *expected: str, **corner: tuple[Any, ...]) -> Callable[[type], type]:
    """Register the decorated class as a mutant that the laws `expected` must kill."""

    def register(cls: type) -> type:
        if name in MUTANTS or not expected:
            raise UsageError(f"mutant {name!r} is registered twice, or names no law that must kill it")
        MUTANTS[name] = Mutant(name=name, factory=cls, description=description, expected=expected, corner=corner)
        return cls

    return register


def odd(name: str, description: str) -> Callable[[type], type]:
    """Register the decorated class as a correct variant."""

    def register(cls: type) -> type:
        if name in ODD:
            raise UsageError(f"variant {name!r} is registered twice")
        ODD[name] = Odd(name=name, factory=cls, description=description)
        return cls

    return register


def subject_of(factory: Callable[[], Any]) -> Subject:
    """What a factory makes, in this process; a second one stands for a second process."""
    return Subject(InProcess(factory()), lambda: InProcess(factory()))
