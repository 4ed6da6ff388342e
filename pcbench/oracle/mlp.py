r"""The executable specification: energy, prediction errors, gradients, inference and backpropagation, in plain NumPy.

Everything is float64, vectorised over the batch, and written to be read beside the equations.  Activities are lists
\(z_1 \dots z_{L-1}\) of arrays `(batch, width)`; energies are un-normalised per sample (`sample_energies`) and means
over the batch (`energy`).

**References:** Whittington and Bogacz 2017 for the energy and its gradients; Innocenti, Achour and Bogacz 2026
(arXiv 2602.07697) for scalings and skips.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pcbench.problem.network import Activities, Network

Function = Callable[[np.ndarray], np.ndarray]

_erf = np.frompyfunc(math.erf, 1, 1)


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.asarray(_erf(z / math.sqrt(2)), dtype=np.float64))


def _normal_pdf(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _logistic(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -z))


_GELU_C = math.sqrt(2 / math.pi)


def _gelu_tanh(z: np.ndarray) -> np.ndarray:
    return 0.5 * z * (1 + np.tanh(_GELU_C * (z + 0.044715 * z**3)))


def _gelu_tanh_derivative(z: np.ndarray) -> np.ndarray:
    t = np.tanh(_GELU_C * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * _GELU_C * (1 + 3 * 0.044715 * z * z)


PHI: dict[str, tuple[Function, Function]] = {
    "linear": (lambda z: z, np.ones_like),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(np.float64)),
    "gelu": (lambda z: z * _normal_cdf(z), lambda z: _normal_cdf(z) + z * _normal_pdf(z)),
    "gelu-tanh": (_gelu_tanh, _gelu_tanh_derivative),
    "silu": (lambda z: z * _logistic(z), lambda z: _logistic(z) * (1 + z * _logistic(-z))),
    "softplus": (lambda z: np.logaddexp(0.0, z), _logistic),
}
"""Activation and derivative by name; the derivative of relu at 0 is 0."""


# ---- predictions and energy -------------------------------------------------------------------------------------


def layer_prediction(network: Network, l: int, below: np.ndarray) -> np.ndarray:
    r"""\(f_l(z_{l-1})\), `(batch, fan_out)`, for layer `l` counted from 1."""
    phi = PHI[network.activation][0]
    a, W = network.scalings[l - 1], np.asarray(network.weights[l - 1], np.float64)
    if network.placement == "before-weight":
        branch = a * (below if l == 1 else phi(below)) @ W.T
    else:
        drive = a * below @ W.T
        branch = drive if l == network.depth else phi(drive)
    return branch + network.skips[l - 1] * below if network.skips[l - 1] else branch


def feedforward(network: Network, input: np.ndarray) -> Activities:
    r"""The activities of the feedforward pass, \(z_l = f_l(z_{l-1})\) with \(z_0 = x\)."""
    activities, below = [], np.asarray(input, np.float64)
    for l in range(1, network.depth):
        below = layer_prediction(network, l, below)
        activities.append(below)
    return activities


def predict(network: Network, input: np.ndarray) -> np.ndarray:
    """The output of the feedforward pass, `(batch, K)`; logits for cross-entropy."""
    return layer_prediction(network, network.depth, feedforward(network, input)[-1])


def predictions(network: Network, input: np.ndarray, activities: Activities) -> list[np.ndarray]:
    r"""\(f_1(x), f_2(z_1), \dots, f_L(z_{L-1})\) at given activities."""
    below = [np.asarray(input, np.float64), *(np.asarray(z, np.float64) for z in activities)]
    return [layer_prediction(network, l, z) for l, z in enumerate(below, start=1)]


def output_error(network: Network, target: np.ndarray, output: np.ndarray) -> np.ndarray:
    r"""\(-\partial\ell/\partial f_L\): \(y - f_L\) for mse, \((\sum_k y_k)\,\)softmax subtracted from \(y\) for ce."""
    y = np.asarray(target, np.float64)
    if network.loss == "mse":
        return y - output
    return y - y.sum(axis=1, keepdims=True) * _softmax(output)


def prediction_errors(
    network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
) -> list[np.ndarray]:
    r"""\(\varepsilon_l = z_l - f_l(z_{l-1})\) for \(l < L\), and `output_error` at the top (without \(\lambda\))."""
    f = predictions(network, input, activities)
    hidden = [np.asarray(z, np.float64) - p for z, p in zip(activities, f[:-1], strict=True)]
    return [*hidden, output_error(network, target, f[-1])]


def sample_loss(network: Network, target: np.ndarray, output: np.ndarray) -> np.ndarray:
    r"""\(\ell(y, f_L)\) of each sample, `(batch,)`, without \(\lambda\)."""
    y = np.asarray(target, np.float64)
    if network.loss == "mse":
        return 0.5 * np.sum((y - output) ** 2, axis=1)
    return np.sum(y * (_logsumexp(output) - output), axis=1)


def layer_energies(network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> np.ndarray:
    r"""Each layer's energy of each sample, `(batch, L)`; the last column is \(\lambda\ell\)."""
    f = predictions(network, input, activities)
    hidden = [0.5 * np.sum((np.asarray(z, np.float64) - p) ** 2, axis=1) for z, p in zip(activities, f, strict=False)]
    return np.stack([*hidden, network.precision * sample_loss(network, target, f[-1])], axis=1)


