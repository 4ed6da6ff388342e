r"""Adapter of PCX (https://github.com/liukidar/pcx), through its public API.

A network is what its examples call a model: an `EnergyModule` of `Linear` layers and `Vode`s, one a layer, the last
frozen at the target.  Layer scalings, skips and both placements of \(\phi\) are lines of the model, as users write
them.  No formula of predictive coding is written here: energies are those of `Vode`, gradients those of
`value_and_grad`, and a step of inference is one of `pxu.Optim` with `optax.sgd`, in a `while_loop` so that one program
serves any number of steps.

What to know of PCX 0.6.3 when reading the results:

- An exception inside a transformation leaves a tracer in the global random key, and from then on every transformation
  raises `UnexpectedTracerError`.  Here `RKG.seed(0)` comes before each question, as a user would restart after an
  error; `unseeded()` leaves the key alone, so that one defect does not colour every law.
- An output precision is a factor that the output's own `energy_fn` puts before `se_energy` or `ce_energy`.
- The version does not identify the code: its repository calls later states 0.6.3, too.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module, metadata
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from pcbench.adapters.register import missing_library
from pcbench.problem.network import ACTIVATIONS, LOSSES, PLACEMENTS, Activities, Network
from pcbench.protocol.implementation import Capabilities, Conventions, Inference, Manifest

_MODULES = {
    "px": "pcx",
    "pxc": "pcx.predictive_coding",
    "pxf": "pcx.functional",
    "pxnn": "pcx.nn",
    "pxu": "pcx.utils",
    "optax": "optax",
    "jax": "jax",
}


def implementation() -> Pcx:
    """PCX, its global random key seeded before each question.

    **Raises:** `MissingLibraryError` where PCX cannot be imported.
    """
    return Pcx()


def unseeded() -> Pcx:
    """PCX with its global random key left as it is.

    **Raises:** `MissingLibraryError` where PCX cannot be imported.
    """
    return Pcx(seeded=False)


class _Static(NamedTuple):
    """What a model is built for; programs are compiled for it, besides shapes and dtype."""

    dims: tuple[int, ...]
    skips: tuple[float, ...]
    activation: str
    placement: str
    loss: str


class Pcx:
    """The adapter; every program is compiled once per model, shape and dtype, whatever the steps and step size."""

    def __init__(self, *, seeded: bool = True) -> None:
        self._lib = _library()
        self._seeded = seeded
        self._compiled = 0
        self._models: dict[Any, Any] = {}
        jit = self._lib.pxf.jit()
        self._initialise = jit(self._count_traces(_initialise))
        self._relax = jit(self._count_traces(_relax))
        self._evaluate = jit(self._count_traces(_evaluate))
        self._learn = jit(self._count_traces(_learn))
        jax = self._lib.jax
        self.manifest = Manifest(
            name="pcx" if seeded else "pcx-unseeded",
            library="pcx",
            version=metadata.version("pcx"),
            versions={
                "python": platform.python_version(),
                "jax": jax.__version__,
                "equinox": metadata.version("equinox"),
                "optax": metadata.version("optax"),
                "numpy": np.__version__,
            },
            url="https://github.com/liukidar/pcx",
            notes=_notes(seeded),
            capabilities=Capabilities(
                activations=ACTIVATIONS,
                placements=PLACEMENTS,
                losses=LOSSES,
                dtypes=("float64", "float32"),
                residual=True,
                precision=True,
                scalings="native",
                shapes="palette",
            ),
            conventions=Conventions(
                energy_reduction="sum",
                step_size="per-sample",
                gradient_reduction="sum",
                activity_gradient_reduction="sum",
            ),
        )

    # ---- the protocol -----------------------------------------------------------------------------------------

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """What the last `Vode` receives in a pass with the status `INIT`, before any softmax."""
        anywhere = np.zeros((len(input), *network.output_shape), network.dtype)  # spares a program without a target
        with self._question(network):
            return np.array(self._initialise(input, anywhere, model=self._model(network)))

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """`EnergyModule.energy`, summed over the batch by `psum` as in PCX's examples."""
        return float(self._evaluate_at(network, input, target, activities)["energy"])

    def layer_energies(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """`Vode.energy` of each, summed over the batch."""
        return np.array(self._evaluate_at(network, input, target, activities)["layer_energies"])

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`value_and_grad` by the values of the hidden `Vode`s."""
        return [np.array(g) for g in self._evaluate_at(network, input, target, activities)["activity_gradients"]]

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`value_and_grad` by the weights of the layers, summed over the batch."""
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
        """Steps of `Optim` over the hidden `Vode`s, from a pass with the status `INIT` or from given activities."""
        with self._question(network):
            model = self._model(network)
            self._begin(model, input, target, start)
            self._relax(input, steps, float(step_size), model=model)
            return Inference(activities=[np.array(vode.get("h")) for vode in model.vodes[:-1]])

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
        """The weights after steps of a second `Optim`, whose `scale_by` makes a mean over the batch of the sum."""
        with self._question(network):
            model = self._model(network)
            for _ in range(iterations):
                self._begin(model, input, target, None)
                self._relax(input, steps, float(step_size), model=model)
                self._learn(input, float(learning_rate), model=model)
            return [np.array(layer.nn.weight.get()) for layer in model.layers]

    def compilations(self) -> int:
        """How many programs have been compiled so far."""
        return self._compiled

    # ---- helpers ----------------------------------------------------------------------------------------------

    def _evaluate_at(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> dict[str, Any]:
        with self._question(network):
            model = self._model(network)
            self._begin(model, input, target, activities)
            return self._evaluate(input, model=model)

    def _begin(self, model: Any, input: np.ndarray, target: np.ndarray, activities: Activities | None) -> None:
        """The values of a pass with the status `INIT`, or given ones, and the target at the output."""
        model.clear_params(self._lib.pxc.VodeParam)
        if activities is None:
            self._initialise(input, target, model=model)
            return
        for vode, z in zip(model.vodes, [*activities, target], strict=True):
            vode.set("h", z)

    def _question(self, network: Network) -> AbstractContextManager[Any]:
        """JAX's 64-bit mode for float64 networks only, and a random key that holds no tracer."""
        if self._seeded:
            self._lib.px.RKG.seed(0)
        return self._lib.enable_x64(network.dtype == np.float64)

    def _model(self, network: Any) -> Any:
        """The model for such networks, with these weights and without the values that the last batch has left."""
        static = self._static(network)
        if static not in self._models:
            self._models[static] = self._build_model(static)
        model = self._models[static]
        model.clear_params(self._lib.pxc.VodeParam | self._lib.pxc.VodeParam.Cache)
        for layer, scaling, W, a in zip(
            model.layers, model.scalings, self._parameters(network), network.scalings, strict=True
        ):
            if isinstance(W, np.ndarray):
                layer.nn.weight.set(W)
                scaling.set(np.asarray(a, network.dtype))
        model.vodes[-1].precision.set(np.asarray(network.precision, network.dtype))
        return model

    # ---- what is of an MLP ------------------------------------------------------------------------------------

    def _static(self, network: Any) -> Any:
        return _Static(network.dims, network.skips, network.activation, network.placement, network.loss)

    def _build_model(self, static: Any) -> Any:
        return self._lib.Mlp(static)

    def _parameters(self, network: Any) -> Sequence[Any]:
        return network.weights

    def _count_traces(self, function: Any) -> Any:
        def count_and_call(*args: Any, model: Any) -> Any:
            self._compiled += 1  # Python runs once per program, when it is traced
            return function(self._lib, *args, model=model)

        return count_and_call


def _notes(seeded: bool) -> tuple[str, ...]:
    key = "RKG.seed(0) before each question" if seeded else "the global random key is left as exceptions leave it"
    return (f"{key}; scalings, skips and placement are lines of the model, which is its user's",)


# ---- programs: each runs under pxf.jit ------------------------------------------------------------------------------


def _initialise(lib: SimpleNamespace, input: Any, target: Any, *, model: Any) -> Any:
    with lib.pxu.step(model, (lib.pxc.STATUS.INIT, None), clear_params=lib.pxc.VodeParam.Cache):
        return lib.forward(input, target, model=model)


def _relax(lib: SimpleNamespace, input: Any, steps: Any, step_size: Any, *, model: Any) -> None:
    activities = lib.pxu.M_hasnot(lib.pxc.VodeParam, frozen=True)
    optimiser = lib.pxu.Optim(lambda: lib.optax.sgd(step_size), activities(model))

    def body(t: Any, *, model: Any) -> Any:
        with lib.pxu.step(model, clear_params=lib.pxc.VodeParam.Cache):
            _, gradients = lib.by_activities(input, model=model)
        optimiser.step(model, gradients["model"])
        return t + 1

    lib.pxf.while_loop(body, lambda t, *, model: t < steps)(0, model=model)


def _evaluate(lib: SimpleNamespace, input: Any, *, model: Any) -> dict[str, Any]:
    with lib.pxu.step(model, clear_params=lib.pxc.VodeParam.Cache):
        (energy, (layer_energies,)), gradients = lib.by_everything(input, model=model)
    found = gradients["model"]
    return {
        "energy": energy,
        "layer_energies": layer_energies,
        "activity_gradients": [vode.h.get() for vode in found.vodes[:-1]],
        # a layer without weights, such as a pooling, has no gradient of them
        "weight_gradients": [layer.nn.weight.get() if hasattr(layer.nn, "weight") else () for layer in found.layers],
    }


def _learn(lib: SimpleNamespace, input: Any, learning_rate: Any, *, model: Any) -> None:
    optimiser = lib.pxu.Optim(lambda: lib.optax.sgd(learning_rate), lib.pxu.M(lib.pxnn.LayerParam)(model))
    with lib.pxu.step(model, clear_params=lib.pxc.VodeParam.Cache):
        _, gradients = lib.by_everything(input, model=model)
    optimiser.step(model, gradients["model"], scale_by=1.0 / len(input))


# ---- the library ----------------------------------------------------------------------------------------------------


@cache
def _library() -> SimpleNamespace:
    """PCX's modules under the short names of its examples, the model and the transformed functions of it."""
    try:
        lib = SimpleNamespace(**{name: import_module(module) for name, module in _MODULES.items()})
    except ImportError as error:
        raise missing_library("pcx", error) from error
    lib.enable_x64 = import_module("jax.experimental").enable_x64
    lib.activations = {
        "linear": lambda z: z,
        "tanh": lib.jax.numpy.tanh,
        "relu": lib.jax.nn.relu,
        "gelu": lambda z: lib.jax.nn.gelu(z, approximate=False),
        "gelu-tanh": lambda z: lib.jax.nn.gelu(z, approximate=True),
        "silu": lib.jax.nn.silu,
        "softplus": lib.jax.nn.softplus,
    }
    lib.Chain = _chain_class(lib)
    lib.Mlp = _mlp_class(lib)
    vodes = lib.pxc.VodeParam | lib.pxc.VodeParam.Cache
    batched = lib.pxu.M(vodes).to((None, 0))

    def forward(x: Any, y: Any, *, model: Any) -> Any:
        return model(x, y)

    def energy(x: Any, *, model: Any) -> Any:
        model(x, None)
        psum = lib.jax.lax.psum
        return psum(model.energy(), "batch"), [psum(vode.energy(), "batch") for vode in model.vodes]

    activities = lib.pxu.M_hasnot(lib.pxc.VodeParam, frozen=True)
    weights = lib.pxu.M(lib.pxnn.LayerParam)
    summed = lib.pxf.vmap(batched, in_axes=(0,), out_axes=(None, None), axis_name="batch")(energy)
    lib.forward = lib.pxf.vmap(batched, in_axes=(0, 0), out_axes=0)(forward)
    lib.by_activities = lib.pxf.value_and_grad(activities.to([False, True]), has_aux=True)(summed)
    lib.by_everything = lib.pxf.value_and_grad((activities | weights).to([False, True]), has_aux=True)(summed)
    return lib


def _chain_class(lib: SimpleNamespace) -> Any:
    energies = {"mse": lib.pxc.se_energy, "ce": lib.pxc.ce_energy}

    class Output(lib.pxc.Vode):
        """A `Vode` at which the target is clamped, with a precision of its own."""

        def __init__(self, loss: str) -> None:
            super().__init__(lambda vode, rkg: vode.precision * energies[loss](vode, rkg))
            self.precision = lib.px.Param(1.0)
            self.h.frozen = True

    class Chain(lib.pxc.EnergyModule):
        """Layers with a scaling and a `Vode` each; subclasses say what a layer predicts."""

        def __init__(self, layers: Sequence[Any], loss: str) -> None:
            super().__init__()
            self.layers = list(layers)
            self.scalings = [lib.px.Param(1.0) for _ in layers]
            self.vodes = [*(lib.pxc.Vode() for _ in layers[1:]), Output(loss)]

        def prediction(self, l: int, x: Any) -> Any:
            raise NotImplementedError

        def __call__(self, x: Any, y: Any) -> Any:
            for l, vode in enumerate(self.vodes):
                x = vode(self.prediction(l, x))
            if y is not None:
                self.vodes[-1].set("h", y)
            return self.vodes[-1].get("u")

    return Chain


def _mlp_class(lib: SimpleNamespace) -> Any:
    class Mlp(lib.Chain):
        """`Linear` layers without bias."""

        def __init__(self, static: _Static) -> None:
            super().__init__([lib.pxnn.Linear(n, m, bias=False) for n, m in pairwise(static.dims)], static.loss)
            self.static = lib.px.static(static)

        def prediction(self, l: int, x: Any) -> Any:
            static, phi = self.static.get(), lib.activations[self.static.activation]
            before, last = static.placement == "before-weight", len(self.layers) - 1
            u = self.scalings[l] * self.layers[l](phi(x) if before and l else x)
            u = u if before or l == last else phi(u)
            return u + static.skips[l] * x if static.skips[l] else u

    return Mlp
