r"""Adapter of jpc (https://github.com/thebuckleylab/jpc), through its public API.

A network becomes a list of layers as `jpc.make_mlp` makes them, an activation and an Equinox `Linear` each, with
`jpc.make_skip_model` where there are residual connections; placement `after-weight` is the same list with the two
exchanged.  No formula of predictive coding is written here: energies, gradients, updates and closed forms are jpc's.

What to know of jpc 1.0.0 when reading the results:

- Its energy is a mean over the batch, so a step of it is smaller by the batch size, and so is its activity gradient.
- It has parameterisations of its own, `param_type` and `gamma`.  A variant that uses one gives the library the weights
  of a network that has the same one as they are; whatever else is left of the scalings is multiplied into the weights.
- `compute_linear_activity_solution`, the closed form, is right for some of them and not for others.  Every variant with
  a closed form is of linear networks and of one parameterisation, so that one defect does not colour every law.
- `solve_inference` may stop by itself: `solve_inference()` is a variant too.
- The energy that an update reports belongs to the activities before it.
- The layer energies of `pc_energy_fn` are taken as jpc's own `compute_infer_energies` takes them: output first.
- The number 1.0.0 says little.  It is that of a tag of 2025, with other names, and of everything on `main` since.
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

from pcbench.adapters.register import KNOWN, installation_advice, missing_library
from pcbench.errors import MissingLibraryError
from pcbench.problem.network import LOSSES, PLACEMENTS, Activities, Network
from pcbench.problem.parameterisation import layer_scalings
from pcbench.protocol.implementation import Capabilities, Conventions, Equilibrium, Inference, Manifest

_ACTIVATIONS = ("linear", "tanh", "relu", "gelu", "gelu-tanh", "silu", "softplus")
_NEEDED = (
    "update_pc_activities",
    "compute_linear_activity_solution",
    "linear_equilib_energy",
    "compute_epc_error_grad",
)
"""Names that tell the jpc of 2026 from those before it, which have the same version number."""


def implementation() -> JPC:
    """The standard parameterisation and the discrete updates of jpc, for every network that it can express.

    **Raises:** `MissingLibraryError` where jpc cannot be imported, as of all factories here.
    """
    return Plain("jpc")


def sp() -> JPC:
    """Linear networks and the closed form of their equilibrium, in the standard parameterisation."""
    return ClosedForm("jpc-sp", "sp")


def sp_gamma() -> JPC:
    """The same with `gamma`, by which jpc divides the output."""
    return ClosedForm("jpc-sp-gamma", "sp", gamma=True)


def ntp() -> JPC:
    """Linear networks and the closed form of their equilibrium, in jpc's neural tangent parameterisation."""
    return ClosedForm("jpc-ntp", "ntp")


def mupc() -> JPC:
    """Linear networks and the closed form of their equilibrium, in jpc's μPC with `gamma`."""
    return ClosedForm("jpc-mupc", "mupc", gamma=True)


def solve_inference() -> JPC:
    """Linear networks whose inference is `solve_inference`, by Euler steps of constant size."""
    return Solved("jpc-solve-inference")


class _Static(NamedTuple):
    """What a program is compiled for besides shapes and dtype."""

    dims: tuple[int, ...]
    residual: bool
    activation: str
    placement: str
    loss: str
    param_type: str


