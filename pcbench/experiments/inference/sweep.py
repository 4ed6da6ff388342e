r"""Experiment: steps and gradients that each algorithm needs to reach equilibrium, by depth and width.

The limits paper (arXiv 2602.07697) leaves open how many inference steps its limits need.  Here every algorithm of
`pcbench.experiments.inference.algorithms` starts at the feedforward pass and stops at the same certified gap, and its
cost is in gradients of backpropagation.  Beside it stand what theory says about the activities: the condition number
\(\kappa\) of their Hessian (\(\propto L^2\) at \(N \gg L\), exactly known for an orthogonal chain), from which steps
\(\propto \kappa\) of gradient descent and \(\propto \sqrt\kappa\) of momentum and conjugate gradients follow; at most
\(K + 1\) steps of conjugate gradients on the errors; and a largest stable step size of \(2/\lambda_{\max}\), which is
measured as well.

Step sizes and momenta are the best constant ones there are for a linear network, from its extreme eigenvalues.  A
nonlinear one has those of its *linear twin*, the same network without activation function: measured at the equilibria
of the default sweep, the largest eigenvalue of a tanh network is below the twin's from a depth of 4 on, and at most 5 %
above it at 2, where the best step size is half the largest stable one.  Gradient descent on the errors of a nonlinear
network takes \(1/\lambda_{\max}\) of the twin: with the twin's best step, one of its runs at L = 32 never settled.

Measured with the defaults, muPC, linear, to 1e-10 from L = 8 on: steps grow as \(L^{2.13 \pm 0.14}\) for gradient
descent, \(L^{1.05 \pm 0.04}\) for the heavy ball and for conjugate gradients; conjugate gradients on the errors take 4
at L = 64, and the condition number grows as \(L^{2.07 \pm 0.06}\).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from pcbench import theory
from pcbench.errors import UsageError
from pcbench.experiments.inference.algorithms import ALGORITHMS, infer_to_equilibrium
from pcbench.experiments.inference.spaces import make_activity_space
from pcbench.experiments.power_law import exponent
from pcbench.experiments.scaling.options import Options
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.reference.compilation import counted_jit
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.equilibrium.outcome import EquilibriumState
from pcbench.reference.inference.steps import infer
from pcbench.reference.network import PCN

Row = dict[str, Any]

FAMILIES: dict[str, dict[str, Any]] = {
    "mupc": {"parameterisation": "mupc", "residual": True},
    "mupc tanh": {"parameterisation": "mupc", "residual": True, "activation": "tanh"},
    "ntp": {"parameterisation": "ntp", "residual": True},
    "orthogonal chain": {"parameterisation": "ntp", "residual": False, "weight_law": "orthogonal"},
}
"""Networks by name; the chain is the one whose spectrum is known exactly (theory L8)."""
DEFAULTS: dict[str, Any] = {
    "families": list(FAMILIES),
    "algorithms": list(ALGORITHMS),
    "depths": [2, 4, 8, 16, 32, 64],
    "width": 64,
    "widths": [16, 32, 64, 128, 256, 512],
    "depth": 8,
    "seeds": [0, 1, 2],
    "input_dim": 16,
    "output_dim": 4,
    "tolerances": [1e-2, 1e-6, 1e-10],
    "max_evaluations": 50_000,
}
"""The options of `sweep_points`: `depths` are swept at `width`, `widths` at `depth`."""
ADAM_STEP = 1e-3
"""Adam's own default.  With a constant step it circles the equilibrium at a distance proportional to the step."""
_ADAM_EVALUATIONS = 10_000  # it has stopped approaching before: at L = 64 it is within 1e-2 after 2000 to 6000
_SWEPT_IN_WIDTH = ("mupc", "mupc tanh")
_COMPARED: dict[str, tuple[str, ...]] = {
    # Under ntp the output's gain S grows with depth, which concerns the errors; the activities are as under mupc.
    "ntp": ("conjugate-gradients", *(name for name in ALGORITHMS if name.startswith("error-"))),
    "orthogonal chain": ("gradient-descent", "heavy-ball", "conjugate-gradients", "error-conjugate-gradients"),
}
"""The algorithms of the families that stand for one question each; the others are swept with all."""


