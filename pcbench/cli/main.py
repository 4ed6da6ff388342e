"""The command line: `pcbench check` and a module for each of the other commands."""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from typing import Any

import click
from rich.console import Console

from pcbench.cli.bench import bench
from pcbench.cli.catalogue import adapters, laws, new_adapter
from pcbench.cli.compare import compare
from pcbench.cli.conventions import conventions
from pcbench.cli.env import env
from pcbench.cli.gate import gate
from pcbench.cli.matrix import matrix
from pcbench.cli.options import (
    cpu_limit_option,
    implementation_argument,
    laws_option,
    located,
    memory_limit_option,
    orderly_termination,
    python_option,
    timeout_option,
    workers_option,
)
from pcbench.cli.phase import phase
from pcbench.cli.replay import replay
from pcbench.cli.scaling import scaling
from pcbench.cli.speed import speed
from pcbench.environments import catalogue as environments
from pcbench.errors import PcbenchError, UsageError, told
from pcbench.version import __version__

VARIABLES: frozenset[str] = frozenset({environments.PLACE})
"""Environment variables that pcbench reads; any other that begins with PCBENCH_ is taken for a misspelt one."""

EXIT_CODES = """
\b
Exit codes:
  0    all applicable laws hold (or fail as the known failures say)
  1    a law is broken, a known failure passes, or nothing was judged
  2    the command is wrong, or the implementation cannot be started
  3    no law is broken, but some could not be decided: inconclusive,
       error, timeout, or blocked by a known failure and not listed itself
  130  interrupted by Ctrl-C; the report is partial
"""


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
            raise Refusal(told(error)) from error
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


@main.command(epilog=EXIT_CODES)
@implementation_argument
@python_option
@click.option("--profile", default="standard", show_default=True, help="How much evidence: smoke, standard, thorough.")
@laws_option
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Of all problems; drawn and printed if not given.")
@workers_option
@click.option("--known-failures", type=click.Path(), help="JSON file of failures that are expected.")
@click.option("--json", "json_path", type=click.Path(), help="Write the full report, for `pcbench compare`.")
@click.option("--junit", "junit_path", type=click.Path(), help="Write JUnit XML.")
@click.option("--markdown", "markdown_path", type=click.Path(), help="Write Markdown for a pull request.")
@timeout_option
@cpu_limit_option
@memory_limit_option
@click.option(
    "--isolate",
    type=click.Choice(("run", "law", "example")),
    default="run",
    show_default=True,
    help="How long a process of IMPL lives: if it remembers what it should not, for one law or one example.",
)
@click.option("--in-process", is_flag=True, help="Run the implementation inside the runners, to debug it.")
@click.option("--fresh", is_flag=True, help="Ignore the journal of an unfinished run.")
@click.option("--quiet", is_flag=True, help="No progress and no table: the conclusion alone.")
def check(
    impl: str,
    python: str | None,
    profile: str,
    patterns: tuple[str, ...],
    seed: int | None,
    workers: int | None,
    known_failures: str | None,
    json_path: str | None,
    junit_path: str | None,
    markdown_path: str | None,
    timeout: float | None,
    cpu_limit: float | None,
    memory_limit: int | None,
    isolate: str,
    in_process: bool,
    fresh: bool,
    quiet: bool,
) -> None:
    """Judge an implementation by the laws of predictive coding networks.

    IMPL is the name of a known adapter (see `pcbench adapters`), package.module:attribute, or path/to/file.py.
    """
    from pcbench.conformance import run as runner
    from pcbench.conformance.progress import Progress
    from pcbench.laws import REGISTRY
    from pcbench.output import display
    from pcbench.report import files as report_files
    from pcbench.report import known_failures as known
    from pcbench.report import text as report_text

    spec, python = located(impl, python, in_process)
    entries = known.read(known_failures, list(REGISTRY)) if known_failures else []
    outputs = {"json": json_path, "junit": junit_path, "markdown": markdown_path}
    report_files.check_writable(outputs.values())
    console = terminal()
    with orderly_termination():
        report = runner.run(
            spec,
            profile=profile,
            seed=seed,
            laws=split(patterns),
            workers=workers,
            python=python,
            call_timeout=runner.CALL_TIMEOUT if timeout is None else timeout,
            in_process=in_process,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
            isolation=isolate,
            fresh=fresh,
            progress=Progress(display.choose(console, quiet)),
            known=entries,
            implementation=impl,
            command=shlex.join(["pcbench", *sys.argv[1:]]),
        )
    report_files.write(report, **outputs)
    if quiet:
        console.print(f"{report.conclusion} (seed {report.header.seed})", markup=False, soft_wrap=True)
    else:
        report_text.print_report(report, console)
    sys.exit(report.exit_code)


def terminal() -> Console:
    """Standard output; where that is no terminal, wide enough for the whole table unless COLUMNS says otherwise."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160
    return console


def split(patterns: tuple[str, ...]) -> list[str]:
    """Options that may be repeated and may hold several values between commas.

    **Raises:** `UsageError` for an option that holds none, which would otherwise mean everything.
    """
    words = [word.strip() for pattern in patterns for word in pattern.split(",")]
    if patterns and not any(words):
        raise UsageError(f"--laws {','.join(patterns)!r} names no law; `pcbench laws` lists them")
    return [word for word in words if word]


for command in (
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
    main.add_command(command)

if __name__ == "__main__":
    main()
