"""See `pcbench.benchmarks.energy_rises`."""

from pcbench.benchmarks.energy_rises import *
