"""`pcbench adapters`: list the adapters that come with pcbench and where their libraries are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pcbench.adapters.register import KNOWN, AdapterEntry
from pcbench.cli.options import python_option
from pcbench.environments import catalogue as environments
from pcbench.errors import UsageError

# Runs in the interpreter that was asked for, which may have none of pcbench's dependencies.
_PROBE = """
import importlib.metadata as m, importlib.util as u, json, sys
tops = m.packages_distributions() if hasattr(m, "packages_distributions") else {}
found = {}
for name in sys.argv[1:]:
    try:
        here = u.find_spec(name) is not None
    except (ImportError, ValueError):
        here = False
    if here:
        dist = (tops.get(name) or [name])[0]
        try:
            found[name] = m.version(dist)
        except m.PackageNotFoundError:
            found[name] = ""
print(json.dumps(found))
"""


def installed_versions(modules: list[str], python: str | None) -> dict[str, str]:
    """The version of each of `modules` that the interpreter has; nothing is imported there.

    **Raises:** `UsageError` if the interpreter does not start.
    """
    command = [python or sys.executable, "-c", _PROBE, *modules]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UsageError(f"interpreter {python!r} does not answer: {error}; give the path of a Python") from None


@click.command("adapters")
@python_option
def command(python: str | None) -> None:
    """List the adapters that come with pcbench, and where their libraries are installed.

    Without --python each is looked for where `pcbench check` would run it.
    """
    where = {entry.name: python or _environment_python(entry.environment) for entry in KNOWN.values()}
    found = {
        path: installed_versions(sorted({e.probe for e in KNOWN.values() if where[e.name] == path}), path or None)
        for path in sorted(set(where.values()))
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("adapter", "library", "installed", "what it is"):
        table.add_column(name, overflow="fold")
    for entry in KNOWN.values():
        state = _installation_text(entry, found[where[entry.name]], bool(python), bool(where[entry.name]))
        table.add_row(*(Text(t) for t in (entry.name, entry.probe, state, entry.description)))
    Console(highlight=False).print(table)


def _environment_python(environment: str) -> str:
    """The interpreter of an environment that can be used, else an empty text."""
    try:
        return (environments.interpreter(environment) if environment else None) or ""
    except UsageError:
        return ""


def _installation_text(entry: AdapterEntry, found: Mapping[str, str], asked: bool, made: bool) -> str:
    """Whether an adapter's library is in the interpreter it would run in, and which that is, or what to do."""
    name = "" if asked else entry.environment
    if entry.probe in found:
        return f"yes {found[entry.probe]}".strip() + (f", environment {name}" if made and name else "")
    if name and not made and (text := environments.state(environments.ENVIRONMENTS[name])[0]) != "not made":
        return f"no: environment {name} is {text}"
    if made and name:
        return f"no: pcbench env add {name} PATH" if entry.clone else f"no: environment {name} lacks it"
    pip = f"git clone {entry.clone}" if entry.clone else f"pip install {entry.install or entry.probe}"
    return f"no: {environments.ENVIRONMENTS[name].command}, or {pip}" if name else f"no: {pip}"
