"""asv benchmark: seconds of one weight update, its inference included."""

from __future__ import annotations

from pcbench.benchmarks import nets
from pcbench.benchmarks.process import Benchmark, measure_method, require, unit
from pcbench.benchmarks.settings import read_settings

__all__ = ["TrainingStep"]

INFERENCE_STEPS = 8


class TrainingStep(Benchmark):
    """One update, out of a call of `train` that makes several."""

    params = (nets.grid_words(read_settings().full), nets.dtypes(read_settings().full))
    param_names = ("net", "dtype")

    def setup(self, net: str, dtype: str) -> None:
        """Whether the implementation trains in this dtype."""
        require(nets.problem_from_word(net, dtype), "train")

    @unit("s")
    def track_seconds(self, net: str, dtype: str) -> float:
        """Seconds of one update."""
        return measure_method("train", nets.problem_from_word(net, dtype, steps=INFERENCE_STEPS))["seconds"]
