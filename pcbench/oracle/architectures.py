r"""Executable specification of CNNs and transformers: predictions, energies and gradients, with error bounds.

Everything is written from the equations of `pcbench.problem.architecture.Architecture` in
`pcbench.oracle.running_error`: a value and a bound on how far a correct implementation may be from it; gradients are
the reverse mode of the same formulas. Convolutions gather the 3x3 neighbourhood of every pixel, attention goes head by
head; the reference uses other means for both, and JAX's derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pcbench.oracle.numerics import gamma
from pcbench.oracle.running_error import Pair, Rounded, concatenate, reverse_gradients
from pcbench.problem.architecture import Architecture, leaves, rebuild
from pcbench.problem.network import Activities

EPSILON = 1e-5
"""What layer normalisation adds to the variance."""


# ---- layers -----------------------------------------------------------------------------------------------------


def parameter_operands(network: Architecture) -> list[Any]:
    """The parameters of every layer, structured as those of the network, as operands."""
    return [rebuild(p, _exact(leaves(p), network)) for p in network.parameters]


def _exact(arrays: Sequence[np.ndarray], network: Architecture) -> Any:
    return [Rounded.exact(a, network.dtype) for a in arrays]


def prediction(
    network: Architecture, l: int, below: np.ndarray | Rounded, parameters: Sequence[Any] | None = None
) -> Rounded:
    r"""\(f_l(z_{l-1})\) for layer `l` counted from 1, of any number of samples; parameters are `parameter_operands`."""
    own = (parameter_operands(network) if parameters is None else parameters)[l - 1]
    if network.kind == "transformer" and l == 1:
        return _embedding(network, own, below.value if isinstance(below, Rounded) else below)
    z = below if isinstance(below, Rounded) else Rounded.exact(below, network.dtype)
    return _cnn_layer(network, l, own, z) if network.kind == "cnn" else _transformer_layer(network, l, own, z)


def _cnn_layer(network: Architecture, l: int, own: Any, z: Rounded) -> Rounded:
    scaling, shape = network.scalings[l - 1], z.value.shape
    if l == network.depth:
        return _reshape(z, (shape[0], -1)).apply_weight(own).times(scaling)
    place = (l - 1) % (network.sizes["blocks"] + 2)
    if place == 0:
        return _convolution(z, own).times(scaling)
    if place <= network.sizes["blocks"]:
        return z.plus(_convolution(z.activate(network.activation), own).times(scaling))
    batch, side, _, channels = shape
    return _reshape(z, (batch, side // 2, 2, side // 2, 2, channels)).mean((2, 4))


def _convolution(z: Rounded, kernel: Rounded) -> Rounded:
    """3x3, stride 1, zeros around the image."""
    side, channels = z.value.shape[1], z.value.shape[-1]
    shifts = [(i, j) for i in range(3) for j in range(3)]

    def gather(image: np.ndarray) -> np.ndarray:
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return np.concatenate([padded[:, i : i + side, j : j + side] for i, j in shifts], axis=-1)

    def scatter(each: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(each), side + 2, side + 2, channels))
        for k, (i, j) in enumerate(shifts):
            padded[:, i : i + side, j : j + side] += each[..., k * channels : (k + 1) * channels]
        return padded[:, 1:-1, 1:-1]

    return z.rearrange(gather, scatter).apply_weight(_reshape(kernel, (len(kernel.value), -1)))


def _reshape(z: Rounded, shape: tuple[int, ...]) -> Rounded:
    return z.rearrange(lambda a: a.reshape(shape), lambda a: a.reshape(z.value.shape))


def _embedding(network: Architecture, own: Mapping[str, Rounded], x: np.ndarray) -> Rounded:
    table = own["token"]
    if "input_dim" in network.sizes:
        token = Rounded.exact(x, network.dtype).apply_weight(table).times(network.scalings[0])
    else:
        rows = np.eye(len(table.value))[x]  # a token's row by a product with 0 and 1, which rounds nothing
        turned = table.rearrange(lambda a: a.T, lambda a: a.T)
        token = Rounded.exact(rows, network.dtype).apply_weight(turned)
    return token.plus(own["position"]).times(1 / math.sqrt(2))


def _transformer_layer(network: Architecture, l: int, own: Any, z: Rounded) -> Rounded:
    scalings, normalised = network.scalings[l - 1], network.options["normalised"]
    if l == network.depth:
        return (z.normalise(EPSILON) if normalised else z).apply_weight(own).times(scalings)
    if "mixing" in own:
        branch = _attention(network, own, scalings, z.normalise(EPSILON) if normalised else z)
        z = z.plus(branch.times(scalings["branch"]))
    if "widening" in own:
        below = z.normalise(EPSILON) if normalised else z
        drive = below.apply_weight(own["widening"]).times(scalings["narrow"])
        branch = drive.activate(network.activation).apply_weight(own["narrowing"]).times(scalings["wide"])
        z = z.plus(branch.times(scalings["branch"]))
    return z


def _attention(network: Architecture, own: Mapping[str, Rounded], scalings: Mapping[str, float], z: Rounded) -> Rounded:
    tokens, width, heads = (network.sizes[name] for name in ("tokens", "width", "heads"))
    mixed = z.apply_weight(own["mixing"]).times(scalings["narrow"])
    seen = np.tril(np.ones((tokens, tokens), bool)) if network.options["causal"] else np.ones((tokens, tokens), bool)
    units, outputs = width // heads, []
    for head in range(heads):
        q, k, v = (_units(mixed, part * width + head * units, units) for part in range(3))
        turned = k.rearrange(lambda a: np.swapaxes(a, 1, 2), lambda a: np.swapaxes(a, 1, 2))
        logits = q.dot(turned).times(scalings["logit"])
        weights = logits.softmax(seen) if network.options["softmax"] else logits.times(seen / seen.sum(-1)[:, None])
        outputs.append(weights.dot(v))
    return concatenate(outputs).apply_weight(own["joining"]).times(scalings["narrow"])


def _units(z: Rounded, first: int, count: int) -> Rounded:
    before, behind = first, z.value.shape[-1] - first - count
    room = [(0, 0)] * (z.value.ndim - 1) + [(before, behind)]
    return z.rearrange(lambda a: a[..., first : first + count], lambda a: np.pad(a, room))


# ---- passes -----------------------------------------------------------------------------------------------------


def feedforward(network: Architecture, input: np.ndarray, parameters: Sequence[Any] | None = None) -> list[Rounded]:
    r"""\(z_1 \dots z_{L-1}\) of the feedforward pass and the output, with the errors of all layers below in each."""
    own, found = parameter_operands(network) if parameters is None else parameters, list[Rounded]()
    for l in range(1, network.depth + 1):
        found.append(prediction(network, l, found[-1] if found else input, own))
    return found


def predictions(network: Architecture, input: np.ndarray, activities: Activities) -> list[Rounded]:
    r"""\(f_1 \dots f_L\) at given activities."""
    own = parameter_operands(network)
    return [prediction(network, l, below, own) for l, below in enumerate((input, *activities), start=1)]


def forward_with_errors(network: Architecture, input: np.ndarray, errors: Sequence[Rounded]) -> list[Rounded]:
    r"""\(z_1 \dots z_{L-1}\) with \(z_l = f_l(z_{l-1}) + \varepsilon_l\), and the output."""
    own, found = parameter_operands(network), list[Rounded]()
    for l in range(1, network.depth):
        found.append(prediction(network, l, found[-1] if found else input, own).plus(errors[l - 1]))
    return [*found, prediction(network, network.depth, found[-1], own)]


# ---- energies ---------------------------------------------------------------------------------------------------


def sample_loss(network: Architecture, target: np.ndarray, output: Rounded) -> Rounded:
    r"""\(\ell(y, \hat y)\) of each sample, `(batch,)`, summed over all axes of a sample, tokens included."""
    if network.loss == "mse":
        return _error(target, output).half_square()
    logits, axes, g0 = output.value, tuple(range(1, output.value.ndim)), output.unit
    p = output.softmax(np.ones(logits.shape[-1:], bool))
    top = logits.max(axis=-1, keepdims=True)
    total = top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))
    mass = np.sum(target, axis=-1)
    each = mass * total - np.sum(target * logits, axis=-1)
    # the logarithm of the sum is no farther off than the worst logit, and so is the target's logit
    off = 2 * output.error.max(axis=-1) + gamma(logits.shape[-1], output.dtype) * (
        1 + np.abs(total) + 3 * np.abs(logits).max(axis=-1)
    )
    count = int(np.prod(each.shape[1:]))
    error = np.sum(mass * off + gamma(count, output.dtype) * np.abs(each), axis=axes[:-1])

    def back(d: np.ndarray, e: np.ndarray) -> Pair:
        d, e = np.expand_dims(d, axes), np.expand_dims(e, axes)
        slope, off = mass[..., None] * p.value - target, mass[..., None] * p.error + g0 * np.abs(target)
        return d * slope, np.abs(d) * off + (e + g0 * np.abs(d)) * (np.abs(slope) + off)

    return output.derive(np.sum(each, axis=axes[:-1]), error, (output, back))


def _error(activities: np.ndarray | Rounded, predicted: Rounded) -> Rounded:
    z = activities if isinstance(activities, Rounded) else Rounded.exact(activities, predicted.dtype)
    return predicted.times(-1.0).plus(z)


def prediction_errors(network: Architecture, input: np.ndarray, activities: Activities) -> list[Rounded]:
    r"""\(\varepsilon_1 \dots \varepsilon_{L-1}\)."""
    return [_error(z, f) for z, f in zip(activities, predictions(network, input, activities), strict=False)]


def _energies(
    network: Architecture, input: np.ndarray, target: np.ndarray, activities: Sequence[Rounded], own: Sequence[Any]
) -> list[Rounded]:
    """The energy of each layer and sample, `(batch,)` each."""
    predicted = [prediction(network, l, below, own) for l, below in enumerate((input, *activities), start=1)]
    layers = [_error(z, f).half_square() for z, f in zip(activities, predicted[:-1], strict=True)]
    return [*layers, sample_loss(network, target, predicted[-1]).times(network.precision)]


def layer_energies(network: Architecture, input: np.ndarray, target: np.ndarray, activities: Activities) -> Pair:
    """The energy of each layer, `(L,)`, mean over the batch, and the bounds."""
    exact = _exact(activities, network)
    each = _energies(network, input, target, exact, parameter_operands(network))
    value, error = (np.array([np.mean(getattr(e, name)) for e in each]) for name in ("value", "error"))
    return value, error + gamma(len(input), network.dtype) * value


def energy(network: Architecture, input: np.ndarray, target: np.ndarray, activities: Activities) -> tuple[float, float]:
    r"""\(F\), the mean over the batch, and a bound on the error of an implementation."""
    value, error = layer_energies(network, input, target, activities)
    return float(value.sum()), float(error.sum() + gamma(len(value), network.dtype) * value.sum())


# ---- gradients --------------------------------------------------------------------------------------------------


def activity_gradients(
    network: Architecture, input: np.ndarray, target: np.ndarray, activities: Activities
) -> tuple[Activities, Activities]:
    r"""\(B\,\partial F/\partial z_l\), shaped as the activities, and the bounds."""
    exact = _exact(activities, network)
    pairs = reverse_gradients(_energies(network, input, target, exact, parameter_operands(network)), exact)
    return [d for d, _ in pairs], [e for _, e in pairs]


def weight_gradients(
    network: Architecture, input: np.ndarray, target: np.ndarray, activities: Activities
) -> tuple[Activities, Activities]:
    r"""\(\partial F/\partial\theta\) in the order of `pcbench.problem.architecture.leaves`, and the bounds."""
    exact, own = _exact(activities, network), parameter_operands(network)
    return _average(
        reverse_gradients(_energies(network, input, target, exact, own), _operands(own)), network, len(input)
    )


def backpropagation(network: Architecture, input: np.ndarray, target: np.ndarray) -> tuple[Activities, Activities]:
    r"""The gradient of \(\lambda\) times the mean loss of the feedforward pass, as `weight_gradients`."""
    own = parameter_operands(network)
    loss = sample_loss(network, target, feedforward(network, input, own)[-1]).times(network.precision)
    return _average(reverse_gradients([loss], _operands(own)), network, len(input))


def error_gradients(
    network: Architecture, input: np.ndarray, target: np.ndarray, errors: Activities
) -> tuple[Activities, Activities]:
    r"""\(\nabla_\varepsilon F_b\) of each sample where \(z_l = f_l(z_{l-1}) + \varepsilon_l\), and the bounds."""
    exact = _exact(errors, network)
    loss = sample_loss(network, target, forward_with_errors(network, input, exact)[-1]).times(network.precision)
    pairs = reverse_gradients([*(e.half_square() for e in exact), loss], exact)
    return [d for d, _ in pairs], [e for _, e in pairs]


def _operands(tree: Any) -> list[Rounded]:
    """The operands inside parameters, in the order of `pcbench.problem.architecture.leaves`."""
    if isinstance(tree, Rounded):
        return [tree]
    items = tree.values() if isinstance(tree, Mapping) else tree
    return [leaf for item in items for leaf in _operands(item)]


def _average(pairs: Sequence[Pair], network: Architecture, batch: int) -> tuple[Activities, Activities]:
    g = gamma(0, network.dtype)
    return [d / batch for d, _ in pairs], [(e + g * np.abs(d)) / batch for d, e in pairs]
