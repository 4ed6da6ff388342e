"""Laws of CNNs and transformers.

Importing this package registers them, in an order that respects `depends_on`.
"""

# isort: off
from pcbench.laws.architecture import energy_and_gradients as energy_and_gradients
from pcbench.laws.architecture import inference as inference
from pcbench.laws.architecture import equilibrium as equilibrium
from pcbench.laws.architecture import limit as limit
# isort: on
