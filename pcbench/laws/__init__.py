"""The laws, each stated once, with its domain, its measurement and its allowance.

Importing this package registers all of them; modules are imported in an order that respects `depends_on`.
"""

from pcbench.laws.base import REGISTRY as REGISTRY
from pcbench.laws.base import Domain as Domain
from pcbench.laws.base import Law as Law
from pcbench.laws.base import Measurement as Measurement
from pcbench.laws.select import select as select
from pcbench.laws.select import transitive_dependencies as transitive_dependencies
