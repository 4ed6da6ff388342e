"""`pcbench bench`: compare the speed and accuracy of implementations that pass the laws."""

from __future__ import annotations

import secrets
import shlex
import sys
from typing import Any

import click
from rich.console import Console

from pcbench.cli.options import orderly_termination, output_directory, terminal
from pcbench.cli.sweep_options import parse_choices
from pcbench.errors import UsageError
from pcbench.worker.limits import CALL_SECONDS

_HELP = """
\b
Problems by default, all residual under mupc, each in both dtypes:
  linear-medium  linear, N=64, L=8, 32 samples
  tanh-medium    tanh, N=64, L=8, 32 samples
  deep-narrow    tanh, N=16, L=16, 16 samples
  wide           tanh, N=512, L=4, 32 samples
With --quick: linear-small and tanh-small, N=32, L=4, in float64.
"""


class _Tolerances(click.ParamType):
    """Certified distances to equilibrium, comma-separated, each between 0 and 1."""

    name = "X,X,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """The gaps, largest first and each once."""
        if isinstance(value, tuple):
            return value
        try:
            found = sorted({float(word) for word in str(value).split(",")}, reverse=True)
        except ValueError:
            found = []
        if not found or not all(0 < x < 1 for x in found):
            self.fail(f"{value!r}: needed numbers between 0 and 1 such as 1e-2,1e-4")
        return tuple(found)


def _epilog() -> str:
    from pcbench.leaderboard.outcome import EXIT_CODES

    return _HELP + EXIT_CODES


class _Command(click.Command):
    """A command that loads its epilog when it is shown, so that other commands import nothing for it."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the default problems and the exit codes."""
        self.epilog = _epilog()
        super().format_epilog(ctx, formatter)


@click.command("bench", cls=_Command)
@click.argument("implementations", nargs=-1, required=True, metavar="IMPL[=PYTHON]...")
@click.option("--output", "directory", default="bench", show_default=True, type=click.Path(),
              help="Directory for tables, figures and raw timings.")  # fmt: skip
@click.option("--problem", "lines", multiple=True, metavar="LINE",
              help="Problem to measure instead of the default ones, as for `pcbench replay`; repeatable.")  # fmt: skip
@click.option("--dtypes", help="Dtypes to measure, comma-separated.  [default: float64,float32]")
@click.option("--tolerances", default="1e-2,1e-4,1e-6", show_default=True, type=_Tolerances(),
              help="Certified distances to equilibrium to reach, as fractions of the loss.")  # fmt: skip
@click.option("--fraction", default=0.8, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Step size, as a fraction of the largest stable one.")  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1), help="Number of interleaved rounds of timing.  [default: 5, with --quick 3]"
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True),
              help="Approximate seconds of the longest call of a curve.  [default: 1, with --quick 0.2]")  # fmt: skip
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of the numerical libraries."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), help="Seed of the order and of conformance; drawn if not given."
)
@click.option("--conformance", "reports", multiple=True, metavar="REPORT.json",
              help="Report of `pcbench check --json`, or of an earlier run, to use instead of judging the laws; "
                   "repeatable.")  # fmt: skip
@click.option("--timeout", default=CALL_SECONDS, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Longest time of one call, in seconds.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Measure only two small problems in float64.")
@click.option("--quiet", is_flag=True, help="Print only the conclusion.")
def command(
    implementations: tuple[str, ...], directory: str, lines: tuple[str, ...], dtypes: str | None,
    tolerances: tuple[float, ...], fraction: float, rounds: int | None, seconds: float | None, threads: int,
    seed: int | None, reports: tuple[str, ...], timeout: float, quick: bool, quiet: bool,
) -> None:  # fmt: skip
    """Compare the speed and accuracy of implementations: inference, time to certified equilibrium, curves.

    IMPL as for `pcbench check`; with =PYTHON, in the interpreter that has its library. All are measured in one run, in
    interleaved rounds. Only what passes the laws of energy, gradients and inference, in its interpreter and dtype, is
    shown; what does not is in the table with the reason. Writes bench.json (all raw timings), bench.csv, bench.md,
    bench.svg and bench.png, and the conformance reports.
    """
    from pcbench.leaderboard import cases, session
    from pcbench.leaderboard.measure import Plan
    from pcbench.output import display
    from pcbench.problem.network import DTYPES

    if quick and lines:
        raise UsageError("--quick measures problems of its own: leave out --problem, or choose small ones there")
    entrants = session.parse(implementations)
    kinds = ("float64",) if quick else ("float64", "float32")
    settings = session.Settings(
        problems=cases.name_problems(lines) if lines else cases.QUICK if quick else cases.PROBLEMS,
        dtypes=tuple(parse_choices("--dtypes", dtypes, DTYPES)) if dtypes is not None else kinds,
        seed=secrets.randbits(32) if seed is None else seed, fraction=fraction, threads=threads, timeout=timeout,
        plan=Plan(
            rounds=rounds or (3 if quick else 5), tolerances=tolerances, seconds=seconds or (0.2 if quick else 1.0),
            long_seconds=0.05 if quick else 0.5,
        ),
        reports=reports, command=shlex.join(["pcbench", *sys.argv[1:]]),
    )  # fmt: skip
    place, console = output_directory(directory), terminal()
    shown = display.choose(console, quiet)
    with orderly_termination():
        try:
            board = session.run_leaderboard(entrants, settings, place, shown)
        finally:
            shown.close()
    written = session.write(board, place)
    if not quiet:
        _print(console, board)
        for path in written:
            console.print(f"wrote {path}", markup=False, soft_wrap=True)
    console.print(board.conclusion, markup=False, soft_wrap=True)
    sys.exit(board.exit_code)


def _print(console: Console, board: Any) -> None:
    from pcbench.leaderboard import summary

    console.print()
    for name, value in summary.header(board):
        console.print(f"{name:<22} {value}", markup=False, soft_wrap=True)
    console.print()
    console.print(summary.rows_table(board))
    console.print()
    for name, why in summary.reasons(board):
        console.print(f"{name}: {why}", markup=False, soft_wrap=True)
