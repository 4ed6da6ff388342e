"""The laws, each stated once, with its domain, its measurement and its allowance.

Importing this package registers all of them, in an order that respects `depends_on`.
"""

# isort: off
from pcbench.laws.base import REGISTRY as REGISTRY
from pcbench.laws.base import Domain as Domain
from pcbench.laws.base import Law as Law
from pcbench.laws.base import Measurement as Measurement
from pcbench.laws import contract as contract
from pcbench.laws import energy as energy
from pcbench.laws import feedforward as feedforward
from pcbench.laws import gradients as gradients
from pcbench.laws import inference as inference
from pcbench.laws import symmetry as symmetry
from pcbench.laws import stability as stability
from pcbench.laws import equilibrium as equilibrium
from pcbench.laws import equilibrium_gradients as equilibrium_gradients
from pcbench.laws import kinks as kinks
from pcbench.laws import saddle as saddle
from pcbench.laws import learning as learning
from pcbench.laws import precision as precision
from pcbench.laws import limits as limits
from pcbench.laws import rates as rates
from pcbench.laws import coordinates as coordinates
from pcbench.laws import training as training
from pcbench.laws import parameterisations as parameterisations
from pcbench.laws import nonlinear_limits as nonlinear_limits
from pcbench.laws import architecture as architecture
from pcbench.laws import architecture_inference as architecture_inference
from pcbench.laws import architecture_equilibrium as architecture_equilibrium
from pcbench.laws import architecture_limits as architecture_limits
from pcbench.laws.select import select as select
from pcbench.laws.select import transitive_dependencies as transitive_dependencies
# isort: on
