"""pcbench: the property-based conformance suite and benchmark of predictive coding networks.

`import pcbench` loads the standard library and NumPy only.  What needs JAX, Hypothesis or pytest is imported by the
module that uses it: `pcbench.reference`, `pcbench.properties`, `pcbench.plugin`.  `pcbench.check` and `pcbench.Report`
are imported when they are first asked for.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from pcbench.errors import PcbenchError
from pcbench.problem import network as _network
from pcbench.problem.architecture import Architecture
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.problem.parameterisation import Exponents
from pcbench.protocol import implementation as _implementation
from pcbench.protocol.implementation import Capabilities, Conventions, Equilibrium, Implementation, Inference, Manifest
from pcbench.version import __version__

if TYPE_CHECKING:
    from pcbench.conformance.run import check
    from pcbench.report.report import Report

# Adapters that `pcbench new-adapter` wrote before the packages were made import these two by their older names.
for _name, _module in {"implementation": _implementation, "network": _network}.items():
    sys.modules.setdefault(f"{__name__}.{_name}", _module)

__all__ = [
    "Architecture",
    "Capabilities",
    "Conventions",
    "Equilibrium",
    "Exponents",
    "Implementation",
    "Inference",
    "Manifest",
    "Network",
    "PcbenchError",
    "Problem",
    "Report",
    "__version__",
    "check",
]

_LATER = {"check": "pcbench.conformance.run", "Report": "pcbench.report.report"}


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for: a worker in a foreign interpreter must do without it."""
    if name not in _LATER:
        raise AttributeError(f"module 'pcbench' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
