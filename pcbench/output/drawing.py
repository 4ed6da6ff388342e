r"""Matplotlib figures in one style, with colours that everybody can tell apart and reproducible files.

Nothing here touches `pyplot` or the global settings of matplotlib: figures are made, dressed and saved one by one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from scipy.special import stdtrit

from pcbench.errors import UsageError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""The colours of Okabe and Ito (2008), told apart with any colour vision; the pale yellow comes last."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, GREY, FAINT = "#222222", "#888888", "#d9d9d9"
_SIZES = {"title": 10.0, "label": 9.0, "tick": 8.0, "note": 6.5}


@contextmanager
def _default_style() -> Iterator[None]:
    """Matplotlib's own defaults whatever the user's are, with SVG identifiers that do not change; undone at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "pcbench"
        yield


def panels(rows: int, columns: int, *, width: float, height: float, **subplots: Any) -> tuple[Figure, np.ndarray]:
    """A figure of `width` by `height` inches and its axes, an array `(rows, columns)`.

    `subplots` goes to `Figure.subplots`, for shared axes.
    """
    with _default_style():
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.04)  # pyright: ignore
        axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(INK)
        one.tick_params(which="both", labelsize=_SIZES["tick"], colors=INK, width=0.8)
        one.grid(True, which="major", color=FAINT, linewidth=0.5)
        one.set_axisbelow(True)
    return figure, axes


