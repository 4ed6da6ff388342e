"""See `pcbench.benchmarks.training`."""

from pcbench.benchmarks.training import *
