"""See `pcbench.benchmarks.memory`."""

from pcbench.benchmarks.memory import *
