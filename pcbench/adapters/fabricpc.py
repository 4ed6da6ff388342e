r"""Adapter of FabricPC (https://github.com/trueagi-io/FabricPC), through its public API.

A network becomes a chain of FabricPC's own nodes: `Linear` and `LinearResidual`, which predict
\(\tau z + \phi(W z)\), so placement `after-weight` is the library's own.  Placement `before-weight` uses what its guide
to custom nodes provides for, a subclass that overrides `predict`.  No formula of predictive coding is written here:
energies, gradients and inference are FabricPC's.

What to know of FabricPC 0.6.0 when reading the results:

- Its `GeluActivation` documents the error function and computes the approximation by tanh: declared as `gelu-tanh`.
- `CrossEntropyEnergy` takes the logarithm of a softmax clipped at 1e-7, which is wrong where logits are far apart and
  cuts the gradient off.  Here it is told to clip at the smallest normal number, which moves the edge but leaves it:
  `cross_entropy()` is a variant of its own, so that one defect does not colour every law.  An output precision is
  given to it as a factor on the target, in which it is linear.
- A state after T steps carries the energy before the last one.
- `mupc()` tests the library with `MuPCConfig`.  The weights are divided by the library's own scale of each edge, so
  that the network is the same as without; what is tested is whether its gradients still belong to its energy.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module, metadata
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from pcbench.adapters.register import missing_library
from pcbench.problem.network import Activities, Network
from pcbench.protocol.implementation import Capabilities, Conventions, Inference, Manifest

_ACTIVATIONS = {
    "linear": "IdentityActivation",
    "tanh": "TanhActivation",
    "relu": "ReLUActivation",
    "gelu-tanh": "GeluActivation",
}
_MODULES = {
    "nodes": "fabricpc.nodes",
    "topology": "fabricpc.core.topology",
    "activations": "fabricpc.core.activations",
    "energy": "fabricpc.core.energy",
    "inference": "fabricpc.core.inference",
    "learning": "fabricpc.core.learning",
    "mupc": "fabricpc.core.mupc",
    "types": "fabricpc.core.types",
    "assembly": "fabricpc.graph_assembly",
    "state": "fabricpc.graph_initialization",
}


def implementation() -> FabricPC:
    """FabricPC with Gaussian energies, without scaling of its own.

    **Raises:** `MissingLibraryError` where FabricPC cannot be imported.
    """
    return FabricPC()


def cross_entropy() -> FabricPC:
    """FabricPC with a softmax and `CrossEntropyEnergy` at the output.

    **Raises:** `MissingLibraryError` where FabricPC cannot be imported.
    """
    return FabricPC(loss="ce")


def mupc() -> FabricPC:
    """FabricPC with its `MuPCConfig`.

    **Raises:** `MissingLibraryError` where FabricPC cannot be imported.
    """
    return FabricPC(mupc=True)


class _Static(NamedTuple):
    """What a program is compiled for besides shapes and dtype."""

    dims: tuple[int, ...]
    skips: tuple[float, ...]
    activation: str
    placement: str
    loss: str
    precision: float
    mupc: bool
    tiny: float


class FabricPC:
    """The adapter; every program is compiled once per `_Static`, shape and dtype, whatever the steps and step size."""

    def __init__(self, *, mupc: bool = False, loss: str = "mse") -> None:
        self._lib = _library()
        self._mupc = mupc
        self._compiled = 0
        jit = self._lib.jax.jit
        self._forward = jit(self._count_traces(_forward), static_argnums=0)
        self._infer = jit(self._count_traces(_infer), static_argnums=0)
        self._evaluate = jit(self._count_traces(_evaluate), static_argnums=0)
        self.manifest = Manifest(
            name="fabricpc-mupc" if mupc else "fabricpc-ce" if loss == "ce" else "fabricpc",
            library="fabricpc",
            version=metadata.version("fabricpc"),
            versions={"python": platform.python_version(), "jax": self._lib.jax.__version__, "numpy": np.__version__},
            url="https://github.com/trueagi-io/FabricPC",
            notes=_notes(mupc),
            capabilities=Capabilities(
                activations=tuple(_ACTIVATIONS),
                # muPC scales what enters a node, so a custom node would apply phi to scaled activities: another model.
                placements=("after-weight",) if mupc else ("before-weight", "after-weight"),
                losses=(loss,),
                dtypes=("float64", "float32"),
                residual=True,
                precision=True,
                scalings="folded",
                reports_energy=True,
                shapes="palette",
            ),
            conventions=Conventions(
                energy_reduction="sum",
                energy_lag=1,
                step_size="per-sample",
                gradient_reduction="sum",
                activity_gradient_reduction="sum",
                weight_layout="in-out",
            ),
        )

    # ---- the protocol -----------------------------------------------------------------------------------------

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """What feedforward initialisation predicts for the output, before any softmax."""
        with self._precision(network):
            logits = self._static(network)._replace(loss="mse", precision=1.0)  # the same program for every energy
            return np.array(self._forward(logits, network.weights, input))

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """`graph_energy`, the sum over nodes and batch."""
        return float(self._evaluate_at(network, input, target, activities)["energy"])

    def layer_energies(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """`graph_energy` of each node."""
        return np.array(self._evaluate_at(network, input, target, activities)["layer_energies"])

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The `latent_grad` by which inference moves the activities."""
        return [np.array(g) for g in self._evaluate_at(network, input, target, activities)["activity_gradients"]]

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`compute_local_weight_gradients`, summed over the batch, `(fan_in, fan_out)` each."""
        return [np.array(g) for g in self._evaluate_at(network, input, target, activities)["weight_gradients"]]

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """`run_inference` with `InferenceSGD`, from its feedforward state or from given activities."""
        start = None if start is None else list(start)
        with self._precision(network):
            energy, z = self._infer(
                self._static(network),
                network.weights,
                input,
                _clamp_value(network, target),
                start,
                steps,
                float(step_size),
            )
            # Without a step there is no energy of the step before it.
            return Inference(activities=[np.array(a) for a in z], energy=float(energy) if steps else None)

    def compilations(self) -> int:
        """How many programs have been compiled so far."""
        return self._compiled

    # ---- helpers ----------------------------------------------------------------------------------------------

    def _evaluate_at(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> dict[str, Any]:
        with self._precision(network):
            return self._evaluate(
                self._static(network), network.weights, input, _clamp_value(network, target), list(activities)
            )

    def _static(self, network: Network) -> _Static:
        tiny = float(np.finfo(network.dtype).tiny)
        return _Static(
            dims=network.dims,
            skips=network.skips,
            activation=network.activation,
            placement=network.placement,
            loss=network.loss,
            # A node's configuration takes Python numbers only, so a precision of it is compiled in.
            precision=float(network.precision) if network.loss == "mse" else 1.0,
            mupc=self._mupc,
            tiny=tiny,
        )

    def _precision(self, network: Network) -> AbstractContextManager[Any]:
        """JAX's 64-bit mode for float64 networks only: with it, FabricPC's zeros would widen float32 ones."""
        return self._lib.enable_x64(network.dtype == np.float64)

    def _count_traces(self, function: Any) -> Any:
        def count_and_call(*args: Any) -> Any:
            self._compiled += 1  # Python runs once per program, when it is traced
            return function(self._lib, *args)

        return count_and_call


def _clamp_value(network: Network, target: np.ndarray) -> np.ndarray:
    """What the output is clamped to; cross-entropy has no precision of its own and is linear in its target."""
    return network.precision * target if network.loss == "ce" else target


def _notes(mupc: bool) -> tuple[str, ...]:
    if mupc:
        return (
            "MuPCConfig(include_output=True); its scales are divided out of the weights, so their values (the depth "
            "factor is the number of merge nodes) are not what is tested",
        )
    return ("before-weight through a custom node that overrides predict; GeluActivation is gelu-tanh",)


# ---- programs: each runs under jax.jit ------------------------------------------------------------------------------


def _forward(lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any) -> Any:
    structure = _structure(lib, static)
    state, _ = _initial(lib, structure, _parameters(lib, structure, weights), {"x": input}, None)
    return state.nodes["y"].z_mu


def _infer(
    lib: SimpleNamespace,
    static: _Static,
    weights: Sequence[Any],
    input: Any,
    target: Any,
    start: Sequence[Any] | None,
    steps: Any,
    step_size: Any,
) -> tuple[Any, list[Any]]:
    # The solver keeps whatever numbers it is given, so traced ones spare a compilation for each T and step size.
    structure = _structure(lib, static, lib.inference.InferenceSGD(eta_infer=step_size, infer_steps=steps))
    params = _parameters(lib, structure, weights)
    state, clamps = _initial(lib, structure, params, {"x": input, "y": target}, start)
    state = lib.inference.run_inference(params, state, clamps, structure)
    return lib.energy.graph_energy(state, structure), [state.nodes[name].z_latent for name in _hidden(static)]


def _evaluate(
    lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any, target: Any, activities: Sequence[Any]
) -> dict[str, Any]:
    structure = _structure(lib, static)
    params = _parameters(lib, structure, weights)
    state, clamps = _initial(lib, structure, params, {"x": input, "y": target}, activities)
    # A state keeps the energies and gradients of the activities it had before; the solver's first two phases renew it.
    solver = lib.inference.InferenceSGD
    state = solver.zero_grads(params, state, clamps, structure)
    state = solver.forward_value_and_grad(params, state, clamps, structure)
    gradients = lib.learning.compute_local_weight_gradients(params, state, structure).nodes
    names = [*_hidden(static), "y"]
    return {
        "energy": lib.energy.graph_energy(state, structure),
        "layer_energies": [lib.energy.graph_energy(state, structure, node_names=[name]) for name in names],
        "activity_gradients": [state.nodes[name].latent_grad for name in names[:-1]],
        "weight_gradients": [
            gradients[name].weights[edge] / scale for name, edge, scale in _weighted_edges(structure, names)
        ],
    }


# ---- a network as a graph -------------------------------------------------------------------------------------------


def _hidden(static: _Static) -> list[str]:
    return [f"z{l}" for l in range(1, len(static.dims) - 1)]


def _structure(lib: SimpleNamespace, static: _Static, inference: Any = None) -> Any:
    """The chain x -> z1 -> ... -> y, with a second edge to the slot `skip` where there is a residual connection."""
    nodes = [lib.nodes.IdentityNode(shape=(static.dims[0],), name="x")]
    edges = []
    depth = len(static.dims) - 1
    for l in range(1, depth + 1):
        node = _node(lib, static, l, "y" if l == depth else f"z{l}")
        edges.append(lib.topology.Edge(source=nodes[-1], target=node.slot("in")))
        if static.skips[l - 1]:
            edges.append(lib.topology.Edge(source=nodes[-1], target=node.slot("skip")))
        nodes.append(node)
    return lib.assembly.graph(
        nodes=nodes,
        edges=edges,
        task_map=lib.assembly.TaskMap(x="x", y="y"),
        inference=inference or lib.inference.InferenceSGD(),
        scaling=lib.mupc.MuPCConfig(include_output=True) if static.mupc else None,
    )


def _node(lib: SimpleNamespace, static: _Static, l: int, name: str) -> Any:
    depth, phi = len(static.dims) - 1, getattr(lib.activations, _ACTIVATIONS[static.activation])()
    settings: dict[str, Any] = {"shape": (static.dims[l],), "name": name, "use_bias": False}
    if l == depth and static.loss == "ce":
        settings |= {
            "activation": lib.activations.SoftmaxActivation(),
            "energy": lib.energy.CrossEntropyEnergy(eps=static.tiny),
        }
    elif l == depth:
        settings["energy"] = lib.energy.GaussianEnergy(precision=static.precision)
    elif static.placement == "after-weight":
        settings["activation"] = phi
    if static.placement == "before-weight" and static.activation != "linear" and l > 1:
        return lib.ActivatedInput(input_activation=phi, **settings)
    return (lib.nodes.LinearResidual if static.skips[l - 1] else lib.nodes.Linear)(**settings)


def _weighted_edges(structure: Any, names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Node, edge and the library's own scale of each weight matrix, input side first."""
    result = []
    for name in names:
        info = structure.nodes[name].node_info
        edge = next(key for key in info.in_edges if key.endswith(":in"))
        scale = 1.0 if info.scaling_config is None else info.scaling_config.forward_scale[edge]
        result.append((name, edge, scale))
    return result


