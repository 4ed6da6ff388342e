r"""Cost of equilibrium solvers in seconds and in gradients of backpropagation, at the same certificate.

- *exact*: `pcbench.reference.equilibrium.linear`, \(K + 3\) passes; linear networks only.
- *L-BFGS*: `pcbench.reference.equilibrium.nonlinear`, in error space.
- *dense Hessian*: the closed form as jpc computes it, \(z^* = H^{-1} b\) with the activity Hessian as one dense matrix
  of \(N(L-1)\) rows, inverted; linear networks only, and only up to `DENSE_ROWS`.
- *gradient descent* on the activities, from the feedforward pass, until every sample has the certificate that the
  others are asked for: \(\tfrac12\|\nabla_\varepsilon F_b\|^2\) at most `TOLERANCE` of its loss.

A BP gradient is timed in the same run; seconds over its seconds are the cost as measured, evaluations times the count
of multiplications (`inference_algorithms.evaluation_costs`) the cost as counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcbench.experiments.inference.algorithms import evaluation_costs, infer_to_equilibrium
from pcbench.experiments.sweep import Point
from pcbench.output.table import Row
from pcbench.problem.mlp import Problem
from pcbench.reference.compilation import counted_jit, for_speed
from pcbench.reference.equilibrium import linear as equilibrium_linear
from pcbench.reference.equilibrium import nonlinear as equilibrium_nonlinear
from pcbench.reference.equilibrium.error_space import dot, energy_and_gradient, errors_of
from pcbench.reference.gradients import backpropagation
from pcbench.reference.network import PCN, matmul
from pcbench.theory import best_step_size

TOLERANCE = 1e-10
DENSE_ROWS = 4096
MOST_EVALUATIONS = 20_000
_LONG = 2.0  # seconds from which a run is not repeated

_backpropagation = counted_jit()(backpropagation)


def points(widths: Iterable[int], depths: Iterable[int], *, batch: int = 16, rounds: int = 3) -> list[Point]:
    """Linear and tanh networks, residual, under mupc, in float64."""
    return [
        {"activation": activation, "width": n, "depth": l, "batch": batch, "rounds": rounds}
        for activation in ("linear", "tanh") for n in widths for l in depths
    ]  # fmt: skip


def measure_point(point: Point) -> Iterable[Row]:
    """One row for each solver of this network's equilibrium."""
    problem = Problem(
        input_dim=40, width=point["width"], depth=point["depth"], output_dim=10, batch=point["batch"],
        activation=point["activation"], residual=True, parameterisation="mupc", seed=1,
    )  # fmt: skip
    with jax.enable_x64(True):
        return _measure_solvers(problem, point)


def dense_equilibrium(network: PCN, input: Any, target: Any) -> jax.Array:
    r"""\(z^* = H^{-1}b\), `(L-1, batch, N)`, by the dense activity Hessian of a linear network with \(\lambda = 1\).

    With \(A_l = \tau_l I + a_l W_l\), the Hessian has \(I + A_{l+1}^\top A_{l+1}\) on its diagonal and \(-A_l\) below
    it; \(b\) is \(A_1 x\) in the first block and \(A_L^\top y\) added to the last.
    """
    n, layers = network.first.shape[0], network.depth - 1
    identity = jnp.eye(n, dtype=network.first.dtype)
    maps = network.scalings[1:-1, None, None] * network.hidden + network.skips[:, None, None] * identity
    readout = network.scalings[-1] * network.last
    H = jnp.eye(layers * n, dtype=network.first.dtype)
    for k in range(layers):
        A = maps[k] if k + 1 < layers else readout
        rows = slice(k * n, (k + 1) * n)
        H = H.at[rows, rows].add(A.T @ A)
        if k + 1 < layers:
            above = slice((k + 1) * n, (k + 2) * n)
            H = H.at[above, rows].set(-A).at[rows, above].set(-A.T)
    b = jnp.zeros((layers, input.shape[0], n), H.dtype).at[0].set(network.scalings[0] * matmul(network.first, input))
    b = b.at[-1].add(target @ readout)
    flat = jnp.swapaxes(b, 0, 1).reshape(input.shape[0], -1)
    z = (jnp.linalg.inv(H) @ flat.T).T
    return jnp.swapaxes(z.reshape(input.shape[0], layers, n), 0, 1)


