r"""asv benchmark: distance of weight gradients at equilibrium from those of backpropagation.

\(\|\nabla_W F(z^*) - \nabla_W \mathcal L\| / \|\nabla_W \mathcal L\|\) over all layers, for residual networks under
mupc.  A correct implementation does not have 0 here but the value of the theory, which vanishes only as N/L grows
(arXiv 2602.07697).  What is tracked is that it does not move from commit to commit.
"""

from __future__ import annotations

import numpy as np

from pcbench.benchmarks.process import Benchmark, adapt_dtype, benchmark_subject, require, unit
from pcbench.benchmarks.settings import read_settings
from pcbench.laws.measuring.compare import case
from pcbench.oracle import mlp as oracle
from pcbench.oracle.numerics import norm
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

__all__ = ["GradientError"]

_SMALL = ("N=32,L=4", "N=64,L=8")
_FULL = (*_SMALL, "N=128,L=16", "N=256,L=32")


class GradientError(Benchmark):
    """The relative error at N = 8 L."""

    params = (_FULL if read_settings().full else _SMALL, ("linear", "tanh"))
    param_names = ("net", "activation")

    def setup(self, net: str, activation: str) -> None:
        """Whether the implementation has an equilibrium and weight gradients."""
        problem = adapt_dtype(_problem(net, activation))
        require(method="equilibrium")
        require(method="weight_gradients")
        if reason := benchmark_subject().refuses(problem):
            raise NotImplementedError(reason)

    @unit("relative error")
    def track_error_against_backprop(self, net: str, activation: str) -> float:
        """At the equilibrium of the implementation's own solver, with its own gradients."""
        return error(benchmark_subject(), adapt_dtype(_problem(net, activation)))


def error(subject: Subject, problem: Problem) -> float:
    """The relative distance of the two gradients, all layers together."""
    network, x, y = case(problem)
    activities = subject.equilibrium(network, x, y).activities
    found = subject.weight_gradients(network, x, y, activities)
    wanted = oracle.backprop_gradients(network, x, y)
    return norm([np.asarray(a) - b for a, b in zip(found, wanted, strict=True)]) / norm(wanted)


def _problem(net: str, activation: str) -> Problem:
    return Problem.from_line(f"D=16,K=8,B=16,{net},residual=true,seed=1").replace(activation=activation)
