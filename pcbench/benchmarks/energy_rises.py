r"""asv benchmark: how often the energy rises during inference at half the stable step size.

Steps are taken one by one, and a rise counts if it is larger than the rounding error of the two energies.
"""

from __future__ import annotations

from pcbench import theory
from pcbench.benchmarks.divergence import with_identity
from pcbench.benchmarks.process import Benchmark, benchmark_subject, require, unit
from pcbench.benchmarks.settings import read_settings
from pcbench.errors import ContractError
from pcbench.laws.measuring.compare import case
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import gamma
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

__all__ = ["EnergyRises"]

FRACTION = 0.5


class EnergyRises(Benchmark):
    """Rises of the energy in a thousand steps; 0 in a linear network, by theorem."""

    params = (("linear", "tanh"), ("float32", "float64"))
    param_names = ("activation", "dtype")

    def setup(self, activation: str, dtype: str) -> None:
        """Whether the implementation claims the activation and the dtype, and takes a start."""
        require()
        if reason := benchmark_subject().refuses(_problem(activation, dtype)):
            raise NotImplementedError(reason)
        if "start" not in benchmark_subject().offers:
            raise NotImplementedError("infer takes no start")

    @unit("rises / 1000 steps")
    def track_per_thousand_steps(self, activation: str, dtype: str) -> float:
        """Rises per 1000 steps, over 250 steps in the small grid and 4000 in the full one."""
        steps = 4000 if read_settings().full else 250
        return 1000 * rises(benchmark_subject(), _problem(activation, dtype), steps) / steps


def rises(subject: Subject, problem: Problem, steps: int) -> int:
    """In how many of the steps the energy rises; all that are left once it is no number."""
    network, x, y = case(problem)
    step = FRACTION * theory.step_size_threshold(with_identity(problem))
    z, count = problem.activities(), 0
    before = oracle.energy(network, x, y, z)
    for done in range(steps):
        try:
            z = subject.infer(network, x, y, 1, step, z).activities
        except ContractError:  # what is not finite is no answer
            return count + steps - done
        after = oracle.energy(network, x, y, z)
        # As in the law that the energy falls: the step itself is rounded too.
        allowed = 2 * rounding.energy_bound(network, x, y, z) + gamma(0, network.dtype) * before
        count += not after - before <= allowed
        before = after
    return count


def _problem(activation: str, dtype: str) -> Problem:
    return Problem(
        input_dim=8, width=32, depth=6, output_dim=4, batch=8, activation=activation, dtype=dtype, seed=1, steps=1
    )
