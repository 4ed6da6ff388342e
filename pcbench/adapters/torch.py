r"""A predictive coding network in PyTorch, and the base class of adapters for libraries built on PyTorch.

A network becomes an `nn.Sequential` of \(L\) modules, module \(l\) the prediction \(f_l(z_{l-1})\) of the next layer,
which is what libraries of predictive coding in PyTorch take.  `TorchAdapter` makes it, together with tensors of the
data and the loss, as one `Case`; an adapter then asks its library:

    class Mine(TorchAdapter):
        manifest = Manifest(name="mine", ...)

        def infer(self, network, input, target, steps, step_size, start=None):
            case = self.case(network, input, target)
            z = my_library.infer(case.layers, case.loss, case.input, case.target, steps, step_size)
            return Inference(activities=arrays(z))

        def energy(self, network, input, target, activities):
            case = self.case(network, input, target)
            return float(my_library.energy(case.layers, case.input, case.target, self.tensors(activities)))

Layers of its own are made by overriding `layer`, tensors elsewhere than on the CPU by `tensors`.

`TorchPCN` is a PCN by itself: the energy is a sum over layers and batch, its gradients are autograd's, and inference
is gradient descent with them.  Whoever starts from it overrides what their library does otherwise; a method that is
set to None is not offered.  `pcbench check torch` tests it as it is.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from pcbench.adapters.register import KNOWN, missing_library
from pcbench.problem.network import ACTIVATIONS, DTYPES, LOSSES, PLACEMENTS, Activities, Network
from pcbench.protocol.implementation import Capabilities, Conventions, Inference, Manifest


def implementation() -> TorchPCN:
    """The PCN that `pcbench check torch` tests.

    **Raises:** `MissingLibraryError` where PyTorch cannot be imported.
    """
    return TorchPCN()


class Case(NamedTuple):
    r"""Network, loss and data of one question as PyTorch objects.

    **Arguments:** `layers`, an `nn.Sequential` of \(L\) modules with one parameter each, its weight
    `(fan_out, fan_in)`; `loss(output, target)`, the output's energy summed over the batch; `input` `(batch, D)` and
    `target` `(batch, K)`, None if there is none.
    """

    layers: Any
    loss: Callable[[Any, Any], Any]
    input: Any
    target: Any


class TorchAdapter:
    """Base of adapters for libraries on PyTorch; of the protocol it has only `predict`."""

    manifest: Manifest

    def __init__(self) -> None:
        self.torch = pytorch()

    def case(self, network: Network, input: np.ndarray, target: np.ndarray | None = None) -> Case:
        """The network, its loss and its data, all new and in the dtype of the network."""
        layers = [self.layer(network, l) for l in range(1, network.depth + 1)]
        [x] = self.tensors([input])
        [y] = [None] if target is None else self.tensors([target])
        return Case(self.torch.nn.Sequential(*layers), self.loss(network), x, y)

    def layer(self, network: Network, l: int) -> Any:
        r"""The module of \(f_l\); its scaling multiplies the weight's output, so that gradients are by \(W_l\)."""
        phi = _activation(self.torch, network.activation)
        before = phi if network.placement == "before-weight" and l > 1 else None
        after = phi if network.placement == "after-weight" and l < network.depth else None
        [weight] = self.tensors([network.weights[l - 1]])
        return _layer_class(self.torch)(weight, network.scalings[l - 1], network.skips[l - 1], before, after)

    def loss(self, network: Network) -> Callable[[Any, Any], Any]:
        r"""\(\lambda\,\ell\), summed over the batch, as a function of output and target."""
        return partial(_loss, self.torch, network.loss, network.precision)

    def tensors(self, values: Sequence[np.ndarray]) -> list[Any]:
        """Copies of arrays as tensors."""
        return [self.torch.tensor(value) for value in values]

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """The layers one after another."""
        case = self.case(network, input)
        return to_arrays([case.layers(case.input)])[0]


