r"""The layers of a linear network as operators, \(A_l = a_l W_l + \tau_l I\), applied without ever being stored.

Also the refusals that every closed form shares: what a formula does not describe raises `TheoryError` here.
"""

from __future__ import annotations

import math

import numpy as np

from pcbench.errors import TheoryError
from pcbench.problem.network import Network

Array = np.ndarray


def require_linear(network: Network, what: str) -> None:
    """**Raises:** `TheoryError` if the activation is not the identity, or a skip joins layers of different width."""
    if not network.linear:
        raise TheoryError(
            f"{what} of a network with activation={network.activation!r}: the closed form needs activation='linear'; "
            "for other activations certify a solver's own answer with pcbench.theory.certificate"
        )
    require_square_skips(network)


def require_square_skips(network: Network) -> None:
    """**Raises:** `TheoryError` if a skip joins layers of different width."""
    for layer, (weight, tau) in enumerate(zip(network.weights, network.skips, strict=True), start=1):
        if tau and weight.shape[0] != weight.shape[1]:
            raise TheoryError(
                f"layer {layer} has a skip and a weight of shape {weight.shape}: a skip needs a square one"
            )


def require_mse(network: Network, what: str) -> None:
    """**Raises:** `TheoryError` if the loss is not the squared error."""
    if network.loss != "mse":
        raise TheoryError(
            f"{what} with loss={network.loss!r}: this closed form needs loss='mse'; "
            "pcbench.theory.envelope describes any other convex loss"
        )


def batch_arrays(network: Network, input: Array, target: Array) -> tuple[Array, Array]:
    """`input` and `target` in float64.

    **Raises:** `TheoryError` if their shapes do not fit the network or each other.
    """
    x, y = np.asarray(input, np.float64), np.asarray(target, np.float64)
    dims = network.dims
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) == 0 or (x.shape[1], y.shape[1]) != (dims[0], dims[-1]):
        raise TheoryError(
            f"input of shape {x.shape} and target of shape {y.shape}: "
            f"needed (batch, {dims[0]}) and (batch, {dims[-1]}) with one batch of at least 1"
        )
    return x, y


def activity_arrays(network: Network, activities: list[Array], batch: int) -> list[Array]:
    """The activities in float64.

    **Raises:** `TheoryError` unless there is one `(batch, width)` array for every hidden layer.
    """
    shapes = [tuple(np.shape(z)) for z in activities]
    needed = [(batch, n) for n in network.dims[1:-1]]
    if shapes != needed:
        raise TheoryError(f"activities of shapes {shapes}: needed {needed}, the hidden layers from the input side")
    return [np.asarray(z, np.float64) for z in activities]


def apply(network: Network, layer: int, rows: Array) -> Array:
    r"""\(A_l\) applied to every row of `rows`, `(..., fan_in)`, giving `(..., fan_out)`; `layer` counts from 1."""
    weight, scaling, tau = network.weights[layer - 1], network.scalings[layer - 1], network.skips[layer - 1]
    result = scaling * (rows @ np.asarray(weight, np.float64).T)
    return result + tau * rows if tau else result


def apply_transposed(network: Network, layer: int, rows: Array) -> Array:
    r"""\(A_l^T\) applied to every row of `rows`, `(..., fan_out)`, giving `(..., fan_in)`; `layer` counts from 1."""
    weight, scaling, tau = network.weights[layer - 1], network.scalings[layer - 1], network.skips[layer - 1]
    result = scaling * (rows @ np.asarray(weight, np.float64))
    return result + tau * rows if tau else result


def propagate(network: Network, input: Array | None, errors: list[Array] | None) -> list[Array]:
    r"""\(z_l = A_l z_{l-1} + \varepsilon_l\) for the hidden layers, from `input` (or zero) and `errors` (or zero)."""
    if input is None:
        if errors is None:
            raise TheoryError("propagate with neither input nor errors: needed at least one of them")
        activities = [errors[0]]
    else:
        first = apply(network, 1, input)
        activities = [first if errors is None else first + errors[0]]
    for layer in range(2, network.depth):
        z = apply(network, layer, activities[-1])
        activities.append(z if errors is None else z + errors[layer - 1])
    return activities


def pull_back(network: Network, costate: Array) -> list[Array]:
    r"""\(J_l^T \mu\) for every hidden layer and every row \(\mu\) of `costate`, `(B, K)`: one backward pass.

    \(J_l = A_L A_{L-1} \cdots A_{l+1}\), so the result is a list of `(B, fan_out of layer l)`.
    """
    rows = apply_transposed(network, network.depth, costate)
    result = [rows]
    for layer in range(network.depth - 1, 1, -1):
        rows = apply_transposed(network, layer, rows)
        result.append(rows)
    return result[::-1]


def norm_bound(A: Array) -> float:
    r"""An upper bound of \(\|A\|_2\): the Schatten norm \(\|A\|_8 = \|(A^T A)^2\|_F^{1/4}\)."""
    scale = float(np.linalg.norm(A))
    if not 0 < scale < math.inf:
        return scale
    unit = A / scale
    gram = unit @ unit.T if A.shape[0] <= A.shape[1] else unit.T @ unit
    # the last factor covers the rounding of the sums of squares
    return scale * float(np.linalg.norm(gram @ gram)) ** 0.25 * (1 + 1e-10)
