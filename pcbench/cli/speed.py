"""`pcbench speed`: time inference over a grid of sizes, beside matrix products and other implementations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pcbench.cli.sweep_options import Sizes, parse_choices
from pcbench.errors import UsageError

KINDS = ("float32", "float64", "tf32", "bfloat16")


@click.command("speed")
@click.option("--output", "directory", default="speed", show_default=True, type=click.Path(file_okay=False),
              help="Directory for tables.")  # fmt: skip
@click.option("--widths", default="32,128,512,2048", show_default=True, type=Sizes(1), help="Widths of hidden layers.")
@click.option("--depths", default="4,16,128", show_default=True, type=Sizes(1), help="Numbers of weight matrices.")
@click.option("--batches", default="1,16,256,1024", show_default=True, type=Sizes(1), help="Batch sizes.")
@click.option("--kinds", default="float32,float64", show_default=True,
              help="Dtypes; tf32 and bfloat16 are float32 with products in that precision.")  # fmt: skip
@click.option("--activation", default="tanh", show_default=True, help="Activation of hidden layers.")
@click.option("--groups", default="", type=Sizes(0),
              help="Numbers of batched products of other layouts of the reference to time.")  # fmt: skip
@click.option("--orientations", default="", metavar="NAMES",
              help="Orientations of other layouts to time: plain, copied, units-first.")  # fmt: skip
@click.option("--peer", "peers", multiple=True, metavar="IMPL[=PYTHON]",
              help="Peer to time as well, as in `pcbench check IMPL --python PYTHON`; repeatable.")  # fmt: skip
@click.option(
    "--equilibria/--no-equilibria", default=True, show_default=True, help="Whether to time equilibrium solvers as well."
)
@click.option(
    "--rounds",
    default=4,
    show_default=True,
    type=click.IntRange(1),
    help="Number of rounds, of which the fastest counts.",
)
@click.option("--seconds", default=0.05, show_default=True, type=float, help="Approximate seconds of one timed call.")
@click.option(
    "--memory",
    default=2.0,
    show_default=True,
    type=float,
    help="Most memory of a cell in GB; larger cells are left out.",
)
@click.option(
    "--work",
    default=40.0,
    show_default=True,
    type=float,
    help="Most operations of a step in billions; larger cells are left out.",
)
@click.option(
    "--timeout", default=60.0, show_default=True, type=float, help="Longest time of one call of a peer, in seconds."
)
@click.option("--fresh", is_flag=True, help="Measure anew what an earlier run in the same directory measured.")
@click.option("--quiet", is_flag=True, help="Print only the conclusion.")
def command(
    directory: str, widths: tuple[int, ...], depths: tuple[int, ...], batches: tuple[int, ...], kinds: str,
    activation: str, groups: tuple[int, ...], orientations: str, peers: tuple[str, ...], equilibria: bool,
    rounds: int, seconds: float, memory: float, work: float, timeout: float, fresh: bool, quiet: bool,
) -> None:  # fmt: skip
    """Time inference of the reference, of plain JAX and of peers beside the machine's own matrix products.

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
        raise UsageError(
            f"--depths {min(depths)}: needed depths of 2 or more, since a PCN has at least 2 weight matrices"
        )
    pairs = [(k, "highest") if k in KINDS[:2] else ("float32", k) for k in parse_choices("--kinds", kinds, KINDS)]
    limits = speed_grid.Limits(bytes=memory * 1e9, operations=work * 1e9)
    todo, left_out = speed_grid.points(
        widths,
        depths,
        batches,
        pairs,
        limits,
        activation=activation,
        groups=groups,
        orientations=parse_choices("--orientations", orientations, ORIENTATIONS) if orientations else (),
        seconds=seconds,
        rounds=rounds,
    )
    place, console = Path(directory), Console(highlight=False)
    shown = display.choose(console, quiet)
    grid, solved = place / "speed.csv", place / "speed-equilibria.csv"
    if fresh:
        for path in (grid, solved):
            journal_path(path).unlink(missing_ok=True)
    with _start_workers(peers, timeout) as clients:
        for point in todo:
            point["peers"] = sorted(clients)  # other company is another measurement
        rows = run_sweep(speed_grid.Measure(clients), todo, grid, display=shown, name="cells")
    roads: list[dict[str, Any]] = []
    if equilibria:
        chosen = speed_equilibrium.points([n for n in (64, 256) if n <= max(widths)] or widths[:1], (4, 16))
        roads = run_sweep(speed_equilibrium.measure_point, chosen, solved, display=shown, name="equilibria")
    replace_file(place / "speed.md", speed_report.markdown(rows, left_out, roads, speed_grid.run_conditions()))
    if not quiet:
        console.print(f"wrote {grid}, {place / 'speed.md'}", markup=False, soft_wrap=True)
    for pair in pairs:
        same = [row for row in rows if (row["dtype"], row["tier"]) == pair]
        if same:
            console.print(f"{pair[0]}, {pair[1]}: {speed_report.summary_sentences(same)}", markup=False, soft_wrap=True)
    failed = [str(failures_path(p)) for p in (grid, solved) if failures_path(p).exists()]
    if failed:
        raise UsageError(f"some cells could not be measured: {', '.join(failed)} say why")


@contextmanager
def _start_workers(peers: Sequence[str], timeout: float) -> Iterator[dict[str, Any]]:
    """A worker for each of `peers`, with all threads, by the name it gives itself."""
    from pcbench.adapters import register as adapters
    from pcbench.worker.client import WorkerClient
    from pcbench.worker.limits import Limits

    with ExitStack() as stack:
        clients = {}
        for text in peers:
            _, spec, python = adapters.locate_pair(text)
            client = WorkerClient(
                adapters.timing_spec(spec), python or None, Limits(call_seconds=timeout), threads=None
            )
            stack.enter_context(client)
            clients[client.manifest.name] = client
        yield clients