def sweep_points(options: Options | Mapping[str, Any] | None = None) -> list[Row]:
    """The points of the sweep, the longest first so that no worker is left alone with one at the end.

    **Arguments:** `options`: some of `DEFAULTS`, or the `Options` of the scaling experiments, of whose sizes those are
    taken for which gradient descent is a matter of seconds: widths from 16 to 512 and depths of at most 64.

    **Raises:** `UsageError` for an option, a family or an algorithm that does not exist.
    """
    chosen = _chosen_grid(options) if isinstance(options, Options) else dict(options or {})
    given = {name: value for name, value in chosen.items() if value is not None}
    o = {**DEFAULTS, **given}
    for what, names, known in (
        ("option", given, DEFAULTS),
        ("family", o["families"], FAMILIES),
        ("algorithm", o["algorithms"], ALGORITHMS),
    ):
        for name in names:
            if name not in known:
                raise UsageError(f"{what} {name!r}: needed one of {', '.join(known)}")
    points = []
    for family in o["families"]:
        sizes = [(depth, o["width"]) for depth in o["depths"]]
        if family in _SWEPT_IN_WIDTH:
            sizes += [(o["depth"], width) for width in o["widths"]]
        for depth, width in dict.fromkeys(sizes):
            shared = {
                "family": family,
                "depth": int(depth),
                "width": int(width),
                **{name: o[name] for name in ("seeds", "input_dim", "output_dim")},
            }
            points.append({"kind": "spectrum", **shared})
            compared = _COMPARED.get(family, ALGORITHMS)
            for algorithm in (name for name in o["algorithms"] if name in compared):
                budget = o["max_evaluations"] if algorithm != "adam" else min(_ADAM_EVALUATIONS, o["max_evaluations"])
                limits = {"tolerances": list(o["tolerances"]), "max_evaluations": int(budget)}
                points.append({"kind": "steps", **shared, "algorithm": algorithm, **limits})
    return sorted(points, key=_expected_work, reverse=True)


def _chosen_grid(options: Options) -> Row:
    widths = [w for w in options.widths if 16 <= w <= 512] or DEFAULTS["widths"]
    depths = [d for d in options.depths if d <= 64] or DEFAULTS["depths"]
    return {"widths": widths, "depths": depths, "seeds": list(range(options.seed, options.seed + options.repeats))}


def _expected_work(point: Mapping[str, Any]) -> float:
    """Multiplications, roughly: only the order of points depends on it."""
    depth, size = point["depth"], point["depth"] * point["width"] ** 2
    if point["kind"] == "spectrum":
        return 1000.0 * size
    slow = {"gradient-descent": 35.0 * depth**2, "adam": float(_ADAM_EVALUATIONS)}
    return size * min(point["max_evaluations"], slow.get(point["algorithm"], 20.0 * depth))


def measure_point(point: Mapping[str, Any]) -> list[Row]:
    """The rows of one point: one for each seed and tolerance, or one for each seed where it is about the spectrum."""
    function = _spectrum if point["kind"] == "spectrum" else _steps
    return [{**_head(point, seed), **row} for seed in point["seeds"] for row in function(point, _problem(point, seed))]


def _problem(point: Mapping[str, Any], seed: int) -> Problem:
    sizes = {name: point[name] for name in ("depth", "width", "input_dim", "output_dim")}
    return Problem(**sizes, batch=1, seed=seed, **FAMILIES[point["family"]])


def _head(point: Mapping[str, Any], seed: int) -> Row:
    named = ("kind", "family", "depth", "width", "output_dim")
    return {**{name: point[name] for name in named}, "seed": seed}


# ---- steps and cost ---------------------------------------------------------------------------------------------


def _steps(point: Mapping[str, Any], problem: Problem) -> list[Row]:
    network = problem.network()
    settings = settings_of(network, point["algorithm"])
    with jax.enable_x64(True):
        result = infer_to_equilibrium(
            PCN.from_network(network),
            problem.input(),
            problem.target(),
            point["algorithm"],
            tolerances=point["tolerances"],
            max_evaluations=point["max_evaluations"],
            **settings,
        )
    shared = {
        "algorithm": point["algorithm"],
        **settings,
        "outcome": result.outcome.name.lower(),
        "certificate": float(np.max(result.certificate / result.loss)),
    }
    return [{**shared, **vars(passage)} for passage in result.passages]


def settings_of(network: Network, algorithm: str) -> dict[str, Any]:
    r"""The step size and momentum of an algorithm on a network with squared error; empty for those that need none."""
    twin = replace(network, activation="linear", placement="before-weight")
    if algorithm == "adam":
        return {"step_size": ADAM_STEP}
    if algorithm == "error-gradient-descent":  # the Hessian is I + lambda J^T J: eigenvalues 1 and those of lambda S
        top = network.precision * float(np.linalg.eigvalsh(theory.equilibrium_matrix(twin))[-1])
        return {"step_size": 2 / (1 + top) if network.linear else 1 / top}
    if algorithm not in ("gradient-descent", "heavy-ball", "nesterov"):
        return {}
    low, high = theory.extreme_eigenvalues(twin)
    if algorithm == "heavy-ball":
        root = math.sqrt(high / low)
        step = 4 / (math.sqrt(low) + math.sqrt(high)) ** 2
        return {"step_size": step, "momentum": ((root - 1) / (root + 1)) ** 2}
    return {"step_size": 2 / (low + high) if algorithm == "gradient-descent" else 1 / high}


# ---- spectrum and stability -------------------------------------------------------------------------------------


