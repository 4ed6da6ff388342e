"""Judge every library on the package index in a fresh environment, and compare with the committed verdicts.

    python ci/libraries.py            # make what is missing, judge, compare with ci/reports/libraries.json
    python ci/libraries.py --write    # write that file anew
    python ci/libraries.py torch      # of these environments alone

Environments are made where PCBENCH_ENVIRONMENTS says.  The adapters of each are judged with the profile `smoke`, seed 1
and the known failures that come with them.  A library that cannot be had here, because no interpreter fits or the index
does not answer, is named and left out; if nothing at all was judged, that is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pcbench
from pcbench.adapters.register import KNOWN, known_failures_file
from pcbench.environments.catalogue import ENVIRONMENTS, read
from pcbench.errors import PcbenchError, first_line

COMMITTED = Path(__file__).resolve().parent / "reports" / "libraries.json"
PROFILE, SEED = "smoke", 1


def served_environments() -> list[str]:
    """The environments whose library the package index has."""
    return [name for name, environment in ENVIRONMENTS.items() if not environment.source]


def make(name: str) -> str:
    """Make an environment if there is none; empty, or why there is none now."""
    if read(name) is not None:
        return ""
    command = [sys.executable, "-m", "pcbench.cli.main", "env", "create", name, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return "" if done.returncode == 0 else " ".join(said[:2])


def adapters_of(environment: str) -> list[str]:
    """The adapters that live in an environment and need nothing besides it, such as a clone."""
    return [entry.name for entry in KNOWN.values() if entry.environment == environment and not entry.clone]


def judge(adapter: str, workers: int | None) -> dict[str, Any]:
    """What there is to compare of one adapter: library, version, and the outcome of every law.

    **Raises:** `PcbenchError` if it does not start.
    """
    known = known_failures_file(adapter)
    report = pcbench.check(adapter, profile=PROFILE, seed=SEED, known_failures=known, workers=workers)
    manifest = report.header.manifest
    print(f"{adapter}: {manifest['library']} {manifest['version']}, {report.conclusion}, {report.header.seconds:.0f} s")
    sys.stdout.flush()
    verdicts = {v.law: v.outcome for v in report.verdicts if v.outcome != "not-applicable"}
    return {"library": manifest["library"], "version": manifest["version"], "verdicts": verdicts}


def new_versions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A line for every adapter in `after` whose library has another version than in `before`."""
    return [
        f"{adapter}: {before[adapter]['library']} {before[adapter]['version']} -> {now['version']}"
        for adapter, now in after.items()
        if adapter in before and before[adapter]["version"] != now["version"]
    ]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A line for every verdict on adapters in `after` that is not as in `before`."""
    found = []
    for adapter, now in after.items():
        if adapter not in before:
            found.append(f"{adapter}: judged for the first time; `python ci/libraries.py --write` commits it")
            continue
        old = before[adapter]
        for law in dict.fromkeys([*old["verdicts"], *now["verdicts"]]):
            a, b = (each["verdicts"].get(law, "not-applicable") for each in (old, now))
            if a != b:
                found.append(f"{adapter}: {law}: {a} -> {b}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 if a verdict differs or nothing was judged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "environments", nargs="*", metavar="ENVIRONMENT", help=f"of {', '.join(served_environments())} (all)"
    )
    parser.add_argument("--write", action="store_true", help="write the committed file anew")
    parser.add_argument("--workers", type=int, help="runner processes of a check (one for each CPU)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.environments if name not in served_environments()]
    if unknown:
        parser.error(f"no package index serves {', '.join(unknown)}: needed some of {', '.join(served_environments())}")
    before = json.loads(COMMITTED.read_text(encoding="utf-8")) if COMMITTED.exists() else {}
    after: dict[str, Any] = {}
    for environment in options.environments or served_environments():
        trouble = make(environment)
        if trouble:
            print(f"{environment}: cannot be had here: {trouble}", flush=True)
            continue
        for adapter in adapters_of(environment):
            try:
                after[adapter] = judge(adapter, options.workers)
            except PcbenchError as error:
                after[adapter] = {"library": environment, "version": "", "verdicts": {}}
                print(f"{adapter}: does not start: {first_line(error)}", flush=True)
    if not any(found["verdicts"] for found in after.values()):
        print("nothing was judged: no environment could be made", file=sys.stderr)
        return 1
    if options.write:
        COMMITTED.write_text(json.dumps({**before, **after}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"wrote {os.path.relpath(COMMITTED)}")
        return 0
    found = differences(before, after)
    for line in new_versions(before, after):  # one that changes no verdict is news, and no failure
        print(line)
    print("\n".join(found) or f"every verdict of {len(after)} adapters is as committed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