class TorchPCN(TorchAdapter):
    """A PCN whose energy is differentiated by autograd; every method may be overridden, optional ones by None."""

    def __init__(self) -> None:
        super().__init__()
        self.manifest = Manifest(
            name="torch",
            library="torch",
            version=self.torch.__version__,
            versions=versions(),
            url="https://pytorch.org",
            notes=("softplus by logaddexp, since torch.nn.Softplus is linear above 20",),
            capabilities=Capabilities(
                activations=ACTIVATIONS,
                placements=PLACEMENTS,
                losses=LOSSES,
                dtypes=DTYPES,
                residual=True,
                precision=True,
                scalings="native",
                shapes="free",
            ),
            conventions=Conventions(
                energy_reduction="sum",
                gradient_reduction="sum",
                activity_gradient_reduction="sum",
                weight_layout="out-in",
            ),
        )

    def energies(self, case: Case, activities: Sequence[Any]) -> list[Any]:
        """The energy of each layer, summed over the batch."""
        below = [case.input, *activities]
        predictions = [layer(z) for layer, z in zip(case.layers, below, strict=True)]
        hidden = [0.5 * ((z - f) ** 2).sum() for z, f in zip(activities, predictions[:-1], strict=True)]
        return [*hidden, case.loss(predictions[-1], case.target)]

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """The sum over layers and batch."""
        return float(self.layer_energies(network, input, target, activities).sum())

    def layer_energies(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """The sum over the batch of each layer's energy."""
        return np.array(to_arrays(self.energies(self.case(network, input, target), self.tensors(activities))))

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """Gradient descent on the activities, all layers at once."""
        case = self.case(network, input, target)
        z = feedforward(case)[:-1] if start is None else self.tensors(start)
        for _ in range(steps):
            z = [a - step_size * g for a, g in zip(z, self._activity_gradients(case, z), strict=True)]
        return Inference(activities=to_arrays(z))

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The gradient of the summed energy, which is that of each sample's own."""
        return to_arrays(self._activity_gradients(self.case(network, input, target), self.tensors(activities)))

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The gradient of the summed energy at these activities."""
        case = self.case(network, input, target)
        self._backward(case, self.tensors(activities))
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
        """`torch.optim.SGD` on the weights, each step after inference; the mean energy is the sum over B."""
        case = self.case(network, input, target)
        optimizer = self.torch.optim.SGD(case.layers.parameters(), lr=learning_rate / len(input))
        for _ in range(iterations):
            now = network.with_weights(weights(case))
            z = self.tensors(list(self.infer(now, input, target, steps, step_size).activities))
            optimizer.zero_grad()
            self._backward(case, z)
            optimizer.step()
        return weights(case)

    def _backward(self, case: Case, activities: Sequence[Any]) -> None:
        self.torch.stack(self.energies(case, activities)).sum().backward()

    def _activity_gradients(self, case: Case, activities: Sequence[Any]) -> Sequence[Any]:
        free = [z.detach().requires_grad_() for z in activities]
        return self.torch.autograd.grad(self.energies(case, free), free)


# ---- helpers of adapters --------------------------------------------------------------------------------------------


def feedforward(case: Case) -> list[Any]:
    """The prediction of every layer from the one below it, the output last, detached."""
    values = [case.input]
    for layer in case.layers:
        values.append(layer(values[-1]).detach())
    return values[1:]


def to_arrays(tensors: Sequence[Any]) -> list[np.ndarray]:
    """Tensors as NumPy arrays, detached and on the host."""
    return [tensor.detach().cpu().numpy() for tensor in tensors]


def weights(case: Case) -> list[np.ndarray]:
    """Copies of the weights as they are now, `(fan_out, fan_in)` each."""
    return [w.copy() for w in to_arrays(list(case.layers.parameters()))]


def weight_gradients(case: Case) -> list[np.ndarray]:
    """The `.grad` of every weight."""
    return to_arrays([parameter.grad for parameter in case.layers.parameters()])


@contextmanager
def default_dtype(network: Network) -> Any:
    """PyTorch's default dtype is the network's here, for libraries that make tensors without naming one."""
    torch = pytorch()
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, str(network.dtype)))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# ---- PyTorch, and libraries that are cloned -------------------------------------------------------------------------


@cache
def pytorch() -> Any:
    """The module `torch`, with the number of threads that the worker is given.

    **Raises:** `MissingLibraryError` where it cannot be imported.
    """
    try:
        torch = import_module("torch")
    except ImportError as error:
        raise missing_library("torch", error) from error
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if (
        threads.isdigit()
    ):  # not every build of PyTorch reads it; too many threads cost a factor of 100 on a busy machine
        torch.set_num_threads(int(threads))
    return torch


def import_clone(module: str) -> ModuleType:
    """A module of a library that is not packaged, and therefore imported from a clone.

    **Raises:** `MissingLibraryError` where it cannot be imported.
    """
    pytorch()
    try:
        return import_module(module)
    except ImportError as error:
        name = next(entry.name for entry in KNOWN.values() if entry.probe == module.partition(".")[0])
        raise missing_library(name, error) from error


def versions() -> dict[str, str]:
    """The interpreter's and PyTorch's."""
    return {"python": platform.python_version(), "torch": pytorch().__version__, "numpy": np.__version__}


def commit(module: ModuleType) -> str:
    """The commit of the clone that a top-level module was imported from; empty if it is no clone."""
    path = Path(module.__file__ or ".").resolve()
    # Only the folder on the path itself: a repository further up need not be the library's.
    git = (path.parents[1] if path.name == "__init__.py" else path.parent) / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        reference = head[len("ref: ") :]
        if (git / reference).is_file():
            return (git / reference).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split()[0] for line in packed if line.endswith(" " + reference)), "")


# ---- layers ---------------------------------------------------------------------------------------------------------


@cache
def _layer_class(torch: Any) -> Any:
    class Layer(torch.nn.Module):
        r"""\(\tau z + \psi(a W \phi(z))\), in which \(\phi\) and \(\psi\) are None for the identity."""

        def __init__(self, weight: Any, scaling: float, skip: float, before: Any, after: Any) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(weight)
            self.scaling, self.skip, self.before, self.after = scaling, skip, before, after

        def forward(self, z: Any) -> Any:
            branch = torch.nn.functional.linear(self.before(z) if self.before else z, self.weight)
            branch = branch if self.scaling == 1 else self.scaling * branch
            branch = self.after(branch) if self.after else branch
            return self.skip * z + branch if self.skip else branch

    return Layer


def _activation(torch: Any, name: str) -> Any:
    functional = torch.nn.functional
    return {
        "linear": None,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "gelu": functional.gelu,
        "gelu-tanh": partial(functional.gelu, approximate="tanh"),
        "silu": functional.silu,
        # functional.softplus is linear above its threshold of 20, 2e-9 off
        "softplus": lambda z: torch.logaddexp(z, torch.zeros_like(z)),
    }[name]


def _loss(torch: Any, name: str, precision: float, output: Any, target: Any) -> Any:
    if target.shape != output.shape:  # (batch,) would be stretched to (batch, batch)
        raise ValueError(f"target of shape {tuple(target.shape)}: needed {tuple(output.shape)}, that of the output")
    if name == "ce":
        return precision * torch.nn.functional.cross_entropy(output, target, reduction="sum")
    return 0.5 * precision * ((target - output) ** 2).sum()
