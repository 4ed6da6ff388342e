"""asv benchmark: seconds of one inference step per sample.

The throughput is one over it.
"""

from __future__ import annotations

from pcbench.benchmarks import nets
from pcbench.benchmarks.process import Benchmark, measure_method, require, unit
from pcbench.benchmarks.settings import read_settings

__all__ = ["Inference"]


class Inference(Benchmark):
    """Simultaneous steps from the feedforward pass."""

    params = (nets.grid_words(read_settings().full), nets.dtypes(read_settings().full))
    param_names = ("net", "dtype")

    def setup(self, net: str, dtype: str) -> None:
        """Whether the implementation claims this dtype."""
        require(nets.problem_from_word(net, dtype))

    @unit("s")
    def track_seconds_per_sample_step(self, net: str, dtype: str) -> float:
        """Seconds of one step of one sample."""
        problem = nets.problem_from_word(net, dtype)
        return measure_method("infer", problem, problem.steps * problem.batch)["seconds"]
