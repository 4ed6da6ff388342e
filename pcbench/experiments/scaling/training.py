r"""Experiment: learning curves beside their infinite-width limit, and gradients while Adam trains.

All is measured at the weights \(\theta_t\) of the PC trajectory, before update \(t\).  The toy task is trained by
gradient descent, plain networks under `mupc`, whose limit of infinite width is that of
`pcbench.theory.mean_field`; images by Adam, residual networks, as in Figure 1 of the paper.

**References:** Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697), Figures 1 and 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pcbench.experiments.scaling import images
from pcbench.experiments.scaling.learning_curves import LearningCurves, measure_curves, toy_data
from pcbench.experiments.scaling.options import Options, network_seed
from pcbench.experiments.sweep import Point
from pcbench.output.table import Row
from pcbench.problem.mlp import Problem
from pcbench.theory.mean_field import learning_curve

UPDATES = 100
MARKS = (0, 50, 100)
"""Updates before which the networks on images are looked at, as in the paper's Figure 1."""
TOY_DEPTH, TOY_RATE, ADAM_RATE = 4, 0.1, 1e-3
_IMAGE_BATCH = 32


def points(options: Options) -> list[Point]:
    """The limit, the toy task at every width, images at every width and some depths."""
    common: Point = {"repeats": options.repeats, "seed": options.seed}
    found: list[Point] = [{"task": "limit", "seed": options.seed, "depth": TOY_DEPTH}]
    found += [{"task": "toy", "width": w, "depth": TOY_DEPTH, **common} for w in options.widths if w > 2]
    batch, largest = min(options.batch, _IMAGE_BATCH), max(256, options.widths[-1] // 4)
    for depth in options.some_depths(2, 16):
        found += [
            {"task": "images", "width": w, "depth": depth, "data": options.data, "batch": batch, **common}
            for w in options.widths_up_to(largest)
        ]
    return found


def measure_point(point: Point) -> list[Row]:
    """A row for each update that is kept and each network."""
    if point["task"] == "limit":
        x, y = toy_data(point["seed"])
        curve = learning_curve(x, y, depth=point["depth"], base_rate=TOY_RATE, updates=UPDATES)
        return [
            {"task": "limit", "data": "toy", "depth": point["depth"], "update": t, "bp_loss": v, "pc_loss": v}
            for t, v in enumerate(curve.losses)
        ]
    toy = point["task"] == "toy"
    if toy:
        name, (x, y) = "toy", toy_data(point["seed"])
    else:
        data = images.load(point["data"], batch=point["batch"], seed=point["seed"])
        name, x, y = data.name, data.input, data.target
    rows = []
    for repeat in range(point["repeats"]):
        problem = Problem(
            input_dim=x.shape[1],
            width=point["width"],
            depth=point["depth"],
            output_dim=y.shape[1],
            batch=len(x),
            residual=not toy,
            seed=network_seed(point["seed"], point["task"], point["width"], point["depth"], repeat),
        )
        settings: dict[str, Any] = {"base_rate": TOY_RATE} if toy else {"base_rate": ADAM_RATE, "optimiser": "adam"}
        curves = measure_curves(problem, x, y, updates=UPDATES, **settings)
        keep = range(UPDATES + 1) if toy else MARKS
        rows += [{"task": point["task"], "data": name, **_row(curves, point, repeat, t)} for t in keep]
    return rows


def _row(curves: LearningCurves, point: Point, repeat: int, t: int) -> Row:
    return {
        "width": point["width"],
        "depth": point["depth"],
        "repeat": repeat,
        "update": t,
        "bp_loss": curves.bp_losses[t],
        "pc_loss": curves.pc_losses[t],
        "energy": curves.energies[t],
        "gap": curves.pc_losses[t] / curves.energies[t] - 1,
        "excess": curves.trace_excesses[t],
        "gradient_error": curves.gradient_errors[t],
        "misalignment": np.maximum(1 - curves.cosines[t], 0.0),
        "certified": bool(curves.converged[t]),
    }
