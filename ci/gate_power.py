#!/usr/bin/env python
"""Measure the error rates of `pcbench gate` on this machine: false alarms and missed slowdowns.

    python ci/gate_power.py                            # 200 A/A comparisons, 100 planted; ci/reports/gate.{json,md}
    python ci/gate_power.py --aa 8 --planted 4 --name try --output .   # to see that it works

Every comparison is the gate's own (`pcbench.gate.pairs`), processes and all, only with fewer timed bodies.  A/A
compares an implementation with itself; the planted slowdown is real work, a fifth more of it (`ci/planted.py`).
Comparisons that are in the JSON file are not made again, so that an interrupted count goes on where it stopped.

Exit code 1 if more than 1 % of the A/A comparisons ended in a regression, or fewer than 95 % of the planted ones did.
Let nothing else run meanwhile: what is counted is the gate on this machine as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcbench.cli.options import orderly_termination
from pcbench.gate import pairs
from pcbench.gate.outcome import Conformance
from pcbench.gate.rows import Chosen, choose
from pcbench.gate.sides import BODIES, LEAST_SECONDS, Sides
from pcbench.gate.signs import Plan, looks_between
from pcbench.timing import harness, machine

ROOT = Path(__file__).resolve().parent
ROWS = ("infer-deep-narrow", "infer-medium", "infer-wide", "weight-gradient")
WANTED_ALARMS, WANTED_FOUND = 0.01, 0.95


def upper_bound(hits: int, trials: int, confidence: float = 0.95) -> float:
    """The largest rate under which so few hits still have a chance of 1 - `confidence` (Clopper and Pearson)."""
    if hits >= trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        below = sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(hits + 1))
        low, high = (p, high) if below > 1 - confidence else (low, p)
    return high


class SidesCache:
    """Prepared sides for every kind of comparison and row, made when first asked for."""

    def __init__(self, driver: harness.Harness, implementation: str, bodies: int) -> None:
        self._driver, self._name, self._bodies = driver, implementation, bodies
        self._made: dict[tuple[str, str], tuple[Sides, Chosen]] = {}

    def prepared_sides(self, kind: str, row: str) -> tuple[Sides, Chosen]:
        """The sides and the row, ready to be compared."""
        if (kind, row) not in self._made:
            attributes = {"base": "plain", "head": "slower" if kind == "planted" else "plain"}
            sides = {
                label: harness.side(
                    self._driver, f"{label}-{kind}", ROOT, f"{ROOT / 'planted.py'}:{self._name}_{attribute}"
                )
                for label, attribute in attributes.items()
            }
            chosen = choose([row])
            prepared = Sides(harness=self._driver, sides=sides, chosen=chosen, bodies=self._bodies)
            judged = Conformance(passed=True, conclusion="", dtypes=("float32", "float64"))
            prepared.prepare({"base": judged, "head": judged})
            if prepared.excluded:
                raise SystemExit(f"{row} cannot be measured: {prepared.excluded}")
            self._made[kind, row] = prepared, chosen
        return self._made[kind, row]


def trial(benches: SidesCache, plan: Plan, kind: str, number: int, seed: int) -> dict[str, Any]:
    """One comparison, as a row of the report."""
    name = ROWS[number % len(ROWS)]
    prepared, chosen = benches.prepared_sides(kind, name)
    began = time.monotonic()
    (made,) = pairs.compare_sides(prepared, chosen, plan, seed=seed * 10_000 + number, calibration=0)
    return {
        "kind": kind, "trial": number, "row": name, "outcome": made.outcome, "pairs": len(made.base),
        "ratio": round(made.ratio, 4), "spread": round(made.spread, 4), "why": made.why,
        "load": machine.load_average(), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many rows have each outcome."""
    return {name: sum(r["outcome"] == name for r in rows) for name in dict.fromkeys(r["outcome"] for r in rows)}


