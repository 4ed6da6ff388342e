"""Run a whole leaderboard: participants, conformance of each in each dtype, then case by case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from pcbench.adapters import register as adapters
from pcbench.errors import ImplementationError, PcbenchError, UsageError, first_line
from pcbench.leaderboard import conformance, figure, measure, summary
from pcbench.leaderboard.cases import Case, make_cases
from pcbench.leaderboard.outcome import Board, CaseText, Entrant, Row, Standing
from pcbench.leaderboard.quality import certify_activities
from pcbench.output.display import Display
from pcbench.output.strict_json import plain_data
from pcbench.output.table import replace_file, write_rows
from pcbench.problem.mlp import Problem
from pcbench.report.report import Report
from pcbench.timing import machine_record as machine
from pcbench.timing.machine import load_average
from pcbench.version import __version__
from pcbench.worker import process as processes
from pcbench.worker.client import WorkerClient
from pcbench.worker.limits import CALL_SECONDS, Limits
from pcbench.worker.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a leaderboard is asked: see the options of `pcbench bench`."""

    problems: Mapping[str, Problem]
    dtypes: tuple[str, ...]
    seed: int
    fraction: float = 0.8
    threads: int = 1
    timeout: float = CALL_SECONDS
    plan: measure.Plan = field(default_factory=measure.Plan)
    laws: tuple[str, ...] = conformance.LAWS
    reports: tuple[str, ...] = ()
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """What a reader of the report has to know, as plain JSON data."""
        names = ("dtypes", "seed", "fraction", "threads", "timeout", "laws", "reports")
        return plain_data({**{name: getattr(self, name) for name in names}, **vars(self.plan)})


def parse(texts: Sequence[str]) -> list[Entrant]:
    """Who is named on a command line, `IMPL` or `IMPL=PYTHON` each, as it is to be timed; so it is also judged.

    **Raises:** `UsageError` for an implementation that is not known, an interpreter that is not there, or a repetition.
    """
    found: list[Entrant] = []
    for text in texts:
        given, spec, python = adapters.locate_pair(text)
        spec = adapters.timing_spec(spec)
        if python:
            processes.resolve_interpreter(python)
        if any((e.spec, e.python) == (spec, python) for e in found):
            raise UsageError(f"implementation {text!r} is given twice: name each once")
        found.append(Entrant(name=given, given=given, spec=spec, python=python))
    return found


def run_leaderboard(given: Sequence[Entrant], settings: Settings, place: Path, display: Display) -> Board:
    """Measure the `given` implementations; `bench.json` in `place` is valid from the first row on.

    Ctrl-C ends the run and gives the partial board.

    **Raises:** `UsageError` or another `PcbenchError` for whatever is wrong with the command, before anything is
    measured.
    """
    reports = conformance.read(settings.reports, settings.laws)
    todo = make_cases(settings.problems, settings.dtypes, settings.fraction)
    began = time.monotonic()
    board = Board(
        pcbench=__version__, command=settings.command, started=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=settings.seed, settings=settings.to_json(),
    )  # fmt: skip

    def save() -> None:
        board.seconds = time.monotonic() - began
        replace_file(place / "bench.json", board.dumps())

    load = load_average()
    try:
        with _start_workers(given, settings, display, board) as subjects:
            chosen = conformance.assign(reports, board.entrants)
            board.machine = {**machine.record(settings.threads, {}), "load_before": load}
            board.cases = [_text(case) for case in todo]
            board.rows = [_row(case, e, subjects.get(e.name)) for case in todo for e in board.entrants]
            save()
            _judge(board, settings, {key: (path, reports[path]) for key, path in chosen.items()}, place, display, save)
            _measure(board, todo, subjects, settings, display, save)
            board.entrants = [_with_info(e, subjects.get(e.name)) for e in board.entrants]
    except KeyboardInterrupt:
        board.partial = "interrupted"
    board.machine = {**board.machine, "load_after": load_average()}
    save()
    return board


def write(board: Board, place: Path) -> list[Path]:
    """Table, Markdown and, if there is a curve, figures beside `bench.json`; all paths."""
    pictures = figure.draw(board, place) if any(r.outcome == "measured" for r in board.rows) else []
    write_rows(place / "bench.csv", summary.records(board))
    replace_file(place / "bench.md", summary.markdown(board, pictures[-1].name if pictures else ""))
    return [place / name for name in ("bench.json", "bench.csv", "bench.md")] + pictures


