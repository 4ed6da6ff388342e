"""See `pcbench.benchmarks.gradients`."""

from pcbench.benchmarks.gradients import *
