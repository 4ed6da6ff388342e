"""See `pcbench.benchmarks.thresholds`."""

from pcbench.benchmarks.thresholds import *
