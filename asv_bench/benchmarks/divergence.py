"""See `pcbench.benchmarks.divergence`."""

from pcbench.benchmarks.divergence import *
