"""Files with one JSON value per line that survive the death of the process that writes them.

Who writes may be killed at any byte: every value is on disk before the next is made, a line that was torn is no value,
and it takes no later one with it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import IO, Any


def parse(data: bytes) -> list[Any]:
    """The values in `data`, without the lines that are torn or damaged."""
    values = []
    for line in data.splitlines():
        with suppress(ValueError):
            values.append(json.loads(line))
    return values


def resume(file: IO[bytes]) -> list[Any]:
    """The values in a file opened with `a+b`, which has lost a torn last line then and is ready for `append`."""
    file.seek(0)
    data = file.read()
    file.truncate(data.rfind(b"\n") + 1)
    return parse(data)


def append(file: IO[bytes], *values: Any) -> None:
    """More values, on disk before this returns.

    **Raises:** `OSError`, as on a full disk.
    """
    file.writelines(json.dumps(value).encode() + b"\n" for value in values)
    file.flush()
    os.fsync(file.fileno())
