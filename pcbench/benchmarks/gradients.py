"""asv benchmark: seconds of one gradient of the energy with respect to all weights."""

from __future__ import annotations

from pcbench.benchmarks import nets
from pcbench.benchmarks.process import Benchmark, measured, need, unit
from pcbench.benchmarks.settings import settings

__all__ = ["WeightGradient"]


class WeightGradient(Benchmark):
    """One call of `weight_gradients`."""

    params = (nets.nets(settings().full), nets.dtypes(settings().full))
    param_names = ("net", "dtype")

    def setup(self, net: str, dtype: str) -> None:
        """Whether the implementation gives weight gradients in this dtype."""
        need(nets.problem(net, dtype), "weight_gradients")

    @unit("s")
    def track_seconds(self, net: str, dtype: str) -> float:
        """Seconds of one call."""
        return measured("weight_gradients", nets.problem(net, dtype))["seconds"]
