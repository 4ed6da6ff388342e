"""Markdown report of the speed of inference and of equilibria, one table for each dtype and tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pcbench.output.table import Row

_KIND = ("dtype", "tier")
_CELL = ("width", "depth", "batch")


def markdown(
    rows: Sequence[Row], left_out: Sequence[tuple[Mapping[str, Any], str]], equilibria: Sequence[Row], note: str
) -> str:
    """The whole report; `note` says where and when it was made."""
    kinds = {
        kind: [row for row in rows if tuple(row[k] for k in _KIND) == kind]
        for kind in dict.fromkeys(tuple(row[k] for k in _KIND) for row in rows)
    }
    parts = ["# Speed of the reference\n"]
    parts += [f"- {dtype}, {tier}: {summary_sentences(chosen)}" for (dtype, tier), chosen in kinds.items()]
    parts.append(f"\n{note}\n")
    for (dtype, tier), chosen in kinds.items():
        parts += [f"## Inference, {dtype}, {tier}\n", grid_table(chosen)]
    if left_out:
        cells = [
            f"N={p['width']} L={p['depth']} B={p['batch']} {p['dtype']} {p['tier']} ({reason})"
            for p, reason in left_out
        ]
        parts.append(f"Left out, as over the budget of a cell: {'; '.join(cells)}.\n")
    if equilibria:
        parts += ["## Equilibria, float64\n", equilibrium_table(equilibria)]
    return "\n".join(parts)


def summary_sentences(rows: Sequence[Row]) -> str:
    """What fraction of the machine's rate is reached, and whether anything is faster than the reference."""
    cells = _cells(rows)
    wide = [c["reference"] for c in cells if _size(c)[0] >= 512 and _size(c)[2] == 256]
    text = []
    if wide:
        steps = [row["of_gemm"] for row in wide]
        text.append(f"At N ≥ 512, B = 256 a step runs at {min(steps):.2f} to {max(steps):.2f} of the GEMM rate")
        known = [ratio for row in wide if (ratio := _products_ratio(row)) is not None]
        text[-1] += f", its products alone at {min(known):.2f} to {max(known):.2f}." if known else "."
    for name in other_implementations(rows):
        ratios = {_size(c): c[name]["over_reference"] for c in cells if "over_reference" in c.get(name, {})}
        if ratios:
            worst = min(ratios, key=lambda size: ratios[size])
            ahead = sum(r < 1 for r in ratios.values())
            text.append(
                f"{name} takes {ratios[worst]:.2f} (N={worst[0]} L={worst[1]} B={worst[2]}) to "
                f"{max(ratios.values()):.1f} times the reference's time and is ahead in {ahead} of {len(ratios)} cells."
            )
    return " ".join(text)


def other_implementations(rows: Sequence[Row]) -> list[str]:
    """The implementations besides the reference."""
    return list(dict.fromkeys(row["implementation"] for row in rows if row["implementation"] != "reference"))


def grid_table(rows: Sequence[Row]) -> str:
    """One line a cell."""
    names = other_implementations(rows)
    head = ["N", "L", "B", "GEMM, GFLOP/s", "own shape, GFLOP/s", "ms a step", "of GEMM", "of own shape"]
    head += ["products alone, of GEMM", "groups", "orientation"]
    head += [f"{name}, times" for name in names]
    head += ["compile, s", *(f"compile {name}, s" for name in names), "peak / (weights + activities)"]
    lines = [head, ["---:"] * len(head)]
    for cell in _cells(rows):
        r = cell["reference"]
        line = [*map(str, _size(cell)), f"{r['gemm_rate'] / 1e9:.0f}", f"{r['own_rate'] / 1e9:.0f}"]
        line += [f"{1e3 * r['step_seconds']:.4g}", f"{r['of_gemm']:.2f}", f"{r['of_own_gemm']:.2f}"]
        line += ["" if (alone := _products_ratio(r)) is None else f"{alone:.2f}", str(r["groups"]), r["orientation"]]
        line += [_times(cell.get(name, {})) for name in names]
        line += [f"{r['compile_seconds']:.2f}"]
        line += [f"{c:.2f}" if (c := cell.get(name, {}).get("compile_seconds")) is not None else "" for name in names]
        line.append(f"{r['peak_bytes'] / r['needed_bytes']:.2f}")
        lines.append(line)
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def equilibrium_table(rows: Sequence[Row]) -> str:
    """One line for each road to each equilibrium."""
    head = ["activation", "N", "L", "B", "road", "seconds", "BP gradients, measured", "BP gradients, counted",
            "evaluations", "certificate / loss", "arrived"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for r in rows:
        counted, evaluations = r.get("counted_cost"), r.get("evaluations")
        lines.append([
            r["activation"], *(str(r[k]) for k in _CELL), r["road"], f"{r['seconds']:.3g}",
            f"{r['measured_cost']:.3g}", "" if counted is None else f"{counted:.3g}",
            "" if evaluations is None else str(evaluations), f"{r['certificate']:.1e}", "yes" if r["reached"] else "no",
        ])  # fmt: skip
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _products_ratio(reference: Row) -> float | None:
    """The rate of the step's products alone over that of the large product; none without hidden layers."""
    rate = reference.get("products_rate")
    return rate / reference["gemm_rate"] if rate is not None else None


def _times(row: Mapping[str, Any]) -> str:
    ratio = row.get("over_reference")
    return f"{ratio:.2f}" if ratio is not None else str(row.get("note", ""))


def _size(cell: Mapping[str, Row]) -> tuple[int, int, int]:
    row = cell["reference"]
    return row["width"], row["depth"], row["batch"]


def _cells(rows: Sequence[Row]) -> list[dict[str, Row]]:
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[k] for k in _CELL), {})[row["implementation"]] = row
    return list(found.values())
