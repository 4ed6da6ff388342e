r"""Networks of the speed benchmarks: a small and a full grid of widths, depths and batch sizes.

A parameter of asv is a word, so a network is one: `N=128,L=8,B=64`.  All are residual tanh networks under mupc.  A step
of inference takes about \(4BLN^2\) floating-point operations; the number of steps in a call is chosen so that a call
neither drowns in its own overhead nor takes minutes.
"""

from __future__ import annotations

import itertools
from typing import Any

from pcbench.problem.mlp import Problem

SMALL = ("N=32,L=32,B=32", "N=128,L=8,B=64", "N=512,L=4,B=128")
"""Deep and narrow, medium, wide and shallow: the shapes that `pcbench gate` compares."""

_STEPS, _BUDGET = 50, 1e11
_LARGEST_WEIGHTS, _LARGEST_STEP = 1e8, 2e11


def grid_words(full: bool) -> tuple[str, ...]:
    """The grid: 1 to 1024 samples, 32 to 2048 units, 4 to 128 layers, without cells of over 1e8 weights."""
    if not full:
        return SMALL
    cells = itertools.product((32, 128, 512, 2048), (4, 32, 128), (1, 64, 1024))
    fitting = [c for c in cells if c[0] ** 2 * c[1] <= _LARGEST_WEIGHTS and _operations(*c) <= _LARGEST_STEP]
    return (*SMALL, *(f"N={n},L={l},B={b}" for n, l, b in fitting))


def dtypes(full: bool) -> tuple[str, ...]:
    """The precisions of a grid."""
    return ("float32", "float64") if full else ("float32",)


def problem_from_word(net: str, dtype: str = "float32", **settings: Any) -> Problem:
    """The problem of a word of the grid; `settings` are fields of `Problem` to be set otherwise."""
    values: dict[str, Any] = {"activation": "tanh", "residual": True, "step_size": 0.05, "seed": 1}
    base = Problem.from_line(f"D=32,K=10,{net}")
    steps = int(min(_STEPS, max(2, _BUDGET // _operations(base.width, base.depth, base.batch))))
    return base.replace(**{**values, "steps": steps, "dtype": dtype, **settings})


def _operations(width: int, depth: int, batch: int) -> float:
    return 4.0 * batch * depth * width**2
