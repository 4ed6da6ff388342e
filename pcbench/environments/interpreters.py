"""Find the Python interpreters of this machine, and one that an environment can be made with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pcbench.environments.catalogue import Environment
from pcbench.errors import UsageError
from pcbench.worker import process as processes

NAMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3.10", "python3")
"""What is looked for on PATH after pcbench's own interpreter, in this order."""

_PROBE_SECONDS = 60.0

# Runs in an interpreter that may be any Python, or no Python at all.
_WHO = """
import json, sys
lacks = []
for name in ("venv", "ensurepip"):
    try:
        __import__(name)
    except ImportError:
        lacks.append(name)
print(json.dumps({"version": list(sys.version_info[:3]), "lacks": lacks,
                  "base": getattr(sys, "_base_executable", None) or sys.executable}))
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """An interpreter: its `path`, its `version`, and the `base` that stays when the environment it is in goes."""

    path: str
    version: tuple[int, int, int]
    base: str

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


def identify(path: str) -> Found:
    """Run an interpreter and return its version and what it is.

    **Raises:** `UsageError` if it does not start, is no Python, or cannot make virtual environments.
    """
    try:
        done = subprocess.run(
            [path, "-c", _WHO], capture_output=True, text=True, timeout=_PROBE_SECONDS, stdin=subprocess.DEVNULL,
            env=processes.environment(False, None, None),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeError) as error:
        raise UsageError(f"{path} does not start: {error}") from None
    try:
        answer = json.loads(done.stdout)
        found = Found(path=path, version=tuple(answer["version"]), base=answer["base"])
    except (ValueError, KeyError, TypeError):
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UsageError(f"{path} does not run" + (f": {said[0][:200]}" if said else "")) from None
    if answer["lacks"]:
        raise UsageError(
            f"{path} (Python {found.version_text}) cannot make virtual environments: it lacks "
            f"{', '.join(answer['lacks'])}, which some systems keep in a package of their own, such as python3-venv"
        )
    return found


def find_suitable(environment: Environment, python: str | None = None, *, checked: bool = True) -> Found:
    """The interpreter to make `environment` with: `python`, or the first that fits.

    Those looked at are pcbench's own, then `NAMES` in every folder of PATH.  A name there may be a launcher of a
    version that is not installed, so each is run.  `checked=False` takes any version of a given `python`, for a source
    whose needs are its own.

    **Raises:** `UsageError` that says what was needed, and what was found instead.
    """
    if python is not None:
        found = identify(processes.resolve_interpreter(python))
        if found.version < (3, 10):
            raise UsageError(f"{python} is Python {found.version_text}: pcbench's workers need 3.10 or later")
        if checked and not environment.fits(found.version[:2]):
            raise UsageError(
                f"environment {environment.name!r} needs {environment.pythons}: {environment.why}; "
                f"{python} is Python {found.version_text}"
            )
        return found
    seen: list[str] = []
    for path in _candidates():
        try:
            found = identify(path)
        except UsageError as error:
            seen.append(str(error))
            continue
        if environment.fits(found.version[:2]):
            return found
        seen.append(f"{path} is Python {found.version_text}")
    raise UsageError(
        f"environment {environment.name!r} needs {environment.pythons}: {environment.why}. None was found; "
        "give one with --python PATH\n" + "\n".join(f"  looked at: {line}" for line in seen)
    )


def _candidates() -> Iterator[str]:
    seen = set()
    folders = [folder for folder in os.get_exec_path() if folder]
    for path in (sys.executable, *(os.path.join(f, name) for name in NAMES for f in folders)):
        if os.access(path, os.X_OK) and os.path.isfile(path) and os.path.realpath(path) not in seen:
            # Launchers of all versions may be links to one file, so only what names Python itself is looked at once.
            if re.fullmatch(r"python[\d.]*", os.path.basename(os.path.realpath(path))):
                seen.add(os.path.realpath(path))
            yield path
