#!/usr/bin/env python
"""Measure the speed of the reference on a GPU in under ten minutes, or a small version of the run on a CPU.

    python ci/gpu_speed.py [--output DIRECTORY] [--seconds N]

Needs JAX, NumPy and rich, no network and no other package of pcbench's.  Measures cell after cell of the grid, the
most wanted first, and stops taking new ones after `--seconds`; a run that was interrupted goes on where it stopped.
Writes gpu-speed.csv and gpu-speed.md.  Exits with 1 if a target that was measured on a GPU is missed: 0.7 of the GEMM
rate at N >= 2048, B >= 1024, and five times the speed of a loop over layers at N = 128, L = 128.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import jax
from rich.console import Console

from pcbench.experiments.speed import grid as speed_grid
from pcbench.experiments.speed import report as speed_report
from pcbench.experiments.speed.grid import Limits, Measure
from pcbench.experiments.sweep import Point, failures_path, run_sweep
from pcbench.output.display import choose
from pcbench.output.table import Row

OF_GEMM, OVER_LOOP = 0.7, 5.0
KINDS = (("float32", "tf32"), ("float32", "highest"), ("float32", "bfloat16"), ("float64", "highest"))


class OutOfTimeError(Exception):
    """The time of the run is up: the cells that are left were not begun."""


class Hurried:
    """A `Measure` that begins no cell after a deadline."""

    def __init__(self, seconds: float) -> None:
        self._measure, self._deadline = Measure(), time.monotonic() + seconds

    def __call__(self, point: Point) -> Iterable[Row]:
        """The rows of a cell."""
        if time.monotonic() > self._deadline:
            raise OutOfTimeError("out of time: run the same command again to go on")
        return self._measure(point)


def cells() -> tuple[list[Point], list[tuple[Point, str]]]:
    """The targets first, then the grid from wide to narrow, in all precisions; small sizes on a CPU."""
    if jax.default_backend() == "cpu":
        return speed_grid.points(
            (32, 128), (4, 16), (16,), [("float32", "highest"), ("float32", "bfloat16")], Limits(), rounds=2
        )
    limits = Limits(bytes=3e10, operations=1e13)
    wanted: list[Point] = []
    left_out: list[tuple[Point, str]] = []
    for widths, depths, batches in (
        ((2048,), (8,), (1024,)),
        ((128,), (128,), (64, 1024)),
        ((2048,), (4, 32), (256, 1024)),
        ((32, 128, 512, 2048), (4, 32, 128), (1, 64, 1024)),
    ):
        kept, skipped = speed_grid.points(widths, depths, batches, KINDS, limits, seconds=0.03, rounds=4)
        wanted += [p for p in kept if p not in wanted]
        left_out += [entry for entry in skipped if entry not in left_out]
    return wanted, left_out


def missed_targets(rows: Iterable[Row]) -> list[str]:
    """The targets that some cell misses, in words."""
    found = []
    for row in rows:
        where = f"N={row['width']} L={row['depth']} B={row['batch']} {row['dtype']} {row['tier']}"
        if row["implementation"] == "reference":
            if row["width"] >= 2048 and row["batch"] >= 1024 and row["of_gemm"] < OF_GEMM:
                found.append(f"{where}: {row['of_gemm']:.2f} of the GEMM rate, needed {OF_GEMM}")
        elif (row["width"], row["depth"]) == (128, 128) and row["over_reference"] < OVER_LOOP:
            found.append(
                f"{where}: a loop over layers takes {row['over_reference']:.1f} times as long, not {OVER_LOOP}"
            )
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", default="gpu-speed", help="directory to write gpu-speed.csv and gpu-speed.md to")
    parser.add_argument("--seconds", type=float, default=480.0, help="seconds after which no cell is begun")
    options = parser.parse_args(arguments)
    place = Path(options.output)
    todo, left_out = cells()
    table = place / "gpu-speed.csv"
    rows = run_sweep(Hurried(options.seconds), todo, table, display=choose(Console(stderr=True)), name="cells")
    (place / "gpu-speed.md").write_text(
        speed_report.markdown(rows, left_out, [], speed_grid.run_conditions()), encoding="utf-8"
    )
    print(f"{len(todo)} cells, {len(todo) - len({_cell(r) for r in rows})} not measured; wrote {table}")
    if failures_path(table).exists():
        print(f"not measured, with the reasons: {failures_path(table)}", file=sys.stderr)
    if jax.default_backend() == "cpu":
        print("no GPU here: the path was run, its targets are not for a CPU")
        return 0
    problems = missed_targets(rows)
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


def _cell(row: Row) -> tuple[object, ...]:
    return tuple(row[k] for k in ("width", "depth", "batch", "dtype", "tier"))


if __name__ == "__main__":
    sys.exit(main())
