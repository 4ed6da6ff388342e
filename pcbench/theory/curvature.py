r"""The energy as a function of the prediction errors: its gradient and Hessian-vector products, for any activation.

In error space the free variables are \(\varepsilon_l\), the activities \(z_l = f_l(z_{l-1}) + \varepsilon_l\) follow,
and per sample \(F_b(\varepsilon) = \tfrac12\sum_{l<L}\|\varepsilon_l\|^2 + \lambda\,\ell(y, f_L(z_{L-1}))\).  With the
costates \(c_L = \lambda\nabla\ell\), \(c_{l-1} = (\partial f_l/\partial z_{l-1})^T c_l\), the gradient is
\(\varepsilon_l + c_l\); the Hessian is \(I + \lambda J^T\nabla^2\ell\,J\) plus the layers' curvature times c.
Its products are forward-over-reverse differentiation, written out.

**References:** Goemaere et al. 2025 (arXiv 2505.20137), inference in error space.
"""

from __future__ import annotations

import numpy as np

from pcbench.problem.network import Network
from pcbench.theory import losses
from pcbench.theory.activations import Derivatives, derivatives

Array = np.ndarray


class ErrorSpace:
    r"""The energy of every sample around one setting of the activities `(B, N)` each; everything is per sample.

    **Arguments:** float64 arrays that fit `network`.
    """

    def __init__(self, network: Network, input: Array, target: Array, activities: list[Array]) -> None:
        self._network = network
        self._target = target
        self._weights = network.effective_weights()
        self._input = input
        self.activities = activities
        below = [input, *activities]
        self._local: list[Derivatives | None] = []
        outputs = []
        for layer, z in enumerate(below, start=1):
            f, local = self._prediction(layer, z)
            self._local.append(local)
            outputs.append(f)
        self.errors = [z - f for z, f in zip(activities, outputs[:-1], strict=True)]
        self.output = outputs[-1]
        costate = network.precision * losses.gradient(network.loss, self.output, target)
        self._costates = [costate]
        for layer in range(network.depth, 1, -1):
            self._costates.append(self._pull(layer, self._costates[-1]))
        self._costates.reverse()

    def energies(self) -> Array:
        r"""\(F_b\), `(B,)`."""
        hidden = np.sum([np.sum(e * e, axis=1) for e in self.errors], axis=0) / 2
        return hidden + self._network.precision * losses.value(self._network.loss, self.output, self._target)

    def gradient(self) -> list[Array]:
        r"""\(\nabla_{\varepsilon_l}F_b = \varepsilon_l + c_l\), a list of `(B, N)`."""
        return [e + c for e, c in zip(self.errors, self._costates[:-1], strict=True)]

    def hessian_product(self, direction: list[Array]) -> list[Array]:
        r"""\(\nabla^2_\varepsilon F_b\) times a direction per sample, a list of `(B, N)`."""
        network = self._network
        tangents = [direction[0]]
        for layer in range(2, network.depth):
            tangents.append(self._push(layer, tangents[-1]) + direction[layer - 1])
        output = self._push(network.depth, tangents[-1])
        change = network.precision * losses.hessian_product(network.loss, self.output, self._target, output)
        result = []
        for layer in range(network.depth, 1, -1):
            bend = self._pull_derivative(layer, tangents[layer - 2], self._costates[layer - 1])
            change = self._pull(layer, change) + bend
            result.append(direction[layer - 2] + change)
        return result[::-1]

    def displace(self, step: list[Array]) -> ErrorSpace:
        """The same energy where every error has changed by `step`."""
        activities: list[Array] = []
        below = self._input
        for layer, (e, s) in enumerate(zip(self.errors, step, strict=True), start=1):
            below = self._prediction(layer, below)[0] + e + s
            activities.append(below)
        return ErrorSpace(self._network, self._input, self._target, activities)

    def arguments(self) -> list[Array]:
        r"""What \(\phi\) acts on and inference can move: z_l before a weight, \(a_l W_l z_{l-1}\) after one."""
        if self._network.placement == "before-weight":
            return self.activities
        return [z @ W.T for z, W in zip(self.activities[:-1], self._weights[1:-1], strict=True)]

    def _is_nonlinear(self, layer: int) -> bool:
        if self._network.placement == "before-weight":
            return layer > 1
        return layer < self._network.depth

    def _prediction(self, layer: int, z: Array) -> tuple[Array, Derivatives | None]:
        W, tau, name = self._weights[layer - 1], self._network.skips[layer - 1], self._network.activation
        if not self._is_nonlinear(layer):
            local, f = None, z @ W.T
        elif self._network.placement == "before-weight":
            local = derivatives(name, z)
            f = local.value @ W.T
        else:
            local = derivatives(name, z @ W.T)
            f = local.value
        return (f + tau * z if tau else f), local

    def _push(self, layer: int, dz: Array) -> Array:
        W, tau, local = self._weights[layer - 1], self._network.skips[layer - 1], self._local[layer - 1]
        if local is None:
            df = dz @ W.T
        elif self._network.placement == "before-weight":
            df = (local.first * dz) @ W.T
        else:
            df = local.first * (dz @ W.T)
        return df + tau * dz if tau else df

    def _pull(self, layer: int, c: Array) -> Array:
        W, tau, local = self._weights[layer - 1], self._network.skips[layer - 1], self._local[layer - 1]
        if local is None:
            result = c @ W
        elif self._network.placement == "before-weight":
            result = local.first * (c @ W)
        else:
            result = (local.first * c) @ W
        return result + tau * c if tau else result

    def _pull_derivative(self, layer: int, dz: Array, c: Array) -> Array:
        """The change of `_pull(layer, c)` along dz, at fixed c."""
        W, local = self._weights[layer - 1], self._local[layer - 1]
        if local is None:
            return np.zeros_like(dz)
        if self._network.placement == "before-weight":
            return local.second * dz * (c @ W)
        return (local.second * (dz @ W.T) * c) @ W


