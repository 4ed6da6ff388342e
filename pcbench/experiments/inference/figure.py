r"""Figure of the inference experiment: steps and cost of each algorithm against depth and width.

Filled markers and solid lines move the activities, open markers and dashed lines the prediction errors; one colour and
one marker is one algorithm.  Numbers in the legends are exponents of L fitted from L = 8 on, with 95 % intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pcbench import theory
from pcbench.errors import UsageError
from pcbench.experiments.inference.sweep import fit_exponents
from pcbench.output import drawing

Row = Mapping[str, Any]

_BLUE, _ORANGE, _GREEN, _PINK, _GOLD, _SKY, _BLACK = drawing.PALETTE[:7]
_LOOKS: dict[str, tuple[str, str, str]] = {
    "gradient-descent": ("gradient descent", _BLUE, "o"),
    "heavy-ball": ("heavy ball", _ORANGE, "s"),
    "nesterov": ("Nesterov, restarted", _PINK, "D"),
    "adam": ("Adam", _GOLD, "v"),
    "conjugate-gradients": ("conjugate gradients", _GREEN, "^"),
    "error-gradient-descent": ("errors: gradient descent", _BLUE, "o"),
    "error-conjugate-gradients": ("errors: conjugate gradients", _GREEN, "^"),
    "error-newton": ("errors: Newton", _SKY, "P"),
    "error-lbfgs": ("errors: L-BFGS", _BLACK, "X"),
}
"""Name, colour and marker of each algorithm; the same algorithm in two spaces shares both."""
_FAMILY_LOOKS: dict[str, tuple[str, str]] = {
    "mupc": (_BLUE, "o"),
    "mupc tanh": (_ORANGE, "s"),
    "ntp": (_GREEN, "^"),
    "orthogonal chain": (_BLACK, "D"),
}


def draw(rows: Iterable[Row], path: str | Path) -> list[Path]:
    """Draw the rows of `inference_scaling.measure` as SVG and PNG beside each other, `path` without its suffix.

    **Raises:** `UsageError` if there is nothing to draw.
    """
    rows = list(rows)
    steps = [r for r in rows if r["kind"] == "steps"]
    if not steps:
        raise UsageError("no rows about steps: run inference_scaling.sweep_points with at least one algorithm")
    width = _most_common(r["width"] for r in steps)
    depth = _most_common(r["depth"] for r in steps)
    tolerance = min(r["tolerance"] for r in steps)
    chosen = [r for r in steps if r["tolerance"] == tolerance]
    figure, axes = drawing.panels(2, 3, width=15.0, height=9.6)
    for axis, family, name in ((axes[0, 0], "mupc", "linear"), (axes[0, 1], "mupc tanh", "tanh")):
        part = [r for r in chosen if r["family"] == family and r["width"] == width]
        drawing.describe(axis, title=f"steps to equilibrium, {name}", x="depth L", y="steps")
        _algorithms(axis, part, "depth", "steps", fits=_fits(rows, family, "steps", width, tolerance))
        _guides(axis, part)
        _finish(axis, [r["depth"] for r in part])
    linear = [r for r in chosen if r["family"] == "mupc"]
    part = [r for r in linear if r["width"] == width]
    drawing.describe(axes[0, 2], title="cost, linear", x="depth L", y="gradients of backpropagation")
    _algorithms(axes[0, 2], part, "depth", "cost", fits=_fits(rows, "mupc", "cost", width, tolerance))
    _finish(axes[0, 2], [r["depth"] for r in part])
    _condition(axes[1, 0], rows, width, tolerance)
    _stability(axes[1, 1], rows, width)
    part = [r for r in linear if r["depth"] == depth]
    drawing.describe(axes[1, 2], title=f"steps against width, linear, L = {depth}", x="width N", y="steps")
    _algorithms(axes[1, 2], part, "width", "steps")
    _finish(axes[1, 2], [r["width"] for r in part], room=0.0)
    seeds = len({r["seed"] for r in steps})
    note = (
        f"N = {width} where depth varies; residual muPC networks, one sample, float64; from the feedforward pass until "
        f"half the squared gradient for the errors is {tolerance:g} of the loss; mean and 95 % interval of {seeds} "
        "seeds; crosses: budget spent before that. Numbers in legends: exponents of L, fitted from L = 8 on."
    )
    stem = Path(path).with_suffix("") if Path(path).suffix in (".svg", ".png") else Path(path)
    return drawing.save_both(figure, stem, note=note)


def _most_common(values: Iterable[int]) -> int:
    """The value at which the other size was swept: the one with most rows."""
    found = list(values)
    return max(sorted(set(found)), key=found.count)


def _fits(rows: Sequence[Row], family: str, quantity: str, width: int, tolerance: float) -> dict[str, str]:
    """The exponent of L for each algorithm of a family, as text; the key of a condition number is the empty string."""
    texts = {}
    for fit in fit_exponents(rows, width=width, tolerance=tolerance):
        if (fit["family"], fit["quantity"]) == (family, quantity) and math.isfinite(fit["low"]):
            half = (fit["high"] - fit["low"]) / 2
            texts[fit["algorithm"]] = f"{fit['exponent']:.2f} ± {half:.2f}"
    return texts


def _algorithms(
    axis: Axes, rows: Sequence[Row], over: str, quantity: str, fits: Mapping[str, str] | None = None
) -> None:
    """One line for each algorithm over what all seeds reached; a cross where some seed did not."""
    drawing.log_axes(axis)
    for algorithm, (name, color, marker) in _LOOKS.items():
        own = [r for r in rows if r["algorithm"] == algorithm and r[quantity] > 0]
        sizes, samples = drawing.samples_by_size([r for r in own if r["reached"]], over, quantity)
        missed = {r[over]: r[quantity] for r in own if not r["reached"]}
        kept = [k for k, size in enumerate(sizes) if size not in missed]
        label = _label(name, (fits or {}).get(algorithm))
        look = {"color": color, "marker": marker, "markersize": 5.5, **_space_style(algorithm, color)}
        if kept:
            centres = [drawing.interval(samples[k])[0] for k in kept]
            axis.plot([sizes[k] for k in kept], centres, label=label, **look)
            bars = {"ecolor": color, "fmt": "none", "linestyle": "none"}
            drawing.points(axis, [sizes[k] for k in kept], [samples[k] for k in kept], **bars)
        elif missed:
            axis.plot([], [], label=_label(name, "not reached"), **look)
        if missed:
            axis.plot(list(missed), list(missed.values()), "x", color=color, markersize=5, markeredgewidth=1.2)


def _label(name: str, remark: str | None) -> str:
    return name if remark is None else f"{name}: {remark}"


def _space_style(algorithm: str, color: str) -> dict[str, Any]:
    if algorithm.startswith("error-"):
        return {"linestyle": (0, (4, 2)), "linewidth": 1.3, "markerfacecolor": "white", "markeredgewidth": 1.2}
    return {"linestyle": "-", "linewidth": 1.5, "markerfacecolor": color, "markeredgewidth": 0}


def _guides(axis: Axes, rows: Sequence[Row]) -> None:
    r"""A line of slope 2 through the steps of gradient descent, and the \(K + 1\) steps of theory L6."""
    descent = [r for r in rows if r["algorithm"] == "gradient-descent" and r["reached"] and r["steps"] > 0]
    depths = sorted({r["depth"] for r in rows})
    if descent and len(depths) > 1:
        anchor = max(r["depth"] for r in descent)
        top = drawing.interval([r["steps"] for r in descent if r["depth"] == anchor])[0]
        ends = np.array([depths[0], depths[-1]], np.float64)
        drawing.guide(axis, ends, 1.6 * top * (ends / anchor) ** 2, r"$L^2$")
    if rows:
        bound = rows[0]["output_dim"] + 1
        axis.axhline(bound, color=drawing.GREY, linewidth=1, linestyle="-.", label=f"K + 1 = {bound}")


def _finish(axis: Axes, sizes: Iterable[int], *, room: float = 0.55) -> None:
    """Ticks, and a legend in as much room above the lines, relative to their height on the axis, as it needs."""
    drawing.size_ticks(axis, sizes)
    if room:
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * (high / low) ** room)
        drawing.legend(axis, loc="upper left", fontsize=8, labelspacing=0.25)


def _condition(axis: Axes, rows: Sequence[Row], width: int, tolerance: float) -> None:
    """The condition number of the activity Hessian, with the exact one of the orthogonal chain and a slope of 2."""
    drawing.describe(axis, title="condition number of the activity Hessian", x="depth L", y=r"$\kappa$")
    drawing.log_axes(axis)
    found = [r for r in rows if r.get("condition") is not None and r["width"] == width]
    for family, color, marker, own in _by_family(found):
        depths, samples = drawing.samples_by_size(own, "depth", "condition")
        label = _label(family, _fits(rows, family, "condition", width, tolerance).get(""))
        drawing.points(axis, depths, samples, color=color, fmt=marker, label=label, markersize=6)
    depths = sorted({r["depth"] for r in found})
    if depths:
        every = np.unique(np.round(np.geomspace(depths[0], depths[-1], 60)).astype(int))
        exact = [_chain_condition(int(L)) for L in every]
        axis.plot(every, exact, color=_BLACK, linewidth=1.2, label="chain, exact")
        drawing.guide(axis, every, 16 * every**2.0 / math.pi**2, r"$16L^2/\pi^2$")
    _finish(axis, depths, room=0.2)


def _by_family(rows: Sequence[Row]) -> Iterator[tuple[str, str, str, list[Row]]]:
    """Each family that has rows: its name, colour, marker and rows."""
    for family, (color, marker) in _FAMILY_LOOKS.items():
        own = [r for r in rows if r["family"] == family]
        if own:
            yield family, color, marker, own


def _chain_condition(depth: int) -> float:
    spectrum = theory.orthogonal_chain_spectrum(depth, 2, 1)
    return float(spectrum[-1] / spectrum[0])


def _stability(axis: Axes, rows: Sequence[Row], width: int) -> None:
    r"""The largest stable step size as measured, on lines of \(2/\lambda_{\max}\)."""
    drawing.describe(axis, title="largest stable step size", x="depth L", y=r"step size $\eta$")
    drawing.log_axes(axis)
    found = [r for r in rows if r.get("stable_step") is not None and r["width"] == width]
    for family, color, marker, own in _by_family(found):
        depths, samples = drawing.samples_by_size(own, "depth", "stable_step")
        _, predicted = drawing.samples_by_size(own, "depth", lambda r: 2 / r["largest"])
        axis.plot(depths, [drawing.interval(p)[0] for p in predicted], color=color, linewidth=1.2)
        drawing.points(axis, depths, samples, color=color, fmt=marker, label=family, markersize=6)
    if found:
        worst = max(abs(r["stable_ratio"] - 1) for r in found)
        drawing.text_box(
            axis, r"lines: $2/\lambda_{\max}$" + f"\nmeasured / predicted = 1 within {worst:.0e}", x=0.97, y=0.7
        )
    drawing.size_ticks(axis, [r["depth"] for r in found])
    drawing.size_ticks(axis, [0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0], which="y")
    drawing.legend(axis, loc="upper right")
