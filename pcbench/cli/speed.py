"""`pcbench speed`: inference over a grid of sizes, as a fraction of the machine's matrix products and beside others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pcbench.cli.sweep_options import Sizes, chosen_of
from pcbench.errors import UsageError

KINDS = ("float32", "float64", "tf32", "bfloat16")


@click.command("speed")
@click.option("--output", "directory", default="speed", show_default=True, type=click.Path(file_okay=False),
              help="Where tables go.")  # fmt: skip
@click.option("--widths", default="32,128,512,2048", show_default=True, type=Sizes(1), help="Of hidden layers.")
@click.option("--depths", default="4,16,128", show_default=True, type=Sizes(1), help="Weight matrices.")
@click.option("--batches", default="1,16,256,1024", show_default=True, type=Sizes(1), help="Samples.")
@click.option("--kinds", default="float32,float64", show_default=True,
              help="Dtypes, and tf32 or bfloat16 for products of float32 in that precision.")  # fmt: skip
@click.option("--activation", default="tanh", show_default=True, help="Of hidden layers.")
@click.option("--groups", default="", type=Sizes(0),
              help="Other layouts of the reference: into how many products hidden layers go.")  # fmt: skip
@click.option("--orientations", default="", metavar="NAMES",
              help="Other ways to write its products: plain, copied, units-first.")  # fmt: skip
@click.option("--peer", "peers", multiple=True, metavar="IMPL[=PYTHON]",
              help="Another implementation, as in `pcbench check IMPL --python PYTHON`; repeatable.")  # fmt: skip
@click.option("--equilibria/--no-equilibria", default=True, show_default=True, help="The cost of equilibria as well.")
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1), help="The fastest of so many counts.")
@click.option("--seconds", default=0.05, show_default=True, type=float, help="Of one timed call, about.")
@click.option("--memory", default=2.0, show_default=True, type=float, help="GB a cell may take; larger are left out.")
@click.option("--work", default=40.0, show_default=True, type=float, help="Billion operations a step may take.")
@click.option("--timeout", default=60.0, show_default=True, type=float, help="Seconds for one call of a peer.")
@click.option("--fresh", is_flag=True, help="Forget what an earlier run in the same directory has measured.")
@click.option("--quiet", is_flag=True, help="No progress: the conclusion alone.")
def command(
    directory: str, widths: tuple[int, ...], depths: tuple[int, ...], batches: tuple[int, ...], kinds: str,
    activation: str, groups: tuple[int, ...], orientations: str, peers: tuple[str, ...], equilibria: bool,
    rounds: int, seconds: float, memory: float, work: float, timeout: float, fresh: bool, quiet: bool,
) -> None:  # fmt: skip
    """How fast inference is: the reference, JAX code as a user writes it, and peers, beside the machine's own products.

    Writes speed.csv, speed-equilibria.csv and speed.md.  A run that was interrupted goes on where it stopped if the
    same command is given again; times of several machines or loads do not belong into one table, so --fresh starts
    anew.
    """
    from pcbench.experiments.speed import equilibrium as speed_equilibrium
    from pcbench.experiments.speed import grid as speed_grid
    from pcbench.experiments.speed import report as speed_report
    from pcbench.experiments.sweep import failures_path, journal_path, run_sweep
    from pcbench.output import display
    from pcbench.output.table import replace_file
    from pcbench.reference.inference.orientation import ORIENTATIONS

    if min(depths) < 2:
        raise UsageError(f"--depths {min(depths)}: a PCN has at least 2 weight matrices")
    pairs = [(k, "highest") if k in KINDS[:2] else ("float32", k) for k in chosen_of("--kinds", kinds, KINDS)]
    limits = speed_grid.Limits(bytes=memory * 1e9, operations=work * 1e9)
    todo, left_out = speed_grid.points(
        widths,
        depths,
        batches,
        pairs,
        limits,
        activation=activation,
        groups=groups,
        orientations=chosen_of("--orientations", orientations, ORIENTATIONS) if orientations else (),
        seconds=seconds,
        rounds=rounds,
    )
    place, console = Path(directory), Console(highlight=False)
    shown = display.choose(console, quiet)
    grid, solved = place / "speed.csv", place / "speed-equilibria.csv"
    if fresh:
        for path in (grid, solved):
            journal_path(path).unlink(missing_ok=True)
    with _started(peers, timeout) as clients:
        for point in todo:
            point["peers"] = sorted(clients)  # other company is another measurement
        rows = run_sweep(speed_grid.Measure(clients), todo, grid, display=shown, name="cells")
    roads: list[dict[str, Any]] = []
    if equilibria:
        chosen = speed_equilibrium.points([n for n in (64, 256) if n <= max(widths)] or widths[:1], (4, 16))
        roads = run_sweep(speed_equilibrium.measure, chosen, solved, display=shown, name="equilibria")
    replace_file(place / "speed.md", speed_report.markdown(rows, left_out, roads, speed_grid.where()))
    if not quiet:
        console.print(f"wrote {grid}, {place / 'speed.md'}", markup=False, soft_wrap=True)
    for pair in pairs:
        same = [row for row in rows if (row["dtype"], row["tier"]) == pair]
        if same:
            console.print(f"{pair[0]}, {pair[1]}: {speed_report.summary(same)}", markup=False, soft_wrap=True)
    failed = [str(failures_path(p)) for p in (grid, solved) if failures_path(p).exists()]
    if failed:
        raise UsageError(f"some cells could not be measured: {', '.join(failed)} say why")


@contextmanager
def _started(peers: Sequence[str], timeout: float) -> Iterator[dict[str, Any]]:
    """A worker for each of `peers`, with all threads, by the name it gives itself."""
    from pcbench.adapters import register as adapters
    from pcbench.worker.client import WorkerClient
    from pcbench.worker.limits import Limits

    with ExitStack() as stack:
        clients = {}
        for text in peers:
            _, spec, python = adapters.locate_pair(text)
            client = WorkerClient(adapters.for_timing(spec), python or None, Limits(call_seconds=timeout), threads=None)
            stack.enter_context(client)
            clients[client.manifest.name] = client
        yield clients
