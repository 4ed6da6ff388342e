r"""The learning curve of deep linear networks of infinite width, by dynamical mean-field theory (W8).

Under `mupc` with the learning rate \(\eta\gamma^2 N\), a neuron of hidden layer \(l\) of an infinitely wide network is
a Gaussian process that feeds back on itself.  Write \(h^l_\mu(t)\) for its activity on sample \(\mu\) after \(t\)
updates, \(g^l_k(t) = \gamma N\,\partial\hat y_k/\partial h^l\) for its gradient, \(\Delta = y - \hat y\),
\(\beta_l\) for the standard deviation of layer \(l\)'s map (1, or \(L^{-1/2}\) on a residual branch) and
\(c = \eta\gamma/P\).  With the kernels \(H^l_{\mu\nu}(t,s) = E[h^l_\mu(t) h^l_\nu(s)]\) and \(G^l\) likewise,

\[h^l(t) = \tau_l h^{l-1}(t) + \beta_l u^l(t)
  + \sum_{s<t}\Big[\beta_l A^{l-1}(t,s) + \beta_l^2 c\, H^{l-1}(t,s)\Delta(s)\Big] g^l(s),\]
\[g^l(t) = \tau_{l+1} g^{l+1}(t) + \beta_{l+1} r^l(t)
  + \sum_{s<t}\Big[\beta_{l+1} B^{l+1}(t,s) + \beta_{l+1}^2 c\, G^{l+1}(t,s)\Delta(s)^\top\Big] h^l(s),\]

where \(u^l\) and \(r^l\) are independent Gaussians with the covariances \(H^{l-1}\) and \(G^{l+1}\)
(\(H^0 = x x^\top/D\), \(G^L = I_K\)), and the responses \(A^l = \partial h^l/\partial r^l\) and
\(B^l = \partial g^l/\partial u^l\) come from every initial matrix being used forwards and backwards.
The output is \(\hat y(t) = \gamma^{-1} E[g^{L-1}(t)\, h^{L-1}(t)]\), so \(\hat y(0) = 0\).

In a linear network every field is a linear function of the Gaussians, and everything at time \(t\) follows from
earlier times: one forward and one backward sweep through the layers for each update, with no fixed point to iterate.
The curve is that of gradient descent with its finite steps, not of the kernel's first-order change of the output.
Predictive coding at equilibrium has the same limit, because \(S \to I\) at every update.

**References:** Bordelon and Pehlevan 2022 (arXiv 2205.09653), equations for linear networks, here in discrete time and
for several outputs; Bordelon, Noci, Li, Hanin and Pehlevan 2023 (arXiv 2309.16620) for residual branches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcbench.errors import TheoryError
from pcbench.problem.parameterisation import layer_scalings
from pcbench.theory.operators import Array


@dataclass(frozen=True)
class LearningCurve:
    r"""The infinite-width limit at \(\theta_t\), before update \(t\); the last entry follows the last update.

    - `losses`: mean over the batch of \(\tfrac12\|y - \hat y\|^2\), `(T+1,)`.
    - `outputs`: \(\hat y(t)\), `(T+1, P, K)`.
    - `feature_kernels`: \(H^l(t,t)\), the mean product of a hidden unit's activities, `(T+1, L-1, P, P)`.
    - `gradient_kernels`: \(G^l(t,t)\), `(T+1, L-1, K, K)`.
    - `residual`: the largest difference between \(\gamma^{-1} E[g^l(t)\,h^l(t)]\) of the hidden layers, which are all
      the output \(\hat y(t)\); layers agree only if every response is right, so it is rounding.
    """

    losses: Array
    outputs: Array
    feature_kernels: Array
    gradient_kernels: Array
    residual: float


def learning_curve(
    input: Array,
    target: Array,
    *,
    depth: int,
    base_rate: float,
    updates: int,
    output_multiplier: float = 1.0,
    residual: bool = False,
    memory_limit: float = 4 * 2.0**30,
) -> LearningCurve:
    r"""Full-batch gradient descent on the mean of \(\tfrac12\|y - \hat y\|^2\), at \(N \to \infty\) under `mupc`.

    With \(R \le \min(P, D)\) the rank of the input, memory is \(16 (T R)^2\) bytes for each hidden layer, and
    \(8 L (T R)^2\) for each with residual connections; time grows as \((T R)^3\).

    **Arguments:**

    - `input` `(P, D)`, `target` `(P, K)`: the batch of every update.
    - `depth`: weight matrices \(L\), of a plain chain or, with `residual`, with skips and branches of
      \((N L)^{-1/2}\) between hidden layers.
    - `base_rate`: \(\eta\); the step is \(\eta\gamma^2 N\) on every matrix, as
      `pcbench.problem.parameterisation.learning_rate` gives it.
    - `output_multiplier`: \(\gamma\).  `memory_limit`: in bytes.

    **Raises:** `TheoryError` for impossible sizes, for more memory than the limit, and where training diverges.
    """
    x, y = _batch(input, target)
    if depth < 2 or updates < 0 or not base_rate > 0 or not output_multiplier > 0:
        raise TheoryError(
            f"learning curve at depth={depth}, updates={updates}, base_rate={base_rate}, "
            f"output_multiplier={output_multiplier}: needed depth >= 2, updates >= 0 and positive rates"
        )
    # A linear network sees the samples only through the row space of the input: one coordinate for each direction.
    basis, singular, _ = np.linalg.svd(x, full_matrices=False)
    rank = max(1, int(np.sum(singular > np.finfo(float).eps * max(x.shape) * singular[0])))
    basis, kernel = basis[:, :rank], np.diag(singular[:rank] ** 2 / x.shape[1])
    times, outputs = updates + 1, y.shape[1]
    needed = _bytes(rank, outputs, depth, times, residual=residual)
    if needed > memory_limit:
        raise TheoryError(
            f"learning curve of {updates} updates on an input of rank {rank} needs {needed / 2**30:.1f} GiB: "
            f"memory_limit is {memory_limit / 2**30:.1f} GiB, take fewer updates or samples, or raise it"
        )
    neurons = _Neurons(kernel, outputs, depth, times, residual=residual)
    step = base_rate * output_multiplier / len(x)
    seen, errors, change = basis.T @ y, np.zeros((times, rank, outputs)), 0.0
    for t in range(times):
        with np.errstate(over="ignore", invalid="ignore"):
            neurons.advance(t, step * errors[:t])
            read = neurons.outputs(t) / output_multiplier
            errors[t] = seen - read[-1]
            change = max(change, float(np.max(np.abs(read - read[-1]))))
        if not np.isfinite(errors[t]).all():
            raise TheoryError(f"learning diverges by update {t} at base_rate={base_rate}: needed a smaller base_rate")
    predicted = basis @ (seen - errors)
    return LearningCurve(
        losses=np.sum((y - predicted) ** 2, axis=(1, 2)) / (2 * len(x)),
        outputs=predicted,
        feature_kernels=basis @ neurons.equal_times(neurons.activities[1:]) @ basis.T,
        gradient_kernels=neurons.equal_times(neurons.gradients[1:-1]),
        residual=change,
    )


def _batch(input: Array, target: Array) -> tuple[Array, Array]:
    x, y = np.asarray(input, np.float64), np.asarray(target, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or 0 in x.shape + y.shape:
        raise TheoryError(f"input {x.shape} and target {y.shape}: needed (batch, input_dim) and (batch, output_dim)")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise TheoryError("input or target is not finite: needed finite numbers")
    return x, y


def _bytes(rank: int, outputs: int, depth: int, times: int, *, residual: bool) -> float:
    """What the fields of `_Neurons` take: covariances of all, coefficients over two sources for each layer they see."""
    covariances, seen = rank**2 + outputs**2, (depth - 1 if residual else 1)
    return 8.0 * times**2 * (depth * covariances + outputs**2 + (depth - 1) * seen * (rank + outputs) ** 2)


class _Field:
    r"""The activities or gradients of one layer's neuron at all times, linear in Gaussian sources.

    Arrays run over (time, component), time slowest.  A source is a Gaussian with the covariance of another field and
    is named by it: `coefficients[f]` `(T m, T m_f)` are those over the copy of `f`.
    """

    def __init__(self, size: int, times: int) -> None:
        self.size = size
        self.covariance = np.zeros((times * size, times * size))
        self.coefficients: dict[_Field, Array] = {}

    def depend_on(self, sources: list[_Field]) -> None:
        """Allocate coefficients over these sources."""
        self.coefficients = {f: np.zeros((len(self.covariance), len(f.covariance))) for f in sources}

    def rows_at(self, t: int) -> slice:
        """The rows of time t."""
        return slice(t * self.size, (t + 1) * self.size)

    def rows_before(self, t: int) -> slice:
        """The rows of all times earlier than t."""
        return slice(0, t * self.size)

    def advance(self, t: int, neighbour: _Field, partner: _Field, gain: float, skip: float, feedback: Array) -> None:
        r"""Fill in time t, given `neighbour` there and `partner` before.

        For \(h^l\) these are \(h^{l-1}\) and \(g^l\), for \(g^l\) they are \(g^{l+1}\) and \(h^l\): the response of the
        neighbour is always to the copy of the partner.  `feedback` is \(c\Delta(s)\) for \(s < t\),
        `(t, neighbour.size, partner.size)`.
        """
        now, there, past = self.rows_at(t), neighbour.rows_at(t), partner.rows_before(t)
        kernel = neighbour.covariance[there, neighbour.rows_before(t)].reshape(self.size, t, neighbour.size)
        mixing = gain**2 * np.einsum("msn,snp->msp", kernel, feedback).reshape(self.size, t * partner.size)
        if partner in neighbour.coefficients:
            mixing += gain * neighbour.coefficients[partner][there, past]
        for source, own in self.coefficients.items():
            own[now, source.rows_before(t)] = mixing @ partner.coefficients[source][past, source.rows_before(t)]
            if skip:
                own[now, source.rows_before(t + 1)] += (
                    skip * neighbour.coefficients[source][there, source.rows_before(t + 1)]
                )
        self.coefficients[neighbour][now, there] += gain * np.eye(self.size)
        row = self.product(t, self, self.rows_before(t + 1))
        self.covariance[now, self.rows_before(t + 1)] = row
        self.covariance[self.rows_before(t + 1), now] = row.T

    def product(self, t: int, other: _Field, rows: slice) -> Array:
        """The covariance of this field at time t with `rows`, up to time t, of another one of the same neuron."""
        total = np.zeros((self.size, rows.stop - rows.start))
        for source, own in self.coefficients.items():
            known = source.rows_before(t + 1)
            total += (
                own[self.rows_at(t), known]
                @ source.covariance[known, known]
                @ other.coefficients[source][rows, known].T
            )
        return total


class _Neurons:
    r"""One neuron of every layer: `activities` \(h^0 \dots h^{L-1}\), `gradients` \(g^1 \dots g^L\) by index."""

    def __init__(self, kernel: Array, outputs: int, depth: int, times: int, *, residual: bool) -> None:
        self.depth, self.times = depth, times
        self.activities = [_Field(len(kernel), times) for _ in range(depth)]
        self.gradients = [_Field(outputs, times) for _ in range(depth + 1)]
        self.activities[0].covariance[:] = np.tile(kernel, (times, times))
        self.gradients[depth].covariance[:] = np.tile(np.eye(outputs), (times, times))
        # At one input and one unit the scalings are the standard deviations of the layers' maps.
        self.gains = (
            math.nan,
            *layer_scalings("mupc", input_dim=1, width=1, depth=depth, residual=residual),
        )
        self.skip = 1.0 if residual else 0.0
        for l in range(1, depth):
            # A skip carries the noise of one layer to all others; in a plain chain a neuron has its own two sources.
            layers = range(1, depth) if residual else [l]
            sources = [self.activities[k - 1] for k in layers] + [self.gradients[k + 1] for k in layers]
            self.activities[l].depend_on(sources)
            self.gradients[l].depend_on(sources)

    def advance(self, t: int, feedback: Array) -> None:
        r"""All fields at time t, from \(c\Delta(s)\), \(s < t\), `(t, R, K)`: one forward and one backward sweep."""
        h, g = self.activities, self.gradients
        for l in range(1, self.depth):
            h[l].advance(t, h[l - 1], g[l], self.gains[l], self.skip if l > 1 else 0.0, feedback)
        transposed = feedback.transpose(0, 2, 1)
        for l in range(self.depth - 1, 0, -1):
            skip = self.skip if l < self.depth - 1 else 0.0
            g[l].advance(t, g[l + 1], h[l], self.gains[l + 1], skip, transposed)

    def outputs(self, t: int) -> Array:
        r"""\(E[h^l(t)\,g^l(t)]\) of every hidden layer, each \(\gamma\hat y(t)\), `(L-1, R, K)`."""
        pairs = zip(self.activities[1:], self.gradients[1:-1], strict=True)
        return np.array([h.product(t, g, g.rows_at(t)) for h, g in pairs])

    def equal_times(self, fields: list[_Field]) -> Array:
        """The covariances at equal times, `(T, fields, m, m)`."""
        return np.array([[f.covariance[f.rows_at(t), f.rows_at(t)] for f in fields] for t in range(self.times)])
