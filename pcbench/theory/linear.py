r"""The equilibrium of a linear predictive coding network with squared error, in closed form.

With \(A_l = a_l W_l + \tau_l I\), the output Jacobians \(J_l = A_L \cdots A_{l+1}\) and the residual
\(r = y - \hat y\) of the feedforward pass,

\[S = \tfrac1\lambda I + \sum_{l=1}^{L-1} J_l J_l^T, \qquad
  F^* = \frac1{2B} \sum_b r_b^T S^{-1} r_b, \qquad \varepsilon_l^* = J_l^T \mu,\quad \mu = S^{-1} r.\]

Everything costs \(O(L N^2 (B + K))\): a forward pass, K + B backward passes and a K by K factorisation; the activity
Hessian, with its \((N(L-1))^2\) entries, is never formed.  A `Network` has no biases, so none are described; they would
enter through \(r\) alone.  Weights of any dtype are taken as exact and all arithmetic is in float64.

**References:** Innocenti et al. 2024 (arXiv 2408.11979) for \(F^*\) of plain chains; theory L1-L3.
"""

from __future__ import annotations

import numpy as np

from pcbench.errors import TheoryError
from pcbench.problem.network import Network
from pcbench.theory import operators
from pcbench.theory.operators import Array

_CONDITION_LIMIT = 1e14


def layer_maps(network: Network) -> list[Array]:
    r"""\(A_1, \dots, A_L\) as dense matrices `(fan_out, fan_in)`, for tests and small networks.

    **Raises:** `TheoryError` for a nonlinear network.
    """
    operators.require_linear(network, "layer maps")
    return [
        w + tau * np.eye(*w.shape) if tau else w
        for w, tau in zip(network.effective_weights(), network.skips, strict=True)
    ]


def output_jacobians(network: Network) -> list[Array]:
    r"""\(J_l = \partial\hat y/\partial z_l\) for the hidden layers \(1 \dots L-1\), each `(K, N)`, row by row.

    **Raises:** `TheoryError` for a nonlinear network, or if a product of layers overflows float64.
    """
    operators.require_linear(network, "output Jacobians")
    with np.errstate(over="ignore", invalid="ignore"):
        jacobians = operators.pull_back(network, np.eye(network.dims[-1]))
    if not all(np.isfinite(J).all() for J in jacobians):
        raise TheoryError(
            f"the output Jacobians of depth {network.depth} overflow float64: "
            "needed weights or scalings small enough for their product to be finite"
        )
    return jacobians


def factor(network: Network, *, with_precision: bool = True) -> Array:
    r"""An upper triangular R with \(R^T R = S\), or \(\sum_l J_l J_l^T\) alone, from a QR of the stacked Jacobians.

    Products such as \(J J^T\) would square the condition number; this keeps it.  Shape `(min(K, rows), K)`.
    """
    blocks = [J.T for J in output_jacobians(network)]
    if with_precision:
        blocks.append(np.eye(network.dims[-1]) / np.sqrt(network.precision))
    # `r` of a tall QR layer by layer, so that the stack of all layers is never held twice
    triangle = np.empty((0, network.dims[-1]))
    for block in blocks:
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, block]), mode="r"))
    return triangle


def equilibrium_matrix(network: Network) -> Array:
    r"""\(S = I/\lambda + \sum_{l<L} J_l J_l^T\), `(K, K)`, symmetric and positive definite.

    **Raises:** `TheoryError` for a nonlinear network.
    """
    total = np.eye(network.dims[-1]) / network.precision
    for J in output_jacobians(network):
        total = total + J @ J.T
    return total


def _solvable_factor(network: Network) -> Array:
    """`factor`, refused where no digit of its solution would be right.

    More outputs than units leave directions in which S is I/lambda only; beside huge Jacobians rounding buries them.
    """
    R = factor(network)
    singular = np.linalg.svd(R, compute_uv=False)
    if not singular[-1] * _CONDITION_LIMIT >= singular[0]:
        raise TheoryError(
            f"S = I/lambda + sum J J^T has eigenvalues from {singular[-1] ** 2:.2g} to {singular[0] ** 2:.2g}, "
            f"needed sqrt(cond) of at most {_CONDITION_LIMIT:g}: use smaller weights, or no more outputs than units"
        )
    return R


def predict(network: Network, input: Array) -> Array:
    r"""The feedforward output \(\hat y\), `(B, K)`, of a linear network."""
    operators.require_linear(network, "prediction")
    hidden = operators.propagate(network, np.asarray(input, np.float64), None)
    return operators.apply(network, network.depth, hidden[-1])


