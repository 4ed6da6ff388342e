r"""Speed of inference over widths, depths and batches, as a fraction of the machine's matrix products.

A simultaneous step multiplies by each hidden weight matrix twice, forward for the predictions and backward for the
errors, and by the output layer's: \(4B((L-2)N^2 + NK)\) floating-point operations.  What the machine can do is
measured in the same run, alternating with the implementations: the best of large square products (`gemm_rate`), and
one product of the very shape of a layer, `(B, N)` by `(N, N)`, again and again (`own_rate`), both in loops without
dispatch.  The ratio to the first is what is left of the machine, that to the second what is left to the layout.  A
third ceiling is the step itself without all that is not a product: the same weights, in the same groups, with nothing
between the two products of a layer (`products_rate`); what a step takes beyond that are passes over memory.

The reference, JAX code as a user writes it (`speed_plain`), and peers through their adapters, each in a process of its
own with its own loop: a step is the difference of two calls over the difference of their steps (`speed_timing`).
"""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcbench.errors import PcbenchError, UsageError
from pcbench.experiments.speed import plain_jax as speed_plain
from pcbench.experiments.sweep import Point
from pcbench.output.table import Row
from pcbench.problem.network import Network
from pcbench.problem.parameterisation import layer_scalings
from pcbench.reference.inference.groups import feedforward, group_layers
from pcbench.reference.inference.layout import TIERS, prepare_weights, product
from pcbench.reference.inference.orientation import Orientation, Product, orient, orientation_for, products
from pcbench.reference.inference.steps import run_grouped
from pcbench.timing.clock import Stepper, long_enough, step_seconds, stepper
from pcbench.timing.machine import available_cpus, processor
from pcbench.worker.client import WorkerClient

