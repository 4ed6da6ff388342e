"""Laws of the infinite width and depth limits.

Importing this package registers them, in an order that respects `depends_on`.
"""

# isort: off
from pcbench.laws.limit import single_network as single_network
from pcbench.laws.limit import rates as rates
from pcbench.laws.limit import coordinates as coordinates
from pcbench.laws.limit import training as training
from pcbench.laws.limit import parameterisations as parameterisations
from pcbench.laws.limit import nonlinear as nonlinear
# isort: on
