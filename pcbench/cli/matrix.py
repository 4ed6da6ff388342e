"""`pcbench matrix`: judge several implementations by all laws, as one table and one figure."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pcbench.cli.options import (
    cpu_limit_option,
    laws_option,
    memory_limit_option,
    orderly_termination,
    output_directory,
    split_patterns,
    timeout_option,
    workers_option,
)
from pcbench.errors import UsageError

EXIT_CODES = """
\b
Exit codes:
  0    all implementations conform, but for their known failures
  1    one of them breaks a law, or a known failure passes
  2    the command is wrong
  3    no law is broken, but something could not be decided, or an
       implementation could not be started
  130  interrupted by Ctrl-C; the same command goes on from there
"""


@click.command("matrix", epilog=EXIT_CODES)
@click.argument("implementations", nargs=-1, metavar="[IMPL[=PYTHON]]...")
@click.option("--output", "directory", default="matrix", show_default=True, type=click.Path(file_okay=False),
              help="Directory for reports, table and figure.")  # fmt: skip
@click.option(
    "--profile", default="standard", show_default=True, help="Number of examples per law: smoke, standard or thorough."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**64 - 1), help="Seed of all problems.")
@laws_option
@workers_option
@timeout_option
@cpu_limit_option
@memory_limit_option
@click.option("--fresh", is_flag=True, help="Judge everything anew, including what an earlier run judged.")
@click.option("--quiet", is_flag=True, help="Print only one line for each implementation.")
def command(
    implementations: tuple[str, ...],
    directory: str,
    profile: str,
    seed: int,
    patterns: tuple[str, ...],
    workers: int | None,
    timeout: float,
    cpu_limit: float | None,
    memory_limit: int | None,
    fresh: bool,
    quiet: bool,
) -> None:
    """Judge several implementations one after another, and write one matrix of laws by implementations.

    Each IMPL is named as for `pcbench check`, with the interpreter that has it after an equals sign where pcbench does
    not find it by itself.  Known failures that come with an adapter are expected.  Writes matrix.json, matrix.md and a
    figure, and keeps every report, so that the same command only judges what is missing or has changed.
    """
    from pcbench.conformance.several import judge_all, parse_implementations
    from pcbench.output import display
    from pcbench.report import matrix as matrices

    if not implementations:
        raise UsageError("no implementation is given: name some, such as `pcbench matrix reference numpy`")
    console, place = Console(highlight=False), output_directory(directory)
    reports = output_directory(str(place / "reports"))
    options: dict[str, Any] = {
        "workers": workers,
        "timeout": timeout,
        "cpu_limit": cpu_limit,
        "memory_limit": memory_limit,
    }
    command = shlex.join(["pcbench", *sys.argv[1:]])
    columns: list[matrices.Column] = []
    with orderly_termination():
        for column in judge_all(
            parse_implementations(implementations),
            reports,
            profile=profile,
            seed=seed,
            laws=split_patterns(patterns),
            fresh=fresh,
            options=options,
            display=display.choose(console, quiet),
            tell=lambda text: console.print(text, markup=False, soft_wrap=True),
        ):
            columns.append(column)
            write(columns, place, command)
    console.print(f"wrote {place / 'matrix.md'}, matrix.json and matrix.png", markup=False, soft_wrap=True)
    sys.exit(matrices.exit_code(columns))


def write(columns: list[Any], place: Path, command: str) -> None:
    """Write table and figure of what has been judged so far."""
    from pcbench.output.table import replace_file
    from pcbench.report import matrix as matrices
    from pcbench.report import matrix_figure

    replace_file(place / "matrix.json", json.dumps(matrices.as_data(columns, command), indent=1) + "\n")
    replace_file(place / "matrix.md", matrices.as_markdown(columns, command))
    headers = [c.report.header for c in columns if c.report]
    if headers:
        note = f"profile {headers[0].profile}, seed {headers[0].seed}, pcbench {headers[0].pcbench}"
        matrix_figure.draw(columns, place, note=note)
