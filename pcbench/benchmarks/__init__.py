"""Benchmarks of any implementation for asv: speed, memory, and stability as costs.

In the directory of benchmarks of your own asv project, one module with the one line

    from pcbench.benchmarks import *

and `PCBENCH_IMPL` in the environment (see `pcbench.benchmarks.settings`) give the history of your implementation over
your commits.  Or take some: `from pcbench.benchmarks.inference import *`.
"""

from pcbench.benchmarks.backprop import GradientError as GradientError
from pcbench.benchmarks.checking import Check as Check
from pcbench.benchmarks.checking import Margins as Margins
from pcbench.benchmarks.compilation import Compilation as Compilation
from pcbench.benchmarks.determinism import Determinism as Determinism
from pcbench.benchmarks.divergence import Divergence as Divergence
from pcbench.benchmarks.energy_rises import EnergyRises as EnergyRises
from pcbench.benchmarks.equilibrium import CertifiedEquilibrium as CertifiedEquilibrium
from pcbench.benchmarks.gradients import WeightGradient as WeightGradient
from pcbench.benchmarks.importing import Import as Import
from pcbench.benchmarks.inference import Inference as Inference
from pcbench.benchmarks.memory import PeakMemory as PeakMemory
from pcbench.benchmarks.thresholds import LargestStableStep as LargestStableStep
from pcbench.benchmarks.training import TrainingStep as TrainingStep

__all__ = [
    "CertifiedEquilibrium",
    "Check",
    "Compilation",
    "Determinism",
    "Divergence",
    "EnergyRises",
    "GradientError",
    "Import",
    "Inference",
    "LargestStableStep",
    "Margins",
    "PeakMemory",
    "TrainingStep",
    "WeightGradient",
]
