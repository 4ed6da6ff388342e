"""asv benchmark: seconds of one weight update, its inference included."""

from __future__ import annotations

from pcbench.benchmarks import nets
from pcbench.benchmarks.process import Benchmark, measured, need, unit
from pcbench.benchmarks.settings import settings

__all__ = ["TrainingStep"]

INFERENCE_STEPS = 8


class TrainingStep(Benchmark):
    """One update, out of a call of `train` that makes several."""

    params = (nets.nets(settings().full), nets.dtypes(settings().full))
    param_names = ("net", "dtype")

    def setup(self, net: str, dtype: str) -> None:
        """Whether the implementation trains in this dtype."""
        need(nets.problem(net, dtype), "train")

    @unit("s")
    def track_seconds(self, net: str, dtype: str) -> float:
        """Seconds of one update."""
        return measured("train", nets.problem(net, dtype, steps=INFERENCE_STEPS))["seconds"]
