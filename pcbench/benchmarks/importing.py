"""How long it takes to import the implementation and everything that it needs, in a fresh process."""

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
        """Seconds."""
        offer.cache_clear()
        return offer().import_seconds
