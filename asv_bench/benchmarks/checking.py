"""See `pcbench.benchmarks.checking`."""

from pcbench.benchmarks.checking import *
