"""`pcbench scaling`: measure and draw how predictive coding approaches backpropagation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pcbench.cli.sweep_options import Sizes, dask_executor, local_executor, parse_choices
from pcbench.errors import UsageError

FIGURES = ("initialisation", "training", "nonlinear", "architectures")
_WIDTHS, _DEPTHS = "2,8,32,128,512,2048", "2,4,8,16,32"


@click.command("scaling")
@click.option("--output", "directory", default="scaling", show_default=True, type=click.Path(file_okay=False),
              help="Directory for tables and figures.")  # fmt: skip
@click.option("--figures", default=",".join(FIGURES), show_default=True, help="Experiments to run, comma-separated.")
@click.option("--inference", is_flag=True, help="Measure steps and cost of each inference algorithm instead.")
@click.option("--widths", default=_WIDTHS, show_default=True, type=Sizes(), help="Widths of the networks.")
@click.option("--depths", default=_DEPTHS, show_default=True, type=Sizes(1), help="Depths of the networks.")
@click.option(
    "--repeats", default=3, show_default=True, type=click.IntRange(1), help="Number of random networks of every size."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**64 - 1), help="Seed of data and networks."
)
@click.option(
    "--data", type=click.Path(exists=True), help="Path of CIFAR-10 or Fashion-MNIST.  [default: generated images]"
)
@click.option("--batch", default=64, show_default=True, type=click.IntRange(1), help="Number of images in the batch.")
@click.option(
    "--accelerator", is_flag=True, help="Use the paper's sizes of CNN and transformer; takes hours without a GPU."
)
@click.option(
    "--workers", type=click.IntRange(1), help="Number of processes; does not change results.  [default: number of CPUs]"
)
@click.option("--dask", metavar="ADDRESS", help="Run on the Dask cluster whose scheduler has this address.")
@click.option("--redraw", is_flag=True, help="Draw the figures from existing tables, without measuring.")
@click.option("--quiet", is_flag=True, help="Print only the names of the files written.")
def command(
    directory: str, figures: str, inference: bool, widths: tuple[int, ...], depths: tuple[int, ...], repeats: int,
    seed: int, data: str | None, batch: int, accelerator: bool, workers: int | None, dask: str | None, redraw: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Measure how energy approaches loss, and gradients those of backpropagation, over width and depth.

    One CSV and one figure (SVG and PNG) for each of `--figures`, and the exponents measured in all of them.  A run
    that was interrupted goes on where it stopped if the same command is given again.
    """
    from pcbench.experiments.scaling.options import Options

    options = Options(
        widths=widths, depths=tuple(d for d in depths if d >= 2), repeats=repeats, seed=seed, data=data, batch=batch,
        accelerator=accelerator,
    )  # fmt: skip
    if not options.depths:
        raise UsageError(f"--depths {','.join(map(str, depths))}: needed at least 2 layers of weights")
    chosen = parse_choices("--figures", figures, FIGURES)
    place, console, began = Path(directory), Console(highlight=False), time.monotonic()
    sweeps = _inference_sweeps(options) if inference else _sweeps(chosen, options)
    if redraw:
        rows = {name: _read(place / f"{name}.csv") for name in sweeps}
    else:
        where: Callable[[], AbstractContextManager[Any]] = (
            (lambda: dask_executor(dask)) if dask else (lambda: local_executor(workers or os.cpu_count() or 1))
        )
        rows = _run_sweeps(sweeps, place, where, console, quiet)
    if inference:
        from pcbench.experiments.inference import figure as inference_figure

        written = inference_figure.draw(rows["inference"], place / "inference.svg")
    else:
        from pcbench.experiments.scaling import (
            exponents as scaling_exponents,
        )
        from pcbench.experiments.scaling import (
            figure as scaling_figure,
        )
        from pcbench.experiments.scaling import (
            joint_figure as scaling_joint_figure,
        )
        from pcbench.output.table import write_rows

        write_rows(place / "exponents.csv", scaling_exponents.exponent_rows(rows))
        written = [place / "exponents.csv", *scaling_figure.draw(rows, place)]
        if rows.get("initialisation"):
            written += scaling_joint_figure.draw(rows["initialisation"], place)
    for path in (*(place / f"{name}.csv" for name in sweeps), *written):
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
    if not quiet:
        console.print(f"{time.monotonic() - began:.0f} s", markup=False)
    failed = [name for name in sweeps if (place / f"{name}.failures.json").exists()]
    if failed:
        raise UsageError(f"some points failed and are left out: see {place / failed[0]}.failures.json")


def _sweeps(chosen: list[str], options: Any) -> dict[str, tuple[Any, list[dict[str, Any]]]]:
    """Function and points of every table, the costliest points first so that no process waits at the end."""
    from pcbench.experiments.scaling import (
        architectures as scaling_architectures,
    )  # fmt: skip
    from pcbench.experiments.scaling import (
        initialisation as scaling_initialisation,
    )
    from pcbench.experiments.scaling import (
        nonlinear as scaling_nonlinear,
    )
    from pcbench.experiments.scaling import (
        training as scaling_training,
    )

    tables = {
        "initialisation": (("initialisation", scaling_initialisation.measure_point, scaling_initialisation.points),),
        "training": (("training", scaling_training.measure_point, scaling_training.points),),
        "nonlinear": (
            ("nonlinear", scaling_nonlinear.measure_point, scaling_nonlinear.points),
            ("steps", scaling_nonlinear.measure_steps, scaling_nonlinear.step_points),
        ),
        "architectures": (("architectures", scaling_architectures.measure_point, scaling_architectures.points),),
    }
    return {
        table: (measure, sorted(points(options), key=_work, reverse=True))
        for name in chosen
        for table, measure, points in tables[name]
    }


def _inference_sweeps(options: Any) -> dict[str, tuple[Any, list[dict[str, Any]]]]:
    from pcbench.experiments.inference import sweep as inference_scaling

    defaults = options.widths == tuple(map(int, _WIDTHS.split(",")))
    return {
        "inference": (inference_scaling.measure_point, inference_scaling.sweep_points(None if defaults else options))
    }


def _work(point: dict[str, Any]) -> float:
    return float(point.get("width", 0)) ** 2 * float(point.get("depth", point.get("blocks", 1)))


def _run_sweeps(
    sweeps: dict[str, tuple[Any, list[dict[str, Any]]]], place: Path, where: Callable[[], Any], console: Console,
    quiet: bool,
) -> dict[str, Any]:  # fmt: skip
    from pcbench.experiments.sweep import run_sweep
    from pcbench.output import display

    rows, shown = {}, display.choose(console, quiet)
    with where() as executor:
        for name, (measure, points) in sweeps.items():
            table = place / f"{name}.csv"
            rows[name] = run_sweep(measure, points, table, executor=executor, display=shown, name=name)
    return rows


def _read(path: Path) -> Any:
    from pcbench.output.table import read_rows

    return read_rows(path)
