r"""Run one function over many points into a CSV that is always valid, and resume where a run was killed.

A point is a dict of plain JSON values, a result is a list of rows.  The journal beside the CSV is what counts: one
line for every finished point, on disk before the next one is reported.  The CSV is made from it, so a run that is
killed at any moment loses no finished point and leaves nothing to repair by hand.

Points run on any `concurrent.futures.Executor`: processes, threads, or a cluster through Dask's
`Client.get_executor()`.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pcbench.errors import UsageError
from pcbench.experiments.sweep_progress import SweepProgress
from pcbench.output import json_lines
from pcbench.output.display import Display, Silent
from pcbench.output.table import Row, Table, plain_row, replace_file
from pcbench.version import __version__

Point = dict[str, Any]
Function = Callable[[Point], Iterable[Mapping[str, Any]]]


def run_sweep(
    function: Function,
    points: Iterable[Point],
    path: str | Path,
    *,
    executor: Executor | None = None,
    display: Display | None = None,
    name: str = "points",
) -> list[Row]:
    r"""The rows of all points in the order of `points`, those of failed points left out; also written to `path`.

    **Arguments:**

    - `function`: a callable of a module, picklable; one point to its rows, whose values are JSON scalars (NumPy's
      are converted).
    - `points`: dicts of JSON values; equal points run once.
    - `path`: the CSV.  Its columns are the union of the rows' keys in order of appearance.  While the sweep runs its
      rows are in the order of completion, afterwards in the order of `points`.  Beside it are `path` with the suffix
      `.journal.jsonl`, from which another call continues, and `.failures.json` if points failed.
    - `executor`: where to run; in this process, one after another, if None.  It stays open.
    - `display`: told what is done, under `name`, and that the sweep has ended, in whatever way.

    A point counts as finished if a point equal to it is in the journal, from the same function in the same source
    file of the same version of pcbench.  An exception in a point is recorded and does not stop the rest; a failed
    point runs again in the next call.  On `KeyboardInterrupt` what has not begun is cancelled, the files are left
    valid, and the exception goes on.

    **Raises:** `UsageError` if a point is no JSON data, `path` cannot be written, or another sweep is writing it.
    """
    path = Path(path)
    display = Silent() if display is None else display
    wanted = {_key(function, point): dict(point) for point in points}
    with _journal(path) as (journal, known):
        finished = {key: known[key] for key in wanted if key in known}
        failures: list[dict[str, Any]] = []
        _write_failures(path, failures)
        table = Table(path, [row for rows in finished.values() for row in rows])
        try:
            progress = SweepProgress(display, name, len(wanted), len(finished))
            todo = {key: point for key, point in wanted.items() if key not in finished}
            with closing(_results(function, todo, executor)) as results:
                for key, rows, failure in results:
                    if failure is None:
                        json_lines.append(journal, {"key": key, "point": wanted[key], "rows": rows})
                        finished[key] = rows
                        table.append(rows)
                    else:
                        failures.append({"point": wanted[key], **failure})
                        _write_failures(path, failures)
                    progress.add(wanted[key])
        finally:
            ordered = [row for key in wanted for row in finished.get(key, [])]
            table.rewrite(ordered)
            display.close()
    return ordered


def failures_path(path: str | Path) -> Path:
    """Where the failed points of the sweep at `path` are recorded; no file if there are none."""
    return Path(path).with_suffix(".failures.json")


def journal_path(path: str | Path) -> Path:
    """The journal of the sweep at `path`; without it the next call starts anew."""
    return Path(path).with_suffix(".journal.jsonl")


# ---- points -----------------------------------------------------------------------------------------------------


def _key(function: Function, point: Point) -> str:
    """A key of the work at a point: the function, its source file, the version of pcbench, the values."""
    try:
        text = json.dumps(point, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise UsageError(f"point {point!r}: {error}; needed a dict of plain JSON values") from None
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    return hashlib.sha256(f"{__version__}\n{name}\n{_source(function)}\n{text}".encode()).hexdigest()[:32]


def _source(function: Function) -> str:
    """A hash of the file that defines `function`; empty where it has none, as in an interactive session."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    try:
        return hashlib.sha256(Path(inspect.getfile(module or function)).read_bytes()).hexdigest()  # pyright: ignore
    except (OSError, TypeError):
        return ""


def run_point(function: Function, point: Point) -> tuple[list[Row] | None, dict[str, str] | None]:
    """The rows of a point, or why there are none, as data: exceptions need not survive a pickle."""
    try:
        return [plain_row(row) for row in function(point)], None
    except Exception as error:
        return None, {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _results(
    function: Function, todo: Mapping[str, Point], executor: Executor | None
) -> Generator[tuple[str, list[Row], dict[str, str] | None]]:
    """Key, rows and failure of each point as it finishes."""
    if executor is None:
        for key, point in todo.items():
            rows, failure = run_point(function, point)
            yield key, rows or [], failure
        return
    futures: dict[Future[Any], str] = {}
    try:
        for key, point in todo.items():
            try:
                futures[executor.submit(run_point, function, point)] = key
            except BrokenExecutor as error:
                yield key, [], _worker_failure(error)
        for future in as_completed(list(futures)):
            key = futures.pop(future)
            try:
                rows, failure = future.result()
            except Exception as error:
                rows, failure = None, _worker_failure(error)
            yield key, rows or [], failure
    finally:
        for future in futures:
            future.cancel()


def _worker_failure(error: Exception) -> dict[str, str]:
    """The failure of a point whose worker died, or which the cluster lost or could not send."""
    return {"error": f"{type(error).__name__}: {error}", "traceback": ""}


# ---- files ------------------------------------------------------------------------------------------------------


@contextmanager
def _journal(path: Path) -> Iterator[tuple[IO[bytes], dict[str, list[Row]]]]:
    """The journal of `path`, locked and open for appending, and the finished points it holds."""
    place = journal_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = place.open("a+b")
    except OSError as error:
        raise UsageError(f"{place} cannot be written: {error}; choose another directory") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it even after kill -9
        except OSError:
            raise UsageError(f"{place} is in use by another sweep: wait for it or choose another directory") from None
        yield file, _finished_points(json_lines.resume(file))


def _finished_points(entries: Sequence[Any]) -> dict[str, list[Row]]:
    finished: dict[str, list[Row]] = {}
    for entry in entries:
        with suppress(ValueError, TypeError, KeyError):  # a line that somebody damaged is a point to run again
            finished[entry["key"]] = [dict(row) for row in entry["rows"]]
    return finished


def _write_failures(path: Path, failures: Sequence[Mapping[str, Any]]) -> None:
    place = failures_path(path)
    if failures:
        replace_file(place, json.dumps(failures, indent=1) + "\n")
    else:
        place.unlink(missing_ok=True)
