r"""The Hessian of the equilibrated energy at the origin of weight space: a strict saddle in closed form (L10).

To second order in weights near 0 only the output layer enters S, and only the shortest path through the skips enters
the prediction, so with \(c_l = \tau_{l+1} \cdots \tau_{L-1}\) (1 for \(l = L-1\)) the Hessian acts on \((W_L, W_1)\) as

\[\begin{pmatrix} -\lambda^2 a_L^2 (\sum_l c_l^2) C_{yy} & -\lambda a_1 a_L c_1 C_{yx} \\
  -\lambda a_1 a_L c_1 C_{yx}^T & 0 \end{pmatrix} \otimes I_N, \qquad
  C_{yy} = \tfrac1B Y^T Y,\quad C_{yx} = \tfrac1B Y^T X,\]

and is 0 on every other weight.  Without skips and with two or more hidden layers \(c_1 = 0\): eigenvalues
\(-\lambda^2 a_L^2\,\mathrm{eig}(C_{yy})\), N times each, where the Hessian of the loss is exactly 0.

**References:** Innocenti et al. 2024 (arXiv 2408.11979), strict saddles; theory L10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcbench.problem.network import Network
from pcbench.theory import operators
from pcbench.theory.operators import Array


@dataclass(frozen=True)
class OriginSpectrum:
    """Eigenvalues that may differ from 0, ascending; each occurs `multiplicity` times and 0 `zeros` times besides."""

    values: Array
    multiplicity: int
    zeros: int

    def all(self) -> Array:
        """Every eigenvalue with its multiplicity, ascending, one for each weight."""
        return np.sort(np.concatenate([np.repeat(self.values, self.multiplicity), np.zeros(self.zeros)]))


def origin_hessian_block(network: Network, input: Array, target: Array) -> Array:
    r"""The matrix whose Kronecker product with \(I_N\) is the Hessian on \((W_L, W_1)\), `(K + D, K + D)`.

    The weights of `network` are not read, only its scalings, skips and sizes.

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    operators.require_linear(network, "Hessian at the origin")
    operators.require_mse(network, "Hessian at the origin")
    x, y = operators.batch_arrays(network, input, target)
    paths = [math.prod(network.skips[l:-1]) for l in range(1, network.depth)]
    first, last = network.scalings[0], network.scalings[-1]
    K, D = y.shape[1], x.shape[1]
    block = np.zeros((K + D, K + D))
    block[:K, :K] = -((network.precision * last) ** 2) * sum(c * c for c in paths) * (y.T @ y) / len(y)
    block[:K, K:] = -network.precision * first * last * paths[0] * (y.T @ x) / len(y)
    block[K:, :K] = block[:K, K:].T
    return block


def origin_hessian_spectrum(network: Network, input: Array, target: Array) -> OriginSpectrum:
    r"""The spectrum of \(\partial^2 F^*/\partial\theta^2\) at \(\theta = 0\).

    **Raises:** `TheoryError` unless the network is linear with squared error.
    """
    values = np.linalg.eigvalsh(origin_hessian_block(network, input, target))
    width = network.dims[-2]
    parameters = sum(w.size for w in network.weights)
    return OriginSpectrum(values, width, parameters - width * len(values))