def smallest_curvature(space: ErrorSpace, steps: int = 60) -> Array:
    r"""An estimate of \(\lambda_{\min}(\nabla^2_\varepsilon F_b)\) of every sample, `(B,)`, on the low side.

    Lanczos from a fixed random start, all samples at once: the smallest Ritz value less its residual.  With as many
    steps as dimensions it is exact to rounding; with fewer, an eigenvalue far from the start may be missed with a
    probability that falls exponentially in `steps` (Kuczynski and Wozniakowski 1992).
    """
    sizes = [z.shape[1] for z in space.activities]
    batch, n = len(space.activities[0]), sum(sizes)
    cuts = np.cumsum(sizes)[:-1]
    start = np.random.Generator(np.random.Philox(key=1)).standard_normal((batch, n))
    v = start / np.linalg.norm(start, axis=1, keepdims=True)
    count = min(steps, n)
    basis = np.zeros((batch, count, n))
    T = np.zeros((batch, count, count))
    beta = np.zeros(batch)
    alive = np.ones(batch, bool)
    for k in range(count):
        basis[:, k] = v
        so_far = basis[:, : k + 1]
        w = np.hstack(space.hessian_product(np.split(v, cuts, axis=1)))
        diagonal = np.sum(w * v, axis=1)
        # a finished sample keeps a diagonal that lies inside its spectrum, so that it adds no smaller value
        T[:, k, k] = np.where(alive, diagonal, T[:, 0, 0])
        for _ in range(2):
            w = w - ((so_far @ w[:, :, None]).swapaxes(1, 2) @ so_far)[:, 0]
        norm = np.linalg.norm(w, axis=1)
        alive = alive & (norm > 1e-12 * (1 + np.abs(diagonal)))
        beta = np.where(alive, norm, 0.0)
        v = np.where(alive[:, None], w / np.where(alive, norm, 1.0)[:, None], 0.0)
        if k + 1 < count:
            T[:, k, k + 1] = T[:, k + 1, k] = beta
    values, vectors = np.linalg.eigh(T)
    missing = beta * np.abs(vectors[:, -1, 0]) if count < n else 0.0
    return values[:, 0] - missing
