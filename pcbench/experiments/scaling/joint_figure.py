r"""Figure of width and depth together: constants of L/N, growth at a fixed ratio, and the whole grid.

The trace excess of residual networks under `mupc` is \((1 + 1/L)^{L-1} - 1\) times \(L/N\), from 1/2 at \(L = 2\) to
\(e - 1\); the lines that the paper (arXiv 2602.07697) draws are \(L/N\) and \((L+1)/N\).  What counts is \(L/N\): where
both grow in proportion, predictive coding comes no closer to backpropagation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from pcbench.output import drawing
from pcbench.theory import expected_trace_excess

Row = Mapping[str, Any]
RATIOS = (1, 4, 16)
_ERROR = "relative gradient error"


def draw(rows: Sequence[Row], directory: str | Path) -> list[Path]:
    """Write `width-depth` as SVG and PNG from the rows of `scaling_initialisation`; certified ones are drawn."""
    rows = [r for r in rows if r["parameterisation"] == "mupc" and r["certified"]]
    residual, plain = ([r for r in rows if bool(r["residual"]) == skips] for skips in (True, False))
    figure, axes = drawing.panels(1, 3, width=13, height=4.2)
    constants(axes[0, 0], residual, plain)
    diagonals(axes[0, 1], residual)
    draw_grid(figure, axes[0, 2], residual)
    data = ", ".join(sorted({str(r["data"]) for r in rows}))
    note = f"mupc at initialisation; data: {data}; points: mean of logarithms and its 95 % interval over networks"
    return drawing.save_both(figure, Path(directory, "width-depth"), note=note)


def constants(axes: Axes, residual: Sequence[Row], plain: Sequence[Row]) -> None:
    r"""The factor in front of \(L/N\) at the largest width, with the exact ones and those of the paper's lines."""
    width = max(r["width"] for r in residual)
    depths = sorted({r["depth"] for r in residual})
    fine = np.unique(np.round(np.geomspace(depths[0], depths[-1], 60)).astype(int))
    for rows, skips, colour, marker, name in (
        (residual, True, drawing.PALETTE[0], drawing.MARKERS[0], "residual"),
        (plain, False, drawing.PALETTE[1], drawing.MARKERS[1], "no skips"),
    ):
        at = [r for r in rows if r["width"] == width]
        sizes, samples = drawing.samples_by_size(at, "depth", lambda r: r["excess"] * r["width"] / r["depth"])
        drawing.points(axes, sizes, samples, color=colour, fmt=marker, label=f"{name}, $N={width}$")
        exact = [width / d * expected_trace_excess("mupc", width=width, depth=int(d), residual=skips) for d in fine]
        axes.plot(fine, exact, color=colour, linewidth=1.3, label=f"{name}, exact")
    axes.plot(fine, np.ones(len(fine)), color="#666666", linewidth=1.1, linestyle=(0, (5, 2)), label="paper, $L/N$")
    axes.plot(
        fine, (fine + 1) / fine, color="#666666", linewidth=1.3, linestyle=(0, (1, 1.5)), label="paper, $(L+1)/N$"
    )
    name = r"tr$(S-I)/K\,\times\,N/L$"
    drawing.size_axes(axes, depths, log_y=False, title="the constant of the law", x="depth $L$", y=name)
    axes.set_ylim(0, 2.8)
    drawing.legend(axes, loc="upper left", ncols=2, columnspacing=1.2)


def diagonals(axes: Axes, rows: Sequence[Row]) -> None:
    """The gradient error where width and depth grow in proportion."""
    for ratio, colour, marker in zip(RATIOS, drawing.PALETTE, drawing.MARKERS, strict=False):
        at = [r for r in rows if r["width"] == ratio * r["depth"]]
        sizes, samples = drawing.samples_by_size(at, "depth", "gradient_error")
        if sizes:
            label = f"$N = {'' if ratio == 1 else ratio}L$"
            drawing.points(axes, sizes, samples, color=colour, fmt=marker, label=label)
            axes.plot(sizes, [drawing.interval(s)[0] for s in samples], color=colour, linewidth=0.9)
    drawing.size_axes(axes, {r["depth"] for r in rows}, title="together they do not converge", x="depth $L$", y=_ERROR)
    axes.set_ylim(top=2)
    drawing.legend(axes, loc="lower right", ncols=3)


def draw_grid(figure: Figure, axes: Axes, rows: Sequence[Row]) -> None:
    """The gradient error at every width and depth, with the line N = L."""
    widths, depths = sorted({r["width"] for r in rows}), sorted({r["depth"] for r in rows})
    table = np.full((len(depths), len(widths)), math.nan)
    for i, depth in enumerate(depths):
        own = [r for r in rows if r["depth"] == depth]
        sizes, samples = drawing.samples_by_size(own, "width", "gradient_error")
        for width, values in zip(sizes, samples, strict=True):
            table[i, widths.index(width)] = drawing.interval(values)[0]
    norm = LogNorm(float(np.nanmin(table)), float(np.nanmax(table)))
    image = axes.imshow(table, origin="lower", aspect="auto", cmap="cividis", norm=norm)
    axes.grid(visible=False)
    axes.set_xticks(range(len(widths)), [str(w) for w in widths])
    axes.set_yticks(range(len(depths)), [str(d) for d in depths])
    for i, j in np.ndindex(table.shape):
        value = float(table[i, j])
        if math.isfinite(value):
            colour = "white" if float(norm(value)) < 0.55 else "black"
            axes.text(j, i, _number_text(value), ha="center", va="center", fontsize=7, color=colour)
    inside = [d for d in depths if widths[0] <= d <= widths[-1]]
    if len(inside) > 1:
        across = np.interp(np.log(inside), np.log(widths), range(len(widths)))
        axes.plot(across, [depths.index(d) for d in inside], color="white", linewidth=1.6, linestyle=(0, (4, 2)))
    drawing.describe(axes, title=f"{_ERROR}; dashed: $N = L$", x="width $N$", y="depth $L$")
    drawing.colour_bar(figure, axes, image, pad=0.02)


def _number_text(value: float) -> str:
    """Two digits without a leading zero: `.043`, `.9`, `1.7`."""
    return f"{value:.2g}".removeprefix("0") if value >= 1e-3 else f"{value:.0e}"
