r"""Adapter of ngc-learn (https://github.com/NACLab/ngc-learn), through its public API.

A network becomes a `Context` wired as in ngc-learn's predictive coding examples: a `RateCell` and a
`GaussianErrorCell` a layer, `HebbianSynapse` forward, `StaticSynapse` back, and a second, stateless chain for the
feedforward pass.  A skip is wired through stateless `RateCell`s, which add what they receive.  No formula of
predictive coding is written here: activities move by `RateCell`, energies are the `L` of the error cells, weight
gradients the `dWeights` of the synapses.

What to know of ngc-learn 3.2.3 when reading the results:

- Feedback synapses have weights of their own: they are set to the transposes, which is what an energy needs.
- The order of the methods in a process is the order of the updates.  All feedback, then all cells, then all forward
  synapses and errors, as here, moves all layers at once.
- The default `w_bound=1.` multiplies updates by 1 - |W|; here it is 0, and `bounded()` leaves it as it is.
- A `Context` of a name that is taken is the old one, whose cells lose their values to the new ones of their names: two
  networks of different shapes then fail in the first call of the older.  Here names are unique.
- The values of all contexts are one global dictionary, and a process that is given all of it is compiled again with
  every context.  Here it is given those of its own.
- `RateCell` applies \(\phi\) to what it sends, not to what it is sent: placement `after-weight` has no derivative in
  the feedback.  `gelu` is \(z\,\sigma(1.702 z)\), which is neither of the two that there are laws for.
- `g_conduct_factor`, a scaling of a synapse, is not in its update: layer scalings are folded into the weights.
- No error cell is a softmax with cross-entropy, and what moves a cell is not among its compartments: there are no
  activity gradients to ask for.
"""

from __future__ import annotations

import itertools
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

_ACTIVATIONS = {"linear": "identity", "tanh": "tanh", "relu": "relu", "silu": "silu", "softplus": "softplus"}
_MANY = 32
"""From so many steps on, one `scan` of that length is compiled; fewer are as many `run`s of one program."""

State = dict[str, Any]


def implementation() -> NgcLearn:
    """ngc-learn, each network in a context of its own.

    **Raises:** `MissingLibraryError` where ngc-learn cannot be imported.
    """
    return NgcLearn()


def bounded() -> NgcLearn:
    """ngc-learn with the soft bound that `HebbianSynapse` has on weights by default.

    **Raises:** `MissingLibraryError` where ngc-learn cannot be imported.
    """
    return NgcLearn(bounded=True)


class _Static(NamedTuple):
    """What a context is built and compiled for."""

    dims: tuple[int, ...]
    skips: tuple[float, ...]
    activation: str
    batch: int
    dtype: str
    learning_rate: float
    bounded: bool


