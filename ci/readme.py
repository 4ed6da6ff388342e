#!/usr/bin/env python
"""Keep README.md true: write its generated parts, run its commands, and check both.

    python ci/readme.py                 # run the commands, rewrite the generated parts
    python ci/readme.py --check         # run the commands, change nothing; exit code 1 if README.md is not true
    python ci/readme.py --tables        # tables alone, without running a command (seconds)
    python ci/readme.py --command test  # print the command marked `ci: test`, for the shell to run

What a part is stands where Markdown does not show it.  Between comments:

    <!-- generated: NAME --> ... <!-- end -->    written by the function of that name in `TABLES`

and behind the language of a code block:

    file: NAME                      it is written to that file in a scratch directory
    run, or run: exit 0 1           it is run there, line by line, and must end with these exit codes
    not run: REASON                 it is not run
    ci: NAME                        it is run by .ci/run
    output: REGEX                   it holds the lines of the last command's output that match

Every block of shell commands needs one of the middle three.  Numbers in an output differ between machines by rounding,
so outputs are compared with their numbers masked, but for the counts of verdicts.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
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


def parts(readme: str) -> list[Part]:
    """Generated parts and the code blocks outside them, in order."""
    found = [
        Part(
            mark="generated", argument=m["name"], language="", text=m["text"], start=m.start("text"), end=m.end("text")
        )
        for m in _PART.finditer(readme)
    ]
    spans = [(part.start, part.end) for part in found]
    for m in _BLOCK.finditer(readme):
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


def unaccounted(readme: str) -> list[str]:
    """Shell blocks that nothing runs and nothing excuses."""
    return [p.text for p in parts(readme) if p.language == "sh" and p.mark not in ("run", "not run", "ci")]


# ---- tables ---------------------------------------------------------------------------------------------------------


def _row(*cells: str) -> str:
    return "| " + " | ".join(c.replace("|", r"\|") for c in cells) + " |\n"


def laws() -> str:
    """Id, statement and source of every law, by group."""
    from pcbench.laws import REGISTRY

    text = _row(f"law ({len(REGISTRY)})", "statement", "source") + _row("---", "---", "---")
    for law in REGISTRY.values():
        text += _row(f"`{law.id}`", _escaped(law.statement), _escaped(law.citation))
    return text


def _escaped(text: str) -> str:
    return re.sub(r"([*_<>])", r"\\\1", text)


def profiles() -> str:
    """How much evidence each profile gathers, in a sentence."""
    from pcbench.report.profiles import PROFILES

    counts = ", ".join(f"{p.examples} (`{p.name}`)" for p in PROFILES.values())
    least = ", ".join(str(p.minimum) for p in PROFILES.values())
    text = (
        f"The profile says how many problems each law is judged on: {counts}. A law on which fewer than {least} of "
        "them decide anything is inconclusive."
    )
    return textwrap.fill(text, 118) + "\n"


def conventions() -> str:
    """The fields of `Conventions` with the values each may take, the default first."""
    from pcbench.protocol import implementation

    default = implementation.Conventions()
    items = []
    for field in fields(default):
        value = getattr(default, field.name)
        others = [str(v) for v in implementation.CHOICES.get(field.name, ()) if v != value]
        items.append(f"`{field.name}` ({', '.join([str(value), *others]) if others else f'{value}, any number but 0'})")
    return textwrap.fill("; ".join(items) + ".", 118, break_on_hyphens=False, break_long_words=False) + "\n"


def exit_codes() -> str:
    """The exit codes, from the command's own help."""
    from pcbench.cli.check import EXIT_CODES

    return (
        "```text\n"
        + EXIT_CODES.replace("\b\n", "").strip().replace("Exit codes:", "Exit codes of `pcbench check`:")
        + "\n```\n"
    )


def gate_exit_codes() -> str:
    """The exit codes of the gate, from its own help."""
    from pcbench.gate.outcome import EXIT_CODES

    text = EXIT_CODES.replace("\b\n", "").strip().replace("Exit codes:", "Exit codes of `pcbench gate`:")
    return f"```text\n{text}\n```\n"


def gate_rows() -> str:
    """What the gate compares, in a sentence."""
    from pcbench.gate.rows import ROWS

    return textwrap.fill("Rows: " + ", ".join(f"`{name}`" for name in ROWS) + ".", 118) + "\n"


def gate_power() -> str:
    """The head of the committed count of the gate's own errors, if there is one."""
    return _head("reports/gate.md", "The count of the gate's errors")


def libraries() -> str:
    """Who was judged in the committed compliance matrix, and with which conclusion."""
    text = (ROOT / "ci" / "reports" / "matrix" / "matrix.md").read_text(encoding="utf-8")
    made, table = text.split("\n\n")[1:3]
    rows = ["|".join(row.split("|")[:7]) + "|\n" for row in table.splitlines()]  # how long it took is left out
    where = "Every law, margin and replay: [ci/reports/matrix/matrix.md](ci/reports/matrix/matrix.md)."
    return f"{made}\n\n{''.join(rows)}\n{where}\n"


def power() -> str:
    """The heads of the two kill matrices, if they have been committed."""
    of = {"kill-matrix.md": "The kill matrix", "kill-matrix-architectures.md": "That of CNNs and transformers"}
    return "\n".join(_head(name, what) for name, what in of.items())