@contextmanager
def _start_workers(
    given: Sequence[Entrant], settings: Settings, display: Display, board: Board
) -> Iterator[dict[str, Subject]]:
    """A process for each implementation, by the name in its manifest; one that cannot start stays as a trouble."""
    display.stage(f"starting {', '.join(e.given for e in given)}")
    with ExitStack() as stack:
        subjects: dict[str, Subject] = {}
        for entrant in given:
            try:
                client = WorkerClient(
                    entrant.spec,
                    entrant.python or None,
                    Limits(call_seconds=settings.timeout),
                    threads=settings.threads,
                )
            except ImplementationError as error:
                board.entrants.append(replace(entrant, trouble=first_line(error)))
                display.note(f"{entrant.given} cannot be started: {first_line(error)}")
                continue
            stack.enter_context(client)
            name = client.manifest.name
            if name in subjects:
                raise UsageError(
                    f"two implementations are called {name!r}: needed a name of its own in the manifest of each, so "
                    "that rows can be told apart"
                )
            subjects[name] = Subject(client)
            named = replace(entrant, name=name, manifest=plain_data(client.manifest.to_json()))
            board.entrants.append(_with_info(named, subjects[name]))
        yield subjects


def _row(case: Case, entrant: Entrant, subject: Subject | None) -> Row:
    """The row as it is before anything is measured: what is known not to be applicable is said here."""
    row = Row(
        case=case.name, dtype=case.problem.dtype, implementation=entrant.name, batch=case.problem.batch
    )  # fmt: skip
    if subject is None:
        row.outcome, row.why = "error", f"could not be started: {entrant.trouble}"
    elif (why := subject.refuses(case.problem)) is not None:
        row.outcome, row.why = "not-applicable", why
    elif (order := subject.manifest.conventions.update_order) != "simultaneous":
        row.notes.append(f"updates its layers {order}, so its steps are not those of the others")
    return row


def _judge(
    board: Board, settings: Settings, known: Mapping[tuple[str, str], tuple[str, Report]], place: Path,
    display: Display, save: Callable[[], None],
) -> None:  # fmt: skip
    """The standing of every implementation in every dtype in which it has a row; rows of those that fail are withheld.

    The reports are kept beside the board.
    """
    for entrant in board.entrants:
        for dtype in settings.dtypes:
            open_ = [
                r for r in board.rows if (r.implementation, r.dtype, r.outcome) == (entrant.name, dtype, "not-run")
            ]
            if not open_:
                continue
            display.stage(f"conformance of {entrant.name} in {dtype}")
            found = _standing(entrant, dtype, settings, known.get((entrant.name, dtype)), place, display)
            board.standings.append(found)
            display.note(f"{'conforms' if found.conforms else 'WITHHELD'}: {found.why}")
            for row in open_:
                if not found.conforms:
                    row.outcome, row.why = "withheld", found.why
            save()


def _standing(
    entrant: Entrant, dtype: str, settings: Settings, known: tuple[str, Report] | None, place: Path, display: Display
) -> Standing:
    if known is not None:
        return conformance.standing(entrant.name, dtype, known[1], settings.laws, known[0])
    try:
        report = conformance.judge_entrant(
            entrant, dtype, seed=settings.seed, laws=settings.laws, display=display, timeout=settings.timeout
        )
    except PcbenchError as error:
        return conformance.failed_to_start(entrant.name, dtype, error)
    file = place / f"conformance-{''.join(c if c.isalnum() or c in '-_.' else '_' for c in entrant.name)}-{dtype}.json"
    replace_file(file, report.dumps())
    return conformance.standing(entrant.name, dtype, report, settings.laws, file.name)


def _measure(
    board: Board, todo: Sequence[Case], subjects: Mapping[str, Subject], settings: Settings, display: Display,
    save: Callable[[], None],
) -> None:  # fmt: skip
    random = Random(f"bench {settings.seed}")
    for number, case in enumerate(todo, start=1):
        key = (case.name, case.problem.dtype)
        rows = {r.implementation: r for r in board.rows if (r.case, r.dtype) == key and r.outcome == "not-run"}
        display.stage(f"{case.name} in {case.problem.dtype} ({number} of {len(todo)}): {', '.join(rows) or 'nobody'}")
        order = measure.measure_case(case, subjects, rows, settings.plan, random, display=display, save=save)
        board.order += order if rows else []
        for row in rows.values():
            if row.outcome != "measured":
                display.note(f"{row.implementation}: {row.outcome}, {row.why}")


def _text(case: Case) -> CaseText:
    return CaseText(
        name=case.name, dtype=case.problem.dtype, problem=case.problem.line(), step_size=case.problem.step_size,
        threshold=case.threshold, loss=case.loss,
        start_residual=certify_activities(case, case.start(), 0.0).relative_residual,
    )  # fmt: skip


def _with_info(entrant: Entrant, subject: Subject | None) -> Entrant:
    """The entrant with interpreter, versions, device and precision that its process reports, if it still runs."""
    if subject is None:
        return entrant
    try:
        return replace(entrant, info=dict(getattr(subject.transport, "info", {})))
    except PcbenchError as error:
        return replace(entrant, info={"trouble": first_line(error)})