class JPC:
    """Base of all variants; every program is compiled once per `_Static`, shape and dtype.

    **Arguments:** `name` of the variant; `param_type` of jpc; `gamma`, whether the output multiplier is left to jpc.
    """

    def __init__(
        self, name: str, param_type: str = "sp", *, gamma: bool = False, capabilities: Capabilities | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._lib = _library()
        self._param_type, self._with_gamma = param_type, gamma
        self._compiled = 0
        self._forward = self._jit(_forward)
        self._infer = self._jit(_infer)
        self._evaluate = self._jit(_evaluate)
        self.manifest = Manifest(
            name=name,
            library="jpc",
            version=metadata.version("jpc"),
            versions=_versions(self._lib),
            url="https://github.com/thebuckleylab/jpc",
            notes=notes,
            capabilities=capabilities or Capabilities(),
            conventions=Conventions(
                energy_reduction="mean",
                energy_lag=1,
                step_size="batch-mean",
                layer_energy_order="output-first",
                gradient_reduction="mean",
                activity_gradient_reduction="mean",
                weight_layout="out-in",
            ),
        )

    # ---- the protocol -----------------------------------------------------------------------------------------

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """The last entry of `init_activities_with_ffwd`, before any softmax."""
        return np.array(self._feedforward(network, input)[-1])

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """`pc_energy_fn`, the mean over the batch, as `compute_pc_activity_grad` returns it."""
        return float(self._evaluate_at(self._evaluate, network, input, target, activities)["energy"])

    def activity_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`compute_pc_activity_grad`, of the mean over the batch."""
        return [
            np.array(g)
            for g in self._evaluate_at(self._evaluate, network, input, target, activities)["activity_gradients"]
        ]

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """`compute_pc_param_grads`, of the mean over the batch, `(fan_out, fan_in)` each."""
        gradients = self._evaluate_at(self._evaluate, network, input, target, activities)["weight_gradients"]
        return [_scale(r, np.array(g)) for r, g in zip(self._remainders(network), gradients, strict=True)]

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """`update_pc_activities` with `optax.sgd`, from the feedforward pass or from given activities."""
        with self._precision(network):
            z = self._start(network, input, target, start)
            answer = self._infer(
                *self._arguments(network), input, target, z, steps, float(step_size), self._options(network)
            )
            # Without a step there is no energy of the step before it.
            energy = float(answer["energy"]) if steps and answer["energy"] is not None else None
            return Inference(activities=[np.array(a) for a in answer["activities"]], energy=energy)

    def compilations(self) -> int:
        """How many programs have been compiled so far."""
        return self._compiled

    # ---- helpers ----------------------------------------------------------------------------------------------

    def _feedforward(self, network: Network, input: np.ndarray) -> list[Any]:
        with self._precision(network):
            return self._forward(*self._arguments(network), input, self._gamma(network))

    def _start(self, network: Network, input: np.ndarray, target: np.ndarray, start: Activities | None) -> list[Any]:
        """Activities in jpc's sense have an entry for the output, which nothing reads: the target counts there."""
        return self._feedforward(network, input) if start is None else [*start, np.zeros_like(target)]

    def _evaluate_at(
        self, program: Any, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> Any:
        with self._precision(network):
            z = self._start(network, input, target, activities)
            return program(*self._arguments(network), input, target, z, self._options(network))

    def _arguments(self, network: Network) -> tuple[_Static, list[np.ndarray]]:
        static = _Static(
            dims=network.dims,
            residual=network.residual,
            activation=network.activation,
            placement=network.placement,
            loss=network.loss,
            param_type=self._param_type,
        )
        return static, [_scale(r, w) for r, w in zip(self._remainders(network), network.weights, strict=True)]

    def _remainders(self, network: Network) -> list[float]:
        return remainders(network, self._param_type, self._gamma(network))

    def _gamma(self, network: Network) -> float | None:
        return float(network.output_multiplier) if self._with_gamma else None

    def _options(self, network: Network) -> dict[str, Any]:
        """Those of jpc's functions that are values, which no program is compiled for."""
        return {"gamma": self._gamma(network), "output_energy_scaling": float(network.precision)}

    def _precision(self, network: Network) -> AbstractContextManager[Any]:
        """JAX's 64-bit mode inside a call on float64 networks only: with it, float32 ones would be widened."""
        return self._lib.enable_x64(network.dtype == np.float64)

    def _jit(self, function: Any) -> Any:
        def count_and_call(*args: Any) -> Any:
            self._compiled += 1  # Python runs once per program, when it is traced
            return function(self._lib, *args)

        return self._lib.jax.jit(count_and_call, static_argnums=0)


class Plain(JPC):
    """The standard parameterisation without `gamma`: all activations, both losses, layer energies and training."""

    def __init__(self, name: str) -> None:
        capabilities = Capabilities(
            activations=_ACTIVATIONS,
            placements=PLACEMENTS,
            losses=LOSSES,
            dtypes=("float64", "float32"),
            residual=True,
            precision=True,
            scalings="folded",
            reports_energy=True,
        )
        super().__init__(name, capabilities=capabilities, notes=("param_type='sp'; scalings are in the weights",))
        self._layers = self._jit(_layers)
        self._train = self._jit(_train)

    def layer_energies(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """`pc_energy_fn` with `record_layers`."""
        return np.array(self._evaluate_at(self._layers, network, input, target, activities))

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
        """`update_pc_params` with `optax.sgd`, each after `steps` of inference from the feedforward pass."""
        with self._precision(network):
            values = iterations, float(learning_rate), steps, float(step_size), self._options(network)
            return [np.array(w) for w in self._train(*self._arguments(network), input, target, *values)]


class ClosedForm(JPC):
    """Linear networks in a parameterisation of jpc's own, with its closed forms of their equilibrium."""

    def __init__(self, name: str, param_type: str, *, gamma: bool = False) -> None:
        capabilities = Capabilities(
            dtypes=("float64", "float32"), residual=True, precision=True, scalings="native", reports_energy=True
        )
        note = f"param_type={param_type!r}, {'with' if gamma else 'without'} gamma; other scalings are in the weights"
        super().__init__(name, param_type, gamma=gamma, capabilities=capabilities, notes=(note,))
        self._solve = self._jit(_solve)

    def equilibrium(self, network: Network, input: np.ndarray, target: np.ndarray) -> Equilibrium:
        """`compute_linear_activity_solution`, and `linear_equilib_energy` as the energy there."""
        with self._precision(network):
            energy, z = self._solve(*self._arguments(network), input, target, self._options(network))
            return Equilibrium(activities=[np.array(a) for a in z], energy=float(energy))


class Solved(JPC):
    """Linear networks with inference by `solve_inference`, which integrates a differential equation with diffrax."""

    def __init__(self, name: str) -> None:
        capabilities = Capabilities(dtypes=("float64", "float32"), residual=True, precision=True)
        note = "solve_inference by Euler's method, its time up to steps times step size"
        super().__init__(name, capabilities=capabilities, notes=(note,))
        self._infer = self._jit(_integrate)


def remainders(network: Network, param_type: str, gamma: float | None) -> list[float]:
    """What is left of each layer's scaling once jpc has applied its own; 1 in the same parameterisation."""
    own = layer_scalings(
        param_type,
        input_dim=network.dims[0],
        width=network.dims[1],
        depth=network.depth,
        residual=network.residual,
        output_multiplier=1.0 if gamma is None else gamma,
    )
    return [a / b for a, b in zip(network.scalings, own, strict=True)]


# ---- programs: each runs under jax.jit ------------------------------------------------------------------------------


def _forward(lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any, gamma: Any) -> list[Any]:
    model, skips = _params(lib, static, weights)
    return lib.jpc.init_activities_with_ffwd(model, input, skip_model=skips, param_type=static.param_type, gamma=gamma)


def _steps(
    lib: SimpleNamespace, static: _Static, params: Any, input: Any, target: Any, start: Any, steps: Any, step_size: Any,
    options: dict[str, Any],
) -> tuple[Any, list[Any]]:  # fmt: skip
    """The energy before the last step, and the activities after it."""
    optimiser = lib.optax.sgd(step_size)

    def step(_: Any, state: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        z = state[1]
        moved = lib.jpc.update_pc_activities(
            params, z, optimiser, optimiser.init(z), target, input=input, loss_id=static.loss,
            param_type=static.param_type, **options,
        )  # fmt: skip
        return moved["energy"], moved["activities"]

    return lib.jax.lax.fori_loop(0, steps, step, (lib.jax.numpy.zeros((), target.dtype), start))


def _infer(
    lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any, target: Any, start: Any, steps: Any,
    step_size: Any, options: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    params = _params(lib, static, weights)
    energy, z = _steps(lib, static, params, input, target, start, steps, step_size, options)
    return {"energy": energy, "activities": z[:-1]}


def _integrate(
    lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any, target: Any, start: Any, steps: Any,
    step_size: Any, options: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    params = _params(lib, static, weights)
    z = lib.jpc.solve_inference(
        params, start, target, input=input, loss_id=static.loss, param_type=static.param_type,
        solver=lib.diffrax.Euler(), max_t1=steps * step_size, dt=step_size,
        stepsize_controller=lib.diffrax.ConstantStepSize(), **options,
    )  # fmt: skip
    return {"energy": None, "activities": [a[-1] for a in z[:-1]]}


def _evaluate(
    lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any, target: Any, activities: Any,
    options: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    params = _params(lib, static, weights)
    common = {"x": input, "param_type": static.param_type, **options}
    energy, for_activities = lib.jpc.compute_pc_activity_grad(params, activities, target, loss_id=static.loss, **common)
    for_weights, _ = lib.jpc.compute_pc_param_grads(params, activities, target, loss_id=static.loss, **common)
    return {
        "energy": energy,
        "activity_gradients": for_activities[:-1],
        "weight_gradients": _weights_of(static, for_weights),
    }


def _layers(
    lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any, target: Any, activities: Any,
    options: dict[str, Any],
) -> Any:  # fmt: skip
    params = _params(lib, static, weights)
    return lib.jpc.pc_energy_fn(
        params, activities, target, x=input, loss=static.loss, param_type=static.param_type, record_layers=True,
        **options,
    )  # fmt: skip


def _solve(
    lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any, target: Any, options: dict[str, Any]
) -> tuple[Any, list[Any]]:
    params = _params(lib, static, weights)
    common = {"param_type": static.param_type, **options}
    z = lib.jpc.compute_linear_activity_solution(params[0], input, target, use_skips=static.residual, **common)
    return lib.jpc.linear_equilib_energy(params, input, target, **common), z[:-1]


def _train(
    lib: SimpleNamespace, static: _Static, weights: Sequence[Any], input: Any, target: Any, iterations: Any,
    learning_rate: Any, steps: Any, step_size: Any, options: dict[str, Any],
) -> list[Any]:  # fmt: skip
    optimiser = lib.optax.sgd(learning_rate)

    def update(_: Any, weights: list[Any]) -> list[Any]:
        params = _params(lib, static, weights)
        start = _forward(lib, static, weights, input, options["gamma"])
        _, z = _steps(lib, static, params, input, target, start, steps, step_size, options)
        updated = lib.jpc.update_pc_params(
            params, z, optimiser, optimiser.init(params), target, input=input, loss_id=static.loss,
            param_type=static.param_type, **options,
        )  # fmt: skip
        return _weights_of(static, updated["model"])

    return lib.jax.lax.fori_loop(0, iterations, update, list(weights))


# ---- a network as layers --------------------------------------------------------------------------------------------


def _params(lib: SimpleNamespace, static: _Static, weights: Sequence[Any]) -> tuple[list[Any], list[Any] | None]:
    """Layers and skips.  What is outside the hidden layers, the input or with `after-weight` the output, has no phi."""
    depth, nn = len(weights), lib.equinox.nn
    model = []
    for l, weight in enumerate(weights, start=1):
        bare = l == (1 if static.placement == "before-weight" else depth)
        phi = nn.Lambda(nn.Identity() if bare else _activation(lib, static.activation))
        pair = [phi, _linear(lib, weight)]
        model.append(nn.Sequential(pair if static.placement == "before-weight" else pair[::-1]))
    return model, lib.jpc.make_skip_model(depth) if static.residual else None


def _linear(lib: SimpleNamespace, weight: Any) -> Any:
    """A `Linear` with this weight; its shape alone is made, so that nothing is drawn."""
    fan_out, fan_in = weight.shape
    like = lib.equinox.filter_eval_shape(lib.equinox.nn.Linear, fan_in, fan_out, use_bias=False, key=lib.key)
    return lib.equinox.tree_at(lambda layer: layer.weight, like, weight)


def _weights_of(static: _Static, model: Sequence[Any]) -> list[Any]:
    """The weights, or whatever stands in their place, of layers as `_params` makes them."""
    return [layer[1 if static.placement == "before-weight" else 0].weight for layer in model]


def _activation(lib: SimpleNamespace, name: str) -> Any:
    """A function of jpc's where it has one: its `gelu` is the approximation by a hyperbolic tangent."""
    if name == "gelu":
        return lambda z: lib.jax.nn.gelu(z, approximate=False)
    return lib.jax.nn.softplus if name == "softplus" else lib.jpc.get_act_fn(name.removesuffix("-tanh"))


def _scale(factor: float, array: np.ndarray) -> np.ndarray:
    return array if factor == 1.0 else np.asarray(np.float64(factor) * array, array.dtype)


# ---- the library ----------------------------------------------------------------------------------------------------


@cache
def _library() -> SimpleNamespace:
    """The library and what it stands on, under short names."""
    try:
        lib = SimpleNamespace(
            jpc=import_module("jpc"),
            jax=import_module("jax"),
            equinox=import_module("equinox"),
            optax=import_module("optax"),
            diffrax=import_module("diffrax"),
        )
    except ImportError as error:
        raise missing_library("jpc", error) from error
    lacks = [name for name in _NEEDED if not hasattr(lib.jpc, name)]
    if lacks:
        raise MissingLibraryError(
            f"the jpc {metadata.version('jpc')} here has no {lacks[0]}; the number 1.0.0 is that of older code too, "
            "needed jpc 1.0.0 as of July 2026: "
            f"{installation_advice(KNOWN['jpc'])}"
        )
    home = lib.jax if hasattr(lib.jax, "enable_x64") else import_module("jax.experimental")  # moved in JAX 0.8
    lib.enable_x64 = home.enable_x64
    lib.key = lib.jax.random.PRNGKey(0)
    return lib


def _versions(lib: SimpleNamespace) -> dict[str, str]:
    """What matters beside jpc's own number; the commit, which that does not tell, is found for every library."""
    found = {"python": platform.python_version(), "jax": lib.jax.__version__, "numpy": np.__version__}
    return found | {name: metadata.version(name) for name in ("equinox", "diffrax", "optax")}
