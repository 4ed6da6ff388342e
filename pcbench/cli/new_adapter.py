"""`pcbench new-adapter`: write the files of a new adapter, which pass unchanged."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pcbench.errors import UsageError


@click.command("new-adapter")
@click.argument("name")
@click.option(
    "--directory",
    default=".",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Directory to write the files to.",
)
@click.option("--no-workflow", is_flag=True, help="Leave out the GitHub workflow, .github/workflows/pcbench.yml.")
def command(name: str, directory: str, no_workflow: bool) -> None:
    """Write the files of a new adapter for the library NAME, which pass all laws they claim until you change them.

    These are an adapter, a list of known failures, a pytest module and, at the top of the git repository, a GitHub
    workflow. A file that exists is never overwritten.
    """
    from pcbench.adapters.scaffold import adapter as template

    place = Path(directory).resolve()
    top = next((p for p in (place, *place.parents) if (p / ".git").exists()), place)
    written = template.scaffold_files(name, place.relative_to(top).as_posix(), workflow=not no_workflow)
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
