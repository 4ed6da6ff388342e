r"""The figure of width and depth together: the constant of the law, growth in proportion, and the whole grid.

The excess of residual networks under `mupc` is \((1 + 1/L)^{L-1} - 1\) times \(L/N\), from 1/2 at \(L = 2\) to
\(e - 1\); the lines that the paper (arXiv 2602.07697) draws are \(L/N\) and \((L+1)/N\).  What counts is \(L/N\): where
both grow in proportion, predictive coding comes no closer to backpropagation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from pcbench.output.drawing import (
    INK,
    MARKERS,
    PALETTE,
    describe,
    interval,
    legend,
    log_axes,
    panels,
    points,
    save,
    size_ticks,
)
from pcbench.theory import expected_excess

Row = Mapping[str, Any]
RATIOS = (1, 4, 16)
_ERROR = "relative gradient error"


def draw(rows: Sequence[Row], directory: str | Path) -> list[Path]:
    """Write `width-depth` as SVG and PNG from the rows of `scaling_initialisation`; certified ones are drawn."""
    rows = [r for r in rows if r["parameterisation"] == "mupc" and r["certified"]]
    residual, plain = ([r for r in rows if bool(r["residual"]) == skips] for skips in (True, False))
    figure, axes = panels(1, 3, width=13, height=4.2)
    constants(axes[0, 0], residual, plain)
    diagonals(axes[0, 1], residual)
    grid(figure, axes[0, 2], residual)
    data = ", ".join(sorted({str(r["data"]) for r in rows}))
    note = f"mupc at initialisation; data: {data}; points: mean of logarithms and its 95 % interval over networks"
    return [save(figure, Path(directory, f"width-depth{suffix}"), note=note) for suffix in (".svg", ".png")]


def constants(axes: Axes, residual: Sequence[Row], plain: Sequence[Row]) -> None:
    r"""The factor in front of \(L/N\) at the largest width, with the exact ones and those of the paper's lines."""
    width = max(r["width"] for r in residual)
    depths = sorted({r["depth"] for r in residual})
    fine = np.unique(np.round(np.geomspace(depths[0], depths[-1], 60)).astype(int))
    for rows, skips, colour, marker, name in (
        (residual, True, PALETTE[0], MARKERS[0], "residual"),
        (plain, False, PALETTE[1], MARKERS[1], "no skips"),
    ):
        at = [r for r in rows if r["width"] == width]
        sizes, samples = _grouped(at, "depth", lambda r: r["excess"] * r["width"] / r["depth"])
        points(axes, sizes, samples, color=colour, fmt=marker, label=f"{name}, $N={width}$")
        exact = [width / d * expected_excess("mupc", width=width, depth=int(d), residual=skips) for d in fine]
        axes.plot(fine, exact, color=colour, linewidth=1.3, label=f"{name}, exact")
    axes.plot(fine, np.ones(len(fine)), color="#666666", linewidth=1.1, linestyle=(0, (5, 2)), label="paper, $L/N$")
    axes.plot(
        fine, (fine + 1) / fine, color="#666666", linewidth=1.3, linestyle=(0, (1, 1.5)), label="paper, $(L+1)/N$"
    )
    log_axes(axes, y=False)
    size_ticks(axes, depths)
    axes.set_ylim(0, 2.8)
    describe(axes, title="the constant of the law", x="depth $L$", y=r"tr$(S-I)/K\,\times\,N/L$")
    legend(axes, loc="upper left", ncols=2, columnspacing=1.2)


def diagonals(axes: Axes, rows: Sequence[Row]) -> None:
    """The gradient error where width and depth grow in proportion."""
    for ratio, colour, marker in zip(RATIOS, PALETTE, MARKERS, strict=False):
        at = [r for r in rows if r["width"] == ratio * r["depth"]]
        sizes, samples = _grouped(at, "depth", lambda r: r["gradient_error"])
        if sizes:
            points(axes, sizes, samples, color=colour, fmt=marker, label=f"$N = {'' if ratio == 1 else ratio}L$")
            axes.plot(sizes, [interval(s)[0] for s in samples], color=colour, linewidth=0.9)
    log_axes(axes)
    size_ticks(axes, {r["depth"] for r in rows})
    axes.set_ylim(top=2)
    describe(axes, title="together they do not converge", x="depth $L$", y=_ERROR)
    legend(axes, loc="lower right", ncols=3)


def grid(figure: Figure, axes: Axes, rows: Sequence[Row]) -> None:
    """The gradient error at every width and depth, with the line N = L."""
    widths, depths = sorted({r["width"] for r in rows}), sorted({r["depth"] for r in rows})
    table = np.full((len(depths), len(widths)), math.nan)
    for i, depth in enumerate(depths):
        sizes, samples = _grouped([r for r in rows if r["depth"] == depth], "width", lambda r: r["gradient_error"])
        for width, values in zip(sizes, samples, strict=True):
            table[i, widths.index(width)] = interval(values)[0]
    norm = LogNorm(float(np.nanmin(table)), float(np.nanmax(table)))
    image = axes.imshow(table, origin="lower", aspect="auto", cmap="cividis", norm=norm)
    axes.grid(visible=False)
    axes.set_xticks(range(len(widths)), [str(w) for w in widths])
    axes.set_yticks(range(len(depths)), [str(d) for d in depths])
    for i, j in np.ndindex(table.shape):
        value = float(table[i, j])
        if math.isfinite(value):
            colour = "white" if float(norm(value)) < 0.55 else "black"
            axes.text(j, i, _short(value), ha="center", va="center", fontsize=7, color=colour)
    inside = [d for d in depths if widths[0] <= d <= widths[-1]]
    if len(inside) > 1:
        across = np.interp(np.log(inside), np.log(widths), range(len(widths)))
        axes.plot(across, [depths.index(d) for d in inside], color="white", linewidth=1.6, linestyle=(0, (4, 2)))
    describe(axes, title=f"{_ERROR}; dashed: $N = L$", x="width $N$", y="depth $L$")
    bar = figure.colorbar(image, ax=axes, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=8, colors=INK)


def _grouped(rows: Iterable[Row], over: str, value: Callable[[Row], float]) -> tuple[list[int], list[list[float]]]:
    """Ascending values of `over`, and at each all positive values."""
    groups: dict[int, list[float]] = {}
    for row in rows:
        number = float(value(row))
        if number > 0:
            groups.setdefault(row[over], []).append(number)
    sizes = sorted(groups)
    return sizes, [groups[size] for size in sizes]


def _short(value: float) -> str:
    """Two digits without a leading zero: `.043`, `.9`, `1.7`."""
    return f"{value:.2g}".removeprefix("0") if value >= 1e-3 else f"{value:.0e}"
