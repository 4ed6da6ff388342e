#!/usr/bin/env python
"""Benchmark several commits of the reference with asv and publish the history as a web site.

    python ci/history.py --commits 6 --output asv_bench/history      # results, machines and html below it
    python ci/history.py SHA SHA SHA --rounds 3 --bench Inference
    python ci/history.py --rounds 0                                  # publish what is committed, measure nothing

Needs pcbench and asv in this interpreter (`pip install -e '.[bench]'`).  The benchmarks are those of this checkout, the
implementation is the commit's (as in `pcbench gate`): a history whose ruler changes measures nothing.  All commits are
run once a round, there and back, so that a machine that slows down slows them all.  Rounds after the first repeat the
times alone, unless `--bench` says what; of several rounds the median counts.
Exit code 1 if a benchmark failed on some commit, which the site shows as missing, 2 if there is nothing to publish.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pcbench.benchmarks.process import asv_machine
from pcbench.timing import harness as harnesses
from pcbench.timing import machine_record as machine

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "pcbench.adapters.reference"
QUICK = "compiled_for_speed"
"""The attribute of the adapter that is to be timed, in commits that have it; else the one that is judged."""
TIMED = r"^(?!checking\.).*seconds"
"""What rounds after the first run, as everything else is the same each time or takes minutes."""
TOUCHED = ("pcbench/reference", "pcbench/adapters/reference.py")


def main(arguments: list[str] | None = None) -> int:
    """Measure, merge and publish."""
    options = parse_arguments(arguments)
    commits = [git("rev-parse", "--verify", f"{name}^{{commit}}") for name in options.sha] or choose_commits(
        options.commits
    )
    made = asv_machine()
    name = options.machine or machine.name(made)
    failed = False
    with tempfile.TemporaryDirectory(prefix="pcbench-history-") as scratch, harnesses.open_harness() as driver:
        place = Path(scratch)
        specs = {sha: spec_of(sha, place / "commits", driver) for sha in commits}
        rounds: list[Path] = []
        for number in range(options.rounds):
            results = place / f"round-{number}"
            for sha in commits if number % 2 == 0 else reversed(commits):
                print(f"round {number + 1} of {options.rounds}, {git('log', '-1', '--format=%h %s', sha)}", flush=True)
                command = ["run", "-E", f"existing:{sys.executable}", "--set-commit-hash", sha, "--machine", name]
                command += ["--launch-method", "spawn", "--show-stderr"]
                wanted = options.bench or ([] if number == 0 else [TIMED])
                command += [word for pattern in wanted for word in ("-b", pattern)]
                code = asv(place, results, place / "html", command, {"PCBENCH_IMPL": specs[sha]})
                failed |= code != 0
                machine.write(asv_machine(), options.output / "machines" / name / f"{sha[:8]}-{number}.json")
            rounds.append(results)
        if options.rounds and not keep(rounds, name, options.output / "results"):
            print("no commit gave a result: nothing to publish", file=sys.stderr)
            return 2
        html = options.output / "html"
        code = asv(place, (options.output / "results").resolve(), html.resolve(), ["publish", "--no-pull"], {})
    print(f"published {html / 'index.html'} (`python -m http.server -d {html}` shows it; asv's page loads scripts)")
    return int(failed or code != 0)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sha", nargs="*", help="commits to benchmark (default: some that changed the reference)")
    parser.add_argument(
        "--commits", type=int, default=6, help="number of evenly spaced commits, if none is given (default: 6)"
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="number of runs of every commit (default: 2); 0 only publishes"
    )
    parser.add_argument(
        "--bench", action="append", default=[], help="pattern of the benchmarks to run, passed to asv; repeatable"
    )
    parser.add_argument(
        "--machine", default="", help="name of this machine in the site (default: made of host and settings)"
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "asv_bench" / "history", help="folder of results, machines and site"
    )
    return parser.parse_args(arguments)


def choose_commits(count: int) -> list[str]:
    """`count` evenly spaced commits of the main line that changed the reference, the newest last."""
    found = git("rev-list", "--first-parent", "--reverse", "HEAD", "--", *TOUCHED).split()
    found = [sha for sha in found if git("ls-tree", "--name-only", sha, "--", TOUCHED[1])]  # before it, no protocol
    if len(found) <= count:
        return found
    return [found[round(k * (len(found) - 1) / max(1, count - 1))] for k in range(count)]


def spec_of(sha: str, folder: Path, driver: harnesses.Harness) -> str:
    """The implementation of a commit behind today's protocol, its files unpacked below `folder`."""
    root = folder / sha[:12]
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", sha], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(root, filter="data")
    quick = f"def {QUICK}(" in (root / TOUCHED[1]).read_text(encoding="utf-8")
    attribute = QUICK if quick else "implementation"
    return harnesses.side(driver, f"commit_{sha[:12]}", root, f"{REFERENCE}:{attribute}").spec


