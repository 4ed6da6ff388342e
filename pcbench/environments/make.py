"""Make the virtual environment of a library: choose a Python, run pip, and write the record.

The virtual environment gets a folder of its own beside the record, because it cannot be moved once it is made, and the
record is written last: whatever ends the making, what has no record is not there.  A new one takes the place of an old
one at the moment when the record is replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from pcbench.environments import catalogue as environments
from pcbench.environments import pip_log
from pcbench.environments.catalogue import Environment, Record
from pcbench.environments.interpreters import Found, find_suitable
from pcbench.errors import InstallationError, UsageError
from pcbench.version import __version__
from pcbench.worker import process as processes
from pcbench.worker.provenance import RECORD, commit_of, same_distribution

ADDED = "pcbench-added.pth"
"""The file among an environment's packages that names the checkouts on its path, one a line."""

_IMPORT_SECONDS = 600.0

# Runs in the new environment: that the library can be imported, and what pip has put there.
_WHAT = """
import importlib, importlib.metadata as metadata, json, sys
module, library = sys.argv[1:3]
importlib.import_module("numpy")
importlib.import_module(module)
packages = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
url = metadata.distribution(library).read_text("direct_url.json")
print("\\n" + json.dumps({"packages": packages, "version": metadata.version(library), "url": json.loads(url or "{}")}))
"""

Tell = Callable[[str], None]


# ---- what pip is given -----------------------------------------------------------------------------------------------


def requirements_of(environment: Environment, source: str | None) -> tuple[str, ...]:
    """What pip is given: the environment's requirements, with `source` in place of the library if that is given.

    `source` is a directory or archive, a URL (`git+` and so on), or a requirement of the library itself, such as
    another version.

    **Raises:** `UsageError` for a source that is none of these, or is missing where it is needed.
    """
    own, *others = environment.requirements
    if source is None:
        if environment.source:
            raise UsageError(
                f"environment {environment.name!r} needs the source of {environment.library}, which no package index "
                f"has: `{environment.command}`, with a checkout of it or its address, {environment.source}"
            )
        return environment.requirements
    path = os.path.abspath(os.path.expanduser(source))
    if os.path.isdir(path):
        if not any(os.path.isfile(os.path.join(path, name)) for name in ("pyproject.toml", "setup.py")):
            raise UsageError(
                f"source {source!r} has neither pyproject.toml nor setup.py: give the top of a checkout of "
                f"{environment.library}, with its files (a bare repository has none)"
            )
        return (path, *others)
    if os.path.isfile(path):
        return (path, *others)
    if re.match(r"(?:[a-z]+\+)?[a-z]{3,}://", source):
        return (source, *others)
    try:
        if same_distribution(Requirement(source).name, environment.library):
            return (source, *others)
    except InvalidRequirement:
        pass
    raise UsageError(
        f"source {source!r} is no directory or file here, no URL, and no requirement of {environment.library}: "
        f"needed one of these, e.g. a checkout, git+URL, or {own if '=' in own else own + '==VERSION'}"
    )


# ---- making ----------------------------------------------------------------------------------------------------------


