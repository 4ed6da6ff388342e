r"""Experiment: linear networks at initialisation over width and depth, against the exact expectation.

On one batch of images, for every width, depth and network: \(\mathrm{tr}(S - I)/K\), \(\mathrm{loss}/F^* - 1\), the
relative error of the gradient and its misalignment.  Beside `mupc`, with and without residual connections, the
parameterisations `ntp` and `sp` at one depth, under which predictive coding does not become backpropagation.

**References:** Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697), Figure 1.  The line drawn there through
\(\|S\|_2 - 1\) is \(L/N\) (elsewhere \((L+1)/N\)) for residual networks; the expectation is
`expected_trace_excess`.
"""

from __future__ import annotations

from pcbench.experiments.scaling import alignment, images
from pcbench.experiments.scaling.options import Options, network_seed
from pcbench.experiments.sweep import Point
from pcbench.output.table import Row
from pcbench.problem.mlp import Problem
from pcbench.theory import expected_trace_excess

CONTROLS = (("ntp", True), ("sp", True), ("sp", False))
"""Parameterisations, and whether residual, that are measured at the middle depth only."""


def points(options: Options) -> list[Point]:
    """One point for each shape of network, with all that is measured at this shape: a shape costs a compilation."""
    middle = options.depths[len(options.depths) // 2]
    found = []
    for depth in options.depths:
        for width in options.widths:
            cases = [["mupc", True], ["mupc", False], *(map(list, CONTROLS) if depth == middle else ())]
            found.append({"width": width, "depth": depth, "cases": cases, **_common(options)})
    return found


def measure_point(point: Point) -> list[Row]:
    """A row for each parameterisation and network."""
    data = images.load(point["data"], batch=point["batch"], seed=point["seed"])
    rows = []
    for parameterisation, residual in point["cases"]:
        width, depth = point["width"], point["depth"]
        expected = expected_trace_excess(parameterisation, width=width, depth=depth, residual=residual)
        for repeat in range(point["repeats"]):
            problem = Problem(
                input_dim=data.input.shape[1],
                width=width,
                depth=depth,
                output_dim=data.target.shape[1],
                batch=len(data.input),
                parameterisation=parameterisation,
                residual=residual,
                seed=network_seed(point["seed"], width, depth, repeat),
            )
            found = alignment.compare_network(problem.network(), data.input, data.target)
            rows.append(
                {
                    "data": data.name,
                    "width": width,
                    "depth": depth,
                    "parameterisation": parameterisation,
                    "residual": residual,
                    "repeat": repeat,
                    **found.row("loss", "energy", "gap", "excess"),
                    "expected_excess": expected,
                    **found.row("gradient_error", "misalignment", "certified"),
                }
            )
    return rows


def _common(options: Options) -> Point:
    return {"repeats": options.repeats, "seed": options.seed, "data": options.data, "batch": options.batch}
