"""Laws of the activity equilibrium.

Importing this package registers them, in an order that respects `depends_on`.
"""

# isort: off
from pcbench.laws.equilibrium import closed_form as closed_form
from pcbench.laws.equilibrium import gradients as gradients
from pcbench.laws.equilibrium import relu as relu
# isort: on