class NgcLearn:
    """The adapter; a context is built once per `_Static`."""

    def __init__(self, *, bounded: bool = False) -> None:
        self._lib = _library()
        self._bounded = bounded
        self._contexts: dict[_Static, _Context] = {}
        jax = self._lib.jax
        self.manifest = Manifest(
            name="ngclearn-bounded" if bounded else "ngclearn",
            library="ngclearn",
            version=metadata.version("ngclearn"),
            versions={
                "python": platform.python_version(),
                "jax": jax.__version__,
                "ngcsimlib": metadata.version("ngcsimlib"),
                "numpy": np.__version__,
            },
            url="https://github.com/NACLab/ngc-learn",
            notes=_notes(bounded),
            capabilities=Capabilities(
                activations=tuple(_ACTIVATIONS),
                placements=("before-weight",),
                losses=("mse",),
                dtypes=("float64", "float32"),
                residual=True,
                precision=True,
                scalings="folded",
                shapes="palette",
            ),
            conventions=Conventions(
                energy_reduction="sum",
                energy_factor=-1.0,  # a log-likelihood
                step_size="per-sample",
                gradient_reduction="sum",
                weight_layout="in-out",
            ),
        )

    # ---- the protocol -----------------------------------------------------------------------------------------

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """What the last synapse of the feedforward chain sends."""
        with self._precision(network):
            context = self._context(network, input)
            return np.array(context.feedforward(context.state(network, input))[1])

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """The sum of the `L` of all error cells."""
        return float(np.sum(self.layer_energies(network, input, target, activities)))

    def layer_energies(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> np.ndarray:
        """The `L` of each error cell, a sum over the batch."""
        with self._precision(network):
            context, state = self._evaluate_at(network, input, target, activities)
            return np.array([state[cell.L.root] for cell in context.errors])

    def weight_gradients(
        self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
    ) -> list[np.ndarray]:
        """The `dWeights` of each forward synapse at `sign_value=-1`, summed over the batch, `(fan_in, fan_out)`."""
        with self._precision(network):
            context, state = self._evaluate_at(network, input, target, activities)
            return [np.array(state[synapse.dWeights.root]) for synapse in context.forward]

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """Euler steps of `dt = step_size` of all `RateCell`s, from the feedforward chain or from given activities."""
        with self._precision(network):
            context, state = self._evaluate_at(network, input, target, start)
            state = context.advance(state, steps, step_size)
            return Inference(activities=[np.array(state[cell.z.root]) for cell in context.cells])

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
        """The weights after `evolve` of the synapses, whose rate is divided by the batch they sum over."""
        with self._precision(network):
            for _ in range(iterations):
                context, state = self._evaluate_at(network, input, target, None, learning_rate / len(input))
                state = context.evolve(context.advance(state, steps, step_size))
                network = network.with_weights([np.array(state[s.weights.root]).T for s in context.forward])
            return [W.T for W in network.weights]

    # ---- helpers ----------------------------------------------------------------------------------------------

    def _evaluate_at(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        activities: Activities | None,
        learning_rate: float = 0.0,
    ) -> tuple[_Context, State]:
        """The context and its values with predictions, errors and `dWeights` at these or the feedforward activities."""
        context = self._context(network, input, learning_rate)
        state = context.state(network, input, target)
        z = context.feedforward(state)[0] if activities is None else list(activities)
        return context, context.evaluate(state, z)

    def _context(self, network: Network, input: np.ndarray, learning_rate: float = 0.0) -> _Context:
        static = _Static(
            dims=network.dims,
            skips=network.skips,
            activation=network.activation,
            batch=len(input),
            dtype=network.dtype.name,
            learning_rate=learning_rate,
            bounded=self._bounded,
        )
        if static not in self._contexts:
            self._contexts[static] = _Context(self._lib, static)
        return self._contexts[static]

    def _precision(self, network: Network) -> AbstractContextManager[Any]:
        """JAX's 64-bit mode for float64 networks only: with it, ngc-learn's zeros would widen float32 ones."""
        return self._lib.jax.enable_x64(network.dtype == np.float64)


def _notes(bounded: bool) -> tuple[str, ...]:
    bound = "w_bound as it is by default, 1" if bounded else "w_bound=0"
    return (
        f"{bound}; feedback synapses tied to the transposes; skips through stateless RateCells; no after-weight, "
        "because RateCell has no derivative for it, and no gelu, because it is another function",
    )


# ---- a network as a context -----------------------------------------------------------------------------------------

_numbers = itertools.count(1)


class _Context:
    """Cells, synapses and processes of one network, and the values that a question begins with."""

    def __init__(self, lib: SimpleNamespace, static: _Static) -> None:
        self._jnp = lib.jax.numpy
        name = f"pcbench{next(_numbers)}"
        with lib.ngclearn.Context(name):
            self._build(lib, static)
        # Values are handed over, not kept: a process given all global state is compiled again with every context.
        values = lib.manager.state
        self._values = {key: value for key, value in values.items() if key.startswith(f"{name}:")}

    # ---- values ---------------------------------------------------------------------------------------------------

    def state(self, network: Network, input: np.ndarray, target: np.ndarray | None = None) -> State:
        """The values of a context just built, with the weights, both ends clamped and the precision of the output."""
        values = dict(self._values)
        for synapses in (self.forward, self.ancestral):
            values.update({s.weights.root: W.T for s, W in zip(synapses, network.weights, strict=True)})
        values.update({s.weights.root: W for s, W in zip(self.feedback, network.weights[1:], strict=True)})
        values |= {s.root: input for s in (self.forward[0].inputs, self.forward[0].pre, self.ancestral[0].inputs)}
        if target is not None:
            values[self.errors[-1].target.root] = target
        values[self.errors[-1].Sigma.root] = np.full((1, 1), 1 / network.precision, network.dtype)
        return values

    def feedforward(self, state: State) -> tuple[list[Any], Any]:
        """Activities and prediction of the feedforward chain."""
        state, _ = self._project.run(state=state, update=False, dt=0.0)
        return [state[cell.z.root] for cell in self.relays], state[self.ancestral[-1].outputs.root]

    def evaluate(self, state: State, activities: Sequence[Any]) -> State:
        """The state with these activities, and all that follows from them; `dt=0` leaves them where they are."""
        state = {**state, **{cell.z.root: z for cell, z in zip(self.cells, activities, strict=True)}}
        return self._evaluate.run(state=state, update=False, dt=0.0)[0]

    def advance(self, state: State, steps: int, step_size: float) -> State:
        """The state after so many steps."""
        if steps >= _MANY:
            rows = self._jnp.asarray(self._advance.pack_rows(steps, dt=step_size))
            return self._advance.scan(rows, current_state=state, store_state=False, store_results=False)[0]
        for _ in range(steps):
            state, _ = self._advance.run(state=state, update=False, dt=step_size)
        return state

    def evolve(self, state: State) -> State:
        """The state after one update of the forward weights."""
        return self._evolve.run(state=state, update=False, dt=0.0)[0]

    # ---- wiring ---------------------------------------------------------------------------------------------------

    def _build(self, lib: SimpleNamespace, static: _Static) -> None:
        c, dims, depth = lib.components, static.dims, len(static.dims) - 1
        common = {"batch_size": static.batch, "key": lib.jax.random.PRNGKey(0)}
        weights = {**common, "weight_init": lib.constant(0.0)}
        plastic = {"eta": static.learning_rate, "sign_value": -1.0} | ({} if static.bounded else {"w_bound": 0.0})
        phi = _ACTIVATIONS[static.activation]

        def adder(name: str, units: int, one: Any, other: Any, act_fx: str = "identity") -> Any:
            """A cell without state: it sends what it receives at `j` and `j_td`."""
            cell = c.RateCell(name, n_units=units, tau_m=0.0, act_fx=act_fx, **common)
            one >> cell.j
            if other is not None:
                other >> cell.j_td
            return cell

        pairs = list(enumerate(itertools.pairwise(dims), start=1))
        self.cells = [c.RateCell(f"z{l}", n_units=dims[l], tau_m=1.0, act_fx=phi, **common) for l in range(1, depth)]
        self.errors = [c.GaussianErrorCell(f"e{l}", n_units=m, **common) for l, (_, m) in pairs]
        self.forward = [c.HebbianSynapse(f"W{l}", shape=shape, **plastic, **weights) for l, shape in pairs]
        self.feedback = [c.StaticSynapse(f"E{l}", shape=(m, n), **weights) for l, (n, m) in pairs[1:]]
        self.ancestral = [c.StaticSynapse(f"Q{l}", shape=shape, **weights) for l, shape in pairs]
        self.relays: list[Any] = []
        merged_predictions, merged_errors = [], []

        for l, skip in enumerate(static.skips, start=1):
            W, Q, e = self.forward[l - 1], self.ancestral[l - 1], self.errors[l - 1]
            below = self.cells[l - 2] if l > 1 else None
            prediction, relayed = W.outputs, None
            if below is not None:
                below.zF >> W.inputs
                below.zF >> W.pre
                self.relays[-1].zF >> Q.inputs
            if skip and below is not None:
                merged_predictions.append(adder(f"p{l}", dims[l], W.outputs, below.z))
                prediction, relayed = merged_predictions[-1].z, self.relays[-1].z
            if l < depth:
                self.cells[l - 1].z >> e.target
                self.relays.append(adder(f"q{l}", dims[l], Q.outputs, relayed, phi))
            prediction >> e.mu
            e.dmu >> W.post
        for l, cell in enumerate(self.cells, start=1):
            own, above, E = self.errors[l - 1], self.errors[l], self.feedback[l - 1]
            above.dmu >> E.inputs
            E.outputs >> cell.j
            if static.skips[l]:
                merged_errors.append(adder(f"b{l}", dims[l], own.dtarget, above.dmu))
                merged_errors[-1].z >> cell.j_td
            else:
                own.dtarget >> cell.j_td

        chain = [part for pair in itertools.zip_longest(self.ancestral, self.relays) for part in pair if part]
        judged = [*self.cells, *self.forward, *merged_predictions, *self.errors]
        self._project = _process(lib, "project", (part.advance_state for part in chain))
        self._evaluate = _process(
            lib, "evaluate", [*(part.advance_state for part in judged), *(s.calc_update for s in self.forward)]
        )
        self._advance = _process(
            lib, "advance", (part.advance_state for part in (*self.feedback, *merged_errors, *judged))
        )
        self._evolve = _process(lib, "evolve", (synapse.evolve for synapse in self.forward))


def _process(lib: SimpleNamespace, name: str, methods: Any) -> Any:
    process = lib.ngclearn.MethodProcess(name)
    for method in methods:
        process = process >> method
    return process


# ---- the library ----------------------------------------------------------------------------------------------------


@cache
def _library() -> SimpleNamespace:
    """ngc-learn's modules under short names."""
    try:
        return SimpleNamespace(
            jax=import_module("jax"),
            ngclearn=import_module("ngclearn"),
            components=import_module("ngclearn.components"),
            constant=import_module("ngclearn.utils.distribution_generator").DistributionGenerator.constant,
            manager=import_module("ngcsimlib.global_state").stateManager,
        )
    except ImportError as error:
        raise missing_library("ngclearn", error) from error
