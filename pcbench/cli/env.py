"""`pcbench env`: create, list, extend and remove the virtual environments of libraries under test."""

from __future__ import annotations

import json

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pcbench.cli.options import orderly_termination
from pcbench.environments import catalogue as environments
from pcbench.environments.catalogue import ENVIRONMENTS, Record

name_argument = click.argument("name", metavar="|".join(ENVIRONMENTS))


@click.group("env")
def command() -> None:
    """Environments for the libraries under test: one virtual environment each, with what its authors declare.

    An adapter whose environment was made runs in it, unless --python names another interpreter.  They are kept in the
    user's folder of data, or where PCBENCH_ENVIRONMENTS says.
    """


@command.command()
@name_argument
@click.argument("source", required=False)
@click.option("--python", metavar="PATH", help="Python to make it with.  [default: the first one that fits: pcbench's "
              "own, then python3.11 and later on PATH]")  # fmt: skip
@click.option("--add", "checkouts", multiple=True, metavar="PATH", help="Checkout to import modules from; repeatable.")
@click.option("--replace", "replace_old", is_flag=True, help="Make it anew; the old one is used meanwhile.")
@click.option("--quiet", is_flag=True, help="Print only the conclusion.")
def create(
    name: str, source: str | None, python: str | None, checkouts: tuple[str, ...], replace_old: bool, quiet: bool
) -> None:
    """Make the environment of a library.

    SOURCE stands for the library where no package index has it (jpc), or for another version of it: a checkout,
    git+URL@COMMIT, or a requirement such as pcx==0.6.2.  pcbench itself is not installed there.  pip's own settings
    hold, such as PIP_INDEX_URL for an index that has PyTorch without CUDA.
    """
    from pcbench.environments import make as environment_making
    from pcbench.output import display

    console = Console(highlight=False)
    shown = display.choose(console, quiet)
    with orderly_termination():
        try:
            record = environment_making.make_environment(
                environments.find_environment(name), source=source, python=python, add=checkouts,
                replace_old=replace_old, tell=shown.note, working=lambda line: shown.show_current(0, line),
            )  # fmt: skip
        finally:
            shown.close()
    _conclude(console, f"made {name} in {record.seconds:.0f} s", record)


@command.command()
@name_argument
@click.argument("checkouts", nargs=-1, required=True, metavar="PATH...")
def add(name: str, checkouts: tuple[str, ...]) -> None:
    """Put checkouts of libraries that are not packaged on the path of an environment.

    Their modules are imported from where they are, so that a change in a checkout is seen by the next run.
    """
    from pcbench.environments import make as environment_making

    environments.find_environment(name)
    record = environment_making.add(name, checkouts)
    _conclude(Console(highlight=False), f"added to {name}", record)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the whole record of every environment as JSON.")
def list_(as_json: bool) -> None:
    """List the environments: what they hold, on which Python, whether they can be used, and where they are."""
    found = {name: environments.state(environment) for name, environment in ENVIRONMENTS.items()}
    if as_json:
        data = {
            name: {"state": text, **({"interpreter": str(record.interpreter), **record.to_json()} if record else {})}
            for name, (text, record) in found.items()
        }
        click.echo(json.dumps({"place": str(environments.environments_folder()), "environments": data}, indent=1))
        return
    console = Console(highlight=False)
    console.print(str(environments.environments_folder()), markup=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("environment", "library", "Python", "state", "size", "there"):
        table.add_column(title, overflow="fold", justify="right" if title == "size" else "left")
    for name, (text, record) in found.items():
        if record is None:
            where = ENVIRONMENTS[name].command if text == "not made" else ""
            table.add_row(*(Text(t) for t in (name, "", "", text, "", where)))
            continue
        where = "\n".join([f"{name}/{record.folder}", *(_checkout_text(entry) for entry in record.added)])
        row = (name, record.description, record.python, text, size(record.bytes), where)
        table.add_row(*(Text(t) for t in row))
    console.print(table)


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(names: tuple[str, ...]) -> None:
    """Remove environments, with all that was installed there; checkouts on their path stay where they are."""
    from pcbench.environments import make as environment_making

    for name in names:
        environments.find_environment(name)
    for name in names:
        gone = environment_making.remove(name)
        click.echo(f"removed {name}" if gone else f"{name} was not made")


def size(count: int) -> str:
    """A number of bytes as text, in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _checkout_text(entry: object) -> str:
    assert isinstance(entry, dict)
    return f"+ {entry['path']}" + (f" at {environments.short_commit(entry['commit'])}" if entry.get("commit") else "")


def _conclude(console: Console, what: str, record: Record) -> None:
    console.print(
        f"{what}: {record.description}, Python {record.python}, {size(record.bytes)} in {record.directory}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    for entry in record.added:
        console.print(f"  {_checkout_text(entry)}", markup=False, soft_wrap=True)
    users = _users(record.name)
    if users:
        console.print(f"it is used by: {', '.join(f'pcbench check {name}' for name in users)}", soft_wrap=True)


def _users(name: str) -> list[str]:
    from pcbench.adapters.register import KNOWN

    return [entry.name for entry in KNOWN.values() if entry.environment == name]
