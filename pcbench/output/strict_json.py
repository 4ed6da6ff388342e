"""Strict JSON that any reader accepts: numbers that are not finite become text, and no value is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def plain_data(value: Any) -> Any:
    """`value` as strict JSON data: numbers of NumPy as Python's, what is not finite as text, anything else as text."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(k): plain_data(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_data(v) for v in value]
    return str(value)


def dumps(value: Any) -> str:
    """The text of a file that holds `value` as strict JSON data."""
    return json.dumps(plain_data(value), indent=1, allow_nan=False) + "\n"
