"""See `pcbench.benchmarks.thresholds`."""

from pcbench.benchmarks.thresholds import *  # noqa: F403
