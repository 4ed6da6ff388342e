"""`pcbench check`: judge one implementation by the laws of predictive coding networks."""

from __future__ import annotations

import shlex
import sys

import click

from pcbench.cli.options import (
    cpu_limit_option,
    implementation_argument,
    laws_option,
    memory_limit_option,
    orderly_termination,
    python_option,
    split_patterns,
    terminal,
    timeout_option,
    workers_option,
)

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


@click.command("check", epilog=EXIT_CODES)
@implementation_argument
@python_option
@click.option(
    "--profile", default="standard", show_default=True, help="Number of examples per law: smoke, standard or thorough."
)
@laws_option
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Seed of all problems; drawn and printed if not given.")
@workers_option
@click.option("--known-failures", type=click.Path(), help="JSON file of failures to expect.")
@click.option(
    "--json", "json_path", type=click.Path(), help="Write the full report as JSON to this file, for `pcbench compare`."
)
@click.option("--junit", "junit_path", type=click.Path(), help="Write the report as JUnit XML to this file.")
@click.option(
    "--markdown",
    "markdown_path",
    type=click.Path(),
    help="Write the result as Markdown to this file, for a pull request.",
)
@timeout_option
@cpu_limit_option
@memory_limit_option
@click.option(
    "--isolate",
    type=click.Choice(("run", "law", "example")),
    default="run",
    show_default=True,
    help="Lifetime of a process of IMPL; choose law or example if it keeps state that it should not.",
)
@click.option("--in-process", is_flag=True, help="Run the implementation inside the runner processes, for debugging.")
@click.option("--fresh", is_flag=True, help="Start anew instead of resuming an interrupted run.")
@click.option("--quiet", is_flag=True, help="Print only the conclusion.")
def command(
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
    timeout: float,
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
    from pcbench.conformance import run as conformance
    from pcbench.conformance.progress import Progress
    from pcbench.laws import REGISTRY
    from pcbench.output import display
    from pcbench.report import files as report_files
    from pcbench.report import known_failures as known
    from pcbench.report import text as report_text

    # A file that cannot be read or written is refused before anything is judged.
    entries = known.read(known_failures, list(REGISTRY)) if known_failures else None
    outputs = {"json": json_path, "junit": junit_path, "markdown": markdown_path}
    report_files.check_writable(outputs.values())
    console = terminal()
    with orderly_termination():
        report = conformance.check(
            impl,
            profile=profile,
            seed=seed,
            laws=split_patterns(patterns),
            python=python,
            known_failures=entries,
            workers=workers,
            timeout=timeout,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
            isolation=isolate,
            in_process=in_process,
            journal_dir=".pcbench",
            fresh=fresh,
            progress=Progress(display.choose(console, quiet)),
            command=shlex.join(["pcbench", *sys.argv[1:]]),
        )
    report_files.write(report, **outputs)
    if quiet:
        console.print(f"{report.conclusion} (seed {report.header.seed})", markup=False, soft_wrap=True)
    else:
        report_text.print_report(report, console)
    sys.exit(report.exit_code)
