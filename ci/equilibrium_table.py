"""Print Markdown tables of what the reference's equilibrium solvers cost.

Run it as `python ci/equilibrium_table.py [--quick] [--linear]`.  With `--linear`, the exact solver for linear nets at
N = 2048, L = 32, B = 64, K = 10 in float64 beside one backpropagation gradient, judged by how stationary it is.

The gap bound is the certificate, half the squared error-space gradient over the smallest curvature, mean over the
batch; evaluations are those of the slowest sample.  Hessian-vector products of the certificate, two evaluations each,
are listed apart.  Exits with 1 if a row is not certified to 1e-10 of the loss or needs more evaluations than the
target, or if the linear equilibrium is not stationary to 1e-12.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np

from pcbench.problem.mlp import Problem
from pcbench.reference.compilation import counted_jit
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.equilibrium.nonlinear import solve
from pcbench.reference.equilibrium.outcome import EquilibriumState
from pcbench.reference.gradients import activity_gradients_from, backpropagation
from pcbench.reference.network import PCN

TARGET = 60
LARGEST_RELATIVE_GAP_BOUND = 1e-10
TOLERANCE = 4e-12  # of half the squared gradient: leaves room for a curvature of 0.04
COLUMNS = ("activation", "N", "L", "evaluations", "gap bound / loss", "smallest curvature", "certified",
           "certificate evaluations", "seconds")  # fmt: skip


def problems(quick: bool) -> Iterator[Problem]:
    """The grid: tanh and gelu, mupc with skips, widths and depths; a corner of it if `quick`."""
    for activation in ("tanh", "gelu"):
        for width in (64,) if quick else (64, 256):
            for depth in (4,) if quick else (4, 16, 32):
                yield Problem(
                    input_dim=10, width=width, depth=depth, output_dim=10, batch=16, activation=activation,
                    residual=True, parameterisation="mupc", seed=1,
                )  # fmt: skip


def measure_solver(problem: Problem) -> tuple[EquilibriumState, float, float]:
    """The solution, its gap bound over the loss, and the seconds of a second, compiled run."""
    network, input, target = PCN.from_network(problem.network()), problem.input(), problem.target()
    with jax.enable_x64(True):
        loss = solve(network, input, target, max_evaluations=1, certify=False).energy
        state = solve(network, input, target, tolerance=TOLERANCE)
        begin = time.perf_counter()
        solve(network, input, target, tolerance=TOLERANCE, certify=False)
        return state, float(state.certificate.mean()) / loss, time.perf_counter() - begin


def row(problem: Problem, state: EquilibriumState, relative_gap_bound: float, seconds: float) -> str:
    """One line of the table."""
    cells = (
        problem.activation, problem.width, problem.depth, state.evaluations, f"{relative_gap_bound:.1e}",
        f"{state.curvature.min():.2f}", "yes" if state.certified else "no", state.certificate_evaluations,
        f"{seconds:.3f}",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def linear_lines(quick: bool) -> bool:
    """The exact linear equilibrium at full size: seconds, seconds of a BP gradient, and stationarity; False if failed.

    Stationarity is the largest derivative of the energy over the largest prediction error, both per sample.
    """
    problem = Problem(
        input_dim=40, width=256 if quick else 2048, depth=32, output_dim=10, batch=64, residual=True,
        parameterisation="mupc", seed=1,
    )  # fmt: skip
    network, arrays = PCN.from_network(problem.network()), (problem.input(), problem.target())
    with jax.enable_x64(True):
        input, target = map(jax.numpy.asarray, arrays)
        backprop = counted_jit()(backpropagation)
        jax.block_until_ready(backprop(network, input, target))
        begin = time.perf_counter()
        jax.block_until_ready(backprop(network, input, target))
        gradient_seconds = time.perf_counter() - begin
        equilibrium_linear.solve(network, input, target)
        begin = time.perf_counter()
        state = equilibrium_linear.solve(network, input, target)
        seconds = time.perf_counter() - begin
        slopes = activity_gradients_from(network, network.bottom(input), target, state.activities)
        slopes = np.abs(np.asarray(slopes)).max()
        errors = np.abs(np.asarray(target) - np.asarray(network.forward(input)[1])).max()
    print("| N | L | B | K | seconds | seconds of a BP gradient | largest dF/dz over largest output error |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(f"| {problem.width} | 32 | 64 | 10 | {seconds:.2f} | {gradient_seconds:.2f} | {slopes / errors:.1e} |")
    return bool(slopes <= 1e-12 * errors)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a row is not certified or over the target."""
    parser = argparse.ArgumentParser(description="Evaluations of the nonlinear equilibrium solver, as Markdown.")
    parser.add_argument("--quick", action="store_true", help="measure only two small rows")
    parser.add_argument("--linear", action="store_true", help="measure the exact solver of linear networks instead")
    options = parser.parse_args(arguments)
    if options.linear:
        return int(not linear_lines(options.quick))
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    failed = False
    for problem in problems(options.quick):
        state, bound, seconds = measure_solver(problem)
        print(row(problem, state, bound, seconds), flush=True)
        if not state.certified or bound > LARGEST_RELATIVE_GAP_BOUND or state.evaluations > TARGET:
            print(f"{problem.line()}: {state.evaluations} evaluations, {state.reason}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
