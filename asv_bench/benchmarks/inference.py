"""See `pcbench.benchmarks.inference`."""

from pcbench.benchmarks.inference import *
