"""See `pcbench.benchmarks.compilation`."""

from pcbench.benchmarks.compilation import *
