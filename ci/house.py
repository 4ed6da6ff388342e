"""Draw pcbench's packages and their imports, and count forbidden ones: imports upwards, and cycles.

    python ci/house.py                      # packages, storeys, arrows and circles, as text
    python ci/house.py --svg docs/house.svg # the drawing as well
    python ci/house.py --root CHECKOUT      # of another checkout, in which packages may lie otherwise

Exits with 1 if an arrow goes up or there is a circle.  Every import counts, those inside functions and those for type
checkers too.  A checkout whose packages are not those of `STOREYS` gets storeys computed from its imports, as low as
they can be; there no arrow outside a circle can go up.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

STOREYS = (
    ("errors", "version"),
    ("problem", "output"),
    ("oracle", "theory", "reference", "protocol"),
    ("worker",),
    ("laws", "environments", "timing"),
    ("adapters",),
    ("report",),
    ("properties", "gate", "experiments"),
    ("conformance",),
    ("leaderboard", "benchmarks", "plugin"),
    ("cli",),
)
"""Packages and modules at the root of pcbench, lowest storey first; each may import what lies below it alone.

`pcbench/__init__.py`, the face, is not among them: it gives names from several storeys, and nothing rests on it.
"""


@dataclass(frozen=True, kw_only=True)
class House:
    """Modules by dotted name, what each imports, and the storeys of their packages."""

    modules: Mapping[str, Path]
    imports: Mapping[str, frozenset[str]]
    storeys: tuple[tuple[str, ...], ...]

    @property
    def arrows(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """The imports between packages: from, to, and the modules that make them."""
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for module, targets in sorted(self.imports.items()):
            for target in sorted(targets):
                pair = package(module), package(target)
                if pair[0] != pair[1] and all(pair):
                    found.setdefault(pair, []).append((module, target))
        return found

    @property
    def upward(self) -> list[tuple[str, str]]:
        """The imports of a package that is not on a lower storey, by the modules that make them."""
        level = {name: k for k, row in enumerate(self.storeys) for name in row}
        return [made for (a, b), pairs in self.arrows.items() if level[b] >= level[a] for made in pairs]

    @property
    def package_circles(self) -> list[list[str]]:
        """Packages that import each other, directly or through others."""
        graph: dict[str, set[str]] = {name: set() for row in self.storeys for name in row}
        for a, b in self.arrows:
            graph[a].add(b)
        return circles(graph)

    @property
    def module_circles(self) -> list[list[str]]:
        """Modules that import each other; a package that gathers names of its own modules makes none."""
        own = {
            name: {t for t in targets if not t.startswith(f"{name}.")} if self._gathers(name) else set(targets)
            for name, targets in self.imports.items()
            if name != "pcbench"
        }
        return circles({name: targets & own.keys() for name, targets in own.items()})

    def _gathers(self, name: str) -> bool:
        return self.modules[name].name == "__init__.py"


def package(module: str) -> str:
    """The package or module at the root of pcbench that a dotted name belongs to, empty for the face itself."""
    return module.split(".")[1] if "." in module else ""


def read_house(root: Path = ROOT) -> House:
    """The house of a checkout."""
    modules = dict(find_modules(root))
    imports = {name: frozenset(imported_modules(path, modules)) - {name} for name, path in modules.items()}
    present = {package(name) for name in modules} - {""}
    storeys = STOREYS if present == {name for row in STOREYS for name in row} else compute_storeys(imports, present)
    return House(modules=modules, imports=imports, storeys=storeys)


def find_modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Dotted name and path of every module; `properties/` is `pcbench.properties`."""
    for folder, prefix in (("pcbench", ()), ("properties", ("pcbench",))):
        for path in sorted((root / folder).rglob("*.py")):
            parts = (*prefix, *path.relative_to(root).with_suffix("").parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported_modules(path: Path, known: Iterable[str], *, typing: bool = True) -> set[str]:
    """The modules among `known` that a file imports; without `typing` those alone that it imports when it runs."""
    known, found = set(known), set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8"), str(path)), typing=typing):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else str(node.module))
    return found & known


def walk(tree: ast.AST, *, typing: bool = True) -> Iterator[ast.AST]:
    """Every node of a tree, without `typing` leaving out what stands under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from walk(node, typing=typing)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one node, by Tarjan's algorithm."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in number:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in stack:
                lowest[node] = min(lowest[node], number[target])
        if lowest[node] == number[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def compute_storeys(imports: Mapping[str, frozenset[str]], present: set[str]) -> tuple[tuple[str, ...], ...]:
    """The lowest storeys on which each package stands above what it imports; those in a circle share one."""
    graph: dict[str, set[str]] = {name: set() for name in present}
    for module, targets in imports.items():
        if package(module):
            graph[package(module)] |= {package(t) for t in targets} - {package(module), ""}
    group = {name: frozenset(circle) for circle in circles(graph) for name in circle}
    level: dict[frozenset[str], int] = {}

    def height(name: str) -> int:
        own = group.get(name, frozenset({name}))
        if own not in level:
            level[own] = 1 + max((height(t) for n in own for t in graph[n] - own), default=-1)
        return level[own]

    heights = {name: height(name) for name in sorted(present)}
    return tuple(tuple(n for n, h in heights.items() if h == k) for k in range(max(heights.values()) + 1))


# ---- what is printed ------------------------------------------------------------------------------------------------


def describe(house: House) -> str:
    """The storeys from the top, then the counts, then everything that must not be."""
    lines = [f"{k:>3}  {', '.join(row)}" for k, row in reversed(list(enumerate(house.storeys)))]
    rooms = sum(map(len, house.storeys))
    lines += [
        "",
        f"{len(house.modules)} modules in {rooms} packages on {len(house.storeys)} storeys, {len(house.arrows)} arrows",
        f"arrows that go up: {len(house.upward)}",
        f"circles between packages: {len(house.package_circles)}",
        f"circles between modules: {len(house.module_circles)}",
    ]
    lines += [f"  up: {a} imports {b}" for a, b in house.upward]
    lines += [f"  circle: {', '.join(c)}" for c in [*house.package_circles, *house.module_circles]]
    return "\n".join(lines)


def draw(house: House, path: Path) -> None:
    """The storeys as rows of boxes, with an arrow for every import between packages.

    Red goes up; pale goes where there is a longer way too.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    widest = max(map(len, house.storeys))
    figure = Figure(figsize=(min(2.1 * widest + 1, 40), 0.95 * len(house.storeys) + 0.6), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-0.6, widest - 0.4), ylim=(-0.6, len(house.storeys) - 0.4))
    place = {}
    for k, row in enumerate(house.storeys):
        # Rows are spread over the width, every second one a little aside, so that few arrows hide behind a box.
        shift = (widest - 1) / 2 + (0.18 if k % 2 else -0.18) * (len(row) < widest)
        for j, name in enumerate(row):
            place[name] = shift + (j - (len(row) - 1) / 2) * widest / max(len(row), 1), k
    up = {(package(a), package(b)) for a, b in house.upward}
    implied = {(a, c) for a, b in house.arrows for b2, c in house.arrows if b == b2} & house.arrows.keys()
    for a, b in house.arrows:
        red = (a, b) in up
        axes.annotate(
            "", xy=place[b], xytext=place[a], zorder=1,
            arrowprops={
                "arrowstyle": "-|>", "color": "#c0392b" if red else "#7f8c9b", "linewidth": 1.6 if red else 0.7,
                "alpha": 1.0 if red else 0.22 if (a, b) in implied else 0.9, "shrinkA": 14, "shrinkB": 14,
                "connectionstyle": "arc3,rad=0.06",
            },
        )  # fmt: skip
    for name, (x, y) in place.items():
        count = sum(package(module) == name for module in house.modules)
        box = {"boxstyle": "round,pad=0.45", "facecolor": "#eef3f8", "edgecolor": "#34495e", "linewidth": 1.0}
        label = f"{name}\n{count} modules" if count > 1 else name
        axes.text(x, y, label, ha="center", va="center", fontsize=9, bbox=box, zorder=2, color="#1c2833")
    with rc_context({"svg.hashsalt": "pcbench", "svg.fonttype": "none", "font.family": "sans-serif"}):
        FigureCanvasSVG(figure).print_svg(str(path), metadata={"Date": None, "Creator": None})


def main(arguments: list[str] | None = None) -> int:
    """Print, and draw if asked; 1 if an arrow goes up or there is a circle."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to read (this one)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the drawing")
    options = parser.parse_args(arguments)
    if not (options.root / "pcbench").is_dir():
        parser.error(f"{options.root} holds no directory pcbench: needed a checkout")
    house = read_house(options.root)
    print(describe(house))
    if options.svg is not None:
        draw(house, options.svg)
        print(f"wrote {options.svg}")
    return 1 if house.upward or house.package_circles or house.module_circles else 0


if __name__ == "__main__":
    sys.exit(main())