def _spectrum(point: Mapping[str, Any], problem: Problem) -> list[Row]:
    """Extreme eigenvalues of the activity Hessian, and the largest stable step size measured beside 2/lambda_max.

    Of a nonlinear network the largest only, with the smallest of the error-space Hessian.
    """
    network = problem.network()
    row: Row = {}
    if network.linear:
        low, high = theory.extreme_eigenvalues(network)
        direction = np.stack(theory.top_eigenvector(network))[:, None, :]
        row |= {"smallest": low, "condition": high / low}
    else:
        high, direction, curvature = _top_eigenpair(network, problem)
        row["curvature"] = curvature
    if point["family"] == "orthogonal chain":
        exact = theory.orthogonal_chain_spectrum(problem.depth, problem.width, problem.output_dim)
        row["exact_condition"] = float(exact[-1] / exact[0])
    measured = largest_stable_step(network, problem.input(), problem.target(), direction)
    return [{**row, "largest": high, "stable_step": measured, "stable_ratio": measured * high / 2}]


@counted_jit()
def _product(network: PCN, input: Any, target: Any, activities: Any, direction: Any) -> jax.Array:
    return make_activity_space(network, input, target).product(activities, direction)


@counted_jit()
def _infer(network: PCN, input: Any, target: Any, activities: Any, steps: Any, step_size: Any) -> jax.Array:
    return infer(network, input, target, activities, steps, step_size)


def _equilibrium(network: Network, input: np.ndarray, target: np.ndarray, *, certify: bool = False) -> EquilibriumState:
    pcn = PCN.from_network(network)
    if network.linear:
        return equilibrium_linear.solve(pcn, input, target)
    return equilibrium_nonlinear.solve(pcn, input, target, tolerance=1e-22, certify=certify)


def _top_eigenpair(network: Network, problem: Problem) -> tuple[float, np.ndarray, float]:
    """The largest eigenvalue of the activity Hessian at the equilibrium of one sample, its vector, and the smallest of
    the error-space Hessian, by which the certificates of this network are to be divided.
    """
    pcn, x, y = PCN.from_network(network), problem.input(), problem.target()
    with jax.enable_x64(True):
        state = _equilibrium(network, x, y, certify=True)
        z = np.asarray(state.activities)

        def product(v: np.ndarray) -> np.ndarray:
            return np.asarray(_product(pcn, x, y, z, v.reshape(z.shape))).ravel()

        start = np.random.Generator(np.random.Philox(key=0)).standard_normal(z.size)
        operator = LinearOperator((z.size, z.size), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
        values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=1e-9)  # pyright: ignore[reportArgumentType]
    return float(values[0]), vectors[:, 0].reshape(z.shape), float(state.curvature.min())


def largest_stable_step(
    network: Network,
    input: np.ndarray,
    target: np.ndarray,
    direction: np.ndarray,
    *,
    steps: int = 128,
    digits: float = 1e-5,
) -> float:
    r"""The step size above which inference leaves the equilibrium along `direction` `(L-1, batch, N)`, by bisection.

    The activities start \(10^{-4}\) off, and a step size counts as stable if they are nearer after `steps` steps.
    Nothing about the Hessian enters but the direction.
    """
    pcn = PCN.from_network(network)
    with jax.enable_x64(True):
        z = np.asarray(_equilibrium(network, input, target).activities)
        offset = 1e-4 * direction / np.linalg.norm(direction)

        def stable(step_size: float) -> bool:
            end = np.asarray(_infer(pcn, input, target, z + offset, np.int64(steps), np.float64(step_size)))
            with np.errstate(all="ignore"):
                return bool(np.linalg.norm(end - z) < np.linalg.norm(offset))

        low, high = 0.0, 1e-2
        while stable(high):
            low, high = high, 2 * high
        while high - low > digits * high:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if stable(middle) else (low, middle)
    return 0.5 * (low + high)


# ---- exponents --------------------------------------------------------------------------------------------------


def fit_exponents(
    rows: Iterable[Mapping[str, Any]], *, width: int, tolerance: float = 1e-10, smallest: int = 8
) -> list[Row]:
    r"""The exponents p of \(L^p\) at one width, with 95 % intervals of the slope, from depths of at least `smallest`.

    One row for the steps and the cost of each family and algorithm and for the condition number of each family.  What
    did not reach the tolerance is left out, and counted.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["width"] != width or row["depth"] < smallest:
            continue
        if row["kind"] == "steps" and row["tolerance"] == tolerance:
            for quantity in ("steps", "cost"):
                groups.setdefault((row["family"], row["algorithm"], quantity), []).append(row)
        elif row.get("condition") is not None:
            groups.setdefault((row["family"], "", "condition"), []).append(row)
    result = []
    for (family, algorithm, quantity), group in groups.items():
        reached = [r for r in group if r.get("reached", True) and r[quantity] > 0]
        slope, half = exponent([r["depth"] for r in reached], [r[quantity] for r in reached])
        found = {"exponent": slope, "low": slope - half, "high": slope + half, "points": len(reached)}
        left_out = len(group) - len(reached)
        result.append({"family": family, "algorithm": algorithm, "quantity": quantity, **found, "left_out": left_out})
    return result
