r"""Experiment: nonlinear networks at certified equilibrium, and what too few inference steps measure instead.

The limits are proved for linear networks; here is what tanh and gelu residual networks under `mupc` do *at an
equilibrium that a certificate vouches for*.  A network whose certificate does not hold is a row like any other, with
`certified` false, and no figure draws it.

The second experiment follows gradient descent on the activities from the feedforward pass: how the misalignment of the
gradient at step \(T\) approaches that at equilibrium.  The number of steps it needs grows with the conditioning of the
activity Hessian, as \(L^2\), so a fixed budget measures the budget in deep networks.

**References:** Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697), Figure 4.
"""

from __future__ import annotations

import jax
import numpy as np

from pcbench.experiments.scaling import alignment, images
from pcbench.experiments.scaling.options import Options, network_seed
from pcbench.experiments.sweep import Point
from pcbench.output.table import Row
from pcbench.problem.mlp import Problem
from pcbench.reference import energy
from pcbench.reference.compilation import counted_jit
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.inference import steps as inference
from pcbench.reference.network import PCN

ACTIVATIONS = ("tanh", "gelu")
STEP_SIZE = 0.3
_BATCH, _STEPS_BATCH, _STEPS_WIDTH = 32, 16, 64
_MOST_STEPS = 10_000


def points(options: Options) -> list[Point]:
    """Every activation, three depths, and widths as far as a quarter of the largest, at least 256."""
    common = _common(options, _BATCH)
    return [
        {"activation": activation, "width": width, "depth": depth, **common}
        for activation in ACTIVATIONS
        for depth in options.some_depths(3, 16)
        for width in options.widths_up_to(max(256, options.widths[-1] // 4))
        if width > 2
    ]


def measure_point(point: Point) -> list[Row]:
    """A row for each network."""
    data = images.load(point["data"], batch=point["batch"], seed=point["seed"])
    rows = []
    for repeat in range(point["repeats"]):
        found = alignment.compare_network(_problem(point, data, repeat).network(), data.input, data.target)
        rows.append(
            {
                "data": data.name,
                "activation": point["activation"],
                "width": point["width"],
                "depth": point["depth"],
                "repeat": repeat,
                **found.row(*alignment.COLUMNS),
            }
        )
    return rows


def step_points(options: Options) -> list[Point]:
    """Four depths at one width: the width is not what decides how many steps are needed."""
    width = max(options.widths_up_to(_STEPS_WIDTH))
    depths = [d for d in options.depths if d > 2] or list(options.depths)
    common = {**_common(options, _STEPS_BATCH), "repeats": min(3, options.repeats)}
    return [{"activation": "tanh", "width": width, "depth": d, **common} for d in depths[-4:]]


def measure_steps(point: Point) -> list[Row]:
    """A row for each network and each of the numbers of steps, about eight to a decade, and one at equilibrium."""
    data = images.load(point["data"], batch=point["batch"], seed=point["seed"])
    marks = sorted({round(10 ** (k / 8)) for k in range(round(8 * np.log10(_MOST_STEPS)) + 1)})
    rows = []
    for repeat in range(point["repeats"]):
        pcn = PCN.from_network(_problem(point, data, repeat).network())
        base = {"data": data.name, **{k: point[k] for k in ("activation", "width", "depth")}, "repeat": repeat}
        with jax.enable_x64(True):
            state = equilibrium_nonlinear.solve(pcn, data.input, data.target, tolerance=1e-16, max_evaluations=1000)
            z, done = pcn.forward(jax.numpy.asarray(data.input))[0], 0
            for steps in marks:
                z = _continue(pcn, data.input, data.target, z, np.int64(steps - done), np.float64(STEP_SIZE))
                done = steps
                rows.append({**base, "steps": steps, **_state_row(pcn, data, z, state.certified)})
            rows.append({**base, "equilibrium": True, **_state_row(pcn, data, state.activities, state.certified)})
    return rows


_continue = counted_jit()(inference.infer)
_energy = counted_jit()(energy.total_energy)


def _state_row(pcn: PCN, data: images.Images, activities: jax.Array, certified: bool) -> Row:
    each, error, misalignment = alignment.compare_at(pcn, data.input, data.target, activities)
    return {
        "loss": float(np.mean(each)),
        "energy": float(_energy(pcn, data.input, data.target, activities)),
        "gradient_error": float(error),
        "misalignment": float(misalignment),
        "certified": certified,
    }


def _problem(point: Point, data: images.Images, repeat: int) -> Problem:
    return Problem(
        input_dim=data.input.shape[1],
        width=point["width"],
        depth=point["depth"],
        output_dim=data.target.shape[1],
        batch=len(data.input),
        activation=point["activation"],
        residual=True,
        seed=network_seed(point["seed"], point["activation"], point["width"], point["depth"], repeat),
    )


def _common(options: Options, batch: int) -> Point:
    batch = min(batch, options.batch)
    return {"repeats": options.repeats, "seed": options.seed, "data": options.data, "batch": batch}
