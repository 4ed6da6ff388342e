"""asv benchmark: seconds to import the implementation in a fresh process."""

from __future__ import annotations

from pcbench.benchmarks.process import Benchmark, offer, unit

__all__ = ["Import"]


class Import(Benchmark):
    """From an interpreter with NumPy and pcbench's protocol in it to an implementation that can be asked."""

    def setup(self) -> None:
        """A first process fills the caches of the disk and of bytecode, and is not counted."""
        offer()

    @unit("s")
    def track_seconds(self) -> float:
        """Seconds of the import in a fresh process."""
        offer.cache_clear()
        return offer().import_seconds