def describe(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Set title and axis labels, the title at the left where reading begins."""
    axes.set_title(title, fontsize=_SIZES["title"], loc="left", color=INK)
    axes.set_xlabel(x, fontsize=_SIZES["label"], color=INK)
    axes.set_ylabel(y, fontsize=_SIZES["label"], color=INK)


def legend(axes: Axes, **where: Any) -> None:
    """A small legend without a frame, for whatever has a label."""
    if axes.get_legend_handles_labels()[0]:
        look = {"fontsize": _SIZES["tick"], "frameon": False, "labelcolor": INK, "handlelength": 1.6}
        axes.legend(**{**look, **where}).get_title().set_fontsize(_SIZES["tick"])


def text_box(axes: Axes, text: str, *, x: float = 0.03, y: float = 0.04) -> None:
    """Text in the panel at the fractions `x`, `y` of its axes, readable over what is drawn there."""
    box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    sides: dict[str, Any] = {"ha": "left" if x < 0.5 else "right", "va": "bottom" if y < 0.5 else "top"}
    axes.text(
        x, y, text, transform=axes.transAxes, fontsize=_SIZES["tick"], color=INK, bbox=box, linespacing=1.3, **sides
    )


def log_axes(axes: Axes, *, x: bool = True, y: bool = True) -> None:
    """Make one or both axes logarithmic."""
    if x:
        axes.set_xscale("log")
    if y:
        axes.set_yscale("log")


def size_ticks(axes: Axes, sizes: Iterable[float], *, which: str = "x", most: int = 8) -> None:
    """Ticks at the sizes that were measured, written as whole numbers, some left out if there are more than `most`."""
    values = sorted(set(sizes))
    values = values[:: max(1, math.ceil(len(values) / most))]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def size_axes(
    axes: Axes, sizes: Iterable[float], *, title: str = "", x: str = "", y: str = "", log_y: bool = True
) -> None:
    """A logarithmic axis of sizes with ticks at those that were measured, and texts as in `describe`."""
    log_axes(axes, y=log_y)
    size_ticks(axes, sizes)
    describe(axes, title=title, x=x, y=y)


def guide(axes: Axes, x: Any, y: Any, label: str) -> None:
    """A thin dotted line to compare a slope with, such as a power of the size."""
    axes.plot(x, y, color=GREY, linewidth=1, linestyle=":", label=label)


def colour_bar(figure: Figure, axes: Axes, mesh: Any, label: str = "", **look: Any) -> None:
    """The scale of the colours of `mesh` beside its panel."""
    bar = figure.colorbar(mesh, ax=axes, aspect=30, **look)
    bar.set_label(label, fontsize=_SIZES["label"], color=INK)
    bar.ax.tick_params(labelsize=_SIZES["tick"], colors=INK)


def sequential(count: int) -> list[str]:
    """`count` colours from dark to light for what has an order, such as widths: viridis without its palest end."""
    colour_map = matplotlib.colormaps["viridis"]
    positions = np.linspace(0.0, 0.88, count) if count > 1 else [0.35]
    return [to_hex(colour_map(float(p))) for p in positions]


def samples_by_size(
    rows: Iterable[Mapping[str, Any]],
    over: str,
    value: str | Callable[[Mapping[str, Any]], float | None],
    *,
    above: float = 0.0,
) -> tuple[list[int], list[list[float]]]:
    """Ascending values of the column `over`, and of each all `value`s of its rows that are larger than `above`.

    `value` is a column or a function of a row.  Rows in which it is None or not larger are left out, and with them
    sizes that have no other.
    """
    groups: dict[int, list[float]] = {}
    for row in rows:
        number = row.get(value) if isinstance(value, str) else value(row)
        if number is not None and number > above:
            groups.setdefault(row[over], []).append(float(number))
    sizes = sorted(groups)
    return sizes, [groups[size] for size in sizes]


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    r"""The geometric mean of positive values and the ends of its 95 % interval, by Student's t on the logarithms.

    The ends are NaN for a single value.

    **Raises:** `UsageError` if there are no values, or one is not positive and finite.
    """
    array = np.asarray(list(values), np.float64)
    if not array.size or not (np.isfinite(array).all() and (array > 0).all()):
        raise UsageError(f"interval of {array.tolist()}: needed at least one value, all positive and finite")
    logs = np.log(array)
    centre = float(logs.mean())
    if array.size == 1:
        return float(array[0]), math.nan, math.nan
    half = float(stdtrit(array.size - 1, 0.975) * logs.std(ddof=1) / math.sqrt(array.size))
    return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def points(axes: Axes, x: Sequence[float], samples: Sequence[Iterable[float]], **look: Any) -> None:
    """The `interval` of each of `samples` at each of `x`: a marker for the mean, a bar for the interval."""
    centre, low, high = np.array([interval(values) for values in samples]).T.reshape(3, -1)
    bars = np.nan_to_num(np.stack([centre - low, high - centre]))
    usual = {"fmt": "o", "markersize": 4.5, "elinewidth": 1.1, "capsize": 0, "linewidth": 0, "markeredgewidth": 0}
    axes.errorbar(np.asarray(x, np.float64), centre, yerr=bars, **{**usual, **look})


def band(axes: Axes, x: Sequence[float], samples: Sequence[Iterable[float]], *, color: str, **look: Any) -> None:
    """The `interval` of each of `samples` along `x`: a line for the mean, a shade for the interval."""
    centre, low, high = np.array([interval(values) for values in samples]).T.reshape(3, -1)
    axes.plot(x, centre, color=color, **{"linewidth": 1.6, **look})
    axes.fill_between(np.asarray(x, np.float64), low, high, color=color, alpha=0.2, linewidth=0)


def save(figure: Figure, path: str | Path, *, note: str = "") -> Path:
    """Write `figure` as SVG or PNG by the suffix of `path`, `note` small below it; equal figures make equal files.

    **Raises:** `UsageError` for another suffix.
    """
    path = Path(path)
    canvases = {".svg": FigureCanvasSVG, ".png": FigureCanvasAgg}
    if path.suffix not in canvases:
        raise UsageError(f"figure {path.name!r}: needed a name that ends in {' or '.join(canvases)}")
    if note:  # a text of the figure would be drawn over; as its lowest label the layout makes room for it
        figure.supxlabel(note, x=0.01, ha="left", fontsize=_SIZES["note"], color="#666666")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    try:
        with _default_style():
            canvases[path.suffix](figure).print_figure(temporary, dpi=160, metadata=metadata)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return path


def save_both(figure: Figure, stem: str | Path, *, note: str = "") -> list[Path]:
    """Write `figure` as SVG and as PNG, `stem` with the one suffix and with the other; `note` as in `save`."""
    return [save(figure, f"{stem}{suffix}", note=note) for suffix in (".svg", ".png")]
