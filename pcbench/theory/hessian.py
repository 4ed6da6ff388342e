r"""The activity Hessian of a linear network: spectrum, condition number and stable step sizes.

Per sample, \(H = B\,\partial^2 F/\partial z^2\) is block tridiagonal, the same for every sample and independent of the
data: diagonal blocks \(I + w_{l+1} A_{l+1}^T A_{l+1}\) with \(w_L = \lambda\) and \(w_l = 1\) below, off-diagonal ones
\(-A_{l+1}\).  It factorises as \(H = U^T(I + \lambda G^T G)U\), U unit lower block bidiagonal and
\(G = [J_1 \dots J_{L-1}]\), so it is positive definite for every setting of the weights, and both \(Hv\) and
\(H^{-1}v\) cost two passes through the network.

**References:** Innocenti, Achour and Buckley 2025 (arXiv 2505.13124), activity Hessian; theory L4, L5, L8.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg

from pcbench.errors import TheoryError
from pcbench.problem.network import Network
from pcbench.theory import linear, operators
from pcbench.theory.operators import Array

DENSE_LIMIT = 4096
"""The largest \\(N(L-1)\\) of which `activity_hessian` makes a matrix, 134 MB."""
_EIGEN_LIMIT = 512  # above it Lanczos is faster than a dense eigenvalue decomposition


def activity_hessian(network: Network) -> Array:
    r"""The dense per-sample Hessian \(B\,\partial^2F/\partial z^2\), `(N(L-1), N(L-1))`, layer 1 first.

    **Raises:** `TheoryError` unless the network is linear with squared error and at most `DENSE_LIMIT` rows.
    """
    _check(network)
    size = _size(network)
    if size > DENSE_LIMIT:
        raise TheoryError(
            f"dense activity Hessian with {size} rows: at most {DENSE_LIMIT} are formed; "
            "use extreme_eigenvalues or hessian_product, which need no matrix"
        )
    maps = linear.layer_maps(network)
    H = np.eye(size)
    offsets = np.cumsum([0, *network.dims[1:-1]])
    for k in range(network.depth - 1):
        here, above = slice(offsets[k], offsets[k + 1]), maps[k + 1]
        last = k == network.depth - 2
        H[here, here] += (network.precision if last else 1.0) * (above.T @ above)
        if not last:
            there = slice(offsets[k + 1], offsets[k + 2])
            H[there, here], H[here, there] = -above, -above.T
    return H


def hessian_product(network: Network, vectors: list[Array]) -> list[Array]:
    r"""\(Hv\) for each row of `vectors`, a list of `(rows, N)` for the hidden layers.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    _check(network)
    top = network.depth - 1
    errors = [vectors[0], *(vectors[k] - operators.apply(network, k + 1, vectors[k - 1]) for k in range(1, top))]
    output = -network.precision * operators.apply(network, network.depth, vectors[-1])
    above = [*errors[1:], output]
    return [errors[k] - operators.apply_transposed(network, k + 2, above[k]) for k in range(top)]


def _solve(network: Network, R: Array, vectors: list[Array]) -> list[Array]:
    total = [vectors[-1]]
    for k in range(network.depth - 2, 0, -1):
        total.append(vectors[k - 1] + operators.apply_transposed(network, k + 1, total[-1]))
    total = total[::-1]
    output = operators.apply(network, network.depth, operators.propagate(network, None, total)[-1])
    costate = np.linalg.solve(R, np.linalg.solve(R.T, output.T)).T
    back = operators.pull_back(network, costate)
    return operators.propagate(network, None, [t - b for t, b in zip(total, back, strict=True)])


def extreme_eigenvalues(network: Network) -> tuple[float, float]:
    r"""\((\lambda_{\min}, \lambda_{\max})\) of the activity Hessian.

    Dense where that is small, otherwise Lanczos on \(H\) and on \(H^{-1}\), to about 10 digits.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    _check(network)
    return _smallest_eigenvalue(network), _largest_eigenpair(network)[0]


def step_size_threshold(network: Network) -> float:
    r"""\(2/\lambda_{\max}\): below it every step of gradient descent on z lowers F, above it some diverge (E5)."""
    _check(network)
    return 2 / _largest_eigenpair(network)[0]


def best_step_size(network: Network) -> float:
    r"""\(2/(\lambda_{\min}+\lambda_{\max})\), the constant step size that contracts fastest in the worst case."""
    low, high = extreme_eigenvalues(network)
    return 2 / (low + high)


def contraction(network: Network) -> float:
    r"""\((\kappa-1)/(\kappa+1)\), the factor of \(\|z - z^*\|\) per step at the best step size (L4)."""
    low, high = extreme_eigenvalues(network)
    return (high - low) / (high + low)


def top_eigenvector(network: Network) -> list[Array]:
    r"""A unit eigenvector of \(\lambda_{\max}\), split into the hidden layers, `(N,)` each: the sharp direction of E5.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    _check(network)
    return [part[0] for part in _split(network, _largest_eigenpair(network)[1][None, :])]