def as_markdown(settings: dict[str, Any], rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The counts for a reader."""
    aa, planted = ([r for r in rows if r["kind"] == kind] for kind in ("aa", "planted"))
    alarms, found = (sum(r["outcome"] == "regression" for r in part) for part in (aa, planted))
    spreads = sorted(r["spread"] for r in rows)
    lines = [
        "# What the gate gets wrong",
        "",
        f"Made by `python ci/gate_power.py` with the implementation `{settings['implementation']}`: {alarms} false "
        f"alarms in {len(aa)} A/A comparisons (rate below {upper_bound(alarms, max(1, len(aa))):.1%} with 95 % "
        f"confidence); {found} of {len(planted)} planted slowdowns of a fifth found.",
        "",
        f"The rule: looks after {', '.join(map(str, settings['looks']))} pairs, false alarms at most "
        f"{settings['false_alarm']:.0%}, a slowdown of {settings['effect']:.0%} cleared at most "
        f"{settings['miss']:.0%}. A process has {settings['bodies']} timed bodies of {LEAST_SECONDS * 1e3:g} ms here "
        f"({settings['clock']} clock), {BODIES} in the gate.",
        "",
        "Host: " + ", ".join(f"{k} {v}" for k, v in about.items()) + ".",
        "",
        "| comparison | row | comparisons | verdicts | pairs, mean | median ratio | spread of A/A pairs, median |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for kind, part in (("A/A", aa), ("planted", planted)):
        for name in ROWS:
            some = [r for r in part if r["row"] == name]
            if some:
                verdicts = ", ".join(f"{n} {outcome}" for outcome, n in counts(some).items())
                ratios, noise = (sorted(r[key] for r in some) for key in ("ratio", "spread"))
                mean = sum(r["pairs"] for r in some) / len(some)
                lines.append(
                    f"| {kind} | `{name}` | {len(some)} | {verdicts} | {mean:.1f} | {ratios[len(some) // 2]:.3f} | "
                    f"{noise[len(some) // 2]:.1%} |"
                )
    loads = sorted(r["load"] for r in rows if r["load"] is not None)
    if rows:
        text = f"Largest spread of A/A pairs in one comparison: {spreads[-1]:.1%}. "
        text += f"Load average: median {loads[len(loads) // 2]}, largest {loads[-1]}. " if loads else ""
        lines += ["", text + f"All comparisons took {sum(r['seconds'] for r in rows) / 60:.0f} minutes."]
    wrong = [r for r in rows if (r["outcome"] == "regression") != (r["kind"] == "planted")]
    wrong = [r for r in wrong if r["kind"] == "planted" or r["outcome"] == "regression"]
    if wrong:
        lines += ["", "## Wrong", ""]
        lines += [f"- {r['kind']} {r['trial']}, `{r['row']}`: {r['outcome']}, {r['why']}" for r in wrong]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Compare, print a line each, and write the report; 1 if the gate is not as good as it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--implementation",
        choices=("numpy", "reference"),
        default="numpy",
        help="implementation to time (default: numpy)",
    )
    parser.add_argument("--aa", type=int, default=200, help="number of comparisons of equal code (default: 200)")
    parser.add_argument(
        "--planted", type=int, default=100, help="number of comparisons with a planted slowdown (default: 100)"
    )
    parser.add_argument("--max-pairs", type=int, default=24, help="most pairs of a comparison (default: 24)")
    parser.add_argument("--bodies", type=int, default=4, help="number of timed bodies in a process (default: 4)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="clock to time with (default: wall)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the order of processes (default: 1)")
    parser.add_argument("--name", default="gate", help="name of the two files without suffix (default: gate)")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "reports", help="folder of the two files (default: ci/reports)"
    )
    options = parser.parse_args(arguments)
    plan = Plan(looks=looks_between(8, options.max_pairs))
    settings = {"implementation": options.implementation, "seed": options.seed, "rows": list(ROWS), **vars(plan)}
    settings |= {"looks": list(plan.looks), "bodies": options.bodies, "clock": options.clock}
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / f"{options.name}.json"
    data = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    rows = data.get("rows", []) if data.get("settings") == settings else []
    done = {(r["kind"], r["trial"]) for r in rows}
    about = {**machine.host(1), "begun": datetime.now(UTC).isoformat(timespec="seconds")}
    # In turns, so that a quiet or a busy hour is shared between both kinds.
    wanted = sorted([("aa", n) for n in range(options.aa)] + [("planted", n) for n in range(options.planted)],
                    key=lambda item: item[1] / max(1, options.aa if item[0] == "aa" else options.planted))  # fmt: skip
    with orderly_termination(), harness.open_harness(timeout=120.0, clock=options.clock) as driver:
        benches = SidesCache(driver, options.implementation, options.bodies)
        for kind, number in wanted:
            if (kind, number) in done:
                continue
            row = trial(benches, plan, kind, number, options.seed)
            rows.append(row)
            text = json.dumps({"settings": settings, "host": about, "rows": rows}, indent=1)
            kept.write_text(text + "\n", encoding="utf-8")
            kept.with_suffix(".md").write_text(as_markdown(settings, rows, about), encoding="utf-8")
            print(
                f"{kind} {number}: {row['row']} {row['outcome']} after {row['pairs']} pairs, ratio {row['ratio']}, "
                f"{row['seconds']} s",
                flush=True,
            )
    aa, planted = (counts([r for r in rows if r["kind"] == kind]) for kind in ("aa", "planted"))
    print(f"A/A: {aa}\nplanted: {planted}")
    alarms, found = aa.get("regression", 0), planted.get("regression", 0)
    return int(alarms > WANTED_ALARMS * sum(aa.values()) or found < WANTED_FOUND * sum(planted.values()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
