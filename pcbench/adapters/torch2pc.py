r"""Adapter of Torch2PC (https://github.com/RobertRosenbaum/Torch2PC), through its public functions.

`PCInfer` is what its README calls the main function; with `ErrType="Strict"` it is predictive coding, with
`"FixedPred"` its variant with fixed predictions.  Where a start is given, or gradients at given activities are asked
for, the functions are called that `PCInfer` consists of.

What to know of Torch2PC (commit 00c6c50) when reading the results:

- It has no energy: what it reports is the loss of the feedforward pass.  No energy is offered.
- The gradients that `PCInfer` leaves behind combine the errors before the last step with the beliefs after it
  (`previous-errors`), and an optimiser's step, as in its README, uses them.
- `PCInfer` accepts `vinit` and ignores it in `"Strict"` mode, so a start is given to `StrictPCPredErrs`.
- `PCInfer` with `n=0` fails, as there are no errors yet; no step is therefore asked of `StrictPCPredErrs` too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pcbench.adapters.torch import (
    Case,
    TorchAdapter,
    commit,
    import_clone,
    to_arrays,
    versions,
    weight_gradients,
    weights,
)
from pcbench.errors import ContractError
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, PLACEMENTS, Activities, Network
from pcbench.protocol.implementation import Capabilities, Conventions, Inference, Manifest

URL = "https://github.com/RobertRosenbaum/Torch2PC"


def implementation() -> Torch2PC:
    """Torch2PC in its strict mode.

    **Raises:** `MissingLibraryError` where PyTorch or Torch2PC cannot be imported.
    """
    return Torch2PC()


class Torch2PC(TorchAdapter):
    """The adapter."""

    def __init__(self) -> None:
        super().__init__()
        self._lib: Any = import_clone("TorchSeq2PC")
        self.manifest = Manifest(
            name="torch2pc",
            library="Torch2PC",
            version=commit(self._lib)[:7],
            versions=versions(),
            url=URL,
            notes=("no energy: the loss of the feedforward pass is all that it reports",),
            capabilities=Capabilities(
                activations=ACTIVATIONS,
                placements=PLACEMENTS,
                losses=LOSSES,
                dtypes=DTYPES,
                residual=True,
                precision=True,
                scalings="native",
                energy_at_activities=False,
                reports_gradients=True,
                shapes="free",
            ),
            conventions=Conventions(
                step_size="per-sample",
                gradient_reduction="sum",
                gradient_point="previous-errors",
                weight_layout="out-in",
            ),
        )

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """Not offered.

        **Raises:** `ContractError`, always.
        """
        raise ContractError("Torch2PC has no energy: ask for activities and weight gradients only")

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """`PCInfer` in strict mode, or what it consists of for a start of one's own and for no step."""
        case = self.case(network, input, target)
        if start is None and steps:
            v = self._strict(case, steps, step_size)
        else:
            beliefs = self._lib.FwdPassPlus(*case)[0] if start is None else self._beliefs(case, start)
            v, errors = self._lib.StrictPCPredErrs(case.layers, beliefs, case.loss, case.target, step_size, steps)
            if steps:
                self._lib.SetPCGrads(case.layers, errors, case.input, v)
        return Inference(activities=to_arrays(v[1:-1]), weight_gradients=weight_gradients(case) if steps else None)

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`SetPCGrads` with the errors of a step of size 0."""
        case = self.case(network, input, target)
        beliefs = self._beliefs(case, activities)
        v, errors = self._lib.StrictPCPredErrs(case.layers, beliefs, case.loss, case.target, 0.0, 1)
        self._lib.SetPCGrads(case.layers, errors, case.input, v)
        return weight_gradients(case)

    def fixed_prediction_gradients(self, network: Network, input: np.ndarray, target: np.ndarray) -> list[np.ndarray]:
        """`PCInfer` in the mode of fixed predictions, with the step size 1 and as many steps as there are layers."""
        case = self.case(network, input, target)
        self._lib.PCInfer(*case, "FixedPred", eta=1.0, n=network.depth)
        return weight_gradients(case)

    def train(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        iterations: int,
        learning_rate: float,
        steps: int,
        step_size: float,
    ) -> list[np.ndarray]:
        """`PCInfer` and a step of `torch.optim.SGD`, as in its README; its gradients are sums over the batch."""
        case = self.case(network, input, target)
        optimizer = self.torch.optim.SGD(case.layers.parameters(), lr=learning_rate / len(input))
        for _ in range(iterations):
            self._strict(case, steps, step_size)
            optimizer.step()
        return weights(case)

    def _strict(self, case: Case, steps: int, step_size: float) -> list[Any]:
        """The beliefs of all layers, input and output included."""
        return self._lib.PCInfer(*case, "Strict", eta=step_size, n=steps)[3]

    def _beliefs(self, case: Case, activities: Activities) -> list[Any]:
        """Activities with both ends; that of the output is never read."""
        return [case.input, *self.tensors(activities), case.target]
