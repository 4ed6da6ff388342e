"""asv benchmark: seconds of one gradient of the energy with respect to all weights."""

from __future__ import annotations

from pcbench.benchmarks import nets
from pcbench.benchmarks.process import Benchmark, measure_method, require, unit
from pcbench.benchmarks.settings import read_settings

__all__ = ["WeightGradient"]


class WeightGradient(Benchmark):
    """One call of `weight_gradients`."""

    params = (nets.grid_words(read_settings().full), nets.dtypes(read_settings().full))
    param_names = ("net", "dtype")

    def setup(self, net: str, dtype: str) -> None:
        """Whether the implementation gives weight gradients in this dtype."""
        require(nets.problem_from_word(net, dtype), "weight_gradients")

    @unit("s")
    def track_seconds(self, net: str, dtype: str) -> float:
        """Seconds of one call."""
        return measure_method("weight_gradients", nets.problem_from_word(net, dtype))["seconds"]
