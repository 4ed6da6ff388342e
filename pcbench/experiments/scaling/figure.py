r"""The figures of the scaling experiments: points with 95 % intervals, theory as a line, measured exponents as numbers.

Only networks at a certified equilibrium are drawn; the note below each figure names the data and says how many were
left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pcbench.experiments.power_law import exponent
from pcbench.experiments.scaling.exponents import (  # fmt: skip
    DISTANCES,
    FLOOR,
    WIDE,
    Rows,
    distances,
    points_to_fit,
    select_rows,
)
from pcbench.output import drawing
from pcbench.theory import expected_trace_excess

_MISS = r"$1 - \cos$ of the gradients"
_QUANTITIES = (("gap", r"loss$/F^* - 1$"), ("gradient_error", "relative gradient error"), ("misalignment", _MISS))


def exponent_label(name: str, x: Iterable[float], y: Iterable[float]) -> str:
    """A name with its exponent, or alone where there are too few points for one."""
    slope, half = exponent(x, y)
    return f"{name}: ${slope:.2f} \\pm {half:.2f}$" if math.isfinite(half) else name


def group_values(rows: Rows, over: str, value: str) -> tuple[list[int], list[list[float]]]:
    """Ascending values of `over`, and of each all values of `value` that are more than rounding."""
    return drawing.samples_by_size(rows, over, value, above=FLOOR)


def draw(sweeps: Mapping[str, Rows], directory: str | Path) -> list[Path]:
    """Write the figure of every sweep that has rows, as SVG and PNG, into `directory`."""
    drawers: dict[str, Callable[[Mapping[str, Rows]], tuple[Any, list[Rows]]]] = {
        "initialisation": _initialisation, "training": _training, "nonlinear": _nonlinear,
        "architectures": _architectures,
    }  # fmt: skip
    written = []
    for name, drawer in drawers.items():
        if not sweeps.get(name):
            continue
        figure, used = drawer(sweeps)
        rows = [row for part in used for row in part]
        lost = sum(not row.get("certified", True) for row in rows)
        data = ", ".join(sorted({str(row["data"]) for row in rows}))
        note = f"data: {data}; points and bands: mean of logarithms and its 95 % interval over networks"
        note += f"; {lost} of {len(rows)} rows left out, not certified" if lost else "; every equilibrium certified"
        written += drawing.save_both(figure, Path(directory, name), note=note)
    return written


# ---- panels -----------------------------------------------------------------------------------------------------


def _widths(
    axes: Axes, rows: Rows, value: str, groups: Sequence[tuple[str, Mapping[str, Any]]], *, title: str, y: str
) -> None:
    r"""One quantity against width, a colour and a marker a group, with the exponents of the widths \(N \ge 8L\)."""
    colours, seen, fitted_any = drawing.sequential(len(groups)), set[int](), False
    for (name, wanted), colour, marker in zip(groups, colours, drawing.MARKERS * 2, strict=False):
        chosen = select_rows(rows, **wanted)
        sizes, samples = group_values(chosen, "width", value)
        if not sizes:
            continue
        seen |= set(sizes)
        label = exponent_label(name, *points_to_fit(chosen, value))
        fitted_any |= label != name
        drawing.points(axes, sizes, samples, color=colour, fmt=marker, label=label)
    drawing.size_axes(axes, seen, title=title, x="width $N$", y=y)
    _legend_outside(axes, f"exponent, $N \\geq {WIDE}{'L' if 'depth' in rows[0] else ''}$" if fitted_any else "")


def _all_widths(row: Iterable[Axes], rows: Rows, groups: Sequence[tuple[str, Mapping[str, Any]]], title: str) -> None:
    """`_widths` of energy, gradient and direction, in as many panels as there are."""
    for axes, (value, name) in zip(row, _QUANTITIES, strict=False):
        _widths(axes, rows, value, groups, title=f"{title}: {name}", y=name)


def _legend_outside(axes: Axes, title: str = "") -> None:
    """The legend to the right of the panel, where it covers no point."""
    drawing.legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, title=title or None)


def _initialisation(sweeps: Mapping[str, Rows]) -> tuple[Any, list[Rows]]:
    rows = sweeps["initialisation"]
    figure, axes = drawing.panels(2, 3, width=16, height=8)
    depths = sorted({r["depth"] for r in rows})
    muPC = [r for r in rows if r["parameterisation"] == "mupc" and r["residual"]]
    groups = [(f"$L={d}$", {"depth": d}) for d in depths]
    _all_widths(axes[0], muPC, groups, "mupc")
    widths = np.array(sorted({r["width"] for r in rows}))
    for depth, colour in zip(depths, drawing.sequential(len(depths)), strict=True):
        theory = [expected_trace_excess("mupc", width=int(n), depth=depth, residual=True) for n in widths]
        axes[0, 0].plot(widths, theory, color=colour, linewidth=1, zorder=1)
        chosen = select_rows(muPC, depth=depth)
        ratios = [{**r, "ratio": r["excess"] / r["expected_excess"]} for r in chosen]
        sizes, samples = group_values(ratios, "width", "ratio")
        drawing.points(axes[1, 0], sizes, samples, color=colour, label=f"$L={depth}$")
    axes[1, 0].axhline(1, color=drawing.INK, linewidth=1)
    title = r"tr$(S-I)/K$ over its exact mean"
    drawing.size_axes(axes[1, 0], widths.tolist(), title=title, x="width $N$", y="measured / expected")
    _legend_outside(axes[1, 0])
    middle = depths[len(depths) // 2]
    kinds = [("mupc", "mupc", True), ("ntp", "ntp", True), ("sp, residual", "sp", True), ("sp, plain", "sp", False)]
    looks = list(zip(kinds, drawing.PALETTE, drawing.MARKERS, strict=False))
    for one, (value, title) in zip(axes[1, 1:], _QUANTITIES[1:], strict=True):
        for (name, parameterisation, residual), colour, marker in looks:
            chosen = select_rows(rows, parameterisation=parameterisation, residual=residual, depth=middle)
            sizes, samples = group_values(chosen, "width", value)
            if sizes:
                drawing.points(one, sizes, samples, color=colour, fmt=marker, label=name)
        drawing.size_axes(one, widths.tolist(), title=f"controls at $L={middle}$: {title}", x="width $N$", y=title)
        _legend_outside(one)
    return figure, [rows]


def _training(sweeps: Mapping[str, Rows]) -> tuple[Any, list[Rows]]:
    rows = sweeps["training"]
    toy, images = select_rows(rows, task="toy"), select_rows(rows, task="images")
    limit = sorted(select_rows(rows, task="limit"), key=lambda r: r["update"])
    figure, axes = drawing.panels(2, 3, width=16, height=8)
    widths = sorted({r["width"] for r in toy})
    shown = [w for w in widths if w >= 32][:: max(1, len(widths) // 4)]
    for one, value, title in ((axes[0, 0], "bp_loss", "BP: loss"), (axes[0, 1], "pc_loss", "PC: loss")):
        for width, colour in zip(shown, drawing.sequential(len(shown)), strict=True):
            steps, samples = group_values(select_rows(toy, width=width), "update", value)
            drawing.band(one, steps, samples, color=colour, label=f"$N={width}$")
        one.plot([r["update"] for r in limit], [r[value] for r in limit], color=drawing.INK, linestyle="--",
                 label=r"$N\to\infty$, theory")  # fmt: skip
        drawing.log_axes(one, x=False)
        drawing.describe(one, title=f"toy task, {title}", x="update", y="loss")
        _legend_outside(one)
    far = distances(rows)
    for name, colour, marker in zip((name for name, _ in DISTANCES), drawing.PALETTE, drawing.MARKERS, strict=False):
        sizes, samples = group_values(far, "width", name)
        label = exponent_label(name, (r["width"] for r in far), (r[name] for r in far))
        drawing.points(axes[0, 2], sizes, samples, color=colour, fmt=marker, label=label)
    drawing.size_axes(axes[0, 2], widths, title="largest distance of losses in training", x="width $N$", y="distance")
    _legend_outside(axes[0, 2], "exponent of $N$")
    marks, depths = sorted({r["update"] for r in images}), sorted({r["depth"] for r in images})
    deep = depths[-1] if depths else 0
    groups = [(f"$t={t}$", {"update": t}) for t in marks]
    _all_widths(axes[1], select_rows(images, depth=deep), groups, f"images, Adam, $L={deep}$")
    return figure, [rows]


def _nonlinear(sweeps: Mapping[str, Rows]) -> tuple[Any, list[Rows]]:
    rows, steps = sweeps["nonlinear"], sweeps.get("steps", ())
    figure, axes = drawing.panels(2, 3, width=16, height=8)
    activations = sorted({r["activation"] for r in rows}, reverse=True)
    depths = sorted({r["depth"] for r in rows})
    groups = [(f"$L={d}$", {"depth": d}) for d in depths]
    for row, activation in zip(axes, activations, strict=False):
        _all_widths(row[:2], [r for r in rows if r["activation"] == activation], groups, activation)
    _widths(axes[1, 2], [r for r in rows if r["activation"] == activations[0]], "misalignment", groups,
            title=f"{activations[0]}: {_MISS}", y=_MISS)  # fmt: skip
    deep = sorted({r["depth"] for r in steps})
    for depth, colour in zip(deep, drawing.sequential(len(deep)), strict=True):
        chosen = select_rows(steps, depth=depth)
        numbers, samples = group_values([r for r in chosen if not r.get("equilibrium")], "steps", "misalignment")
        drawing.band(axes[0, 2], numbers, samples, color=colour, label=f"$L={depth}$")
        rest = [r["misalignment"] for r in chosen if r.get("equilibrium")]
        if rest:
            axes[0, 2].axhline(drawing.interval(rest)[0], color=colour, linestyle="--", linewidth=1)
    drawing.log_axes(axes[0, 2])
    title = f"too few steps ({steps[0]['activation']}, $N={steps[0]['width']}$)" if steps else ""
    drawing.describe(axes[0, 2], title=title, x="steps of gradient descent", y=_MISS)
    _legend_outside(axes[0, 2], "dashed: at certified\nequilibrium" if steps else "")
    return figure, [rows, steps]


def _architectures(sweeps: Mapping[str, Rows]) -> tuple[Any, list[Rows]]:
    rows = sweeps["architectures"]
    figure, axes = drawing.panels(2, 3, width=16, height=8)
    for row, architecture in zip(axes, ("cnn", "transformer"), strict=True):
        kinds = [(name, {"parameterisation": name}) for name in ("mupc", "mupc-limits")]
        _all_widths(row, [r for r in rows if r["architecture"] == architecture], kinds, architecture)
    return figure, [rows]
