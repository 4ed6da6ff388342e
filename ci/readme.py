#!/usr/bin/env python
"""Check README.md, CONTRIBUTING.md and docs/, and write their generated parts.

    python ci/readme.py                 # run the commands, rewrite the generated parts
    python ci/readme.py --check         # run the commands, change nothing; exit code 1 if a page is not true
    python ci/readme.py --tables        # tables and links alone, without running a command (seconds)
    python ci/readme.py --command test  # print the command marked `ci: test`, for the shell to run

What a part is stands where Markdown does not show it.  Between comments:

    <!-- generated: NAME --> ... <!-- end -->    written by the function of that name in `readme_tables.TABLES`

and behind the language of a code block:

    file: NAME                      it is written to that file in a scratch directory
    run, or run: exit 0 1           it is run there, line by line, and must end with these exit codes
    not run: REASON                 it is not run
    ci: NAME                        it is run by .ci/run
    output: REGEX                   it holds the lines of the last command's output that match

Every block of shell commands needs one of the middle three.  All pages share one scratch directory, so a page may use
a file that a page before it has written; README.md comes first, then the others by name.  Numbers in an output differ
between machines by rounding, so outputs are compared with their numbers masked, but for the counts of verdicts.
`readme_links.py` checks what pages point to.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import readme_links
from readme_tables import TABLES

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 600

_PART = re.compile(r"<!-- generated: (?P<name>.*?) -->\n(?P<text>.*?)<!-- end -->", re.S)
_BLOCK = re.compile(
    r"^```(?P<language>\w+)(?: (?P<mark>file|run|not run|ci|output)(?:: (?P<argument>.*?))?)?\n(?P<text>.*?)^```$",
    re.S | re.M,
)
_COUNTS = re.compile(r"^\d+ laws = |^(does not conform|conforms)\b|\bregressions\b")
_NUMBER = re.compile(r"\b\d+(\.\d+)?(e[-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A generated part or a code block: `mark` says which, `start` and `end` delimit its text."""

    mark: str
    argument: str
    language: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A page with its generated parts written anew, which of these were out of date, and what else is not true."""

    text: str
    stale: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def pages() -> list[Path]:
    """The pages whose parts are kept: README.md, then the others by name."""
    others = [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    return [ROOT / "README.md", *sorted(page for page in others if page.exists())]


def parts(page: str) -> list[Part]:
    """Generated parts and the code blocks outside them, in order."""
    found = [
        Part(
            mark="generated", argument=m["name"], language="", text=m["text"], start=m.start("text"), end=m.end("text")
        )
        for m in _PART.finditer(page)
    ]
    spans = [(part.start, part.end) for part in found]
    for m in _BLOCK.finditer(page):
        if any(a <= m.start() < b for a, b in spans):
            continue
        mark, argument, text = m["mark"] or "", m["argument"] or "", m["text"]
        found.append(
            Part(
                mark=mark,
                argument=argument,
                language=m["language"],
                text=text,
                start=m.start("text"),
                end=m.end("text"),
            )
        )
    return sorted(found, key=lambda part: part.start)


def unaccounted_blocks(page: str) -> list[str]:
    """Shell blocks that are neither run nor marked as not to be run."""
    return [p.text for p in parts(page) if p.language == "sh" and p.mark not in ("run", "not run", "ci")]


# ---- commands -------------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """Programs of this interpreter first, a fixed width, and this interpreter as the foreign one if none is given."""
    values = {**os.environ, "COLUMNS": "100"}
    values["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), values.get("PATH", "")])
    values.setdefault("OTHER_PYTHON", sys.executable)
    values.pop("PYTEST_ADDOPTS", None)
    return values


def expected_codes(argument: str, count: int) -> list[int]:
    """The exit codes that `run: exit ...` asks of `count` lines; a single one is that of the last line."""
    codes = [int(word) for word in argument.removeprefix("exit").split()]
    return codes if len(codes) == count else [0] * (count - 1) + (codes or [0])


def run_block(block: Part, directory: Path, problems: list[str]) -> str:
    """Run a block line by line; the standard output of the last line."""
    lines = [line for line in block.text.splitlines() if line.strip() and not line.startswith("#")]
    output = ""
    for line, code in zip(lines, expected_codes(block.argument, len(lines)), strict=True):
        print(f"  $ {line}", flush=True)
        done = subprocess.run(
            line, shell=True, cwd=directory, env=environment(), capture_output=True, text=True, timeout=TIMEOUT
        )
        output = done.stdout
        if done.returncode != code:
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
            problems.append(f"`{line}` ended with {done.returncode}, the page needs {code}:\n{tail}")
    return output


def matching_lines(output: str, pattern: str) -> str:
    """The lines that match, without spaces at their ends."""
    return "".join(line.rstrip() + "\n" for line in output.splitlines() if re.search(pattern, line))


def mask_lines(text: str) -> list[str]:
    """The lines with what differs between machines taken out: spaces, rules, and numbers that are no counts."""
    result = []
    for line in text.strip().splitlines():
        plain = re.sub("─+", "─", " ".join(line.split()))
        result.append(plain if _COUNTS.search(plain) else _NUMBER.sub("#", plain))
    return result


# ---- pages ----------------------------------------------------------------------------------------------------------


def process_page(page: str, scratch: Path, *, commands: bool) -> Checked:
    """Write the parts of one page anew, running its commands in `scratch` if `commands`."""
    stale: list[str] = []
    problems = [f"a shell block is neither run nor excused:\n{text}" for text in unaccounted_blocks(page)]
    result, at, output = "", 0, ""
    for part in parts(page):
        new, same = None, True
        if part.mark == "file":
            (scratch / part.argument).write_text(part.text, encoding="utf-8")
        elif part.mark == "run" and commands:
            output = run_block(part, scratch, problems)
        elif part.mark == "output" and commands:
            new = matching_lines(output, part.argument)
            same = mask_lines(new) == mask_lines(part.text) and bool(new)
        elif part.mark == "generated" and part.argument in TABLES:
            new = "\n" + TABLES[part.argument]() + "\n"
            same = new == part.text
        elif part.mark == "generated":
            problems.append(f"generated: {part.argument}: needed one of {', '.join(TABLES)}")
        if new is None:
            continue
        if not same:
            lines = difflib.unified_diff(part.text.splitlines(), new.splitlines(), "page", "now", lineterm="")
            stale.append("\n".join([f"{part.mark}: {part.argument}: not as written", *lines]))
        result += page[at : part.start] + new
        at = part.end
    return Checked(text=result + page[at:], stale=stale, problems=problems)


def command(name: str, chosen: Sequence[Path]) -> int:
    """Print the one block marked `ci: NAME`; 2 if there is not exactly one."""
    found = [p.text for page in chosen for p in parts(page.read_text(encoding="utf-8"))
             if p.mark == "ci" and p.argument == name]  # fmt: skip
    if len(found) != 1:
        print(f"the pages have {len(found)} blocks marked `ci: {name}`, needed 1", file=sys.stderr)
        return 2
    print(found[0].strip())
    return 0


def main() -> int:
    """Do what the command line says; 0 if every page is true."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, and exit with 1 if anything would change")
    parser.add_argument("--tables", action="store_true", help="write generated tables only, without running commands")
    parser.add_argument("--command", metavar="NAME", help="print the block marked `ci: NAME`")
    options = parser.parse_args()
    if options.command:
        return command(options.command, pages())
    untrue = []
    with tempfile.TemporaryDirectory(prefix="pcbench-readme-") as scratch:
        for path in pages():
            name, before = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            print(name, flush=True)
            now = process_page(before, Path(scratch), commands=not options.tables)
            untrue += [f"{name}: {problem}" for problem in now.problems]
            if options.check:
                untrue += [f"{name}: {part}" for part in now.stale]
            elif now.text != before:
                path.write_text(now.text, encoding="utf-8")
                print(f"{name} written; {len(now.stale)} parts were out of date")
    untrue += readme_links.problems(ROOT)
    for problem in untrue:
        print(f"{problem}\n")
    print(f"{len(untrue)} things are not true" if untrue else "README.md and docs are true")
    return 1 if untrue else 0


if __name__ == "__main__":
    sys.exit(main())
