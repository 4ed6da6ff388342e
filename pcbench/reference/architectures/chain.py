r"""PCNs over a chain of arbitrary layer functions: the same energy, inference and learning as for MLPs.

Layer \(l\) predicts \(f_l(\theta_l, s_l, z_{l-1})\) from learned parameters \(\theta_l\), values \(s_l\) that nothing
learns (scalings) and the activities below, arrays `(batch, ...)` of any shape for each sample; \(z_0 = x\) is the
input.  With \(\varepsilon_l = z_l - f_l\),

\[F = \frac1B \sum_b \Big[\tfrac12 \sum_{l<L} \|\varepsilon_l\|^2 + \lambda\,\ell(y, f_L)\Big],\]

where norms and losses are sums over every axis of a sample.  For a sequence the loss is therefore the *sum* over its
tokens, \(T\) times the mean that language models report.  Everything else is JAX's derivative of this energy; a
convolutional network or a transformer is a choice of layer functions (`pcbench.reference.architectures.cnn`,
`pcbench.reference.architectures.transformer`).

**References:** Whittington and Bogacz 2017 for the energy; Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697),
whose experiments beyond MLPs are PCNs of this kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcbench.errors import ProblemError
from pcbench.problem.network import LOSSES
from pcbench.reference.activation import ACTIVATIONS
from pcbench.reference.network import matmul

Layer = Callable[[Any, Any, jax.Array], jax.Array]
r"""\(f_l(\theta_l, s_l, z_{l-1})\), each sample by itself; hashable, and equal if it is the same function."""
Activities = tuple[jax.Array, ...]
r"""\(z_1 \dots z_{L-1}\) or their errors, an array `(batch, ...)` each."""
Parameters = tuple[Any, ...]

_LOOPED = 3
"""Layers of one function, one after another, from which a loop over them makes the smaller program."""


@dataclass(frozen=True)
class Dense:
    r"""The layer of an MLP, \([z +]\ s\,W\phi(z)\) on the last axis, or on all axes of a sample if `flatten`."""

    activation: str = "linear"
    skip: bool = False
    flatten: bool = False

    def __call__(self, weight: jax.Array, scaling: jax.Array, below: jax.Array) -> jax.Array:
        """The prediction `(batch, ..., fan_out)` from a weight `(fan_out, fan_in)` and a scalar."""
        if self.flatten:
            below = below.reshape(below.shape[0], -1)
        branch = scaling * matmul(weight, ACTIVATIONS[self.activation](below))
        return below + branch if self.skip else branch


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chain:
    r"""A PCN of \(L\) layer functions; make one with `Chain.from_layers`, which checks it.

    **Arguments:**

    - `parameters`, `scalings`: \(\theta_l\) and \(s_l\) of each layer, any pytrees, all floats of one dtype.
    - `precision`: \(\lambda\), `()`.
    - `layers`: the functions \(f_l\), static.
    - `loss`: `mse`, or `ce` over the last axis of the output; static.
    - `activation`: the name of the least smooth function in any layer, `relu` if there is a kink; static.
    - `affine`: whether every layer is affine in its activities, which makes the energy convex; static.
    """

    parameters: Parameters
    scalings: tuple[Any, ...]
    precision: Any
    layers: tuple[Layer, ...] = field(metadata={"static": True})
    loss: str = field(metadata={"static": True})
    activation: str = field(metadata={"static": True})
    affine: bool = field(metadata={"static": True})

    @classmethod
    def from_layers(
        cls,
        layers: Sequence[Layer],
        parameters: Sequence[Any],
        scalings: Sequence[Any],
        *,
        loss: str = "mse",
        precision: float = 1.0,
        activation: str = "linear",
        affine: bool = False,
    ) -> Chain:
        """A chain of at least two layers, scalings and precision of the dtype of the parameters.

        **Raises:** `ProblemError` if there are fewer, not as many parameters and scalings as layers, or a name is
        unknown.
        """
        if len(layers) < 2 or not len(layers) == len(parameters) == len(scalings):
            raise ProblemError(
                f"chain of {len(layers)} layers, {len(parameters)} parameters and {len(scalings)} scalings: "
                "needed as many of each, and at least 2 for one layer of activities"
            )
        if loss not in LOSSES:
            raise ProblemError(f"chain loss={loss!r}: needed one of {', '.join(LOSSES)}")
        if activation not in ACTIVATIONS:
            raise ProblemError(f"chain activation={activation!r}: needed one of {', '.join(ACTIVATIONS)}")
        dtype = np.result_type(*jax.tree.leaves(tuple(parameters)))
        values = jax.tree.map(lambda s: np.asarray(s, dtype), tuple(scalings))
        real = np.asarray(precision, dtype)
        return cls(tuple(parameters), values, real, tuple(layers), loss, activation, affine)

    @property
    def depth(self) -> int:
        r"""The number of layer functions, \(L\), one more than there are layers of activities."""
        return len(self.layers)

    def with_parameters(self, parameters: Parameters) -> Chain:
        """The same chain with other parameters of the same structure."""
        return replace(self, parameters=tuple(parameters))

    # ---- predictions --------------------------------------------------------------------------------------------

    def layer(self, index: int, below: jax.Array) -> jax.Array:
        r"""\(f_l\), `index` being \(l - 1\)."""
        return self.layers[index](self.parameters[index], self.scalings[index], below)

    def bottom(self, input: jax.Array) -> jax.Array:
        r"""\(f_1(x)\), which inference never changes: compute it once."""
        return self.layer(0, input)

    def output(self, top: jax.Array) -> jax.Array:
        r"""\(f_L(z_{L-1})\), the prediction of the target, logits for `ce`."""
        return self.layer(self.depth - 1, top)

    def hidden_predictions(self, bottom: jax.Array, activities: Activities) -> Activities:
        r"""\(f_1 \dots f_{L-1}\) at given activities, from `bottom` \(= f_1(x)\)."""
        found = [bottom]
        for first, last in self._runs():
            below = activities[first - 1 : last - 1]
            if last - first >= _LOOPED and len({z.shape for z in below}) == 1:
                stacked = (*self._stack(first, last), jnp.stack(below))
                found += list(lax.map(lambda item, f=self.layers[first]: f(*item), stacked))
            else:
                found += [self.layer(i, z) for i, z in zip(range(first, last), below, strict=True)]
        return tuple(found)

    def forward(self, input: jax.Array, errors: Activities | None = None) -> tuple[Activities, jax.Array]:
        r"""The activities and the output of \(z_l = f_l(z_{l-1}) + \varepsilon_l\); without errors, feedforward.

        As a function of the errors it is the map between the error space and the activities (arXiv 2505.20137).
        """
        z = self.bottom(input)
        z = z if errors is None else z + errors[0]
        activities = [z]
        for first, last in self._runs():
            function, each = self.layers[first], None if errors is None else errors[first:last]
            looped = last - first >= _LOOPED
            if looped and jax.eval_shape(lambda z, i=first: self.layer(i, z), z).shape == z.shape:
                stacked = (*self._stack(first, last), None if each is None else jnp.stack(each))

                def step(below: jax.Array, item: Any, f: Layer = function) -> tuple[jax.Array, jax.Array]:
                    z = f(item[0], item[1], below)
                    z = z if item[2] is None else z + item[2]
                    return z, z

                z, above = lax.scan(step, z, stacked)
                activities += list(above)
            else:
                for i in range(first, last):
                    z = self.layer(i, z) if each is None else self.layer(i, z) + each[i - first]
                    activities.append(z)
        return tuple(activities), self.output(z)

    def _runs(self) -> list[tuple[int, int]]:
        """The layers between first and last as `(first, last + 1)` of runs of one function with equal shapes."""

        def kind(i: int) -> Any:
            leaves, structure = jax.tree.flatten((self.parameters[i], self.scalings[i]))
            return self.layers[i], structure, [jnp.shape(leaf) for leaf in leaves]

        runs: list[tuple[int, int]] = []
        for i in range(1, self.depth - 1):
            if runs and kind(i) == kind(i - 1):
                runs[-1] = (runs[-1][0], i + 1)
            else:
                runs.append((i, i + 1))
        return runs

    def _stack(self, first: int, last: int) -> tuple[Any, Any]:
        """Parameters and scalings of a run along a new leading axis."""
        each = zip(self.parameters[first:last], self.scalings[first:last], strict=True)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)


# ---- energy -----------------------------------------------------------------------------------------------------


def squared_norm(error: jax.Array) -> jax.Array:
    """The squared norm of each sample over all its axes, `(batch, ...)` to `(batch,)`."""
    return jnp.sum(error**2, axis=tuple(range(1, error.ndim)))


def output_loss(chain: Chain, output: jax.Array, target: jax.Array) -> jax.Array:
    r"""\(\ell(y, \hat y)\) of each sample, `(batch,)`, without \(\lambda\): summed over all axes, tokens included.

    **Raises:** `ProblemError` if output and target differ in shape, which broadcasting would hide.
    """
    if jnp.shape(target) != output.shape:
        raise ProblemError(f"target of shape {jnp.shape(target)}: needed that of the output, {output.shape}")
    if chain.loss == "mse":
        return 0.5 * squared_norm(target - output)
    return -jnp.sum(target * jax.nn.log_softmax(output), axis=tuple(range(1, output.ndim)))


def sample_energies_from(chain: Chain, bottom: jax.Array, target: jax.Array, activities: Activities) -> jax.Array:
    r"""`sample_energies` given `bottom` \(= f_1(x)\)."""
    pairs = zip(activities, chain.hidden_predictions(bottom, activities), strict=True)
    hidden = [0.5 * squared_norm(z - f) for z, f in pairs]
    return jnp.stack([*hidden, chain.precision * output_loss(chain, chain.output(activities[-1]), target)])


def sample_energies(chain: Chain, input: jax.Array, target: jax.Array, activities: Activities) -> jax.Array:
    r"""The energy of each layer and sample, `(L, batch)`, \(\lambda\) included in the last row."""
    return sample_energies_from(chain, chain.bottom(input), target, activities)


def energy(chain: Chain, input: jax.Array, target: jax.Array, activities: Activities) -> jax.Array:
    """The total energy, mean over the batch."""
    return jnp.sum(jnp.mean(sample_energies(chain, input, target, activities), axis=1))


# ---- gradients, inference ---------------------------------------------------------------------------------------


def activity_gradients(chain: Chain, input: jax.Array, target: jax.Array, activities: Activities) -> Activities:
    r"""\(\partial F_b/\partial z_l\) of each sample's own energy, shaped as the activities."""
    bottom = chain.bottom(input)
    return jax.grad(lambda z: jnp.sum(sample_energies_from(chain, bottom, target, z)))(activities)


