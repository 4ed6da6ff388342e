"""See `pcbench.benchmarks.equilibrium`."""

from pcbench.benchmarks.equilibrium import *
