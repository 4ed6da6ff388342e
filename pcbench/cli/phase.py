"""`pcbench phase`: measure and draw the phase diagram of parameterisations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from pcbench.cli.sweep_options import Sizes, local_executor, parse_choices
from pcbench.errors import UsageError

PLANES = ("output", "initial", "depth")
_LISTED = 20


@click.command("phase")
@click.option("--output", "directory", default="phase", show_default=True, type=click.Path(file_okay=False),
              help="Directory for tables and figures.")  # fmt: skip
@click.option(
    "--planes", default=",".join(PLANES), show_default=True, help="Planes of exponents to sweep, comma-separated."
)
@click.option(
    "--widths", default="64,128,256,512", show_default=True, type=Sizes(), help="Widths over which growth is measured."
)
@click.option(
    "--depth", default=4, show_default=True, type=click.IntRange(3), help="Depth at which growth in width is measured."
)
@click.option(
    "--depths", default="16,32,64", show_default=True, type=Sizes(), help="Depths over which growth is measured."
)
@click.option(
    "--width",
    default=256,
    show_default=True,
    type=click.IntRange(1),
    help="Width at which growth in depth is measured.",
)
@click.option("--grid", "points", default=15, show_default=True, type=int, help="Number of points per axis, odd.")
@click.option(
    "--seeds", default=6, show_default=True, type=click.IntRange(1), help="Number of random networks of every size."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**64 - 1), help="Seed of data and networks."
)
@click.option("--tolerance", type=click.FloatRange(0, min_open=True),
              help="Exponents closer to 0 than this count as 0.  [default: half the grid's resolution]")  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1), help="Number of processes; does not change results.  [default: number of CPUs]"
)
@click.option("--fresh", is_flag=True, help="Measure anew what an earlier run in the same directory measured.")
@click.option("--quiet", is_flag=True, help="Print only the conclusion.")
def command(
    directory: str, planes: str, widths: tuple[int, ...], depth: int, depths: tuple[int, ...], width: int, points: int,
    seeds: int, seed: int, tolerance: float | None, workers: int | None, fresh: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure which parameterisations are unstable, trivial, lazy or feature learning under PC, BP and theory.

    Planes: `output`, exponents p of the output multiplier and c of the learning rate; `initial`, b of the readout's
    initial scale and c; `depth`, alpha of the residual branches and kappa of the learning rate.  A run that was
    interrupted goes on where it stopped if the same command is given again.
    """
    from pcbench.experiments.phase import figure as phase_figure
    from pcbench.experiments.phase import plane as experiment
    from pcbench.experiments.sweep import failures_path, journal_path, run_sweep
    from pcbench.output import display
    from pcbench.output.table import write_rows

    chosen = parse_choices("--planes", planes, PLANES)
    for plane in chosen:
        experiment.plane_grid(plane, points)  # refused before anything runs
    place, console = Path(directory), Console(highlight=False)
    raw = place / "phase-sizes.csv"
    if fresh:
        journal_path(raw).unlink(missing_ok=True)
    todo = experiment.sweep_points(
        chosen, widths=widths, depth=depth, depths=depths, width=width, points=points, seeds=seeds, seed=seed
    )
    with local_executor(min(workers or os.cpu_count() or 1, len(todo))) as executor:
        shown = display.choose(console, quiet)
        rows = run_sweep(experiment.measure_point, todo, raw, executor=executor, display=shown, name="networks")
    classified = []
    for plane in chosen:
        near = experiment.tolerance_of(plane, points) if tolerance is None else tolerance
        classified += experiment.classify(rows, plane, tolerance=near)
    if not classified:
        raise UsageError(f"no network could be measured: {failures_path(raw)} says why")
    write_rows(place / "phase.csv", classified)
    note = f"seed {seed}, {seeds} networks of each size, widths {_sizes_text(widths)} at depth {depth}"
    if "depth" in chosen:
        note += f", depths {_sizes_text(depths)} at width {width}"
    written = phase_figure.draw(classified, place, note=note)
    found = experiment.summarise_planes(classified)
    if not quiet:
        _print_summary(console, found)
        for path in (raw, place / "phase.csv", *written):
            console.print(f"wrote {path}", markup=False, soft_wrap=True)
    agreed, total = sum(s["pc_is_bp"] for s in found), sum(s["points"] for s in found)
    console.print(f"PC and BP are of one regime at {agreed} of {total} parameterisations", markup=False, soft_wrap=True)
    if failures_path(raw).exists():
        raise UsageError(f"some networks could not be measured and are left out: {failures_path(raw)} says why")


def _sizes_text(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(set(sizes))))


def _print_summary(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("plane", "parameterisations", "PC as BP", "PC as theory", "BP as theory"):
        table.add_column(name, justify="left" if name == "plane" else "right")
    for row in found:
        table.add_row(*(str(row[k]) for k in ("plane", "points", "pc_is_bp", "pc_is_theory", "bp_is_theory")))
    console.print(table)
    for row in found:
        for pc, bp in row["apart"][:_LISTED]:
            where = ", ".join(f"{k}={pc[k]:g}" for k in list(pc)[1:3])
            console.print(
                f"{row['plane']} {where}: theory {pc['theory']}, PC {_regime_text(pc)}, BP {_regime_text(bp)}",
                markup=False, soft_wrap=True,
            )  # fmt: skip
        if len(row["apart"]) > _LISTED:
            console.print(f"{row['plane']}: and {len(row['apart']) - _LISTED} more, see phase.csv", markup=False)


def _regime_text(row: Mapping[str, Any]) -> str:
    return f"{row['regime']} (hidden {row['hidden_exponent']:+.2f}, output {row['output_exponent']:+.2f})"