def weight_gradients(chain: Chain, input: jax.Array, target: jax.Array, activities: Activities) -> Parameters:
    r"""\(\partial F/\partial\theta_l\) at fixed activities, structured as `Chain.parameters`; mean over the batch."""
    return jax.grad(lambda p: energy(chain.with_parameters(p), input, target, activities))(chain.parameters)


def energies_and_gradients(
    chain: Chain, input: jax.Array, target: jax.Array, activities: Activities
) -> tuple[jax.Array, Activities, Parameters]:
    """The energy of each layer `(L,)`, `activity_gradients` and `weight_gradients` from one backward pass."""

    def energies(parameters: Parameters, activities: Activities) -> jax.Array:
        return sample_energies(chain.with_parameters(parameters), input, target, activities)

    each, pull = jax.vjp(energies, chain.parameters, activities)
    for_parameters, for_activities = pull(jnp.ones_like(each))
    batch = each.shape[1]
    return jnp.mean(each, axis=1), for_activities, jax.tree.map(lambda g: g / batch, for_parameters)


def backpropagation(chain: Chain, input: jax.Array, target: jax.Array) -> Parameters:
    r"""The gradient of \(\lambda\) times the loss of the feedforward pass: the yardstick, not a part of PC."""

    def loss(parameters: Parameters) -> jax.Array:
        net = chain.with_parameters(parameters)
        return jnp.mean(net.precision * output_loss(net, net.forward(input)[1], target))

    return jax.grad(loss)(chain.parameters)


def infer(
    chain: Chain, input: jax.Array, target: jax.Array, activities: Activities, steps: jax.Array, step_size: jax.Array
) -> Activities:
    r"""The activities after `steps` simultaneous steps \(z_l \leftarrow z_l - \eta\,\partial F_b/\partial z_l\).

    One loop; number and size of the steps are values, so no choice of either recompiles.
    """
    bottom = chain.bottom(input)
    slope = jax.grad(lambda z: jnp.sum(sample_energies_from(chain, bottom, target, z)))

    def step(_: jax.Array, z: Activities) -> Activities:
        return jax.tree.map(lambda z, g: z - step_size * g, z, slope(z))

    return lax.fori_loop(0, steps, step, tuple(jnp.asarray(z) for z in activities))