def residual(network: Network, input: Array, target: Array) -> Array:
    r"""\(r = y - \hat y\), `(B, K)`, at the feedforward pass."""
    x, y = operators.batch_arrays(network, input, target)
    return y - predict(network, x)


def loss(network: Network, input: Array, target: Array) -> float:
    r"""The backpropagation loss \(\frac1{2B}\sum_b\|r_b\|^2\), without the precision.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    operators.require_mse(network, "loss")
    r = residual(network, input, target)
    return float(np.mean(np.sum(r * r, axis=1)) / 2)


def equilibrium_costate(network: Network, input: Array, target: Array) -> Array:
    r"""\(\mu = S^{-1} r\), `(B, K)`: the precision-weighted output error \(\lambda\varepsilon_L^*\) at equilibrium.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    operators.require_mse(network, "equilibrium")
    R = _solvable_factor(network)
    return np.linalg.solve(R, np.linalg.solve(R.T, residual(network, input, target).T)).T


def equilibrium_energies(network: Network, input: Array, target: Array) -> Array:
    r"""\(\tfrac12 r_b^T S^{-1} r_b\) of every sample, `(B,)`.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    operators.require_mse(network, "equilibrium energy")
    half = np.linalg.solve(_solvable_factor(network).T, residual(network, input, target).T)
    return np.sum(half * half, axis=0) / 2


def equilibrium_energy(network: Network, input: Array, target: Array) -> float:
    r"""\(F^* = \min_z F(z)\), the mean over the batch of \(\tfrac12 r_b^T S^{-1} r_b\).

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    return float(np.mean(equilibrium_energies(network, input, target)))


def errors_of_costate(network: Network, costate: Array) -> list[Array]:
    r"""\(\varepsilon_l = J_l^T\mu\) for the hidden layers: stationarity, whatever loss gave `costate` `(B, K)`."""
    return operators.pull_back(network, costate)


def gradients_of_costate(network: Network, input: Array, costate: Array) -> list[Array]:
    r"""\(-\frac{a_l}{B}\sum_b \varepsilon_l z_{l-1}^T\), `(fan_out, fan_in)` each, with \(\mu\) as the output error."""
    x = np.asarray(input, np.float64)
    errors = errors_of_costate(network, costate)
    below = [x, *operators.propagate(network, x, errors)]
    above = [*errors, costate]
    return [-(a / len(x)) * (e.T @ z) for a, e, z in zip(network.scalings, above, below, strict=True)]


def equilibrium_errors(network: Network, input: Array, target: Array) -> list[Array]:
    r"""\(\varepsilon_1^*, \dots, \varepsilon_L^*\): L arrays `(B, fan_out)`, the last is \(\mu/\lambda = y - f_L\).

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    costate = equilibrium_costate(network, input, target)
    return [*errors_of_costate(network, costate), costate / network.precision]


def equilibrium_activities(network: Network, input: Array, target: Array) -> list[Array]:
    r"""\(z_1^*, \dots, z_{L-1}^*\), each `(B, N)`: a backward pass for the errors, a forward pass that adds them.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    errors = errors_of_costate(network, equilibrium_costate(network, input, target))
    return operators.propagate(network, np.asarray(input, np.float64), errors)


def equilibrium_weight_gradients(network: Network, input: Array, target: Array) -> list[Array]:
    r"""\(dF^*/dW_l = -\frac{a_l}{B}\sum_b \varepsilon_l^* z_{l-1}^{*T}\), \(\lambda\varepsilon_L^*\) at the output.

    The envelope theorem: the total derivative of \(F^*\), with respect to the weights as stored, is the partial
    derivative at fixed \(z^*\).

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    return gradients_of_costate(network, input, equilibrium_costate(network, input, target))


def energy_bounds(network: Network, loss: float) -> tuple[float, float]:
    r"""\((\mathrm{loss}/\lambda_{\max}(S),\ \mathrm{loss}/\lambda_{\min}(S))\), between which \(F^*\) lies (L3).

    `loss` is the backpropagation loss without the precision.  As \(S \succeq I/\lambda\), the upper end is at most
    \(\lambda\,\mathrm{loss}\), the energy at the feedforward pass.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    operators.require_mse(network, "energy bounds")
    singular = np.linalg.svd(factor(network), compute_uv=False)
    return float(loss / singular[0] ** 2), float(loss / singular[-1] ** 2)
