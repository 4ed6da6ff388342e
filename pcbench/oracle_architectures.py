r"""The executable specification of CNNs and transformers: predictions and energies in NumPy, with error bounds.

Everything is written from the equations of `pcbench.architecture.Architecture` in `pcbench.running_error`: a value and
a bound on how far a correct implementation may be from it.  Convolutions gather the 3x3 neighbourhood of every pixel,
attention goes head by head; the reference uses other means for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pcbench.architecture import Architecture
from pcbench.numerics import gamma
from pcbench.running_error import Rounded

EPSILON = 1e-5
"""What layer normalisation adds to the variance."""


# ---- layers -----------------------------------------------------------------------------------------------------


def prediction(network: Architecture, l: int, below: np.ndarray | Rounded) -> Rounded:
    r"""\(f_l(z_{l-1})\) for layer `l` counted from 1, of any number of samples."""
    if network.kind == "transformer" and l == 1:
        return _embedding(network, below.value if isinstance(below, Rounded) else below)
    z = below if isinstance(below, Rounded) else Rounded.exact(below)
    return _cnn_layer(network, l, z) if network.kind == "cnn" else _transformer_layer(network, l, z)


def _cnn_layer(network: Architecture, l: int, z: Rounded) -> Rounded:
    parameters, scaling = network.parameters[l - 1], network.scalings[l - 1]
    batch = len(z.value)
    if l == network.depth:
        flat = Rounded(z.value.reshape(batch, -1), z.error.reshape(batch, -1))
        return flat.through(parameters).times(scaling)
    place = (l - 1) % (network.sizes["blocks"] + 2)
    if place == 0:
        return _convolution(z, parameters).times(scaling)
    if place <= network.sizes["blocks"]:
        return z.plus(_convolution(z.activated(network.activation), parameters).times(scaling))
    _, side, _, channels = z.value.shape
    squares = (batch, side // 2, 2, side // 2, 2, channels)
    return Rounded(z.value.reshape(squares), z.error.reshape(squares)).mean((2, 4))


def _convolution(z: Rounded, kernel: np.ndarray) -> Rounded:
    """3x3, stride 1, zeros around the image."""

    def gathered(image: np.ndarray) -> np.ndarray:
        side = image.shape[1]
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifts = [padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3)]
        return np.concatenate(shifts, axis=-1)

    return Rounded(gathered(z.value), gathered(z.error)).through(kernel.reshape(len(kernel), -1))


def _embedding(network: Architecture, x: np.ndarray) -> Rounded:
    table, position = network.parameters[0]["token"], Rounded.exact(network.parameters[0]["position"])
    if "input_dim" in network.sizes:
        token = Rounded.exact(x).through(table).times(network.scalings[0])
    else:
        token = Rounded.exact(np.asarray(table)[x])
    return token.plus(position).times(1 / math.sqrt(2))


def _transformer_layer(network: Architecture, l: int, z: Rounded) -> Rounded:
    parameters, scalings = network.parameters[l - 1], network.scalings[l - 1]
    normalised = network.options["normalised"]
    if l == network.depth:
        return (z.normalised(EPSILON) if normalised else z).through(parameters).times(scalings)
    if "mixing" in parameters:
        branch = _attention(network, parameters, scalings, z.normalised(EPSILON) if normalised else z)
        z = z.plus(branch.times(scalings["branch"]))
    if "widening" in parameters:
        below = z.normalised(EPSILON) if normalised else z
        drive = below.through(parameters["widening"]).times(scalings["narrow"])
        branch = drive.activated(network.activation).through(parameters["narrowing"]).times(scalings["wide"])
        z = z.plus(branch.times(scalings["branch"]))
    return z


def _attention(
    network: Architecture, parameters: Mapping[str, np.ndarray], scalings: Mapping[str, float], z: Rounded
) -> Rounded:
    tokens, width, heads = (network.sizes[name] for name in ("tokens", "width", "heads"))
    queries, keys, values = (
        z.through(part).times(scalings["narrow"]) for part in np.split(np.asarray(parameters["mixing"]), 3)
    )
    seen = np.tril(np.ones((tokens, tokens), bool)) if network.options["causal"] else np.ones((tokens, tokens), bool)
    units, outputs = width // heads, []
    for head in range(heads):
        q, k, v = (_units(part, slice(head * units, (head + 1) * units)) for part in (queries, keys, values))
        transposed = Rounded(np.swapaxes(k.value, 1, 2), np.swapaxes(k.error, 1, 2))
        logits = q.dot(transposed).times(scalings["logit"])
        if network.options["softmax"]:
            weights = logits.softmax(seen)
        else:
            count = seen.sum(axis=-1, keepdims=True)
            size = (logits.error + gamma(0, logits.dtype) * logits.size) / count
            weights = logits.becomes(np.where(seen, logits.value, 0) / count, np.where(seen, size, 0))
        outputs.append(weights.dot(v))
    together = Rounded(
        np.concatenate([o.value for o in outputs], axis=-1), np.concatenate([o.error for o in outputs], axis=-1)
    )
    return together.through(parameters["joining"]).times(scalings["narrow"])


def _units(z: Rounded, which: slice) -> Rounded:
    return Rounded(z.value[..., which], z.error[..., which])


# ---- passes and energies ----------------------------------------------------------------------------------------


def feedforward(network: Architecture, input: np.ndarray) -> list[Rounded]:
    r"""\(z_1 \dots z_{L-1}\) of the feedforward pass and the output, with the errors of all layers below in each."""
    found: list[Rounded] = []
    for l in range(1, network.depth + 1):
        found.append(prediction(network, l, found[-1] if found else input))
    return found


def predictions(network: Architecture, input: np.ndarray, activities: Sequence[np.ndarray]) -> list[Rounded]:
    r"""\(f_1 \dots f_L\) at given activities."""
    return [prediction(network, l, below) for l, below in enumerate((input, *activities), start=1)]


def sample_loss(network: Architecture, target: np.ndarray, output: Rounded) -> Rounded:
    r"""\(\ell(y, \hat y)\) of each sample, `(batch,)`, summed over all axes of a sample, tokens included."""
    if network.loss == "mse":
        return _half_square(target, output)
    logits, axes = output.value, tuple(range(1, output.value.ndim))
    top = logits.max(axis=-1, keepdims=True)
    total = top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))
    each = total - np.sum(target * logits, axis=-1)
    g = gamma(logits.shape[-1], output.dtype)
    # the logarithm of the sum is no farther off than the worst logit, and so is the target's logit
    off = 2 * output.error.max(axis=-1) + g * (1 + np.abs(total) + 3 * np.abs(logits).max(axis=-1))
    count = int(np.prod(each.shape[1:]))
    error = np.sum(off + gamma(count, output.dtype) * np.abs(each), axis=axes[:-1])
    return output.becomes(np.sum(each, axis=axes[:-1]), error)


def _half_square(activities: np.ndarray, predicted: Rounded) -> Rounded:
    """Half the squared norm of the prediction error of each sample, over all its axes."""
    axes = tuple(range(1, activities.ndim))
    error = predicted.times(-1.0).plus(Rounded.exact(activities))
    g = gamma(int(np.prod(activities.shape[1:])), predicted.dtype)
    bound = np.abs(error.value) * error.error + 0.5 * error.error**2 + 0.5 * g * error.size**2
    return predicted.becomes(0.5 * np.sum(error.value**2, axis=axes), np.sum(bound, axis=axes))


def energy(
    network: Architecture, input: np.ndarray, target: np.ndarray, activities: Sequence[np.ndarray]
) -> tuple[float, float]:
    r"""\(F\), the mean over the batch, and a bound on the error of an implementation."""
    predicted = predictions(network, input, activities)
    layers = [_half_square(z, f) for z, f in zip(activities, predicted[:-1], strict=True)]
    layers.append(sample_loss(network, target, predicted[-1]).times(network.precision))
    total = sum(float(np.mean(each.value)) for each in layers)
    bound = sum(float(np.mean(each.error)) for each in layers)
    return total, bound + gamma(len(layers) + len(input), predicted[0].dtype) * total