def largest_eigenvalue_bound(network: Network) -> float:
    r"""A rigorous upper bound of \(\lambda_{\max}\), without an eigenvalue computation.

    The largest sum of norms along a block row, \(1 + w_{l+1}n_{l+1}^2 + n_l + n_{l+1}\), where \(n_l\) bounds
    \(\|A_l\|_2\) by the Schatten norm \(\|A_l\|_8 = \|(A_l^T A_l)^2\|_F^{1/4}\).

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    _check(network)
    norms = [operators.norm_bound(A) for A in linear.layer_maps(network)[1:]]
    rows = []
    for k, above in enumerate(norms):
        last = k == len(norms) - 1
        below = norms[k - 1] if k else 0.0
        rows.append(1 + (network.precision if last else 1.0) * above**2 + below + (0.0 if last else above))
    return max(rows)


def orthogonal_chain_spectrum(depth: int, width: int, output_dim: int) -> Array:
    r"""All eigenvalues of H, ascending, for square orthogonal hidden \(A_l\) without skips (L8) and \(\lambda=1\).

    Also \(A_L A_L^T = I\): orthonormal rows.  With \(k = 1 \dots L-1\), the `K` directions that reach the output see a
    chain fixed at both ends, \(2 - 2\cos(k\pi/L)\), and the other `N - K` one that is free above,
    \(2 - 2\cos((2k-1)\pi/(2L-1))\).

    **Raises:** `TheoryError` if there are fewer than 2 layers or more outputs than units.
    """
    if depth < 2 or not 1 <= output_dim <= width:
        raise TheoryError(
            f"depth={depth}, width={width}, output_dim={output_dim}: "
            "needed a depth of at least 2 and 1 <= output_dim <= width"
        )
    k = np.arange(1, depth)
    fixed = 4 * np.sin(k * math.pi / (2 * depth)) ** 2  # 2 - 2 cos t, without its cancellation
    free = 4 * np.sin((2 * k - 1) * math.pi / (2 * (2 * depth - 1))) ** 2
    return np.sort(np.concatenate([np.repeat(fixed, output_dim), np.repeat(free, width - output_dim)]))


def _check(network: Network) -> None:
    operators.require_linear(network, "activity Hessian")
    operators.require_mse(network, "activity Hessian")


def _size(network: Network) -> int:
    return sum(network.dims[1:-1])


def _split(network: Network, rows: Array) -> list[Array]:
    return np.split(rows, np.cumsum(network.dims[1:-1])[:-1], axis=1)


def _largest_eigenpair(network: Network) -> tuple[float, Array]:
    size = _size(network)
    if size <= _EIGEN_LIMIT:
        top = [size - 1, size - 1]  # one pair costs a quarter of all of them
        values, vectors = scipy.linalg.eigh(activity_hessian(network), subset_by_index=top)
        return float(values[0]), vectors[:, 0]
    return _lanczos(lambda v: np.hstack(hessian_product(network, _split(network, v))), size)


def _smallest_eigenvalue(network: Network) -> float:
    # The inverse has its top where H has its bottom: accurate to the last digits even where kappa is 1e12,
    # and with well separated eigenvalues, so that a few steps do.
    R = linear.factor(network)
    size = _size(network)
    if size <= _EIGEN_LIMIT:
        inverse = np.hstack(_solve(network, R, _split(network, np.eye(size))))
        return 1 / float(np.linalg.eigvalsh((inverse + inverse.T) / 2)[-1])
    return 1 / _lanczos(lambda v: np.hstack(_solve(network, R, _split(network, v))), size)[0]


def _lanczos(product: Callable[[Array], Array], size: int, steps: int = 400) -> tuple[float, Array]:
    """The largest eigenvalue and a unit eigenvector of a symmetric operator on rows `(1, size)`.

    Full reorthogonalisation, since a few hundred vectors are cheap beside the products; stops when the residual is
    1e-7 of the eigenvalue, whose error is of second order in it.
    """
    start = np.random.Generator(np.random.Philox(key=0)).standard_normal(size)
    basis = [start / np.linalg.norm(start)]
    diagonal: list[float] = []
    coupling: list[float] = []
    for step in range(1, min(steps, size) + 1):
        w = product(basis[-1][None, :])[0]
        diagonal.append(float(w @ basis[-1]))
        V = np.array(basis)
        for _ in range(2):  # twice is enough (Giraud et al. 2005)
            w = w - V.T @ (V @ w)
        beta = float(np.linalg.norm(w))
        last = step == min(steps, size) or beta <= 1e-14 * abs(diagonal[0])
        if last or step % 10 == 0:
            T = np.diag(diagonal) + np.diag(coupling, 1) + np.diag(coupling, -1)
            values, vectors = np.linalg.eigh(T)
            if last or beta * abs(vectors[-1, -1]) <= 1e-7 * abs(values[-1]):
                vector = V.T @ vectors[:, -1]
                return float(values[-1]), vector / np.linalg.norm(vector)
        coupling.append(beta)
        basis.append(w / beta)
    raise AssertionError("unreachable: the last step returns")
