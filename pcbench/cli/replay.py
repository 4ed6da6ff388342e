"""`pcbench replay`: judge one law on one problem and print every detail."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.text import Text

from pcbench.cli.options import implementation_option, python_option, timeout_option
from pcbench.errors import ImplementationError, UsageError
from pcbench.problem.architectures import problem_from_line
from pcbench.problem.mlp import Problem


@click.command("replay")
@click.argument("law")
@click.argument("problem")
@implementation_option
@python_option
@timeout_option
@click.option("--in-process", is_flag=True, help="Run the implementation in this process, for debugging.")
def command(law: str, problem: str, impl: str, python: str | None, timeout: float, in_process: bool) -> None:
    """Judge LAW on PROBLEM, the line a report gives for a failure, and print everything.

    \b
    Exit codes: 0 the law holds on this problem; 1 it is broken;
    2 the command is wrong or the implementation cannot be started;
    3 undecided, or the implementation failed.
    """  # noqa: D301 (click's marker for a paragraph that is not wrapped)
    from pcbench.adapters.register import locate
    from pcbench.laws import select
    from pcbench.properties import measure_problem as measure_law
    from pcbench.worker.isolation import open_subject
    from pcbench.worker.limits import Limits

    chosen = select([law])
    if len(chosen) != 1:
        raise UsageError(f"law {law!r} matches {len(chosen)} laws: give the id of one")
    case = problem_from_line(problem)
    console = Console(highlight=False)
    spec, python = locate(impl, python, in_process)
    subject = open_subject(spec, python=python, limits=Limits(call_seconds=timeout), in_process=in_process)
    try:
        show = Printer(console)
        show("law", chosen[0].id)
        show("statement", chosen[0].statement)
        show("citation", chosen[0].citation)
        show("implementation", f"{subject.manifest.name} {subject.manifest.version}".strip())
        if python:
            show("interpreter", python)
        for name, value in case.to_json().items():
            show(name, value)
        if isinstance(case, Problem):
            show("scalings", ", ".join(f"{a:.6g}" for a in case.scalings()))
        reason = chosen[0].refuses(subject, case)
        if reason is not None:
            show("verdict", f"not-applicable: {reason}")
            sys.exit(3)
        try:
            measurement = measure_law(chosen[0], subject, case)
        except ImplementationError as error:
            show("message", f"{type(error).__name__}: {error}")
            # The verdict is the one that a run would give: see `pcbench.properties.judge`.
            outcome = {"ContractError": "fail", "WorkerTimeoutError": "timeout"}.get(type(error).__name__, "error")
            show("verdict", outcome)
            sys.exit(1 if outcome == "fail" else 3)
        show("measured", f"{measurement.error:.6g}")
        show("allowed", f"{measurement.allowance:.6g}")
        show("margin", f"{measurement.margin:.6g}")
        for name, value in measurement.details.items():
            show(name, value)
        if measurement.inconclusive is not None:
            show("verdict", f"inconclusive: {measurement.inconclusive}")
            sys.exit(3)
        show("verdict", "fail" if measurement.failed else "pass")
        if measurement.failed:
            show("failing usually means", chosen[0].failing_means)
            sys.exit(1)
    finally:
        subject.close()


class Printer:
    """Prints names in one column and values beside them."""

    def __init__(self, console: Console, width: int = 22) -> None:
        self._console, self._width = console, width

    def __call__(self, name: str, value: object) -> None:
        """Print one line."""
        text = Text(f"{name:<{self._width}} ", style="dim").append(str(value), style="none")
        self._console.print(text, soft_wrap=True)
