"""pcbench: the property-based conformance suite and benchmark of predictive coding networks.

`import pcbench` loads the standard library and NumPy only.  What needs JAX, Hypothesis or pytest is imported by the
module that uses it: `pcbench.reference`, `pcbench.strategies`, `pcbench.plugin`.
"""

from pcbench.errors import PcbenchError as PcbenchError
from pcbench.implementation import Capabilities as Capabilities
from pcbench.implementation import Conventions as Conventions
from pcbench.implementation import Equilibrium as Equilibrium
from pcbench.implementation import Implementation as Implementation
from pcbench.implementation import Inference as Inference
from pcbench.implementation import Manifest as Manifest
from pcbench.network import Network as Network
from pcbench.parameterisation import Exponents as Exponents
from pcbench.problem import Problem as Problem
from pcbench.version import __version__ as __version__
