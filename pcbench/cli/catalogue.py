"""`pcbench laws`, `pcbench adapters`, `pcbench new-adapter`: what there is, and how to add to it."""

from __future__ import annotations

import json as json_module
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pcbench.cli.env import state as environment_state
from pcbench.cli.options import python_option
from pcbench.environments import catalogue as environments
from pcbench.errors import UsageError
from pcbench.output.strict_json import plain_data

if TYPE_CHECKING:
    from pcbench.adapters.register import AdapterEntry


def law_data(law: Any) -> dict[str, Any]:
    """Everything about a law but its code, as JSON data."""
    return plain_data(
        {
            "id": law.id,
            "statement": law.statement,
            "citation": law.citation,
            "needs": sorted(law.needs),
            "depends_on": list(law.depends_on),
            "failing_means": law.failing_means,
            "domain": asdict(law.domain),
        }
    )


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def laws(ids: tuple[str, ...], as_json: bool) -> None:
    """List the laws; with IDs (groups and wildcards too) everything about those."""
    from pcbench.laws import Domain, select

    chosen = select(ids)
    if as_json:
        click.echo(json_module.dumps([law_data(law) for law in chosen], indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if not ids:
        for law in chosen:
            console.print(Text(law.id, style="bold"))
            console.print(Padding(Text(law.statement), (0, 0, 0, 2), expand=False))
            needs = f"; needs {', '.join(sorted(law.needs))}" if law.needs else ""
            console.print(Padding(Text(law.citation + needs, style="dim"), (0, 0, 0, 2), expand=False))
        console.print(f"{len(chosen)} laws")
        return
    usual = asdict(Domain())
    for law in chosen:
        console.print(Text(law.id, style="bold"))
        domain = {k: v for k, v in asdict(law.domain).items() if v != usual[k]}
        for name, value in (
            ("statement", law.statement),
            ("citation", law.citation),
            ("needs", ", ".join(sorted(law.needs)) or "nothing beyond the protocol"),
            ("depends on", ", ".join(law.depends_on)),
            ("failing usually means", law.failing_means),
            ("domain", "; ".join(f"{k}: {_shown(v)}" for k, v in domain.items()) or "all problems"),
        ):
            if value:
                grid = Table.grid()
                grid.add_column(width=24)
                grid.add_column(overflow="fold")
                grid.add_row(Text(f"  {name}", style="dim"), Text(value))
                console.print(grid)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


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


def installed(modules: list[str], python: str | None) -> dict[str, str]:
    """The version of each of `modules` that the interpreter has; nothing is imported there.

    **Raises:** `UsageError` if the interpreter does not start.
    """
    command = [python or sys.executable, "-c", _PROBE, *modules]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return json_module.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UsageError(f"interpreter {python!r} does not answer: {error}; give the path of a Python") from None


@click.command()
@python_option
def adapters(python: str | None) -> None:
    """List the adapters that come with pcbench, and whether their libraries are installed, and where.

    Without --python each is looked for where `pcbench check` would run it.
    """
    from pcbench.adapters.register import KNOWN

    where = {entry.name: python or _made(entry.environment) for entry in KNOWN.values()}
    found = {
        path: installed(sorted({e.probe for e in KNOWN.values() if where[e.name] == path}), path or None)
        for path in sorted(set(where.values()))
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("adapter", "library", "installed", "what it is"):
        table.add_column(name, overflow="fold")
    for entry in KNOWN.values():
        state = _installed(entry, found[where[entry.name]], bool(python), bool(where[entry.name]))
        table.add_row(*(Text(t) for t in (entry.name, entry.probe, state, entry.description)))
    Console(highlight=False).print(table)


def _made(environment: str) -> str:
    """The interpreter of an environment that can be used, else an empty text."""
    try:
        return (environments.interpreter(environment) if environment else None) or ""
    except UsageError:
        return ""


def _installed(entry: AdapterEntry, found: Mapping[str, str], asked: bool, made: bool) -> str:
    """Whether an adapter's library is in the interpreter it would run in, and which that is, or what to do."""
    name = "" if asked else entry.environment
    if entry.probe in found:
        return f"yes {found[entry.probe]}".strip() + (f", environment {name}" if made and name else "")
    if name and not made and (text := environment_state(environments.ENVIRONMENTS[name])[0]) != "not made":
        return f"no: environment {name} is {text}"
    if made and name:
        return f"no: pcbench env add {name} PATH" if entry.clone else f"no: environment {name} lacks it"
    pip = f"git clone {entry.clone}" if entry.clone else f"pip install {entry.install or entry.probe}"
    return f"no: {environments.ENVIRONMENTS[name].command}, or {pip}" if name else f"no: {pip}"


@click.command("new-adapter")
@click.argument("name")
@click.option("--directory", default=".", show_default=True, type=click.Path(file_okay=False), help="Where to write.")
@click.option("--no-workflow", is_flag=True, help="Leave out the GitHub workflow, .github/workflows/pcbench.yml.")
def new_adapter(name: str, directory: str, no_workflow: bool) -> None:
    """Write the files of a new adapter for the library NAME, which pass all laws they claim until you change them.

    These are an adapter, a list of known failures, a pytest module and, at the top of the git repository, a GitHub
    workflow. A file that exists is never overwritten.
    """
    from pcbench.adapters.scaffold import adapter as template

    place = Path(directory).resolve()
    top = next((p for p in (place, *place.parents) if (p / ".git").exists()), place)
    written = template.scaffold(name, place.relative_to(top).as_posix(), workflow=not no_workflow)
    files = {Path(os.path.relpath(top / path)): text for path, text in written.items()}
    there = [str(path) for path in files if path.exists()]
    if there:
        hint = " or --no-workflow" if any(path.endswith(template.WORKFLOW_PATH) for path in there) else ""
        raise UsageError(
            f"nothing was written: {', '.join(there)} exist{'s' if len(there) == 1 else ''} already; "
            f"choose another NAME or --directory{hint}"
        )
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from None
    adapter, _, test, *_ = files
    for path in files:
        click.echo(f"wrote {path}")
    click.echo("They pass as they are. Next, and again after each method that you fill in:")
    click.echo(f"  pcbench check {adapter} --profile smoke")
    click.echo(f"  pytest -q {test}")
    click.echo("and once OWNER/pcbench and COMMIT in the workflow are yours:" if not no_workflow else "and at the end:")
    click.echo(f"  git add {' '.join(map(str, files))}")
