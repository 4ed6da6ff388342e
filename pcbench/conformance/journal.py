"""Journal of a run: every judgement is written to disk at once, so that a killed run can be resumed.

A journal belongs to one command: its name is a hash of everything that decides a judgement.  It is JSON lines, a
header first (`json_lines`).  A journal whose header is not understood is ignored.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pcbench
from pcbench.output import json_lines
from pcbench.report.evidence import Evidence
from pcbench.version import __version__


def fingerprint(spec: str) -> str:
    """A hash of all sources that decide a judgement of `spec`: those of pcbench and the adapter's file."""
    digest = hashlib.sha256()
    root = Path(pcbench.__file__).parent
    trees = [root]
    found = importlib.util.find_spec("pcbench.properties")
    if found is not None and found.submodule_search_locations:
        trees += [Path(place) for place in found.submodule_search_locations]
    for tree in trees:
        for path in sorted(tree.rglob("*.py")):
            digest.update(str(path.relative_to(tree)).encode())
            digest.update(path.read_bytes())
    place = _adapter_file(spec)
    if place is not None:
        digest.update(place.read_bytes())
    return digest.hexdigest()


def _adapter_file(spec: str) -> Path | None:
    """The file of an adapter that is not part of pcbench, or None where none is found; nothing is imported."""
    place, _, _ = spec.partition(":")
    if place.endswith(".py"):
        path = Path(place)
        return path if path.is_file() else None
    parts = place.split(".")
    # A module may live in another interpreter only; then the version in its manifest has to tell it apart.
    for directory in dict.fromkeys((os.getcwd(), *sys.path)):
        for path in (Path(directory, *parts).with_suffix(".py"), Path(directory, *parts, "__init__.py")):
            if path.is_file():
                return path
    return None


def key(spec: str, settings: Mapping[str, Any]) -> str:
    """The name of the journal of this command: 16 hexadecimal digits of version, sources, `spec` and `settings`."""
    data = {"version": __version__, "sources": fingerprint(spec), "spec": spec, **settings}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """The journal in `directory` of the command whose key is `key`.

    `problem` says why nothing can be written, or is empty; a run goes on without a journal then.
    """

    def __init__(self, directory: str | Path, key: str) -> None:
        self.path = Path(directory) / f"{key}.jsonl"
        self.problem = ""
        self._file: IO[bytes] | None = None

    def load(self) -> tuple[dict[str, Any], list[Evidence]]:
        """The header and the evidence of the run before, both empty if there is none."""
        try:
            lines = json_lines.parse(self.path.read_bytes())
        except OSError:
            return {}, []
        header: dict[str, Any] = {}
        evidence: dict[tuple[str, int], Evidence] = {}
        for number, data in enumerate(lines):
            with suppress(ValueError, TypeError, AttributeError, LookupError):  # whatever else somebody wrote there
                if number == 0:
                    header = dict(data["header"]) if "header" in data else {}
                else:
                    item = Evidence.from_json(data["evidence"])
                    evidence[item.law, item.group] = item
        return (header, list(evidence.values())) if header else ({}, [])

    def begin(self, header: Mapping[str, Any], evidence: Sequence[Evidence]) -> None:
        """Start the file anew with this header and what is kept of the run before."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
            with temporary.open("wb") as file:
                json_lines.append(file, {"header": header}, *({"evidence": e.to_json()} for e in evidence))
            temporary.replace(self.path)
            self._file = self.path.open("ab")
        except OSError as error:
            self.problem = f"no journal: {error}"

    def add(self, evidence: Evidence) -> None:
        """Append one judgement, on disk before this returns."""
        if self._file is None:
            return
        try:
            json_lines.append(self._file, {"evidence": evidence.to_json()})
        except OSError as error:  # a full disk ends the journal, not the run
            self.problem = f"the journal ends here: {error}"
            self.close()

    def close(self) -> None:
        """Stop writing and leave the file for the next run."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def remove(self) -> None:
        """Forget the run: it is complete."""
        self.close()
        with suppress(OSError):
            self.path.unlink()
        with suppress(OSError):  # fails where another run has its journal beside this one
            self.path.parent.rmdir()
