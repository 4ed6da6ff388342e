"""See `pcbench.benchmarks.importing`."""

from pcbench.benchmarks.importing import *