def asv(place: Path, results: Path, html: Path, command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run one asv command with its results in `place` and this project's configuration; return its exit code."""
    configuration = place / "asv.conf.json"
    project = json.loads((ROOT / "asv_bench" / "asv.conf.json").read_text(encoding="utf-8"))
    values = {
        **project, "repo": str(ROOT), "branches": ["HEAD"], "benchmark_dir": str(ROOT / "asv_bench" / "benchmarks"),
        "results_dir": str(results), "html_dir": str(html), "env_dir": str(place / "env"),
    }  # fmt: skip
    configuration.write_text(json.dumps(values), encoding="utf-8")
    environment = {**os.environ, "HOME": str(place), **variables}  # asv keeps the machine's file in the home directory
    words = [sys.executable, "-m", "asv", "--config", str(configuration), *command]
    if command[0] == "run":
        known = [*words[:5], "machine", "--yes", "--machine", command[command.index("--machine") + 1]]
        subprocess.run(known, env=environment, check=True, stdout=subprocess.DEVNULL)
    return subprocess.run(words, env=environment).returncode


def keep(rounds: Sequence[Path], name: str, output: Path) -> int:
    """Merge the rounds' results of each commit into `output`; how many commits there are."""
    files: dict[str, list[Path]] = {}
    for results in rounds:
        for path in sorted((results / name).glob("*-existing*.json")):
            files.setdefault(path.name.split("-")[0], []).append(path)
    if not files:
        return 0
    (output / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(rounds[0] / "benchmarks.json", output)
    shutil.copy(rounds[0] / name / "machine.json", output / name)
    environment = f"existing-py{platform.python_version()}"
    for sha, paths in files.items():
        merged = median([json.loads(path.read_text(encoding="utf-8")) for path in paths])
        # asv names an existing environment by its path, which is nobody else's business
        merged["env_name"], merged["python"] = environment, platform.python_version()
        merged["params"]["python"] = platform.python_version()
        text = json.dumps(merged, sort_keys=True) + "\n"
        (output / name / f"{sha}-{environment}.json").write_text(text, encoding="utf-8")
    return len(files)


def median(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One asv result file from several of the same commit, each number the median of those that there are."""
    merged = json.loads(json.dumps(runs[0]))
    place = merged["result_columns"].index("result")
    for run in runs[1:]:
        for benchmark, row in run["results"].items():
            merged["results"].setdefault(benchmark, row)
    for benchmark, row in merged["results"].items():
        found = [run["results"][benchmark][place] for run in runs if benchmark in run["results"]]
        several = [values for values in found if values is not None]
        if several:
            row[place] = [_median(values) for values in zip(*several, strict=True)]
    return merged


def _median(values: Sequence[float | None]) -> float | None:
    numbers = [v for v in values if v is not None and v == v]
    return statistics.median(numbers) if numbers else values[0]


def git(*arguments: str) -> str:
    """The output of a git command."""
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
