r"""What is known about predictive coding networks without running one: closed forms, limit laws, certificates.

Plain float64 NumPy, independent of `pcbench.oracle` and of the JAX reference; the three meet only in the laws.
"""

from pcbench.theory.linear import (
    energy_bounds as energy_bounds,
)
from pcbench.theory.linear import (
    energy_gaps as energy_gaps,
)
from pcbench.theory.linear import (
    equilibrium_activities as equilibrium_activities,
)
from pcbench.theory.linear import (
    equilibrium_energies as equilibrium_energies,
)
from pcbench.theory.linear import (
    equilibrium_energy as equilibrium_energy,
)
from pcbench.theory.linear import (
    equilibrium_errors as equilibrium_errors,
)
from pcbench.theory.linear import (
    equilibrium_matrix as equilibrium_matrix,
)
from pcbench.theory.linear import (
    equilibrium_weight_gradients as equilibrium_weight_gradients,
)
from pcbench.theory.linear import (
    layer_maps as layer_maps,
)
from pcbench.theory.linear import (
    loss as loss,
)
from pcbench.theory.linear import (
    loss_gradients as loss_gradients,
)
from pcbench.theory.linear import (
    output_jacobians as output_jacobians,
)
from pcbench.theory.linear import (
    residual as residual,
)
