r"""Adapter of PRECO (https://github.com/bjornvz/PRECO), through its public API.

A network becomes a `PCnet`.  Placement `before-weight` is PRECO's `PCN_AMB`, \(f(x)w\), and `after-weight` its
`PCN_MBA`, \(f(xw)\), each as a subclass that says which layer has no activation: PRECO activates the input too, and in
`PCN_MBA` the output, and its own way to say otherwise, `fL=linear`, raises a TypeError, because the derivative of
`linear` is the number 1.  No formula of predictive coding is written here: predictions, gradients, inference and
updates are PRECO's.

What to know of PRECO (commit c8709c4) when reading the results:

- `get_energy` is the sum over units of the squared *mean* of their errors over the batch, without the ½: with one
  sample that is twice the energy (`energy_factor`), with more it is another function.
- `lr_x` is kept as a float32 number, also where everything else is float64, and of the derivative of `relu` TorchScript
  keeps the default dtype of its first use: in the other dtype it raises a RuntimeError for the rest of the process.
  `implementation()` is therefore float32, PyTorch's default and PRECO's.
- `float64()` is float64, with two changes so that two defects do not colour every law: `lr_x` is set once more after
  construction, in float64, and no energy is offered.
- `train_supervised` and `test_supervised` want class labels and squeeze away axes of length 1, so the steps that they
  consist of are called here one by one.
- `clamp_target` does not check shapes.
- It makes tensors of PyTorch's default dtype, which is the network's while a question is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from pcbench.adapters.torch import TorchAdapter, commit, default_dtype, import_clone, to_arrays, versions
from pcbench.errors import ContractError
from pcbench.problem.network import Activities, Network
from pcbench.protocol.implementation import Capabilities, Conventions, Inference, Manifest

URL = "https://github.com/bjornvz/PRECO"


def implementation() -> Preco:
    """PRECO's hierarchical networks as they are, in float32.

    **Raises:** `MissingLibraryError` where PyTorch or PRECO cannot be imported.
    """
    return Preco("float32")


def float64() -> Preco:
    """PRECO in float64, its step size included, and without its energy.

    **Raises:** `MissingLibraryError` where PyTorch or PRECO cannot be imported.
    """
    return Preco("float64")


class Preco(TorchAdapter):
    """The adapter."""

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self._lib = _library()
        self._single = single = dtype == "float32"
        self.manifest = Manifest(
            name="preco" if single else "preco-float64",
            library="PRECO",
            version=commit(import_clone("PRECO"))[:7],
            versions=versions(),
            url=URL,
            notes=_notes(single),
            capabilities=Capabilities(
                activations=("linear", "tanh", "relu", "silu"),
                placements=("before-weight", "after-weight"),
                losses=("mse",),
                dtypes=(dtype,),
                scalings="folded",
                energy_at_activities=single,
                reports_energy=single,
                reports_gradients=True,
                shapes="free",
            ),
            conventions=Conventions(
                energy_factor=2.0,
                step_size="per-sample",
                gradient_reduction="sum",
                activity_gradient_reduction="sum",
                weight_layout="in-out",
            ),
        )

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """What `test_supervised` does after it has reshaped its input."""
        with default_dtype(network):
            net = self._net(network)
            net.reset_nodes()
            net.clamp_input(*self.tensors([input]))
            net.forward(net.error_layers)
            return to_arrays(net.x[-1:])[0]

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """`get_energy` after no step of inference.

        **Raises:** `ContractError` for the variant that does not offer it.
        """
        if not self._single:
            raise ContractError("preco-float64 offers no energy: ask preco for that of get_energy")
        with default_dtype(network):
            return self._run_inference(network, input, target, activities).get_energy()

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`grad_x` of the structure."""
        with default_dtype(network):
            net = self._run_inference(network, input, target, activities)
            values = {"train": True, "x": net.x, "e": net.e, "w": net.w, "b": net.b}
            return to_arrays([net.structure.grad_x(l=l, **values) for l in net.hidden_layers])

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`update_w` after no step of inference, `(fan_in, fan_out)` each."""
        with default_dtype(network):
            net = self._run_inference(network, input, target, activities)
            net.update_w()
            return to_arrays(net.grads["w"])

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """`train_updates`, and `update_w` for the gradients."""
        with default_dtype(network):
            net = self._run_inference(network, input, target, start, steps, step_size)
            net.update_w()
            return Inference(
                activities=to_arrays([net.x[l] for l in net.hidden_layers]),
                energy=net.get_energy() if self._single else None,
                weight_gradients=to_arrays(net.grads["w"]),
            )

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
        """What `train_supervised` does after it has reshaped its data, with PRECO's SGD on means over the batch."""
        with default_dtype(network):
            net = self._net(network, steps, step_size)
            optimizer = self._lib.SGD(net.params, learning_rate, batch_scale=True)
            for _ in range(iterations):
                self._clamp(net, input, target)
                net.train_updates()
                net.update_w()
                optimizer.step(net.params, net.grads, batch_size=len(input))
            return to_arrays(net.params["w"])

    def tensors(self, values: Sequence[np.ndarray]) -> list[Any]:
        """On the device that PRECO has chosen for itself."""
        return [self._lib.set_tensor(tensor) for tensor in super().tensors(values)]

    def _net(self, network: Network, steps: int = 0, step_size: float = 0.0) -> Any:
        f = getattr(self._lib.utils, network.activation)
        if network.placement == "after-weight":
            structure = self._lib.AfterWeight(list(network.dims), f, use_bias=False, upward=True, fL=self._lib.linear)
        else:
            structure = self._lib.BeforeWeight(list(network.dims), f, use_bias=False, upward=True)
        net = self._lib.PCnet(step_size, steps, structure)
        if not self._single:
            net.lr_x = self.torch.tensor(step_size, dtype=self.torch.float64)
        for l, weight in enumerate(self.tensors(network.weights)):
            net.w[l] = weight.T
        return net

    def _clamp(self, net: Any, input: np.ndarray, target: np.ndarray, start: Activities | None = None) -> None:
        """Both ends, and the hidden layers at the feedforward pass or at `start`."""
        x, y = self.tensors([input, target])
        net.reset_nodes()
        net.clamp_input(x)
        if start is None:
            net.init_hidden(len(input))
        else:
            net.x[1:-1] = self.tensors(start)
        net.clamp_target(y)

    def _run_inference(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        start: Activities | None,
        steps: int = 0,
        step_size: float = 0.0,
    ) -> Any:
        net = self._net(network, steps, step_size)
        self._clamp(net, input, target, start)
        net.train_updates()
        return net


