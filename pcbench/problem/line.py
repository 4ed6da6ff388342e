"""Write and read a problem as one shell word, `field=value,...`.

Fields that are at their default are left out, booleans are `true` and `false`, and a field may have a shorter name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from pcbench.errors import ProblemError
from pcbench.problem.parameterisation import Exponents

_KINDS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "str | Exponents": str,
    "bool": lambda word: {"true": True, "false": False}[word.lower()],
}


def format_line(problem: Any, short: Mapping[str, str] | None = None) -> str:
    """The fields of a problem that are not at their default, in order; `short` has the names to use for some."""
    parts = []
    for field in fields(problem):
        value = getattr(problem, field.name)
        if field.default is not MISSING and value == field.default:
            continue
        text = value.line() if isinstance(value, Exponents) else str(value)
        parts.append(f"{(short or {}).get(field.name, field.name)}={text.lower() if isinstance(value, bool) else text}")
    return ",".join(parts)


def parse_line(cls: type[Any], text: str, short: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The values in a line of `format_line` by field of `cls`; exponents stay text.

    **Raises:** `ProblemError` naming the part that is not understood.
    """
    long = {name: field for field, name in (short or {}).items()}
    types = {field.name: str(field.type) for field in fields(cls)}
    values: dict[str, Any] = {}
    for part in text.strip().split(","):
        name, sign, word = part.strip().partition("=")
        name = long.get(name, name)
        if not sign or name not in types:
            raise ProblemError(f"{part!r} in the problem: needed field=value, fields are {', '.join(types)}")
        if name in values:
            raise ProblemError(f"{name} is given twice in the problem {text!r}: give it once")
        try:
            values[name] = _KINDS[types[name]](word)
        except (ValueError, KeyError):
            raise ProblemError(f"{name}={word!r}: needed a value of type {types[name]}") from None
    return values


def check_fields(cls: type[Any], values: Mapping[str, Any]) -> None:
    """Refuse values that do not make a problem of this class.

    **Raises:** `ProblemError` for a field that does not exist or is missing.
    """
    known = {field.name: field for field in fields(cls)}
    for name in values:
        if name not in known:
            raise ProblemError(f"field {name!r} is not part of a problem; fields are {', '.join(known)}")
    missing = [n for n, field in known.items() if field.default is MISSING and n not in values]
    if missing:
        raise ProblemError(f"a problem needs {', '.join(missing)}, which this one lacks")