def sample_energies(network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> np.ndarray:
    """The energy of each sample, `(batch,)`, not divided by the batch."""
    return layer_energies(network, input, target, activities).sum(axis=1)


def energy(network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
    r"""\(F\), the mean of `sample_energies` over the batch."""
    return float(np.mean(sample_energies(network, input, target, activities)))


def loss(network: Network, input: np.ndarray, target: np.ndarray) -> float:
    r"""The BP loss, the mean of \(\ell(y, \hat y)\) over the batch, without \(\lambda\)."""
    return float(np.mean(sample_loss(network, target, predict(network, input))))


# ---- gradients --------------------------------------------------------------------------------------------------


def feedback(network: Network, l: int, below: np.ndarray, error: np.ndarray) -> np.ndarray:
    r"""\((\partial f_l/\partial z_{l-1})^\top\) applied to `error`, `(batch, fan_in)`, at \(z_{l-1}\) = `below`."""
    derivative = PHI[network.activation][1]
    a, W = network.scalings[l - 1], np.asarray(network.weights[l - 1], np.float64)
    if network.placement == "before-weight":
        down = a * error @ W
        if l > 1:
            down = derivative(below) * down
    else:
        gain = error if l == network.depth else derivative(a * below @ W.T) * error
        down = a * gain @ W
    return down + network.skips[l - 1] * error if network.skips[l - 1] else down


def activity_gradients(network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> Activities:
    r"""The gradients \(B\,\partial F/\partial z_l\) of each sample, `(batch, width)` each, hidden layers only."""
    z = [np.asarray(a, np.float64) for a in activities]
    errors = weighted_errors(network, input, target, z)
    return [errors[l - 1] - feedback(network, l + 1, z[l - 1], errors[l]) for l in range(1, network.depth)]


def weight_gradients(
    network: Network, input: np.ndarray, target: np.ndarray, activities: Activities
) -> list[np.ndarray]:
    r"""\(\partial F/\partial W_l = -(a_l/B)\sum_b \varepsilon_l\,\phi(z_{l-1})^\top\), each `(fan_out, fan_in)`."""
    z = [np.asarray(a, np.float64) for a in activities]
    return weight_gradients_from(network, input, z, weighted_errors(network, input, target, z))


def backprop_deltas(network: Network, input: np.ndarray, target: np.ndarray) -> list[np.ndarray]:
    r"""\(\delta_l = -B\,\partial(\lambda\,\mathrm{loss})/\partial z_l\) of backpropagation for \(l = 1 \dots L\)."""
    z = feedforward(network, input)
    deltas = [network.precision * output_error(network, target, layer_prediction(network, network.depth, z[-1]))]
    for l in range(network.depth, 1, -1):
        deltas.insert(0, feedback(network, l, z[l - 2], deltas[0]))
    return deltas


def backprop_gradients(network: Network, input: np.ndarray, target: np.ndarray) -> list[np.ndarray]:
    r"""The gradient of \(\lambda\cdot\)loss with respect to each \(W_l\), by backpropagation."""
    z = feedforward(network, input)
    deltas = backprop_deltas(network, input, target)
    return weight_gradients_from(network, input, z, deltas)


def weighted_errors(network: Network, input: np.ndarray, target: np.ndarray, z: Activities) -> list[np.ndarray]:
    """Prediction errors, the last times the output precision, so that every gradient reads the same."""
    errors = prediction_errors(network, input, target, z)
    errors[-1] = network.precision * errors[-1]
    return errors


def weight_gradients_from(
    network: Network, input: np.ndarray, z: Activities, errors: list[np.ndarray]
) -> list[np.ndarray]:
    r"""The local rule for any pairing of activities and errors, \(-(a_l/B)\sum_b\varepsilon_l\,\phi(z_{l-1})^\top\)."""
    phi, derivative = PHI[network.activation]
    gradients = []
    below = [np.asarray(input, np.float64), *z]
    for l, (a, W, e, v) in enumerate(zip(network.scalings, network.weights, errors, below, strict=True), start=1):
        if network.placement == "before-weight":
            e, v = e, (v if l == 1 else phi(v))
        elif l < network.depth:
            e = derivative(a * v @ np.asarray(W, np.float64).T) * e
        gradients.append(-(a / len(e)) * e.T @ v)
    return gradients


# ---- inference --------------------------------------------------------------------------------------------------


def inference_step(
    network: Network,
    input: np.ndarray,
    target: np.ndarray,
    activities: Activities,
    step_size: float,
    order: str = "simultaneous",
) -> Activities:
    r"""One step \(z_l \leftarrow z_l - \eta B\,\partial F/\partial z_l\).

    `order` is `simultaneous`, or `input-first` / `output-first`, in which each layer sees those updated before it.
    """
    z = [np.asarray(a, np.float64) for a in activities]
    if order == "simultaneous":
        return [a - step_size * g for a, g in zip(z, activity_gradients(network, input, target, z), strict=True)]
    layers = range(len(z)) if order == "input-first" else range(len(z) - 1, -1, -1)
    for i in layers:
        z[i] = z[i] - step_size * activity_gradients(network, input, target, z)[i]
    return z


def infer(
    network: Network,
    input: np.ndarray,
    target: np.ndarray,
    steps: int,
    step_size: float,
    start: Activities | None = None,
    order: str = "simultaneous",
) -> Activities:
    """The activities after `steps` inference steps from `start`, by default from the feedforward pass."""
    z = feedforward(network, input) if start is None else [np.asarray(a, np.float64) for a in start]
    for _ in range(steps):
        z = inference_step(network, input, target, z, step_size, order)
    return z


def states_from_errors(network: Network, input: np.ndarray, errors: Activities) -> Activities:
    r"""The activities with given hidden errors: a feedforward pass with \(\varepsilon_l\) added to each layer."""
    z, below = [], np.asarray(input, np.float64)
    for l, e in enumerate(errors, start=1):
        below = layer_prediction(network, l, below) + e
        z.append(below)
    return z


# ---- helpers ----------------------------------------------------------------------------------------------------


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(logits, axis=1, keepdims=True)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - _logsumexp(logits))
