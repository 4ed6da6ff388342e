r"""The phase diagram of parameterisations: growth exponents on planes of exponents, and their regimes, for PC and BP.

The theorem (W6): the stable and feature-learning parameterisations of PC at equilibrium are those of BP.  What agrees
is the *regime*; where BP is unstable its exponents are not PC's, for S grows there and damps PC.  A point of the sweep
is a plane on one network; all its parameterisations are measured together (`pcbench.experiments.phase.growth`).

**References:** theory W6; Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pcbench.errors import UsageError
from pcbench.experiments.phase.growth import QUANTITIES, RULES, Array, measure_sizes, strengths
from pcbench.experiments.power_law import growth_exponents
from pcbench.problem.mlp import Problem
from pcbench.problem.parameterisation import Exponents
from pcbench.theory import stability

AXES = {"output": ("p", "c"), "initial": ("b", "c"), "depth": ("alpha", "kappa")}
r"""The planes and their exponents: output multiplier \(N^{-p}\), initial scale of the readout \(N^{-b}\), learning
rate \(N^{-c}\); residual branches \(L^{-\alpha}\), learning rate \(L^{-\kappa}\).  What is no axis is as in `mupc`."""

SETTINGS: dict[str, Any] = {"input_dim": 16, "output_dim": 4, "batch": 8, "steps": 2}
"""Sizes of the data and training steps: r needs two, for the second feels what the readout has learnt in the first."""

_CONSTANTS = {
    "output": {"rate": 2.0, "multiplier": 2.0},
    "initial": {"rate": 2.0, "multiplier": 2.0},
    "depth": {"rate": 0.5, "multiplier": 4.0},
}
r"""Base learning rate \(\eta\) and output multiplier \(\gamma\) of the planes.

Exponents do not depend on them, but the sizes from which on they show do.  S deviates from I by some
\(1.72\,L N^{1-2p}/\gamma^2\), which falls slowly near \(p = \tfrac12\): at \(\gamma = 1\) it bends PC's exponents by
0.1 at widths of some hundreds, at \(\gamma = 2\) by 0.03; in depth it grows as L/N.  The learning rate is large enough
for what the readout learns, \(\eta N^{-1}\), to stand out beside what it began with, \(N^{-1-b}\), and in depth small
enough for the kernel, which still grows at finite L, not to overshoot the target.
"""


def plane_grid(plane: str, points: int) -> list[tuple[float, float]]:
    r"""The pairs of exponents of a plane, such that \(\mu P\) and the boundaries of all regimes lie on the grid.

    `points` by `points`; in depth fewer, for exponents in depth show late and need wider gaps.

    **Raises:** `UsageError` for another plane, or a number of points that is not odd and at least 7.
    """
    if plane not in AXES or points < 7 or points % 2 == 0:
        raise UsageError(
            f"plane={plane!r} with a grid of {points}: needed one of {', '.join(AXES)} and an odd number of 7 or more, "
            "so that muP is one of the points"
        )
    h, steps = 1.75 / (points - 1), np.arange(points)
    rates = -1 + 2 * h * (steps - points // 2)
    if plane == "output":
        first = 1 + h * (steps - points // 2)
    elif plane == "initial":
        first = 2 * h * (steps - points // 3)
    else:
        first = 0.5 + 1.5 * h * (steps[: 2 * points // 3] - points // 7)
        rates = np.linspace(-1, 1, 2 * (points // 6) + 1)
    return [(round(float(x), 12), round(float(y), 12)) for x in first for y in rates]


def tolerance_of(plane: str, points: int) -> float:
    """Half the distance of the exponents of neighbouring points, but no less than the default sizes resolve."""
    h = 1.75 / (points - 1)
    return {"output": max(1 / 16, h / 2), "initial": max(1 / 8, h), "depth": max(1 / 4, 1.5 * h)}[plane]


def point_exponents(plane: str, x: float, y: float) -> tuple[Exponents, float]:
    r"""The exponents of a point, and \(\kappa\)."""
    if plane == "output":
        return Exponents(output=x, rate=y), 0.0
    return (Exponents(output_init=x, rate=y), 0.0) if plane == "initial" else (Exponents(depth=x), y)


def sweep_points(
    planes: Sequence[str], *, widths: Sequence[int], depth: int, depths: Sequence[int], width: int, points: int,
    seeds: int, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """One point for every network: a plane, a size and a seed; `measure_point` measures the whole plane on it.

    Growth in width at `depth` and `widths`, growth in depth at `width` and `depths`.  Seed by seed and the largest
    first, so that the time that is left can be told early.
    """
    result = []
    for replicate in range(seeds):
        for plane in planes:
            sizes = [(width, l) for l in depths] if plane == "depth" else [(n, depth) for n in widths]
            for n, l in sorted(set(sizes), reverse=True):
                where = {"plane": plane, "width": n, "depth": l, "replicate": replicate}
                result.append({**where, "seed": seed, "grid": points, **_CONSTANTS[plane], **SETTINGS})
    return result


def _network(point: Mapping[str, Any]) -> tuple[list[Array], Array, Array]:
    """Weights, input and target of a point: the data of all points are the same.

    First and last weights do not depend on the depth, so that they do not blur growth in depth.
    """
    sizes = {"input_dim": point["input_dim"], "output_dim": point["output_dim"], "batch": point["batch"]}
    data = Problem(width=1, depth=3, residual=True, parameterisation=Exponents(), seed=point["seed"], **sizes)
    key = np.random.SeedSequence([point["seed"], point["replicate"], point["width"]])
    shallow = data.replace(width=point["width"], seed=int(key.generate_state(1, np.uint64)[0]))
    readout = shallow.weights("readout")[-1]
    return [*shallow.replace(depth=point["depth"]).weights()[:-1], readout], data.input(), data.target()


def measure_point(point: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sizes of all parameterisations of a plane on one network, under both rules, as tidy rows."""
    plane, width, depth = point["plane"], point["width"], point["depth"]
    weights, x, y = _network(point)
    pairs = plane_grid(plane, point["grid"])
    exponents, kappas = zip(*(point_exponents(plane, *pair) for pair in pairs), strict=True)
    scalars = strengths(
        exponents, width=width, depth=depth, input_dim=x.shape[1], base_rate=point["rate"],
        output_multiplier=point["multiplier"], depth_rates=kappas,
    )  # fmt: skip
    rows = []
    for rule in RULES:
        sizes = measure_sizes(weights, x, y, scalars, steps=point["steps"], rule=rule)
        for i, pair in enumerate(pairs):
            where = {"plane": plane, **dict(zip(AXES[plane], pair, strict=True)), "rule": rule}
            network = {"width": width, "depth": depth, "replicate": point["replicate"]}
            rows.append({**where, **network, **{name: float(f"{sizes[name][i]:.7g}") for name in QUANTITIES}})
    return rows


