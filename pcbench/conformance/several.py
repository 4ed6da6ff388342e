"""Judge several implementations one after another, keeping every report as soon as it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcbench.adapters import register as adapters
from pcbench.conformance import run as runner
from pcbench.conformance.progress import Progress
from pcbench.errors import PcbenchError, UsageError
from pcbench.laws import REGISTRY, law_set_hash, select
from pcbench.output.display import Display
from pcbench.output.strict_json import plain_data
from pcbench.report import files as report_files
from pcbench.report import known_failures
from pcbench.report.known_failures import KnownFailure
from pcbench.report.matrix import Column
from pcbench.report.report import Report, commit_known
from pcbench.worker.client import WorkerClient


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An implementation of the matrix: its name there, its spec, and the interpreter that has it."""

    name: str
    spec: str
    python: str | None
    known: tuple[KnownFailure, ...] = ()


def parse_implementations(texts: Sequence[str]) -> list[Wanted]:
    """Parse `IMPL` or `IMPL=PYTHON`, each with the known failures that come with its adapter.

    **Raises:** `UsageError` for what is not known, or named twice.
    """
    found: dict[str, Wanted] = {}
    for text in texts:
        name, spec, python = adapters.locate_pair(text)
        label = name if name in adapters.KNOWN else Path(name.partition(":")[0]).stem
        if label in found:
            raise UsageError(f"implementation {label!r} is named twice: leave one out, or rename its file")
        path = adapters.known_failures_file(name)
        known = tuple(known_failures.read(path, list(REGISTRY))) if path else ()
        found[label] = Wanted(name=label, spec=spec, python=python or None, known=known)
    return list(found.values())


def judge_all(
    implementations: Sequence[Wanted],
    directory: Path,
    *,
    profile: str,
    seed: int,
    laws: Sequence[str],
    fresh: bool,
    options: Mapping[str, Any],
    display: Display,
    tell: Callable[[str], None],
) -> Iterator[Column]:
    """One column after another; reports are kept in `directory`, one file each, and are not made twice.

    A report that is there counts if it was made with the same laws, profile, seed and known failures, of the same
    version of the library; `fresh` makes all anew.  `options` go to `run.check`.  Ctrl-C gives the partial report of
    the implementation that it met, and ends.
    """
    chosen = [law.id for law in select(laws)]
    for number, entry in enumerate(implementations, start=1):
        tell(f"[{number}/{len(implementations)}] {entry.name}")
        path = directory / f"{entry.name}.json"
        try:
            earlier = None if fresh else _reusable_report(path, entry, profile, seed, chosen, options)
            if earlier is not None:
                tell(f"{entry.name} was judged before: {earlier.conclusion}")
                yield Column(name=entry.name, report=earlier)
                continue
            report = runner.check(
                entry.name if entry.name in adapters.KNOWN else entry.spec,
                profile=profile,
                seed=seed,
                laws=laws,
                python=entry.python,
                known_failures=entry.known,
                journal_dir=directory / "unfinished",
                fresh=fresh,
                progress=Progress(display),
                **options,
            )
        except PcbenchError as error:
            # The next implementation has done nothing wrong.
            tell(f"{entry.name} could not be judged: {error}")
            yield Column(name=entry.name, problem=str(error))
            continue
        if not report.header.partial:
            report_files.write(report, json=str(path))
        tell(f"{entry.name} {report.conclusion}")
        yield Column(name=entry.name, report=report)
        if report.header.partial:
            return


def _reusable_report(
    path: Path, entry: Wanted, profile: str, seed: int, laws: Sequence[str], options: Mapping[str, Any]
) -> Report | None:
    """The report of an earlier run with the same settings, None if there is none."""
    if not path.exists():
        return None
    try:
        report = report_files.read(path)
    except UsageError:
        return None  # damaged, or of another version
    h = report.header
    same = (h.profile, h.seed, h.law_set, h.spec) == (profile, seed, law_set_hash(), entry.spec)
    if (
        not same
        or [law.id for law in report.laws] != list(laws)
        or tuple(report.known) != _known_failures_of(entry, laws)
    ):
        return None
    with WorkerClient(entry.spec, entry.python) as client:
        manifest, info = plain_data(client.manifest.to_json()), client.info
    # The number of a version does not always tell the commits of a library apart.
    return report if plain_data(dict(h.manifest)) == manifest and h.commit == commit_known(manifest, info) else None


def _known_failures_of(entry: Wanted, laws: Sequence[str]) -> tuple[KnownFailure, ...]:
    return tuple(known for known in entry.known if known.law in laws)