def make_environment(
    environment: Environment,
    *,
    source: str | None = None,
    python: str | None = None,
    add: Sequence[str] = (),
    replace_old: bool = False,
    tell: Tell = lambda text: None,
    working: Callable[[str], None] = lambda line: None,
) -> Record:
    """Make an environment and record it.

    **Arguments:** `source` as `requirements_of`; `python`, as `find_suitable`; `add`, checkouts to have on its path;
    `replace_old` allows one that is there, which stays in use until the new one is complete; `tell` is told what
    happens, `working` the last line that pip printed, several times a second.

    **Raises:** `UsageError` for what was asked, `InstallationError` if pip fails or the library cannot be imported
    afterwards.  Nothing half-made is left in either case, nor after Ctrl-C; pip's log is kept.
    """
    requirements = requirements_of(environment, source)
    found = find_suitable(environment, python, checked=source is None)
    paths = [checkout(path) for path in add]
    commit = commit_of(requirements[0]) if os.path.isdir(requirements[0]) else ""
    folder = environments.folder_of(environment.name)
    log = _log(environment.name)
    with _folder_lock(folder):
        _refuse_old(environment, replace_old)
        directory = Path(tempfile.mkdtemp(prefix="venv-", dir=folder))
        began, kept = time.monotonic(), False
        try:
            tell(f"making a virtual environment with Python {found.version_text} ({found.path})")
            _run([found.path, "-m", "venv", str(directory)], log, working, f"`{found.path} -m venv` failed", found)
            command = [str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
            tell(f"installing {', '.join(requirements)}")
            _pip([*command, "--no-input", "--progress-bar", "off", *requirements], log, working, environment, found)
            _write_path(directory, paths)
            record = _make_record(environment, directory, found, requirements, source, commit, paths, log, began)
            _save(record)
            kept = True
        finally:
            if not kept:
                _delete(directory)
                with contextlib.suppress(OSError):
                    folder.rmdir()  # only if nothing else is in it
        _sweep(folder, record.folder)
    return record


def add(name: str, paths: Sequence[str]) -> Record:
    """Put checkouts on the path of an environment that was made, besides those that are there.

    **Raises:** `UsageError` if it was not made or is broken, or a path is no directory.
    """
    chosen = [checkout(path) for path in paths]
    with _folder_lock(environments.folder_of(name)):
        record = require_record(name)
        known = {entry["path"]: entry for entry in record.added}
        record = replace(record, added=tuple({**known, **{entry["path"]: entry for entry in chosen}}.values()))
        _write_path(record.directory, record.added)
        _save(record)
    return record


def require_record(name: str) -> Record:
    """The record of an environment that was made and can be used.

    **Raises:** `UsageError` if there is none.
    """
    if environments.interpreter(name) is None:
        raise UsageError(f"environment {name!r} was not made: `{environments.find_environment(name).command}` makes it")
    record = environments.read(name)
    assert record is not None  # for the type checker
    return record


def remove(name: str) -> bool:
    """Remove an environment, and whatever an interrupted making left; False if there was nothing.

    **Raises:** `UsageError` if it cannot be removed, or is being made.
    """
    folder = environments.folder_of(name)
    if not folder.exists():
        return False
    with _folder_lock(folder):
        (folder / RECORD).unlink(missing_ok=True)  # first: what has no record is not there
        _sweep(folder, None)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be removed: {error.strerror}; remove it by hand") from None
    return True


def checkout(path: str) -> dict[str, str]:
    """A directory to have on the path of an environment, absolute, with its commit where that is known.

    **Raises:** `UsageError` if it is no directory.
    """
    full = os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(full):
        raise UsageError(f"{path!r} is no directory: give the top of a checkout, whose modules are to be importable")
    if "\n" in full:
        raise UsageError(f"{path!r} has a line break in it, which no .pth file can hold: rename the directory")
    return {"path": full, "commit": commit_of(full)}


def _refuse_old(environment: Environment, replace_old: bool) -> None:
    if replace_old:
        return
    record = environments.read(environment.name)
    if record is not None:
        raise UsageError(
            f"environment {environment.name!r} is there already: {record.description} on Python {record.python}, made "
            f"{record.made[:10]}. Give --replace to make it anew"
        )


def _write_path(directory: Path, paths: Sequence[Mapping[str, str]]) -> None:
    [packages] = directory.glob("lib/python*/site-packages")
    (packages / ADDED).write_text("".join(f"{entry['path']}\n" for entry in paths), encoding="utf-8")


def _make_record(
    environment: Environment, directory: Path, found: Found, requirements: tuple[str, ...], source: str | None,
    commit: str, added: Sequence[Mapping[str, str]], log: Path, began: float,
) -> Record:  # fmt: skip
    """The record of an environment whose library can be imported."""
    python = str(directory / "bin" / "python")
    command = [python, "-c", _WHAT, environment.module, environment.library]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_IMPORT_SECONDS, cwd=directory, stdin=subprocess.DEVNULL,
            env=processes.environment(False, None, None),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InstallationError(f"{environment.library} was installed, but importing it does not end") from None
    if done.returncode:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n$ import {environment.module}\n{done.stderr}")
        said = (done.stderr.strip().splitlines() or [processes.ending(done.returncode)])[-1]
        raise InstallationError(
            f"{environment.library} was installed with Python {found.version_text}, but cannot be imported there: "
            f"{said}\nthe log: {log}"
        )
    what = json.loads(done.stdout.splitlines()[-1])
    given = requirements[0] if source is not None else ""
    return Record(
        name=environment.name,
        folder=directory.name,
        library=environment.library,
        version=what["version"],
        source=_strip_password(given),
        commit=str(what["url"].get("vcs_info", {}).get("commit_id", commit)),
        requirements=tuple(map(_strip_password, requirements)),
        packages=dict(sorted(what["packages"].items(), key=lambda pair: pair[0].lower())),
        python=found.version_text,
        base=found.base,
        added=tuple(added),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        bytes=_size(directory),
        pcbench=__version__,
        log=str(log),
    )


def _strip_password(text: str) -> str:
    """A URL without the name and password that it may hold; an ssh user name stays."""
    return re.sub(r"(?<=://)[^/@]*:[^/@]*@", "", text)


def _size(directory: Path) -> int:
    """Bytes of the files below, each file once."""
    total, seen = 0, set()
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(folder, name))
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_size
    return total


