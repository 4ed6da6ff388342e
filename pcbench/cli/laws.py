"""`pcbench laws`: list all laws, or print everything about some of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pcbench.output.strict_json import plain_data


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


@click.command("laws")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--json", "as_json", is_flag=True, help="Print the laws as JSON.")
def command(ids: tuple[str, ...], as_json: bool) -> None:
    """List all laws, or print everything about those named by IDs, groups or wildcards."""
    from pcbench.laws import Domain, select

    chosen = select(ids)
    if as_json:
        click.echo(json.dumps([law_data(law) for law in chosen], indent=1, ensure_ascii=False))
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
            ("domain", "; ".join(f"{k}: {_value_text(v)}" for k, v in domain.items()) or "all problems"),
        ):
            if value:
                grid = Table.grid()
                grid.add_column(width=24)
                grid.add_column(overflow="fold")
                grid.add_row(Text(f"  {name}", style="dim"), Text(value))
                console.print(grid)


def _value_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
