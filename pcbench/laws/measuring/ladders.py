r"""Ladders of widths and depths at which the limit laws are measured, drawn once per run.

All laws of a run climb the same ladders, because every size costs a compiled implementation a program of its own.  The
first rung is a problem, which pins the whole ladder: a replayed law climbs the same one.
"""

from __future__ import annotations

from random import Random
from typing import Any

from pcbench.problem.architectures import ArchitectureProblem
from pcbench.problem.mlp import Problem

WIDTHS = (1, 2, 4, 8, 16)
DEPTHS = (1, 2, 4, 6)
DIAGONAL = (2, 3, 4, 6)

HOMES = {"width": 0, "depth": 1, "training": 2, "diagonal": 3, "nonlinear": 3, "cnn": 0, "transformer": 1}
"""The group of a run in which the laws of a ladder are judged, modulo the number of groups.

One process judges a group, so that the programs of a ladder are compiled once and the work is spread.
"""


def home_group(ladder: str, groups: int) -> int:
    """The group in which the laws of a ladder are judged."""
    return HOMES[ladder] % groups


def first_rung(ladder: str, seed: int, activations: tuple[str, ...] = ("linear",)) -> Any:
    """The smallest problem of a ladder in the run with this seed; `activations` are those claimed."""
    random = Random(f"ladder {ladder} {seed}")
    if ladder in ("cnn", "transformer"):
        return _first_architecture(ladder, random, activations)
    common = {
        "input_dim": random.randint(8, 24),
        "batch": random.randint(10, 14),
        "residual": True,
        "parameterisation": "mupc",
        "seed": random.getrandbits(32),
        "steps": 8,
        "step_size": 0.1,
    }
    if ladder == "width":
        return Problem(width=random.randint(16, 20), depth=random.randint(3, 5), output_dim=1, **common)
    if ladder == "depth":
        return Problem(width=random.randint(96, 112), depth=random.randint(3, 4), output_dim=1, **common)
    if ladder == "training":
        return Problem(width=random.randint(20, 26), depth=random.randint(3, 4), output_dim=1, **common)
    if ladder == "diagonal":
        side = random.randint(3, 4)
        return Problem(width=2 * side, depth=2 * side, output_dim=1, **common)
    smooth = [a for a in ("tanh", "gelu") if a in activations] or [a for a in activations if a != "relu"]
    return Problem(
        width=random.randint(14, 18), depth=random.randint(3, 4), output_dim=1, activation=random.choice(smooth),
        **common,
    )  # fmt: skip


def rungs(ladder: str, first: Any) -> tuple[Any, ...]:
    """All sizes of a ladder from its first rung."""
    if ladder in ("cnn", "transformer"):
        return architecture_rungs(first)
    if ladder == "depth":
        return tuple(first.replace(depth=first.depth * k) for k in DEPTHS)
    if ladder == "diagonal":
        side = first.width // DIAGONAL[0]
        return tuple(first.replace(width=side * k, depth=side * k) for k in DIAGONAL)
    count = {"width": 5, "training": 4, "nonlinear": 4}[ladder]
    return tuple(first.replace(width=first.width * k) for k in WIDTHS[:count])


def sample(rung: Problem, number: int) -> Problem:
    """The sample of that number at a rung: the same sizes, and weights and data of its own."""
    seed = Random(f"{rung.line()} {number}").getrandbits(64)
    return rung.replace(seed=seed)


def _first_architecture(kind: str, random: Random, activations: tuple[str, ...]) -> ArchitectureProblem:
    """The narrowest CNN or transformer of a run; several outputs and samples, over which fluctuations average."""
    smooth = [a for a in ("tanh", "gelu") if a in activations] or [a for a in activations if a != "relu"]
    common = {"kind": kind, "activation": random.choice(smooth), "batch": 4, "seed": random.getrandbits(32)}
    if kind == "cnn":
        return ArchitectureProblem(
            side=4, channels=random.randint(1, 3), width=random.randint(7, 9), stages=1, blocks=1, classes=4, **common
        )
    return ArchitectureProblem(
        tokens=3, width=2 * random.randint(7, 9), blocks=1, heads=2, outputs=4, vocabulary=random.randint(4, 8),
        softmax=random.random() < 0.5, causal=random.random() < 0.5, **common,
    )  # fmt: skip


def architecture_rungs(first: ArchitectureProblem) -> tuple[ArchitectureProblem, ...]:
    """The widths at which a CNN or a transformer is looked at, from the narrowest."""
    return tuple(first.replace(width=first.width * k) for k in (1, 2, 4))
