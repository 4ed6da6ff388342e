"""asv benchmarks of peak memory during inference, on the host and on the device.

The peak of main memory includes the interpreter and its libraries, as the kernel counts it since the process began;
that of a device is its allocator's own, with preallocation off.
"""

from __future__ import annotations

from pcbench.benchmarks import nets
from pcbench.benchmarks.process import Benchmark, measure_method, require, unit
from pcbench.benchmarks.settings import read_settings

__all__ = ["PeakMemory"]

_SMALL = ("N=512,L=4,B=128",)
_FULL = (*_SMALL, "N=512,L=32,B=1024", "N=2048,L=4,B=1024")


class PeakMemory(Benchmark):
    """Peak memory of inference in float32."""

    params = (_FULL if read_settings().full else _SMALL,)
    param_names = ("net",)

    def setup(self, net: str) -> None:
        """Whether the implementation can be asked at all."""
        require()

    @unit("MiB")
    def track_main(self, net: str) -> float:
        """MiB of main memory."""
        return measure_method("infer", nets.problem_from_word(net))["peak_memory"]

    @unit("MiB")
    def track_device(self, net: str) -> float:
        """MiB of the device's own memory; not a number if it has none."""
        return measure_method("infer", nets.problem_from_word(net))["device_peak_memory"] or float("nan")
