"""`pcbench gate`: decide whether a change may be merged, by conformance and speed of two commits."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import click

from pcbench.cli.options import orderly_termination, python_option, split_patterns, terminal
from pcbench.errors import UsageError
from pcbench.gate.outcome import EXIT_CODES


@click.command("gate", epilog=EXIT_CODES)
@click.argument("base", metavar="BASE")
@click.argument("head", metavar="[HEAD]", required=False)
@click.option("--implementation", default="reference", show_default=True, help="Named as for `check`; a relative "
              "path is taken inside each commit.")  # fmt: skip
@python_option
@click.option("--repo", "directory", default=".", show_default=True, type=click.Path(exists=True, file_okay=False),
              help="Directory inside the git repository of the commits.")  # fmt: skip
@click.option("--source", "sources", multiple=True, help="Directory of the commit that holds its package; repeatable."
              "  [default: src if there is one, and the top]")  # fmt: skip
@click.option("--rows", default="", help="Speed rows to compare, comma-separated.  [default: all]")
@click.option("--profile", default="smoke", show_default=True, help="Profile of the conformance run.")
@click.option("--laws", multiple=True, help="Laws of the conformance run, as for `check`.  [default: all]")
@click.option("--known-failures", type=click.Path(exists=True), help="JSON file of failures to expect in both commits.")
@click.option("--effect", default=0.20, show_default=True, type=click.FloatRange(0, 3, min_open=True),
              help="Slowdown that must be detected, as a fraction.")  # fmt: skip
@click.option("--ratio", default=0.05, show_default=True, type=click.FloatRange(0, 3),
              help="Smallest slowdown that counts as a regression, as a fraction.")  # fmt: skip
@click.option(
    "--pairs", default=8, show_default=True, type=click.IntRange(2), help="Fewest pairs of processes to time."
)
@click.option(
    "--max-pairs", default=24, show_default=True, type=click.IntRange(2), help="Most pairs of processes to time."
)
@click.option(
    "--calibration",
    default=4,
    show_default=True,
    type=click.IntRange(2),
    help="Pairs of BASE with itself that measure the noise of this host.",
)
@click.option(
    "--drift",
    default=2.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Report margins that grew by at least this factor.",
)
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of the numerical libraries."
)
@click.option("--clock", default="wall", show_default=True, type=click.Choice(["wall", "cpu"]), help="CPU time is less "
              "disturbed on a busy host, but does not include waiting and GPUs.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Seed of problems and order; drawn if not given.")
@click.option("--json", "json_path", type=click.Path(), help="Write all measurements as JSON to this file.")
@click.option(
    "--markdown",
    "markdown_path",
    type=click.Path(),
    help="Write the result as Markdown to this file, for a pull request.",
)
@click.option("--quiet", is_flag=True, help="Print only the conclusion.")
def command(
    base: str, head: str | None, implementation: str, python: str | None, directory: str, sources: tuple[str, ...],
    rows: str, profile: str, laws: tuple[str, ...], known_failures: str | None, effect: float, ratio: float, pairs: int,
    max_pairs: int, calibration: int, drift: float, threads: int, clock: str, seed: int | None, json_path: str | None,
    markdown_path: str | None, quiet: bool,
) -> None:  # fmt: skip
    """Compare commit HEAD, by default the working tree with its uncommitted changes, to commit BASE.

    Both are checked out into a temporary directory and driven by this pcbench's own laws and measurements. A row is
    compared only if the laws hold on both sides.
    """
    from pcbench.adapters import register as adapters
    from pcbench.gate import commits, session, summary
    from pcbench.gate import rows as table
    from pcbench.gate.signs import Plan, looks_between
    from pcbench.output import display
    from pcbench.report import files as report_files
    from pcbench.report.profiles import profile_named
    from pcbench.timing import harness

    console = terminal()
    chosen = table.choose([word.strip() for word in rows.split(",") if word.strip()])
    if max_pairs < pairs:
        raise UsageError(f"--max-pairs {max_pairs}: needed at least the {pairs} of --pairs")
    plan = Plan(looks=looks_between(pairs, max_pairs), effect=effect, ratio=ratio)
    spec, python = adapters.locate(implementation, python)
    report_files.check_writable([json_path, markdown_path])
    repository = commits.repository_of(Path(directory))
    settings = session.Settings(
        implementation=implementation, profile=profile_named(profile).name,
        seed=secrets.randbits(32) if seed is None else seed, plan=plan, chosen=chosen, calibration=calibration,
        laws=tuple(split_patterns(laws)), known_failures=known_failures, drift=drift,
    )  # fmt: skip
    shown = display.choose(console, quiet)
    with orderly_termination(), harness.open_harness(python=python, threads=threads, clock=clock) as driver:
        try:
            with commits.check_out(repository, base, head, driver.directory) as both:
                for what, checkout in zip(("base", "head"), both, strict=True):
                    shown.note(f"{what}: {checkout.description}")
                if head is not None and (left_out := commits.changes_of(repository)):
                    shown.note(f"note: {len(left_out)} uncommitted changes in {repository} are not in {head}")
                if harness.lacks(both[0].path, spec) and not harness.lacks(both[1].path, spec):
                    # The pull request that brings the adapter must not fail for that.
                    shown.close()
                    said = f"nothing could be compared: {implementation} is new, {both[0].description} has no such file"
                    if markdown_path:
                        Path(markdown_path).write_text(f"**pcbench gate:** {said}\n", encoding="utf-8")
                    console.print(f"{said} (exit code 3)", markup=False, soft_wrap=True)
                    sys.exit(3)
                sides = [
                    harness.side(driver, label, checkout.path, spec, sources)
                    for label, checkout in zip(("base", "head"), both, strict=True)
                ]
                report = session.run_gate(driver, both, sides, settings, shown)
        finally:
            shown.close()
    for path, text in ((json_path, report.dumps), (markdown_path, lambda: summary.markdown(report))):
        if path:
            Path(path).write_text(text(), encoding="utf-8")
    if not quiet:
        console.print()
        for name, value in summary.header(report):
            console.print(f"{name:<20} {value}", markup=False, soft_wrap=True)
        console.print()
        console.print(summary.rows_table(report))
        console.print()
    console.print(f"{report.conclusion} (exit code {report.exit_code})", markup=False, soft_wrap=True)
    sys.exit(report.exit_code)
