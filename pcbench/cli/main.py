"""Entry point of the command line `pcbench`; every command has a module of its own."""

from __future__ import annotations

import difflib
import os
from typing import Any

import click

from pcbench.cli import (
    adapters,
    bench,
    check,
    compare,
    conventions,
    env,
    gate,
    laws,
    matrix,
    new_adapter,
    phase,
    replay,
    scaling,
    speed,
)
from pcbench.environments.catalogue import PLACE
from pcbench.errors import PcbenchError, UsageError, error_text
from pcbench.version import __version__

VARIABLES: frozenset[str] = frozenset({PLACE})
"""Environment variables that pcbench reads; any other that begins with PCBENCH_ is taken for a misspelt one."""


class Refusal(click.ClickException):
    """A `PcbenchError` on the command line: its message and exit code 2, without a traceback."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the message to standard error."""
        click.echo(f"pcbench: {self.message}", err=True)


class Commands(click.Group):
    """A group that guesses what a misspelt command meant and turns errors of pcbench into messages."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command named first in `args`."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=2)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"commands are {', '.join(self.list_commands(ctx))}"
            )
            raise click.UsageError(f"no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PcbenchError as error:
            raise Refusal(error_text(error)) from error
        except KeyboardInterrupt:
            click.echo("pcbench: interrupted", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pcbench")
def main() -> None:
    """Conformance suite and benchmark of predictive coding networks."""
    for name in os.environ:
        if name.startswith("PCBENCH_") and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; pcbench reads none of that name, unset it"
            raise UsageError(f"environment variable {name} is not known{hint}")


for module in (
    check,
    laws,
    replay,
    compare,
    adapters,
    new_adapter,
    conventions,
    phase,
    scaling,
    speed,
    bench,
    gate,
    matrix,
    env,
):
    main.add_command(module.command)

if __name__ == "__main__":
    main()
