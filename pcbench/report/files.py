"""A report as files: JSON to read back, JUnit XML for pipelines, Markdown for pull requests."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from pcbench.errors import UsageError
from pcbench.output.characters import printable
from pcbench.report.report import Report
from pcbench.report.text import EXPLAINED, explanation, header_lines, number

MARKS = {"pass": "✅", "fail": "❌", "error": "💥", "timeout": "⏱️", "unexpected-pass": "❌", "expected-failure": "⚠️"}
_JUNIT_SKIPPED = ("not-applicable", "blocked", "not-run", "expected-failure")


def write(report: Report, *, json: str | None = None, junit: str | None = None, markdown: str | None = None) -> None:
    """Write the files that are asked for.

    **Raises:** `UsageError` for one that cannot be written, after the others have been.
    """
    texts = {json: report.dumps, junit: lambda: junit_xml(report), markdown: lambda: markdown_text(report)}
    failures = []
    for path, text in texts.items():
        if path:
            try:
                Path(path).write_text(text(), encoding="utf-8")
            except OSError as error:
                failures.append(f"{path}: {error.strerror or error}")
    if failures:
        raise UsageError(f"the report could not be written: {'; '.join(failures)}")


def check_writable(paths: Iterable[str | None]) -> None:
    """Refuse now what could not be written after a long run.

    **Raises:** `UsageError`, naming the file.
    """
    for path in paths:
        if path and (not Path(path).parent.is_dir() or Path(path).is_dir()):
            raise UsageError(f"{path} cannot be written: needed a file in a directory that exists")


def read(path: str | Path) -> Report:
    """The report in a JSON file.

    **Raises:** `UsageError`, naming the file, for one that cannot be read or is no report.
    """
    try:
        return Report.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}; needed the JSON of `pcbench check --json`") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


# ---- JUnit -----------------------------------------------------------------------------------------------------------


def junit_xml(report: Report) -> str:
    """JUnit XML with one test case a law: failures, errors (error, time-out, undecided) and skips with their reason."""
    h = report.header
    suite = ET.Element("testsuite", name=printable(f"pcbench {h.implementation}"), timestamp=h.started)
    properties = ET.SubElement(suite, "properties")
    for name, value in header_lines(report):
        ET.SubElement(properties, "property", name=printable(name), value=printable(value))
    tally = {"failure": 0, "error": 0, "skipped": 0}
    for verdict in report.verdicts:
        case = ET.SubElement(
            suite, "testcase", classname=printable(f"pcbench.{h.implementation}"), name=printable(verdict.law)
        )
        case.set("time", f"{verdict.seconds:.3f}")
        if verdict.outcome == "pass":
            continue
        kind = "error"
        if verdict.outcome in ("fail", "unexpected-pass"):
            kind = "failure"
        elif verdict.outcome in _JUNIT_SKIPPED:
            kind = "skipped"
        tally[kind] += 1
        child = ET.SubElement(case, kind, message=printable(first_line(verdict.message)), type=verdict.outcome)
        if verdict.outcome in EXPLAINED:
            child.text = printable("\n".join(f"{name}: {value}" for name, value in explanation(report, verdict)))
    totals = {
        "tests": str(len(report.verdicts)),
        "failures": str(tally["failure"]),
        "errors": str(tally["error"]),
        "skipped": str(tally["skipped"]),
        "time": f"{h.seconds:.3f}",
    }
    root = ET.Element("testsuites", name="pcbench")
    for element in (root, suite):
        for name, value in totals.items():
            if element is suite or name != "skipped":
                element.set(name, value)
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


# ---- Markdown --------------------------------------------------------------------------------------------------------


def markdown_text(report: Report) -> str:
    """The report for a pull request: conclusion, failures in full, the rest folded away."""
    lines = [f"## pcbench: {inline(report.header.subject)}", "", f"**{report.conclusion}**", "", report.summary, ""]
    for verdict in report.verdicts:
        if verdict.outcome not in EXPLAINED:
            continue
        lines += [f"### {MARKS.get(verdict.outcome, '❔')} {verdict.outcome} `{verdict.law}`", ""]
        for name, value in explanation(report, verdict):
            if name in ("replay", "problem", "standard error") or "\n" in value:
                fence = "~" * max(3, _longest_run(value, "~") + 1)
                lines += [f"- {name}:", "", *(f"  {part}" for part in (fence, *value.splitlines(), fence)), ""]
            else:
                lines.append(f"- {name}: {inline(value)}")
        lines.append("")
    lines += ["<details>", f"<summary>All {len(report.verdicts)} laws</summary>", ""]
    lines += [
        "| law | verdict | margin | worst problem | examples | shapes |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for v in report.verdicts:
        judged = bool(v.examples or v.failure)
        worst = f"`{v.worst.problem}`" if judged and v.worst.problem else inline(first_line(v.message))
        margin, examples, shapes = (number(v.worst.margin), v.examples, v.shapes) if judged else ("", "", "")
        mark = MARKS.get(v.outcome, "➖")
        lines.append(f"| `{v.law}` | {mark} {v.outcome} | {margin} | {worst} | {examples} | {shapes} |")
    lines += ["", "</details>", "", "<details>", "<summary>Run</summary>", ""]
    lines += [f"- {name}: {inline(value)}" for name, value in header_lines(report)]
    return "\n".join([*lines, "", "</details>", ""])


def inline(text: str) -> str:
    """`text` on one line with what Markdown, its tables and HTML would read as markup taken literally."""
    text = printable(" ".join(text.split()))
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", text)


def first_line(text: str) -> str:
    """The first line of a message, which says it all where there is no room for a trace."""
    return text.strip().partition("\n")[0]


def _longest_run(text: str, character: str) -> int:
    return max((len(run) for run in re.findall(re.escape(character) + "+", text)), default=0)
