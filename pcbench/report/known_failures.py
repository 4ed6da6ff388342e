"""Files of known failures: which laws an implementation is known to break, why, and in which versions.

It is JSON, `{"known_failures": [{"law": ..., "reason": ..., "link": ..., "versions": ...}, ...]}` or the list alone.
An entry that is not understood, names no law, gives no reason, or no longer applies is an error, never ignored.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pcbench.errors import PcbenchError, UsageError
from pcbench.problem.architectures import problem_from_line
from pcbench.report.evidence import BROKEN, Verdict

_FIELDS = ("law", "reason", "link", "versions", "problem")
_EXAMPLE = """a list such as [{"law": "energy.never-negative", "reason": "a term is missing", "versions": "<2"}]"""


@dataclass(frozen=True, kw_only=True)
class KnownFailure:
    """One law that an implementation is known to break.

    **Arguments:** `law` by id; `reason` in a sentence; `link` to where it is followed up; `versions` of the library, a
    range such as `>=0.6,<0.7`, or `*` for all; `problem`, a line that shows the failure: it is measured before any is
    drawn, so that a failure that few problems show is not taken for one that is gone (a law of a limit, which judges
    the same experiment every time, has no need of it).
    """

    law: str
    reason: str
    link: str = ""
    versions: str = "*"
    problem: str = ""

    @property
    def note(self) -> str:
        """Reason and link, for reports."""
        return f"known: {self.reason}" + (f" ({self.link})" if self.link else "")


def read(path: str | Path, laws: Sequence[str]) -> list[KnownFailure]:
    """The entries of a file; `laws` are the ids of all laws there are.

    **Raises:** `UsageError`, naming the entry, for a file or an entry that is not understood.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"known failures {path}: {error}; needed a readable JSON file") from None
    except ValueError as error:
        raise UsageError(f"known failures {path}: not JSON ({error}); needed {_EXAMPLE}") from None
    if isinstance(data, dict):
        unknown = sorted(set(data) - {"known_failures"})
        if unknown or "known_failures" not in data:
            raise UsageError(f"known failures {path}: needed a list, or an object with 'known_failures' alone")
        data = data["known_failures"]
    if not isinstance(data, list):
        raise UsageError(f"known failures {path}: needed {_EXAMPLE}, got {type(data).__name__}")
    entries = [_entry(f"known failures {path}, entry {k}", item, laws) for k, item in enumerate(data, start=1)]
    seen: set[str] = set()
    for k, entry in enumerate(entries, start=1):
        if entry.law in seen:
            raise UsageError(f"known failures {path}, entry {k}: law {entry.law!r} is listed twice")
        seen.add(entry.law)
    return entries


def _entry(where: str, item: Any, laws: Sequence[str]) -> KnownFailure:
    if not isinstance(item, dict):
        raise UsageError(f"{where}: needed an object with {', '.join(_FIELDS)}, got {item!r}")
    for name, value in item.items():
        if name not in _FIELDS:
            raise UsageError(f"{where}: field {name!r} does not exist; fields are {', '.join(_FIELDS)}")
        if not isinstance(value, str):
            raise UsageError(f"{where}: {name}={value!r}: needed text")
    for name in ("law", "reason"):
        if not item.get(name, "").strip():
            raise UsageError(f"{where} ({item.get('law', 'no law')}): {name!r} is missing or empty")
    if item["law"] not in laws:
        near = difflib.get_close_matches(item["law"], laws, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `pcbench laws` lists them"
        raise UsageError(f"{where}: law {item['law']!r} does not exist{hint}")
    entry = KnownFailure(**item)
    if entry.versions != "*":
        _range(where, entry)
    if entry.problem:
        try:
            problem_from_line(entry.problem)
        except PcbenchError as error:
            raise UsageError(f"{where} ({entry.law}): {error}") from None
    return entry


def _range(where: str, entry: KnownFailure) -> Any:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(entry.versions)
    except InvalidSpecifier:
        raise UsageError(
            f"{where} ({entry.law}): versions={entry.versions!r}: needed a range such as '>=0.6,<0.7', or '*'"
        ) from None


def check_current(
    entries: Sequence[KnownFailure],
    library: str,
    version: str,
    not_applicable: Mapping[str, str],
    unfit: Mapping[str, str] | None = None,
) -> None:
    """Refuse entries that no longer apply to this version of the library or to this implementation.

    `not_applicable` gives the laws that cannot be judged on it, `unfit` those that cannot be on the problem of their
    entry, both with the reason.

    **Raises:** `UsageError`, naming the entry.
    """
    from packaging.version import InvalidVersion, Version

    for entry in entries:
        where = f"known failure {entry.law!r}"
        if entry.law in not_applicable:
            raise UsageError(f"{where}: the law is not applicable here ({not_applicable[entry.law]}); remove the entry")
        if unfit and entry.law in unfit:
            raise UsageError(
                f"{where}: problem={entry.problem!r} cannot be judged here ({unfit[entry.law]}); correct it"
            )
        if entry.versions == "*":
            continue
        try:
            current = Version(version)
        except InvalidVersion:
            raise UsageError(
                f"{where}: versions={entry.versions!r} cannot be compared with version {version!r} of "
                f"{library or 'the implementation'}; give the adapter's manifest a version "
                "such as '1.2', or write versions='*'"
            ) from None
        if not _range(where, entry).contains(current, prereleases=True):
            raise UsageError(
                f"{where}: versions={entry.versions!r} does not cover {library or 'the implementation'} {version}; "
                "if the failure is still there extend the range, else remove the entry"
            )


def apply(verdicts: Sequence[Verdict], entries: Sequence[KnownFailure]) -> list[Verdict]:
    """The verdicts with listed failures expected, and listed laws that pass unexpected.

    A listed law that is blocked stays so, with the reason: it is accounted for, see `Report.exit_code`.
    """
    by_law = {entry.law: entry for entry in entries}
    result = []
    for v in verdicts:
        entry = by_law.get(v.law)
        if entry is not None and v.outcome in BROKEN:
            v = replace(v, outcome="expected-failure", message=_join_note(entry.note, v.message))
        elif entry is not None and v.outcome == "pass":
            v = replace(
                v,
                outcome="unexpected-pass",
                message=f"the law holds now: remove its entry from the known failures ({entry.reason})",
            )
        elif entry is not None and v.outcome == "blocked":
            v = replace(v, message=_join_note(entry.note, v.message))
        result.append(v)
    return result


def _join_note(note: str, message: str) -> str:
    return f"{note}; {message}" if message else note
