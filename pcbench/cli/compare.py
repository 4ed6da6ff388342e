"""`pcbench compare`: list the differences between two conformance reports."""

from __future__ import annotations

import sys

import click


@click.command("compare")
@click.argument("before", metavar="A.json", type=click.Path())
@click.argument("after", metavar="B.json", type=click.Path())
def command(before: str, after: str) -> None:
    """Compare two reports of `pcbench check --json`, A before and B after.

    A verdict that got worse, a margin that more than doubled (above 0.01, with the same profile and seed), or a law
    that is no longer judged is a regression.

    \b
    Exit codes: 0 no regression; 1 regression; 2 the command is wrong.
    """  # noqa: D301 (click's marker for a paragraph that is not wrapped)
    from pcbench.report import files as report_files
    from pcbench.report.changes import changes_between

    a, b = report_files.read(before), report_files.read(after)
    for name, report in (("A", a), ("B", b)):
        h = report.header
        click.echo(f"{name}: {h.subject}, pcbench {h.pcbench}, profile {h.profile}, seed {h.seed}: {report.conclusion}")
    if a.header.law_set != b.header.law_set:
        click.echo(f"note: different law sets, {a.header.law_set} and {b.header.law_set}")
    if (a.header.profile, a.header.seed) != (b.header.profile, b.header.seed):
        click.echo("note: different profile or seed, so that larger margins are shown but are no regression")
    found = changes_between(a, b)
    for change in sorted(found, key=lambda c: not c.regression):
        click.echo(f"{'REGRESSION' if change.regression else 'change':<10}  {change.law}  {change.text}")
    count = sum(change.regression for change in found)
    click.echo(f"{count} regressions, {len(found) - count} other changes, {len(b.verdicts)} laws")
    sys.exit(1 if count else 0)
