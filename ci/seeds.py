#!/usr/bin/env python
"""Count false alarms: run `pcbench check` on a correct implementation with many seeds, one table row per seed.

    python ci/seeds.py --seeds 101-120                          # the reference, standard profile; ci/reports/seeds.md
    python ci/seeds.py --seeds 1-50 --laws limit --name limits  # some laws; ci/reports/limits.md

Exit code 1 if any run does not conform.  Rows are kept in a JSON file beside the table and a seed that is in it for the
same set of laws is not run again, so that an interrupted count goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pcbench.laws import law_set_hash

FOLDER = Path(__file__).resolve().parent / "reports"


def seeds_of(text: str) -> list[int]:
    """The seeds of `101-120` or `3,5,8-10`."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def check(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run `pcbench check` once, as a row: what decided the verdict, and the largest margin of a law that passed."""
    command = [sys.executable, "-m", "pcbench.cli.main", "check", options.implementation, "--profile", options.profile]
    command += ["--seed", str(seed), "--quiet"] + (["--laws", options.laws] if options.laws else [])
    with tempfile.TemporaryDirectory(prefix="pcbench-seeds-") as scratch:
        path = Path(scratch, "report.json")
        done = subprocess.run([*command, "--json", str(path)], cwd=scratch, capture_output=True, text=True)
        if not path.exists():
            raise SystemExit(f"{' '.join(command)} wrote no report:\n{done.stdout}{done.stderr}")
        report = json.loads(path.read_text(encoding="utf-8"))
    verdicts = report["verdicts"]
    judged = [v for v in verdicts if v["outcome"] == "pass"]
    worst = max(judged, key=lambda v: float(v["worst"]["margin"]), default=None)
    return {
        "seed": seed,
        "exit_code": done.returncode,
        "laws": len(verdicts),
        "counts": {k: n for k, n in report["counts"].items() if n},
        "examples": sum(v["examples"] for v in verdicts),
        "fewest_examples": min((v["examples"] for v in judged), default=0),
        "fewest_shapes": min((v["shapes"] for v in judged), default=0),
        "worst_margin": float(worst["worst"]["margin"]) if worst else 0.0,
        "worst_law": worst["law"] if worst else "",
        "alarms": [v["replay"] or v["law"] for v in verdicts if v["outcome"] not in ("pass", "not-applicable")],
        "seconds": round(report["header"]["seconds"], 1),
    }


def as_markdown(options: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    """The rows for a reader, the sum first."""
    bad = [row for row in rows if row["exit_code"]]
    examples = sum(row["examples"] for row in rows)
    lines = [
        f"# False alarms of `{options.implementation}`",
        "",
        f"`{options.implementation}`, profile `{options.profile}`, laws `{options.laws or 'all'}`: {len(rows)} seeds, "
        f"{examples} examples, {len(bad)} runs with an alarm, worst margin "
        f"{max(row['worst_margin'] for row in rows):.2g}.",
        "",
        "| seed | exit code | verdicts | examples | fewest a law | fewest shapes a law | worst margin | law |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        counts = ", ".join(f"{n} {name}" for name, n in row["counts"].items())
        lines.append(
            f"| {row['seed']} | {row['exit_code']} | {counts} | {row['examples']} | {row['fewest_examples']} | "
            f"{row['fewest_shapes']} | {row['worst_margin']:.2g} | `{row['worst_law']}` |"
        )
    alarms = [f"- seed {row['seed']}: `{alarm}`" for row in rows for alarm in row["alarms"]]
    return "\n".join([*lines, *(["", "## Alarms", "", *alarms] if alarms else [])]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run, print a line a seed, and write the table; 1 if there was an alarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "implementation", nargs="?", default="reference", help="implementation, named as for pcbench check"
    )
    parser.add_argument(
        "--seeds", type=seeds_of, default=seeds_of("101-120"), help="seeds, for example 101-120 or 1,5,9-12"
    )
    parser.add_argument("--profile", default="standard", help="profile of the runs (default: standard)")
    parser.add_argument("--laws", default="", help="laws to judge, as for pcbench check (default: all)")
    parser.add_argument("--name", default="seeds", help="name of the two files without suffix (default: seeds)")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the two files (default: ci/reports)")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / f"{options.name}.json"
    settings = {"implementation": options.implementation, "profile": options.profile, "laws": options.laws}
    settings["law_set"] = law_set_hash()
    data = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    rows = {row["seed"]: row for row in data.get("rows", ())} if data.get("settings") == settings else {}
    for seed in options.seeds:
        if seed not in rows:
            rows[seed] = check(options, seed)
            ordered = [rows[s] for s in sorted(rows)]
            kept.write_text(json.dumps({"settings": settings, "rows": ordered}, indent=1) + "\n", encoding="utf-8")
            kept.with_suffix(".md").write_text(as_markdown(options, ordered), encoding="utf-8")
        row = rows[seed]
        said = f"exit code {row['exit_code']}, worst margin {row['worst_margin']:.2g} ({row['worst_law']})"
        print(f"seed {seed}: {said}, {row['seconds']} s", flush=True)
        for alarm in row["alarms"]:
            print(f"    {alarm}", flush=True)
    return int(any(rows[seed]["exit_code"] for seed in options.seeds))


if __name__ == "__main__":
    sys.exit(main())
