"""`pcbench conventions`: measure which conventions an implementation follows."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console

from pcbench.cli.options import implementation_argument, orderly_termination, python_option, timeout_option

EXIT_CODES = """
\b
Exit codes:
  0    every convention that could be asked about is as declared
  1    the manifest should declare something else, as printed
  2    the command is wrong, or the implementation cannot be started
  3    no combination of conventions explains some of the answers, or
       nothing could be asked
  130  interrupted by Ctrl-C
"""


@click.command("conventions", epilog=EXIT_CODES)
@implementation_argument
@python_option
@timeout_option
@click.option("--in-process", is_flag=True, help="Run the implementation in this process, for debugging.")
def command(impl: str, python: str | None, timeout: float, in_process: bool) -> None:
    """Measure how the numbers of IMPL are to be read, and print what its manifest should declare.

    Each law of definition is asked on three small problems under every combination of the conventions that it depends
    on.  What the manifest claims to be able to do is taken as it is: claim a linear network to begin with.
    """
    from pcbench.adapters.register import locate
    from pcbench.conformance.conventions import Finding, apply_findings, measure_conventions
    from pcbench.worker.isolation import open_subject
    from pcbench.worker.limits import Limits

    console = Console(highlight=False)

    def show(text: str, style: str = "") -> None:
        console.print(text, markup=False, soft_wrap=True, style=style or None)

    spec, python = locate(impl, python, in_process)
    limits = Limits(call_seconds=timeout)
    findings: list[Finding] = []
    with orderly_termination():
        subject = open_subject(spec, python=python, limits=limits, in_process=in_process)
        try:
            for finding in measure_conventions(subject):
                findings.append(finding)
                show(finding.law, style="bold")
                for line in finding_lines(finding):
                    show(f"  {line}")
        finally:
            subject.close()
    declared = subject.manifest.conventions
    found = apply_findings(declared, findings)
    if found != declared:
        show("\nThe manifest should declare\n")
        show("        conventions=Conventions(")
        for name, value in convention_changes(type(declared)(), found).items():
            show(f"            {name}={value!r},".replace("'", '"'))
        show("        ),")
    if all(f.skipped for f in findings):
        show("\nnothing could be asked: the manifest claims nothing that depends on a convention")
        sys.exit(3)
    unexplained = [f.law for f in findings if not f.skipped and f.determined is None]
    if unexplained:
        show(f"\nnot explained by any convention: {', '.join(unexplained)}")
        sys.exit(3)
    if found == declared:
        show("\nall that could be asked about is as declared")
    sys.exit(0 if found == declared else 1)


def finding_lines(finding: Any) -> list[str]:
    """What a finding says, a line for each convention or one for all of them."""
    if finding.skipped:
        return [f"not asked: {finding.skipped}"]
    if finding.determined is None and finding.holding:
        ways = "; ".join(_pairs(finding.fields, values) for values in finding.holding)
        return [f"not as declared ({_pairs(finding.fields, finding.declared)}), but cannot tell apart: {ways}"]
    if finding.determined is None:
        return [
            f"no combination of {', '.join(finding.fields) or 'conventions'} explains the answers: "
            "a defect, or something claimed that is not so",
            f"as declared: {finding.message}",
            f"pcbench replay {finding.law} '{finding.problem}'",
        ]
    lines = []
    for name, declared, value in zip(finding.fields, finding.declared, finding.determined, strict=True):
        verdict = "as declared" if value == declared else f"declared {declared!r}"
        lines.append(f"{name:<28} {value!s:<14} {verdict}")
    return lines or ["holds, by what is settled above"]


def convention_changes(before: Any, after: Any) -> dict[str, Any]:
    """The fields in which two sets of conventions differ, with the values of the second."""
    return {k: v for k, v in vars(after).items() if v != vars(before)[k]}


def _pairs(fields: tuple[str, ...], values: tuple[Any, ...]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in zip(fields, values, strict=True))