def _notes(single: bool) -> tuple[str, ...]:
    structures = (
        "PCN_AMB without activation of the input, PCN_MBA without that of the output, by overriding fl and dfldx: "
        "fL=linear raises TypeError"
    )
    return (structures,) if single else (structures, "lr_x set after construction, in float64; no energy")


@cache
def _library() -> SimpleNamespace:
    """PRECO's names, and its two structures without the activations that a PCN of pcbench does not have."""
    pcn: Any = import_clone("PRECO.PCN")
    optim: Any = import_clone("PRECO.optim")
    utils: Any = import_clone("PRECO.utils")

    class BeforeWeight(pcn.PCN_AMB):
        """`PCN_AMB` whose input is not activated, and whose activation may be linear."""

        def fl(self, x: Any, l: int) -> Any:
            return x if l == 1 else super().fl(x, l)

        def dfldx(self, x: Any, l: int) -> Any:
            return _one(x) if self.f == utils.linear else super().dfldx(x, l)

    class AfterWeight(pcn.PCN_MBA):
        """`PCN_MBA` whose activations may be linear, as that of the output is."""

        def dfldx(self, x: Any, l: int) -> Any:
            return _one(x) if l == self.L or self.f == utils.linear else super().dfldx(x, l)

    def _one(x: Any) -> Any:
        return x.new_ones(())

    return SimpleNamespace(
        PCnet=pcn.PCnet,
        SGD=optim.SGD,
        utils=utils,
        linear=utils.linear,
        set_tensor=utils.set_tensor,
        BeforeWeight=BeforeWeight,
        AfterWeight=AfterWeight,
    )
