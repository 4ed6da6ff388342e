"""See `pcbench.benchmarks.rises`."""

from pcbench.benchmarks.rises import *
