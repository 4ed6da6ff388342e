r"""Tidy tables on disk: rows with the union of their keys as columns, in a CSV that is valid at every moment."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pcbench.errors import UsageError

Row = dict[str, Any]


class Table:
    """A CSV that grows: rows with known columns are appended, a new column replaces the file by a wider one."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        self._path = path
        self._rows: list[Mapping[str, Any]] = []
        self._columns: list[str] = []
        self.rewrite(rows)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add `rows` at the end."""
        self._rows.extend(rows)
        known = set(self._columns)
        if any(name not in known for row in rows for name in row):
            self.rewrite(self._rows)
        elif rows:
            # One write of whole lines, unbuffered: whoever reads, or kills, at that moment finds no half line.
            with self._path.open("ab", buffering=0) as file:
                file.write(_text(rows, self._columns, header=False).encode())

    def rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the file by one with these rows, at once."""
        self._rows, self._columns = list(rows), columns_of(rows)
        replace_file(self._path, _text(self._rows, self._columns, header=True))


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a whole CSV at once, replacing what is there."""
    replace_file(Path(path), _text(rows, columns_of(rows), header=True))


def read_rows(path: str | Path) -> list[Row]:
    """The rows of such a CSV with numbers and truth values as such; an empty cell is a key that is left out.

    **Raises:** `UsageError` if there is no such file, or it is no CSV of ours.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}; run the sweep that writes it") from None
    if any(None in row or None in row.values() for row in rows):
        raise UsageError(f"{path} has lines of unequal length: it is no table of pcbench, or was edited")
    return [{name: _value(cell) for name, cell in row.items() if cell != ""} for row in rows]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The union of the keys, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def plain_row(row: Mapping[str, Any]) -> Row:
    """`row` with NumPy scalars made Python's.

    **Raises:** `TypeError` for a value that is no scalar, or a key that is no string.
    """
    result: Row = {}
    for name, value in row.items():
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        if not isinstance(name, str) or not (value is None or isinstance(value, (str, int, float, bool))):
            raise TypeError(f"row has {name!r}: {value!r}; needed a string and a JSON scalar")
        result[name] = value
    return result


def replace_file(path: Path, text: str) -> None:
    """Write `text` to `path` so that no moment sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, header: bool) -> str:
    if not columns:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _value(cell: str) -> Any:
    if cell in ("True", "False"):
        return cell == "True"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(cell)
    return cell