def classify(rows: Iterable[Mapping[str, Any]], plane: str, *, tolerance: float) -> list[dict[str, Any]]:
    r"""Growth exponents, half widths and regimes of every parameterisation of a plane and rule, from `measure_point`.

    Growth is in width, or for the plane `depth` in depth; there `hidden` is what the branches have learnt, and the
    shift \(z^* - \hat z\), of order L/N, is no matter of stability.  Seeds that lack a size are left out.
    """
    size = "depth" if plane == "depth" else "width"
    table: dict[tuple[float, float, str], dict[tuple[int, int], Mapping[str, Any]]] = {}
    for row in rows:
        if row["plane"] == plane:
            key = (*(row[name] for name in AXES[plane]), row["rule"])
            table.setdefault(key, {})[row[size], row["replicate"]] = row
    if not table:
        return []
    present = next(iter(table.values()))
    sizes = sorted({n for n, _ in present})
    seeds = sorted({s for _, s in present if all((n, s) in present for n in sizes)})
    fitted = {}
    for name in QUANTITIES:
        values = np.array([[[group[n, s][name] for s in seeds] for n in sizes] for group in table.values()])
        fitted[name] = growth_exponents(sizes, values, paired=plane == "depth")
    return [
        _regime_row(plane, key, {name: (float(s[i]), float(h[i])) for name, (s, h) in fitted.items()}, tolerance)
        for i, key in enumerate(table)
    ]


def _regime_row(
    plane: str, key: tuple[float, float, str], fitted: Mapping[str, tuple[float, float]], tolerance: float
) -> dict[str, Any]:
    x, y, rule = key
    hidden, output = fitted["branches" if plane == "depth" else "hidden"], fitted["output"]
    growth = stability.Growth(
        initial_hidden=fitted["initial_hidden"][0],
        initial_output=fitted["initial_output"][0],
        hidden=hidden[0],
        output=output[0],
        shift=-math.inf if plane == "depth" else fitted["shift"][0],
    )
    theory = expected_regime(plane, x, y)
    found = stability.agreement(growth, theory, tolerance=tolerance)
    row: dict[str, Any] = {"plane": plane, **dict(zip(AXES[plane], (x, y), strict=True)), "rule": rule}
    row |= {"regime": str(found.first), "theory": str(theory), "distance": found.distance, "tolerance": tolerance}
    row |= {"hidden_exponent": hidden[0], "hidden_half_width": hidden[1]}
    row |= {"output_exponent": output[0], "output_half_width": output[1]}
    return row | {f"{name}_exponent": fitted[name][0] for name in ("initial_hidden", "initial_output", "shift")}


def expected_regime(plane: str, x: float, y: float) -> stability.Regime:
    """What theory says about a point of a plane, for both rules."""
    return stability.depth_regime(x, y) if plane == "depth" else stability.regime(point_exponents(plane, x, y)[0])


def summarise_planes(classified: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each plane how often PC agrees with BP, and either with theory, and the points where PC and BP part."""
    result = []
    for plane in dict.fromkeys(row["plane"] for row in classified):
        rows: dict[tuple[float, float], dict[str, Mapping[str, Any]]] = {}
        for row in classified:
            if row["plane"] == plane:
                rows.setdefault((row[AXES[plane][0]], row[AXES[plane][1]]), {})[row["rule"]] = row
        both = [r for r in rows.values() if set(r) == set(RULES)]
        result.append(
            {
                "plane": plane,
                "points": len(both),
                "pc_is_bp": sum(r["pc"]["regime"] == r["bp"]["regime"] for r in both),
                "pc_is_theory": sum(r["pc"]["regime"] == r["pc"]["theory"] for r in both),
                "bp_is_theory": sum(r["bp"]["regime"] == r["bp"]["theory"] for r in both),
                "apart": [
                    (r["pc"], r["bp"]) for r in both if len({r[k]["regime"] for k in RULES} | {r["pc"]["theory"]}) > 1
                ],
            }
        )
    return result
