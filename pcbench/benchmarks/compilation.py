"""asv benchmarks of compilation: how much longer the first call takes, and how many programs are compiled.

*Cold* is a process that finds nothing compiled, *warm* one after another with the same persistent cache of JAX, empty
at the start.  Without JAX both are what a first call costs besides its work.
"""

from __future__ import annotations

from collections.abc import Mapping

from pcbench.benchmarks import nets
from pcbench.benchmarks.process import Benchmark, measure_method, require, unit
from pcbench.benchmarks.settings import read_settings

__all__ = ["Compilation"]

_SMALL = ("N=32,L=128,B=8",)
_FULL = (*_SMALL, "N=128,L=8,B=64", "N=512,L=128,B=8")


class Compilation(Benchmark):
    """Cost of compiling inference in float32; a compilation that grows with depth is slow in deep networks."""

    params = (_FULL if read_settings().full else _SMALL,)
    param_names = ("net",)

    def setup(self, net: str) -> None:
        """Whether the implementation can be asked at all."""
        require()

    @unit("s")
    def track_cold_seconds(self, net: str) -> float:
        """Extra seconds of the first call in a process that finds nothing compiled."""
        return overhead(measure_method("infer", nets.problem_from_word(net)))

    @unit("s")
    def track_warm_seconds(self, net: str) -> float:
        """Extra seconds of the first call in a process that finds the programs of an earlier one."""
        return overhead(measure_method("infer", nets.problem_from_word(net), warm=True))

    @unit("programs")
    def track_programs(self, net: str) -> float:
        """How many programs one shape costs, as the implementation counts them; not a number if it does not."""
        return measure_method("infer", nets.problem_from_word(net)).get("compilations", float("nan"))


def overhead(numbers: Mapping[str, float]) -> float:
    """What the first call took longer than the later ones, at least 0."""
    return max(0.0, numbers["first_call_seconds"] - numbers["call_seconds"])
