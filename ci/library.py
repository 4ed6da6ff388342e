#!/usr/bin/env python
"""Judge a released library in an environment made for it, and write the report that README.md quotes.

    python ci/library.py fabricpc                    # installs what its adapter names; ci/reports/fabricpc.md
    python ci/library.py fabricpc --environment DIR  # an environment that has it already

Exit code as `pcbench check`, with the known failures that come with the adapter.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from pcbench.adapters import KNOWN, known_failures_file

ROOT = Path(__file__).resolve().parent.parent


def made(directory: Path, requirement: str) -> Path:
    """The interpreter of a new environment that has `requirement`."""
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
    return python


def head(name: str, report: dict, seconds: float) -> str:
    """What README.md quotes: who was judged, how, and what came out."""
    h, counts = report["header"], {k: n for k, n in report["counts"].items() if n}
    library, version = h["manifest"]["library"], h["manifest"]["version"]
    told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    broken = [v["law"] for v in report["verdicts"] if v["outcome"] in ("fail", "expected-failure")]
    failures = f" Broken: {', '.join(f'`{law}`' for law in broken)}." if broken else ""
    return (
        f"# {library} {version}\n\n"
        f"Made by `python ci/library.py {name}` (profile `{h['profile']}`, seed {h['seed']}): {library} {version} in "
        f"an environment of its own, {len(report['laws'])} laws: {told}.{failures} "
        f"It took {seconds / 60:.0f} minutes.\n\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Install, judge, write; the exit code of the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[n for n, entry in KNOWN.items() if entry.install], help="of an adapter")
    parser.add_argument("--environment", type=Path, help="a virtual environment that has the library")
    parser.add_argument("--profile", default="standard", help="(default: standard)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--output", type=Path, default=ROOT / "ci" / "reports", help="folder (default: ci/reports)")
    options = parser.parse_args(arguments)
    entry = KNOWN[options.name]
    with tempfile.TemporaryDirectory(prefix="pcbench-library-") as scratch:
        where = options.environment
        python = where.absolute() / "bin" / "python" if where else made(Path(scratch, "environment"), entry.install)
        command = [sys.executable, "-m", "pcbench.cli", "check", options.name, "--python", str(python), "--quiet"]
        command += ["--profile", options.profile, "--seed", str(options.seed)]
        command += ["--json", "report.json", "--markdown", "report.md"]
        known = known_failures_file(options.name)
        command += ["--known-failures", str(known)] if known else []
        code = subprocess.run(command, cwd=scratch).returncode
        if not Path(scratch, "report.json").exists():
            return code
        report = json.loads(Path(scratch, "report.json").read_text(encoding="utf-8"))
        text = Path(scratch, "report.md").read_text(encoding="utf-8")
    # Where it was run is nobody's business.
    for path, shown in ((str(python), "environment/bin/python"), (str(ROOT) + "/", ""), (sys.executable, "python")):
        text = text.replace(path, shown)
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / f"{options.name}.md"
    target.write_text(head(options.name, report, report["header"]["seconds"]) + text, encoding="utf-8")
    print(f"written: {options.output.name}/{target.name}")
    return code


if __name__ == "__main__":
    sys.exit(main())
