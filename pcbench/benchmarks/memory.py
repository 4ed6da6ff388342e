"""asv benchmarks of peak memory during inference, on the host and on the device.

The peak of main memory includes the interpreter and its libraries, as the kernel counts it since the process began;
that of a device is its allocator's own, with preallocation off.
"""

from __future__ import annotations

from pcbench.benchmarks import nets
from pcbench.benchmarks.process import Benchmark, measured, need, unit
from pcbench.benchmarks.settings import settings

__all__ = ["PeakMemory"]

_SMALL = ("N=512,L=4,B=128",)
_FULL = (*_SMALL, "N=512,L=32,B=1024", "N=2048,L=4,B=1024")


class PeakMemory(Benchmark):
    """Peak memory of inference in float32."""

    params = (_FULL if settings().full else _SMALL,)
    param_names = ("net",)

    def setup(self, net: str) -> None:
        """Whether the implementation can be asked at all."""
        need()

    @unit("MiB")
    def track_main(self, net: str) -> float:
        """MiB of main memory."""
        return measured("infer", nets.problem(net))["peak_memory"]

    @unit("MiB")
    def track_device(self, net: str) -> float:
        """MiB of the device's own memory; not a number if it has none."""
        return measured("infer", nets.problem(net))["device_peak_memory"] or float("nan")
