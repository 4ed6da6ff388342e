"""See `pcbench.benchmarks.equilibrium`."""

from pcbench.benchmarks.equilibrium import *  # noqa: F403