INPUT_DIM, OUTPUT_DIM, STEP_SIZE = 40, 10, 0.05
_SQUARES = (1024, 1536)
_SQUARES_GPU = (4096, 8192)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a cell of the grid may take: bytes of arrays, and floating-point operations of a step."""

    bytes: float = 2e9
    operations: float = 1e11

    def reason_to_skip(self, point: Point) -> str:
        """Why this cell is left out, or an empty string."""
        size, work = 2 * needed_bytes(point), operations(point)
        if size > self.bytes:
            return f"{size / 1e9:.1f} GB"
        return f"{work / 1e9:.0f} billion operations a step" if work > self.operations else ""


def points(
    widths: Sequence[int],
    depths: Sequence[int],
    batches: Sequence[int],
    kinds: Sequence[tuple[str, str]],
    limits: Limits,
    *,
    activation: str = "tanh",
    groups: Sequence[int] = (),
    orientations: Sequence[str] = (),
    seconds: float = 0.05,
    rounds: int = 5,
) -> tuple[list[Point], list[tuple[Point, str]]]:
    """The cells to measure, and those left out with the reason; `kinds` are pairs of dtype and tier.

    `groups` are layouts of the reference to measure besides the one it chooses, where one with more groups than layers
    is left out, and `orientations` ways to write the products of the layout that it chooses.
    """
    wanted = [
        {"dtype": d, "tier": t, "width": n, "depth": l, "batch": b, "activation": activation,
         "groups": [g for g in groups if g <= l - 2], "orientations": list(orientations), "seconds": seconds,
         "rounds": rounds}
        for d, t in kinds for n in widths for l in depths for b in batches
    ]  # fmt: skip
    reasons = [limits.reason_to_skip(point) for point in wanted]
    kept = [p for p, reason in zip(wanted, reasons, strict=True) if not reason]
    return kept, [(p, reason) for p, reason in zip(wanted, reasons, strict=True) if reason]


def operations(point: Point) -> float:
    """Floating-point operations of a step."""
    n, hidden = point["width"], point["depth"] - 2
    return 4.0 * point["batch"] * (hidden * n * n + n * OUTPUT_DIM)


def needed_bytes(point: Point) -> float:
    """Bytes of weights and activities, once."""
    n, l = point["width"], point["depth"]
    numbers = (l - 2) * n * n + n * (INPUT_DIM + OUTPUT_DIM) + point["batch"] * (l - 1) * n
    return float(np.dtype(point["dtype"]).itemsize * numbers)


class Measure:
    """Measures one cell, a row for each implementation; the caller shuts down the `peers`.

    A peer that fails or does not answer gets a row that says so.
    """

    def __init__(self, peers: Mapping[str, WorkerClient] | None = None) -> None:
        self._peers = dict(peers or {})

    def __call__(self, point: Point) -> Iterable[Row]:
        """The rows of a cell."""
        with jax.enable_x64(point["dtype"] == "float64"):
            return self._measure_cell(point)

    def _measure_cell(self, point: Point) -> list[Row]:
        network, input, target = _case(point)
        timed = _Timed(point["seconds"])
        rows = {"reference": _reference(point, network, input, target, timed)}
        for groups in point["groups"]:
            name = f"reference in {groups} group{'s' * (groups > 1)}"
            rows[name] = _reference(point, network, input, target, timed, name, groups=groups)
        for orientation in point["orientations"]:
            name = f"reference {orientation}"
            rows[name] = _reference(point, network, input, target, timed, name, orientation=orientation)
        rows["plain JAX"] = _plain(point, network, input, target, timed)
        for name, client in self._peers.items():
            rows[name] = _peer(point, client, network, input, target, timed, name)
        products = _squares_and_own(point)
        if len(network.weights) > 2:
            products["products"] = _products_alone(point, network)
        for name, program in products.items():
            program(1)
            timed.add(name, stepper(program))
        seconds = step_seconds(timed.steppers, timed.counts, point["rounds"])
        return [self._row(point, name, row, seconds) for name, row in rows.items()]

    def _row(self, point: Point, name: str, row: Row, seconds: Mapping[str, float]) -> Row:
        n = point["width"]
        squares = [2 * m**3 / seconds[f"square {m}"] for m in _squares()]
        rates = {"gemm_rate": max(squares), "own_rate": 2 * point["batch"] * n * n / seconds["own"]}
        if "products" in seconds:
            rates["products_rate"] = 4 * point["batch"] * (point["depth"] - 2) * n * n / seconds["products"]
        labels = {k: point[k] for k in ("dtype", "tier", "width", "depth", "batch", "activation")}
        result: Row = {"device": jax.devices()[0].device_kind, **labels, "implementation": name, **rates}
        if name in seconds:
            rate = operations(point) / seconds[name]
            result |= {"step_seconds": seconds[name], "of_gemm": rate / rates["gemm_rate"]}
            result |= {"of_own_gemm": rate / rates["own_rate"], "over_reference": seconds[name] / seconds["reference"]}
        return result | row | {"needed_bytes": needed_bytes(point)}


def run_conditions() -> str:
    """The device, the cores, the versions and the day of a run, in a sentence."""
    device, today = jax.devices()[0], datetime.now(UTC).date()
    cores = os.environ.get("NPROC") or len(available_cpus())  # XLA's CPU client reads NPROC before it looks
    return (
        f"{device.device_kind} ({device.platform}, {cores} cores of {processor()} for the host), "
        f"{platform.platform()}, Python {platform.python_version()}, JAX {jax.__version__}, {today}. Operations of a "
        "step are those of its matrix products, 4B((L-2)N² + NK); GEMM is the machine's best large product in the same "
        "run, own shape one of (B, N) by (N, N) over and over, products alone those of the hidden layers in the "
        "reference's groups with nothing between them; times are the fastest of several rounds, all implementations "
        "in turn."
    )


class _Timed:
    """What is measured in a cell, by name, and how many steps of each are worth `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.steppers: dict[str, Stepper] = {}
        self.counts: dict[str, int] = {}
        self._seconds = seconds

    def add(self, name: str, step: Stepper, count: int | None = None) -> None:
        """Measure this as well, by so many steps if it can take no other number; it is compiled."""
        self.counts[name] = long_enough(step, self._seconds) if count is None else count
        self.steppers[name] = step


# ---- the implementations ----------------------------------------------------------------------------------------


def _case(point: Point) -> tuple[Network, np.ndarray, np.ndarray]:
    """A residual network under mupc, and data; values do not matter to speed, so they are drawn the quick way.

    Hidden weights are orthogonal, for the sake of `_products_alone`.
    """
    random, dtype = np.random.default_rng(1), np.dtype(point["dtype"])
    width, depth, batch = point["width"], point["depth"], point["batch"]

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=dtype.type)

    hidden = [_reflection(draw(width)) for _ in range(depth - 2)]
    network = Network(
        weights=(draw(width, INPUT_DIM), *hidden, draw(OUTPUT_DIM, width)),
        scalings=layer_scalings("mupc", input_dim=INPUT_DIM, width=width, depth=depth, residual=True),
        skips=(0.0, *[1.0] * (depth - 2), 0.0),
        activation=point["activation"],
    )
    return network, draw(batch, INPUT_DIM), draw(batch, OUTPUT_DIM)


def _reference(
    point: Point, network: Network, input: Any, target: Any, timed: _Timed, name: str = "reference",
    groups: int | None = None, orientation: Orientation | None = None,
) -> Row:  # fmt: skip
    """The program behind long inference of the reference, compiled ahead so that compiling can be told from running."""
    cut, x, y = jax.device_put((group_layers(network, len(input), groups), input, target))
    state = [jax.jit(feedforward)(cut, x)]
    eta = np.dtype(point["dtype"]).type(STEP_SIZE)
    orientation = orientation or orientation_for(cut.hidden, len(input), point["tier"])
    begin = time.perf_counter()
    lowered = run_grouped.donating.lower(
        cut, x, y, activities=state[0], steps=1, step_size=eta, tier=point["tier"], orientation=orientation
    )
    compiled = lowered.compile()
    seconds = time.perf_counter() - begin

    def run(steps: int) -> Any:
        state[0] = compiled(cut, x, y, activities=state[0], steps=steps, step_size=eta)  # goes on where it stopped
        return state[0]

    run(1)
    timed.add(name, stepper(run))
    layout = {"groups": len(cut.hidden), "orientation": orientation}
    return {"compile_seconds": seconds, "peak_bytes": _peak(compiled), **layout}


def _plain(point: Point, network: Network, input: Any, target: Any, timed: _Timed) -> Row:
    """Plain JAX, whose number of steps is compiled in: once, for as many as are measured of the reference.

    Its one call is not set against one of a single step, whose program would take as long to compile again; that
    leaves the dispatch in, some tenths of a millisecond in `seconds`.
    """
    z = [jnp.asarray(a) for a in jax.jit(feedforward)(group_layers(network, len(input)), input).layers()]
    weights, x, y = jax.device_put((network.weights, input, target))
    count = timed.counts["reference"]
    eta = np.dtype(point["dtype"]).type(STEP_SIZE)
    begin = time.perf_counter()
    lowered = speed_plain.program.lower(
        weights, x, y, z, eta, scalings=network.scalings, activation=network.activation, steps=count,
        tier=point["tier"],
    )  # fmt: skip
    compiled = lowered.compile()
    seconds = time.perf_counter() - begin
    call = stepper(lambda _: compiled(weights, x, y, z, eta))
    call(count)
    timed.add("plain JAX", lambda steps: 0.0 if steps == 1 else call(steps), count)
    return {"compile_seconds": seconds, "peak_bytes": _peak(compiled)}


def _peer(
    point: Point, client: WorkerClient, network: Network, input: Any, target: Any, timed: _Timed, name: str
) -> Row:
    """A peer's own loop: many steps in one call of its `infer`, timed inside its process."""
    able = client.manifest.capabilities
    if point["tier"] != "highest" or point["dtype"] not in able.dtypes or point["activation"] not in able.activations:
        return {"note": f"does not claim {point['dtype']}, {point['activation']} at tier {point['tier']}"}
    given = network.folded() if able.scalings == "folded" else network
    eta = STEP_SIZE * (len(input) if client.manifest.conventions.step_size == "batch-mean" else 1)

    def step(steps: int) -> float:
        client.infer(given, input, target, steps, eta)
        return float(client.last_meta["seconds"])

    try:
        first, again = step(1), step(1)
        timed.add(name, step)
    except PcbenchError as error:
        return {"note": str(error).splitlines()[0][:120]}
    return {"compile_seconds": max(0.0, first - again)}


def _peak(compiled: Any) -> int:
    """Bytes of arguments, answers and everything between, at the most, as the compiler planned them."""
    plan = compiled.memory_analysis()
    return int(
        plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes
    )


# ---- what the machine can do ------------------------------------------------------------------------------------


def _squares() -> tuple[int, ...]:
    return _SQUARES if jax.default_backend() == "cpu" else _SQUARES_GPU


def _squares_and_own(point: Point) -> dict[str, Callable[[int], Any]]:
    """Loops of products in this dtype and tier: large square ones, and that of one layer."""
    shapes = {f"square {m}": (m, m) for m in _squares()}
    shapes["own"] = (point["batch"], point["width"])
    return {name: _chain(*shape, point["dtype"], point["tier"]) for name, shape in shapes.items()}


@functools.cache  # the same for every depth, and for every cell in the case of the large ones
def _chain(rows: int, width: int, dtype: str, tier: str) -> Callable[[int], Any]:
    """`z <- z W^T` so many times, in a loop of its own."""
    random = np.random.default_rng(2)
    reflection = _reflection(random.standard_normal(width))
    if tier not in TIERS:
        raise UsageError(f"tier={tier!r}: needed one of {', '.join(TIERS)}")
    W, z = jax.device_put((reflection[None].astype(dtype), random.standard_normal((1, rows, width)).astype(dtype)))

    @jax.jit
    def loop(z: jax.Array, W: jax.Array, steps: Any) -> jax.Array:
        factors = prepare_weights(W, tier)  # pyright: ignore[reportArgumentType]
        body = lambda _, z: product(z, factors, transposed=True, tier=tier)  # noqa: E731  # pyright: ignore
        return lax.fori_loop(0, steps, body, z)

    return lambda steps: loop(z, W, jnp.asarray(steps))


def _products_alone(point: Point, network: Network) -> Callable[[int], Any]:
    """The hidden layers' products of so many steps, grouped and written as those of the reference, and nothing else."""
    batch, tier = point["batch"], point["tier"]
    hidden = jax.device_put(group_layers(network, batch).hidden)
    orientation = orientation_for(hidden, batch, tier)
    random, dtype = np.random.default_rng(3), np.dtype(point["dtype"])
    shapes = [(*W.shape[:-2], batch, point["width"]) for W in hidden]
    start = (random.standard_normal(shape, dtype=dtype.type) for shape in shapes)
    state = [jax.device_put(tuple(orient(z, orientation) for z in start))]

    def step(_: Any, activities: tuple[jax.Array, ...], pairs: Sequence[Sequence[Product]]) -> tuple[jax.Array, ...]:
        return tuple(backward(forward(z)) for z, (forward, backward) in zip(activities, pairs, strict=True))

    @functools.partial(jax.jit, donate_argnums=1)
    def loop(hidden: tuple[jax.Array, ...], activities: tuple[jax.Array, ...], steps: Any) -> tuple[jax.Array, ...]:
        pairs = [products(W, tier, orientation) for W in hidden]
        return lax.fori_loop(0, steps, functools.partial(step, pairs=pairs), activities)

    def run(steps: int) -> Any:
        state[0] = loop(hidden, state[0], jnp.asarray(steps))
        return state[0]

    return run


def _reflection(v: np.ndarray) -> np.ndarray:
    """An orthogonal matrix made without factorisation: products with it neither grow nor vanish."""
    return np.eye(len(v), dtype=v.dtype) - 2 * np.outer(v, v) / (v @ v)