def _parameters(lib: SimpleNamespace, structure: Any, weights: Sequence[Any]) -> Any:
    node, names = lib.types.NodeParams, [name for name in structure.node_order if name != "x"]
    edges = zip(_weighted_edges(structure, names), weights, strict=True)
    nodes = {name: node(weights={edge: W.T / scale}, biases={}) for (name, edge, scale), W in edges}
    return lib.types.GraphParams(nodes={"x": node(weights={}, biases={}), **nodes})


def _initial(
    lib: SimpleNamespace, structure: Any, params: Any, clamps: dict[str, Any], activities: Sequence[Any] | None
) -> tuple[Any, dict[str, Any]]:
    """The library's feedforward state, or the same with other activities in the hidden nodes."""
    batch = clamps["x"].shape[0]
    state = lib.state.initialize_graph_state(structure, batch, lib.jax.random.key(0), clamps=clamps, params=params)
    for l, z in enumerate(activities or (), start=1):
        state = state._replace(nodes={**state.nodes, f"z{l}": state.nodes[f"z{l}"]._replace(z_latent=z)})
    return state, clamps


# ---- the library ----------------------------------------------------------------------------------------------------


@cache
def _library() -> SimpleNamespace:
    """FabricPC's modules under short names, and the custom node."""
    try:
        lib = SimpleNamespace(jax=import_module("jax"))
        for name, module in _MODULES.items():
            setattr(lib, name, import_module(module))
    except ImportError as error:
        raise missing_library("fabricpc", error) from error
    home = lib.jax if hasattr(lib.jax, "enable_x64") else import_module("jax.experimental")  # moved in JAX 0.8
    lib.enable_x64 = home.enable_x64
    lib.ActivatedInput = _activated_input(lib)
    return lib


def _activated_input(lib: SimpleNamespace) -> Any:
    class ActivatedInput(lib.nodes.LinearResidual):
        """`LinearResidual` that sees its input, but not its skip, through an activation."""

        def __init__(self, input_activation: Any, **settings: Any) -> None:
            # Past the parent's constructor, which takes no settings of a subclass, to that of every node.
            settings = {"flatten_input": False, "weight_init": None, **settings}
            lib.nodes.NodeBase.__init__(self, input_activation=input_activation, **settings)

        @staticmethod
        def predict(params: Any, inputs: dict[str, Any], state: Any, node_info: Any) -> Any:
            phi = node_info.node_config["input_activation"]
            activated = {
                key: type(phi).forward(z, phi.config) if key.endswith(":in") else z for key, z in inputs.items()
            }
            return lib.nodes.LinearResidual.predict(params, activated, state, node_info)

    return ActivatedInput
