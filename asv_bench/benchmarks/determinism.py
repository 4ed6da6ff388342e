"""See `pcbench.benchmarks.determinism`."""

from pcbench.benchmarks.determinism import *
