"""pcbench: the property-based conformance suite and benchmark of predictive coding networks.

`import pcbench` loads the standard library and NumPy only.  What needs JAX, Hypothesis or pytest is imported by the
module that uses it: `pcbench.reference`, `pcbench.properties`, `pcbench.plugin`.
"""

from pcbench.errors import PcbenchError as PcbenchError
from pcbench.problem.mlp import Problem as Problem
from pcbench.problem.network import Network as Network
from pcbench.problem.parameterisation import Exponents as Exponents
from pcbench.protocol.implementation import Capabilities as Capabilities
from pcbench.protocol.implementation import Conventions as Conventions
from pcbench.protocol.implementation import Equilibrium as Equilibrium
from pcbench.protocol.implementation import Implementation as Implementation
from pcbench.protocol.implementation import Inference as Inference
from pcbench.protocol.implementation import Manifest as Manifest
from pcbench.version import __version__ as __version__
