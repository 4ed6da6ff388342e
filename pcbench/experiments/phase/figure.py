r"""Figures of the phase diagram: regimes of predictive coding and backpropagation, and their exponents.

A cell is a parameterisation and its colour the regime that was measured; the line is the boundary of stability that
theory gives, on which the lazy and the feature-learning parameterisations lie.  Colours are told apart with any colour
vision, and the two thin regimes carry a mark as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pcbench.experiments.phase.plane import AXES, RULES, expected_regime, point_exponents
from pcbench.output.drawing import INK, PALETTE, colour_bar, describe, legend, panels, save_both
from pcbench.theory import stability
from pcbench.theory.stability import Regime

COLOURS = {
    Regime.UNSTABLE: PALETTE[1],
    Regime.TRIVIAL: "#d9d9d9",
    Regime.LAZY: PALETTE[5],
    Regime.FEATURE_LEARNING: PALETTE[2],
}
_MARKS = {Regime.LAZY: "o", Regime.FEATURE_LEARNING: "*"}
_RULES = {"pc": "PC at equilibrium", "bp": "BP"}
_LABELS = {
    "p": r"$p$, output multiplier $N^{-p}$",
    "b": r"$b$, initial scale of the readout $N^{-b}$",
    "c": r"$c$, learning rate $\eta\, N^{-c}$",
    "alpha": r"$\alpha$, residual branches $L^{-\alpha}$",
    "kappa": r"$\kappa$, learning rate $\eta\, L^{-\kappa}$",
}
_TITLES = {"output": "width, $b=0$", "initial": "width, $p=1$", "depth": "depth, $p=1$, $c=-1$"}
# Text beside the boundary: what theory calls it, and where it is written.
_NAMES = {
    "output": (
        (0.66, -0.32, "$c=1-2p$: lazy"),
        (1.04, -0.98, r"$\mu$P: feature learning"),
        (1.5, -1.42, "$c=-p$"),
    ),
    "initial": ((-0.3, -0.25, "$c=-1-2b$: lazy"), (0.1, -0.85, "$c=-1$, $b\\geq 0$: feature learning")),
    "depth": ((0.54, 0.42, r"$\alpha=\frac{1}{2}$: feature learning"), (0.75, 0.05, r"$\alpha>\frac{1}{2}$: lazy")),
}
_LIMIT = 3.0  # exponents are drawn up to this size; unstable ones have no end

Rows = Sequence[Mapping[str, Any]]


def draw(classified: Rows, directory: str | Path, *, note: str = "") -> list[Path]:
    """Write `phase` and `phase-growth` as SVG and PNG into `directory`, from the rows of `classify`."""
    planes = [plane for plane in AXES if any(row["plane"] == plane for row in classified)]
    written = []
    for name, figure in (("phase", regimes(classified, planes)), ("phase-growth", draw_exponents(classified, planes))):
        written += save_both(figure, Path(directory, name), note=note)
    return written


def regimes(classified: Rows, planes: Sequence[str]) -> Figure:
    """One row of panels for every plane: PC, BP, and where they or theory part."""
    figure, axes = panels(len(planes), 3, width=11.0, height=0.7 + 3.3 * len(planes))
    for row, plane in zip(axes, planes, strict=True):
        for rule, panel in zip(RULES, row[:2], strict=True):
            table = _table(classified, plane, rule)
            _cells(panel, plane, {pair: COLOURS[Regime(r["regime"])] for pair, r in table.items()})
            _boundary(panel, plane)
            for regime, mark in _MARKS.items():
                _scatter(panel, [pair for pair, r in table.items() if r["regime"] == regime], mark, "white")
            _style_panel(panel, plane, f"{_RULES[rule]}: {_TITLES[plane]}")
        _draw_differences(row[2], classified, plane)
    patches: list[Any] = [Patch(facecolor=colour, label=str(regime)) for regime, colour in COLOURS.items()]
    patches.append(Line2D([], [], color="black", linewidth=1.6, label="boundary of stability, theory"))
    figure.legend(handles=patches, loc="outside upper left", ncols=5, fontsize=9, frameon=False, labelcolor=INK)
    return figure


def draw_exponents(classified: Rows, planes: Sequence[str]) -> Figure:
    """For every plane in width the growth of features under both rules, and how much tamer PC is; in depth curves."""
    figure, axes = panels(len(planes), 3, width=11.0, height=0.4 + 3.4 * len(planes))
    for row, plane in zip(axes, planes, strict=True):
        if plane == "depth":
            _depth_curves(row, classified)
            continue
        pc, bp = (_table(classified, plane, rule) for rule in RULES)
        growth = {"pc": {k: _clip(r["hidden_exponent"]) for k, r in pc.items()}}
        growth["bp"] = {k: _clip(r["hidden_exponent"]) for k, r in bp.items()}
        for rule, panel in zip(RULES, row[:2], strict=True):
            mesh = _draw_heat_map(panel, plane, growth[rule], "PuOr_r", _LIMIT)
            _style_panel(panel, plane, f"{_RULES[rule]}: growth of features")
            colour_bar(figure, panel, mesh, r"exponent of $N$", extend="both", pad=0.03)
        tamer = {k: _difference(bp[k], pc[k]) for k in pc if k in bp}
        mesh = _draw_heat_map(row[2], plane, tamer, "BrBG", _LIMIT)
        _style_panel(row[2], plane, "BP minus PC: positive where PC is tamer")
        colour_bar(figure, row[2], mesh, "difference of exponents", extend="both", pad=0.03)
    return figure


# ---- panels -----------------------------------------------------------------------------------------------------


def _table(classified: Rows, plane: str, rule: str) -> dict[tuple[float, float], Mapping[str, Any]]:
    x, y = AXES[plane]
    return {(r[x], r[y]): r for r in classified if r["plane"] == plane and r["rule"] == rule}


def _edges(values: Sequence[float]) -> np.ndarray:
    v = np.asarray(values, np.float64)
    middle = (v[1:] + v[:-1]) / 2
    return np.concatenate([[2 * v[0] - middle[0]], middle, [2 * v[-1] - middle[-1]]])


def _mesh(values: Mapping[tuple[float, float], Any]) -> tuple[list[float], list[float], np.ndarray]:
    xs, ys = sorted({x for x, _ in values}), sorted({y for _, y in values})
    return xs, ys, np.array([[values.get((x, y), math.nan) for x in xs] for y in ys], np.float64)


def _cells(panel: Axes, plane: str, colours: Mapping[tuple[float, float], str]) -> None:
    palette = list(dict.fromkeys(colours.values()))
    xs, ys, numbers = _mesh({pair: palette.index(colour) for pair, colour in colours.items()})
    norm = BoundaryNorm(np.arange(len(palette) + 1) - 0.5, len(palette))
    look = {"cmap": ListedColormap(palette), "edgecolors": "white", "linewidth": 0.6}
    panel.pcolormesh(_edges(xs), _edges(ys), numbers, norm=norm, **look)


def _draw_heat_map(
    panel: Axes, plane: str, values: Mapping[tuple[float, float], float], colours: str, limit: float
) -> Any:
    xs, ys, numbers = _mesh(values)
    look = {"cmap": colours, "vmin": -limit, "vmax": limit, "edgecolors": "white", "linewidth": 0.4}
    mesh = panel.pcolormesh(_edges(xs), _edges(ys), numbers, **look)
    _boundary(panel, plane)
    return mesh


def _scatter(panel: Axes, pairs: Sequence[tuple[float, float]], mark: str, colour: str) -> None:
    if pairs:
        look = {"s": 95 if mark == "*" else 22, "color": colour, "edgecolors": "black", "linewidths": 0.8, "zorder": 4}
        panel.scatter(*zip(*pairs, strict=True), marker=mark, **look)


def _style_panel(panel: Axes, plane: str, title: str) -> None:
    x, y = AXES[plane]
    panel.grid(visible=False)
    describe(panel, title=title, x=_LABELS[x], y=_LABELS[y])


def _boundary(panel: Axes, plane: str) -> None:
    """The boundary of the stable set, through the exponents at which it is reached."""
    x_limits, y_limits = panel.get_xlim(), panel.get_ylim()
    if plane == "depth":
        x, y = [0.5, 0.5, x_limits[1]], [y_limits[1], 0.0, 0.0]
    else:
        fine = np.linspace(*x_limits, 2001)
        rates = np.array([stability.smallest_stable_rate(point_exponents(plane, a, 0.0)[0]) for a in fine])
        known = np.isfinite(rates)
        x, y = fine[known], rates[known]
        if len(x) and not known[0]:
            x, y = np.concatenate([x[:1], x]), np.concatenate([[y_limits[1]], y])
    for colour, width in (("white", 3.2), ("black", 1.6)):
        panel.plot(x, y, color=colour, linewidth=width, solid_joinstyle="miter", zorder=3)
    panel.set_xlim(x_limits)
    panel.set_ylim(y_limits)


def _draw_differences(panel: Axes, classified: Rows, plane: str) -> None:
    """Draw the regimes of theory, and mark where PC differs from BP, or both differ from theory."""
    pc, bp = (_table(classified, plane, rule) for rule in RULES)
    both = [pair for pair in pc if pair in bp]
    _cells(panel, plane, {pair: _lighten(COLOURS[expected_regime(plane, *pair)]) for pair in both})
    _boundary(panel, plane)
    parted = [k for k in both if pc[k]["regime"] != bp[k]["regime"]]
    alone = [k for k in both if k not in parted and pc[k]["regime"] != pc[k]["theory"]]
    for pairs, mark, label in ((parted, "X", "PC is not BP"), (alone, "s", "both are not theory")):
        if pairs:
            x, y = zip(*pairs, strict=True)
            panel.scatter(x, y, marker=mark, s=36, color="black", linewidths=0, zorder=4, label=label)
    for x, y, text in _NAMES[plane]:
        panel.text(x, y, text, fontsize=8, color=INK, ha="left", va="bottom", zorder=5)
    legend(panel, loc="lower left", frameon=True)
    _style_panel(panel, plane, f"PC as BP at {len(both) - len(parted)} of {len(both)}, background: theory")


def _lighten(colour: str) -> str:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - 0.35 * (255 - part)):02x}" for part in parts)


def _clip(value: float) -> float:
    return float(np.clip(value, -10 * _LIMIT, 10 * _LIMIT))


def _difference(bp: Mapping[str, Any], pc: Mapping[str, Any]) -> float:
    a, b = bp["hidden_exponent"], pc["hidden_exponent"]
    return 0.0 if a == b else _clip(a - b)


def _depth_curves(row: Sequence[Axes], classified: Rows) -> None:
    r"""Growth in depth against \(\alpha\) at \(\kappa = 0\), with confidence intervals, beside what theory gives."""
    curves = (
        ("initial_hidden_exponent", None, "activities at initialisation", lambda a: 0.0 * a),
        ("hidden_exponent", "hidden_half_width", "what the branches learn", lambda a: 1 - 2 * a),
        ("output_exponent", "output_half_width", "change of the output", lambda a: 0.0 * a),
    )
    for panel, (name, half, title, expected) in zip(row, curves, strict=True):
        for rule, colour, mark, shift in (("pc", PALETTE[0], "o", -0.012), ("bp", PALETTE[1], "s", 0.012)):
            table = _table(classified, "depth", rule)
            rows = [r for (_, kappa), r in sorted(table.items()) if kappa == 0 and abs(r[name]) <= 10 * _LIMIT]
            x = [r["alpha"] + shift for r in rows]
            bars = [r[half] for r in rows] if half else None
            look = {"fmt": mark, "color": colour, "markersize": 4.5, "elinewidth": 1.1, "label": _RULES[rule]}
            panel.errorbar(x, [r[name] for r in rows], yerr=bars, **look)
        fine = np.linspace(0.5, max(r["alpha"] for r in classified if r["plane"] == "depth"), 50)
        panel.plot(fine, expected(fine), color="black", linewidth=1.2, label="theory, stable part")
        panel.axvspan(panel.get_xlim()[0], 0.5, color=_lighten(COLOURS[Regime.UNSTABLE]), zorder=0)
        panel.set_xlim(min(r["alpha"] for r in classified if r["plane"] == "depth") - 0.1, fine[-1] + 0.1)
        panel.set_ylim(-_LIMIT, _LIMIT)
        panel.text(0.015, 0.03, "unstable", transform=panel.transAxes, fontsize=8, color=INK)
        describe(panel, title=f"depth: {title}", x=_LABELS["alpha"], y=r"exponent of $L$ at $\kappa=0$")
        legend(panel, loc="upper right")
