"""asv benchmark of reproducibility, as a grade from 1 (the same bits in every process) to 4 (not the same).

| grade | means |
| --- | --- |
| 1 | the same bits, also from another process |
| 2 | the same bits in one process; from another the same but for rounding |
| 3 | the same but for rounding |
| 4 | not the same |
"""

from __future__ import annotations

from pcbench.benchmarks.process import Benchmark, benchmark_subject, require, unit
from pcbench.laws import REGISTRY
from pcbench.laws.definition import Measurement
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

__all__ = ["Determinism"]


class Determinism(Benchmark):
    """The grade on one network, by the laws of determinism; float32 on a GPU is where it is hard."""

    params = (("float32", "float64"),)
    param_names = ("dtype",)

    def setup(self, dtype: str) -> None:
        """Whether the implementation claims the dtype."""
        require()
        if reason := benchmark_subject().refuses(_problem(dtype)):
            raise NotImplementedError(reason)

    @unit("grade")
    def track_grade(self, dtype: str) -> float:
        """The grade, from 1 to 4."""
        return measured_grade(benchmark_subject(), _problem(dtype))


def measured_grade(subject: Subject, problem: Problem) -> int:
    """The grade of an implementation on one problem."""
    here = REGISTRY["contract.deterministic"].measure(subject, problem)
    elsewhere = REGISTRY["contract.deterministic-across-processes"].measure(subject, problem)
    return grade(here, elsewhere)


def grade(here: Measurement, elsewhere: Measurement) -> int:
    """The grade of two measurements, asked again in one process and in another."""
    if here.failed or elsewhere.failed:
        return 4
    if here.details["bitwise"] != "yes":
        return 3
    return 1 if elsewhere.details["bitwise"] == "yes" else 2


def _problem(dtype: str) -> Problem:
    return Problem(
        input_dim=16, width=128, depth=6, output_dim=8, batch=32, dtype=dtype, seed=1, steps=16, step_size=0.05
    )