def _save(record: Record) -> None:
    """Write the record in one step: a reader sees the old one or the new one."""
    path = environments.folder_of(record.name) / RECORD
    draft = path.with_suffix(".draft")
    try:
        draft.write_text(json.dumps(record.to_json(), indent=1) + "\n", encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _sweep(folder: Path, kept: str | None) -> None:
    """Delete virtual environments but the one that is `kept`: replaced ones, and what an interrupted making left."""
    for directory in folder.glob("venv-*"):
        if directory.name != kept:
            _delete(directory)


def _delete(directory: Path) -> None:
    """Delete a folder, or as much of it as can be deleted; Ctrl-C in between does not keep the rest."""
    try:
        shutil.rmtree(directory, ignore_errors=True)
    except KeyboardInterrupt:
        shutil.rmtree(directory, ignore_errors=True)
        raise


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of an environment; it ends with the process that holds it.

    **Raises:** `UsageError` if another has it, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder.with_name(f".{folder.name}.lock"), "w", encoding="utf-8")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be made: {error.strerror}; name another folder in {environments.PLACE}"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"environment {folder.name!r} is being made by another process: wait for it") from None
        folder.mkdir(parents=True, exist_ok=True)  # the last holder may have removed it
        try:
            yield
        finally:
            if not any(folder.glob("*")):
                with contextlib.suppress(OSError):
                    folder.rmdir()


# ---- processes -------------------------------------------------------------------------------------------------------


def _log(name: str) -> Path:
    """A new file for what pip prints, the last few of the environment's being kept."""
    folder = environments.environments_folder() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob(f"{name}-*.log"))[:-4]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be made: {error.strerror}; name another folder in {environments.PLACE}"
        ) from None
    return folder / f"{name}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"


def _pip(command: list[str], log: Path, working: Callable[[str], None], environment: Environment, found: Found) -> None:
    try:
        _run(command, log, working, "pip failed", found)
    except InstallationError:
        text = log.read_text(encoding="utf-8", errors="replace")
        cause = pip_log.cause(text, found.version_text)
        lines = [f"environment {environment.name!r} cannot be made with Python {found.version_text}: {cause.what}"]
        if cause.python:
            lines.append(f"needed Python {cause.python}: `{environment.command} --python PATH`, with the path of one")
        elif cause.remedy:
            lines.append(f"to do: {cause.remedy}")
        raise InstallationError("\n".join([*lines, f"the log of pip: {log}"])) from None


def _run(command: list[str], log: Path, working: Callable[[str], None], failure: str, found: Found) -> None:
    """Run a command, what it prints going to the end of `log`; nothing of it is left however this ends.

    **Raises:** `InstallationError` if it fails.
    """
    env = processes.environment(False, None, {"PIP_USER": "0", "PYTHONUTF8": "1"})
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_QUIET"):  # packages elsewhere, or a log that is silent
        env.pop(name, None)
    with log.open("ab") as file:
        file.write(f"$ {' '.join(map(_strip_password, command))}\n".encode())
        file.flush()
        process = processes.start(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env)
        try:
            while process.poll() is None:
                working(_last_line(log))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        finally:
            processes.end(process)
    if process.returncode:
        said = _last_line(log)
        how = processes.ending(process.returncode)
        raise InstallationError(f"{failure} with Python {found.version_text}: {how}, {said}\nthe log: {log}")


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 2048))
        lines: Any = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
