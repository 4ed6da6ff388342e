r"""asv benchmark: the largest stable step size of inference compared with the threshold of theory.

Along the top eigenvector of the activity Hessian of a linear network a step of \(f\) times that threshold multiplies
the distance to the equilibrium by \(1 - 2f\), so that it grows as soon as \(f > 1\), and by nothing else: the point
where it does is sharp, and is found by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pcbench import theory
from pcbench.benchmarks.process import Benchmark, adapt_dtype, benchmark_subject, require, unit
from pcbench.benchmarks.settings import read_settings
from pcbench.errors import ContractError
from pcbench.laws.measuring.compare import case
from pcbench.oracle.numerics import norm
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

__all__ = ["LargestStableStep"]

STEPS = 8
LOWEST, HIGHEST = 1 / 16, 16.0
_BISECTIONS = 16
_SMALL = ("N=16,L=4,B=4", "N=8,L=16,B=4")
_FULL = (*_SMALL, "N=64,L=8,B=8", "N=32,L=32,B=8")


class LargestStableStep(Benchmark):
    """The theoretical threshold over the largest stable step: 1 if they agree, 2 if half a step is all that is stable.

    Below 1 steps are smaller than they say, which is no virtue: the laws of inference judge that.
    """

    params = (_FULL if read_settings().full else _SMALL,)
    param_names = ("net",)

    def setup(self, net: str) -> None:
        """Whether the implementation takes simultaneous steps of linear networks from given activities."""
        require()
        if reason := benchmark_subject().refuses(adapt_dtype(_problem(net))):
            raise NotImplementedError(reason)
        if missing := {"start", "simultaneous"} - benchmark_subject().offers:
            raise NotImplementedError(f"inference is not {' and '.join(sorted(missing))}")

    @unit("threshold / largest stable step")
    def track_theoretical_over_largest(self, net: str) -> float:
        """The ratio, from 1/16 to 16."""
        return 1 / largest_stable(benchmark_subject(), adapt_dtype(_problem(net)))


def largest_stable(subject: Subject, problem: Problem) -> float:
    """The largest stable step over the theoretical threshold, `LOWEST` to `HIGHEST`."""
    network, x, y = case(problem)
    rest = theory.equilibrium_activities(network, x, y)
    top = theory.top_eigenvector(network)
    size = max(1.0, norm(rest) / math.sqrt(problem.batch))
    start = [np.asarray(z + size * np.reshape(v, (1, -1)), network.dtype) for z, v in zip(rest, top, strict=True)]
    first, threshold = norm([a - b for a, b in zip(start, rest, strict=True)]), theory.step_size_threshold(network)

    def stable(fraction: float) -> bool:
        try:
            end = subject.infer(network, x, y, STEPS, fraction * threshold, start).activities
        except ContractError:  # what is not finite is no answer
            return False
        return norm([a - b for a, b in zip(end, rest, strict=True)]) <= first

    return bisect_threshold(stable)


def bisect_threshold(stable: Callable[[float], bool]) -> float:
    """Where `stable` turns false between `LOWEST` and `HIGHEST`, on a logarithmic scale, to one part in 10 000."""
    low, high = math.log(LOWEST), math.log(HIGHEST)
    if stable(HIGHEST):
        return HIGHEST
    if not stable(LOWEST):
        return LOWEST
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if stable(math.exp(middle)) else (low, middle)
    return math.exp(0.5 * (low + high))


def _problem(net: str) -> Problem:
    return Problem.from_line(f"D=8,K=4,{net},seed=1")
