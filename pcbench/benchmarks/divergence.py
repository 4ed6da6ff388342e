r"""asv benchmark: how often inference diverges at a step size that theory calls stable.

In a linear network every step below \(2/\lambda_{\max}\) of the activity Hessian lowers the energy (theory E5), so at
0.9 of it the rate is 0 for a correct implementation.  For tanh, whose slopes are at most 1, the same threshold, that of
the linear network with the same weights, is a rule of thumb and no theorem: there the rate is a property of the field's
habits, to be watched.
"""

from __future__ import annotations

from random import Random

import numpy as np

from pcbench import theory
from pcbench.benchmarks.process import Benchmark, adapt_dtype, benchmark_subject, require, unit
from pcbench.benchmarks.settings import read_settings
from pcbench.errors import ContractError
from pcbench.laws.measuring.compare import case
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.worker.subject import Subject

__all__ = ["Divergence"]

STEPS, FRACTION = 64, 0.9
_SHAPES = ((16, 3, 4), (32, 6, 8), (8, 16, 4), (64, 4, 16))
"""Width, depth and batch; few, because each may cost a compilation."""


class Divergence(Benchmark):
    """The fraction of drawn problems on which inference ends above the energy it began with, or with no number."""

    params = (("linear", "tanh"),)
    param_names = ("activation",)

    def setup(self, activation: str) -> None:
        """Whether the implementation claims the activation, and takes a start."""
        require()
        if reason := benchmark_subject().refuses(adapt_dtype(draw_problems(activation, 1)[0])):
            raise NotImplementedError(reason)
        if "start" not in benchmark_subject().offers:
            raise NotImplementedError("infer takes no start")

    @unit("fraction")
    def track_rate(self, activation: str) -> float:
        """The fraction from 0 to 1, over 24 problems in the small grid and 200 in the full one."""
        return rate(
            benchmark_subject(),
            [adapt_dtype(p) for p in draw_problems(activation, 200 if read_settings().full else 24)],
        )


def draw_problems(activation: str, count: int) -> list[Problem]:
    """Problems of several shapes and of random scales of weights and data, the same for every commit."""
    random, problems = Random(20260207), []
    for seed in range(count):
        width, depth, batch = _SHAPES[seed % len(_SHAPES)]
        problems.append(Problem(
            input_dim=width // 2, width=width, depth=depth, output_dim=4, batch=batch, activation=activation,
            parameterisation="mupc", weight_scale=random.choice((0.3, 1.0, 3.0)),
            data_scale=random.choice((0.1, 1.0, 10.0)), seed=seed, steps=STEPS,
        ))  # fmt: skip
    return problems


def rate(subject: Subject, problems: list[Problem]) -> float:
    """The fraction of problems on which inference diverges."""
    return sum(diverges(subject, problem) for problem in problems) / len(problems)


def diverges(subject: Subject, problem: Problem) -> bool:
    """Whether the energy is higher, or no number, after the steps from random activities.

    pcbench's own energy of the activities is compared, whatever the implementation reports.  Rounding may not count:
    an energy of the size of its own rounding error could rise, but from random activities it starts far above.
    """
    network, x, y = case(problem)
    step = FRACTION * theory.step_size_threshold(with_identity(problem))
    start = problem.activities()
    before = oracle.energy(network, x, y, start)
    try:
        end = subject.infer(network, x, y, problem.steps, step, start).activities
    except ContractError:  # what is not finite is no answer
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return not oracle.energy(network, x, y, end) <= before


def with_identity(problem: Problem) -> Network:
    """The network of a problem with the identity in the place of its activation."""
    return problem.replace(activation="linear", placement="before-weight").network()
