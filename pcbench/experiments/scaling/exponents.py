r"""Exponents in the width, fitted to the tables of `pcbench scaling`, beside those of theory.

Only networks at a certified equilibrium count, and of those the ones with \(N \ge 8L\): the limit is that of a width
much larger than the depth.  Theory is W2, W3 (energy, gradient in norm and in direction) and W8 (training): loss over
energy less one and the relative gradient error fall like \(1/N\), one minus their cosine like \(1/N^2\); the losses in
training of either algorithm approach their limit like \(N^{-1/2}\), and each other like \(1/N\).

**References:** Innocenti, Achour, Bogacz 2026 (arXiv 2602.07697).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pcbench.experiments.power_law import exponent

Row = Mapping[str, Any]
Rows = Sequence[Row]

WIDE = 8
"""Width over depth from which on an exponent is measured."""
FLOOR = 1e-15
"""Below it a relative difference of float64 numbers is rounding."""
ENERGY_EXCESS, ERROR, MISS = "loss/F* - 1", "relative gradient error", "1 - cos of the gradients"
QUANTITIES = (("gap", ENERGY_EXCESS, -1.0), ("gradient_error", ERROR, -1.0), ("misalignment", MISS, -2.0))
DISTANCES = (("PC from the limit", -0.5), ("BP from the limit", -0.5), ("PC from BP", -1.0))


def select_rows(rows: Rows, **wanted: Any) -> list[Row]:
    """The rows with these values, of certified networks."""
    return [r for r in rows if all(r.get(k) == v for k, v in wanted.items()) and r.get("certified", True)]


def points_to_fit(rows: Rows, value: str) -> tuple[list[float], list[float]]:
    r"""Widths and values from which an exponent is measured; \(N \ge 8\) alone where a row names no depth."""
    kept = [r for r in rows if r["width"] >= WIDE * r.get("depth", 1) and (r.get(value) or 0) > FLOOR]
    return [r["width"] for r in kept], [r[value] for r in kept]


def distances(rows: Rows) -> list[dict[str, Any]]:
    """How far the losses of every toy network were at most, in training, from the limit and from each other.

    `rows` are those of the table `training`; a row a network, with `width` and the names of `DISTANCES`.
    """
    limit = {r["update"]: r["pc_loss"] for r in select_rows(rows, task="limit")}
    courses: dict[tuple[int, int], list[Row]] = {}
    for row in select_rows(rows, task="toy"):
        courses.setdefault((row["width"], row["repeat"]), []).append(row)
    return [
        {
            "width": width,
            "PC from the limit": max(abs(r["pc_loss"] - limit[r["update"]]) for r in course),
            "BP from the limit": max(abs(r["bp_loss"] - limit[r["update"]]) for r in course),
            "PC from BP": max(abs(r["pc_loss"] - r["bp_loss"]) for r in course),
        }
        for (width, _), course in courses.items()
    ]


def exponent_rows(sweeps: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """A row for each network and quantity: `network`, `quantity`, exponent in `theory`, `measured`, `interval`.

    `interval` is the half-width of the 95 % interval of `measured`; what has too few points for one is left out.
    """
    result: list[dict[str, Any]] = []

    def add(network: str, quantity: str, theory: float, widths: list[float], values: list[float]) -> None:
        slope, half = exponent(widths, values)
        if math.isfinite(half):
            result.append(
                {"network": network, "quantity": quantity, "theory": theory, "measured": slope, "interval": half}
            )

    for network, rows in _networks(sweeps):
        for value, quantity, theory in QUANTITIES:
            add(network, quantity, theory, *points_to_fit(rows, value))
    far = distances(sweeps.get("training", ()))
    for quantity, theory in DISTANCES:
        add("linear, residual, in training", quantity, theory, [r["width"] for r in far], [r[quantity] for r in far])
    return result


def _networks(sweeps: Mapping[str, Rows]) -> list[tuple[str, list[Row]]]:
    linear = select_rows(sweeps.get("initialisation", ()), parameterisation="mupc", residual=True)
    result = [(f"linear, residual, L = {d}", select_rows(linear, depth=d)) for d in _values(linear, "depth")]
    images = select_rows(sweeps.get("training", ()), task="images")
    for depth in _values(images, "depth"):
        last = max(r["update"] for r in images)
        name = f"linear, residual, L = {depth}, after {last} updates of Adam"
        result.append((name, select_rows(images, depth=depth, update=last)))
    bent = sweeps.get("nonlinear", ())
    for activation in _values(bent, "activation"):
        for depth in _values(bent, "depth"):
            result.append(
                (f"{activation}, residual, L = {depth}", select_rows(bent, activation=activation, depth=depth))
            )
    others = select_rows(sweeps.get("architectures", ()), parameterisation="mupc")
    result += [(name, select_rows(others, architecture=name)) for name in _values(others, "architecture")]
    return result


def _values(rows: Rows, key: str) -> list[Any]:
    return sorted({r[key] for r in rows})
