"""The laws, each stated once, with its domain, its measurement and its allowance.

Importing this package registers all of them, in an order that respects `depends_on`.
"""

# isort: off
from pcbench.laws.definition import REGISTRY as REGISTRY
from pcbench.laws.definition import Domain as Domain
from pcbench.laws.definition import Law as Law
from pcbench.laws.definition import Measurement as Measurement
from pcbench.laws import contract as contract
from pcbench.laws import energy as energy
from pcbench.laws import feedforward as feedforward
from pcbench.laws import gradient as gradient
from pcbench.laws import inference as inference
from pcbench.laws import symmetry as symmetry
from pcbench.laws import stability as stability
from pcbench.laws import equilibrium as equilibrium
from pcbench.laws import saddle as saddle
from pcbench.laws import learning as learning
from pcbench.laws import precision as precision
from pcbench.laws import limit as limit
from pcbench.laws import architecture as architecture
from pcbench.laws.registry import law_set_hash as law_set_hash
from pcbench.laws.registry import select as select
from pcbench.laws.registry import transitive_dependencies as transitive_dependencies
# isort: on
