"""See `pcbench.benchmarks.backprop`."""

from pcbench.benchmarks.backprop import *