_dense = counted_jit()(dense_equilibrium)


def _measure_solvers(problem: Problem, point: Point) -> list[Row]:
    net = problem.network()
    network, x, y = jax.device_put((PCN.from_network(net), problem.input(), problem.target()))
    roads = _solvers(problem, network, x, y)
    programs: dict[str, Callable[[], Any]] = {name: road[0] for name, road in roads.items()}
    programs["BP gradient"] = lambda: _backpropagation(network, x, y)
    with for_speed():
        seconds, answers = _seconds(programs, point["rounds"])
    rows: list[Row] = []
    for name, (_, read) in roads.items():
        z, reached, evaluations = read(answers[name])
        rows.append({
            "activation": problem.activation, "width": problem.width, "depth": problem.depth, "batch": problem.batch,
            "road": name, "seconds": seconds[name], "backprop_seconds": seconds["BP gradient"],
            "measured_cost": seconds[name] / seconds["BP gradient"],
            "counted_cost": evaluations * evaluation_costs(network)[0] if evaluations else None,
            "evaluations": evaluations, "certificate": _certificate(network, x, y, z), "reached": reached,
        })  # fmt: skip
    return rows


def _solvers(
    problem: Problem, network: PCN, x: Any, y: Any
) -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """For each solver how to run it, and how to read its activities, convergence and gradient evaluations."""

    def state(result: Any) -> tuple[Any, bool, int]:
        return result.activities, result.outcome.name == "CONVERGED", result.evaluations

    def passage_state(result: Any) -> tuple[Any, bool, int]:
        return result.activities, result.passages[-1].reached, result.passages[-1].evaluations

    # For tanh, whose slope is at most 1, what is best for the linear network of the same weights.
    step_size = best_step_size(replace(problem.network(), activation="linear"))
    roads: dict[str, Any] = {}
    if problem.activation == "linear":
        roads["exact"] = (lambda: equilibrium_linear.solve(network, x, y, tolerance=TOLERANCE), state)
        if problem.width * (problem.depth - 1) <= DENSE_ROWS:
            roads["dense Hessian"] = (lambda: _dense(network, x, y), lambda z: (z, True, None))
    roads["L-BFGS"] = (
        lambda: equilibrium_nonlinear.solve(network, x, y, tolerance=TOLERANCE, certify=False),
        state,
    )

    def descend() -> Any:
        return infer_to_equilibrium(
            network, x, y, "gradient-descent", step_size=step_size, tolerances=(TOLERANCE,),
            max_evaluations=MOST_EVALUATIONS, check_every=32,
        )  # fmt: skip

    roads["gradient descent"] = (descend, passage_state)
    return roads


def _seconds(programs: Mapping[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """The fastest run of each after the one that compiles it, and its answer; what takes long runs once."""
    answers = {name: jax.block_until_ready(program()) for name, program in programs.items()}
    seconds = dict.fromkeys(programs, float("inf"))
    for _ in range(rounds):
        for name, program in programs.items():
            if _LONG < seconds[name] < float("inf"):
                continue
            begin = time.perf_counter()
            jax.block_until_ready(_arrays(program()))
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return seconds, answers


def _arrays(answer: Any) -> Any:
    return getattr(answer, "activities", answer)


@counted_jit()
def _certificates(network: PCN, input: Any, target: Any, z: Any) -> jax.Array:
    feedforward = jnp.zeros_like(z)
    loss = energy_and_gradient(network, input, target, feedforward)[0]
    gradient = energy_and_gradient(network, input, target, errors_of(network, input, z))[1]
    return jnp.max(0.5 * dot(gradient, gradient) / loss)


def _certificate(network: PCN, input: Any, target: Any, z: Any) -> float:
    r"""The largest \(\tfrac12\|\nabla_\varepsilon F_b\|^2\) over the loss, over the samples, computed anew."""
    return float(np.asarray(_certificates(network, input, target, z)))