def exponents() -> str:
    """The exponents of the committed run of `pcbench scaling`, a row a network."""
    from pcbench.experiments.scaling.exponents import DISTANCES, ERROR, GAP, MISS
    from pcbench.output.table import read_rows

    found: dict[str, dict[str, str]] = {}
    for row in read_rows(ROOT / "ci" / "reports" / "scaling" / "exponents.csv"):
        found.setdefault(row["network"], {})[row["quantity"]] = f"{row['measured']:.2f} ± {row['interval']:.2f}"
    lines = [_row("exponent of N, 95 % interval", GAP, ERROR, MISS), _row("---", "---", "---", "---")]
    lines.append(_row("theory", "-1", "-1", "-2"))
    training = found.pop("linear, residual, in training", {})
    lines += [_row(network, *(values.get(q, "") for q in (GAP, ERROR, MISS))) for network, values in found.items()]
    said = ", ".join(f"{name} {training[name]} (theory {theory:g})" for name, theory in DISTANCES if name in training)
    return "".join(lines) + (f"\nLosses in training, largest distance: {said}.\n" if said else "")


def speed() -> str:
    """The head of the committed speed table, if there is one."""
    return _head("reports/speed.md", "The speed table")


def _head(name: str, what: str) -> str:
    """What a file in `ci/` says between its title and its next heading or table, and a link to the rest."""
    path = ROOT / "ci" / name
    if not path.exists():
        return f"{what} has not been committed yet.\n"
    text = re.sub(r"\A# .*\n", "", path.read_text(encoding="utf-8"))
    return re.split(r"^(?:#|\|)", text, maxsplit=1, flags=re.M)[0].strip() + f"\n\n{what}: [ci/{name}](ci/{name}).\n"


TABLES: dict[str, Callable[[], str]] = {
    "laws": laws,
    "profiles": profiles,
    "conventions": conventions,
    "exit codes": exit_codes,
    "gate rows": gate_rows,
    "gate exit codes": gate_exit_codes,
    "gate power": gate_power,
    "libraries": libraries,
    "power": power,
    "speed": speed,
    "exponents": exponents,
}


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
            problems.append(f"`{line}` ended with {done.returncode}, README.md needs {code}:\n{tail}")
    return output


def shortened(output: str, pattern: str) -> str:
    """The lines that match, without spaces at their ends."""
    return "".join(line.rstrip() + "\n" for line in output.splitlines() if re.search(pattern, line))


def masked(text: str) -> list[str]:
    """The lines with what differs between machines taken out: spaces, rules, and numbers that are no counts."""
    result = []
    for line in text.strip().splitlines():
        plain = re.sub("─+", "─", " ".join(line.split()))
        result.append(plain if _COUNTS.search(plain) else _NUMBER.sub("#", plain))
    return result


def process(readme: str, *, commands: bool) -> tuple[str, list[str], list[str]]:
    """The README with its generated parts written anew; which of these were out of date; what else is not true."""
    stale: list[str] = []
    problems = [f"a shell block is neither run nor excused:\n{text}" for text in unaccounted(readme)]
    result, at, output = "", 0, ""
    with tempfile.TemporaryDirectory(prefix="pcbench-readme-") as scratch:
        for part in parts(readme):
            new, same = None, True
            if part.mark == "file":
                Path(scratch, part.argument).write_text(part.text, encoding="utf-8")
            elif part.mark == "run" and commands:
                output = run_block(part, Path(scratch), problems)
            elif part.mark == "output" and commands:
                new = shortened(output, part.argument)
                same = masked(new) == masked(part.text) and bool(new)
            elif part.mark == "generated" and part.argument in TABLES:
                new = "\n" + TABLES[part.argument]() + "\n"
                same = new == part.text
            elif part.mark == "generated":
                problems.append(f"generated: {part.argument}: needed one of {', '.join(TABLES)}")
            if new is None:
                continue
            if not same:
                lines = difflib.unified_diff(part.text.splitlines(), new.splitlines(), "README.md", "now", lineterm="")
                stale.append("\n".join([f"{part.mark}: {part.argument}: not as written", *lines]))
            result += readme[at : part.start] + new
            at = part.end
    return result + readme[at:], stale, problems


def main() -> int:
    """Do what the command line says; 0 if README.md is true."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if anything would change")
    parser.add_argument("--tables", action="store_true", help="run no command")
    parser.add_argument("--command", metavar="NAME", help="print the block marked `ci: NAME`")
    options = parser.parse_args()
    readme = README.read_text(encoding="utf-8")
    if options.command:
        chosen = [p.text for p in parts(readme) if p.mark == "ci" and p.argument == options.command]
        if len(chosen) != 1:
            print(f"README.md has {len(chosen)} blocks marked `ci: {options.command}`, needed 1", file=sys.stderr)
            return 2
        print(chosen[0].strip())
        return 0
    new, stale, problems = process(readme, commands=not options.tables)
    if options.check:
        problems += stale
    elif new != readme:
        README.write_text(new, encoding="utf-8")
        print(f"README.md written; {len(stale)} parts were out of date")
    for problem in problems:
        print(f"README.md: {problem}\n")
    print("README.md is not true" if problems else "README.md is true")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
