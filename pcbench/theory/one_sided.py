r"""ReLU networks at their kinks: one-sided derivatives, distance to stationarity, and the gap that it certifies.

On the *piece* where no unit changes side every layer is affine, so that in error space (`pcbench.theory.curvature`)
\(F_b = \tfrac12\sum_{l<L}\|\varepsilon_l\|^2 + \lambda\,\ell(y, c + J\varepsilon)\) has a Hessian of at least the
identity, for squared error and cross-entropy, at every weight.  Pieces are convex polyhedra, in activities and in
errors alike.  With \(u_j\) what \(\phi\) acts on, \(A\) the units with \(u_j = 0\), \(w_j = \partial u_j/\partial z\),
and \(\kappa_j\) the *jump* of the slope of \(F_b\) from the closed side of unit j to the open one,

\[F_b'(z; d) = g_0\cdot d + \sum_{j\in A}\kappa_j\,(w_j\cdot d)_+ .\]

Before the weight \(w_j\) is a unit vector and \(\kappa = -a_{l+1}W_{l+1}^T\varepsilon_{l+1}\) (the last error
weighted by \(\lambda\)); after it \(w_j\) is a row of \(a_{l+1}W_{l+1}\) and \(\kappa = -\varepsilon_{l+1}\).
What follows:

1. \(F_b'(z;\cdot) \ge 0\) is *necessary and sufficient* for a strict local minimum: on each piece that touches z,
   \(F_b\) is above its tangent.  It implies 0 in Clarke's subdifferential, and is more: a kink with \(\kappa_j < 0\)
   between derivatives of opposite sign is a maximum along \(w_j\).
2. With all \(\kappa_j \ge 0\) the steepest descent is the distance of 0 to
   \(\{g_0 + \sum_j s_j\kappa_j w_j : s \in [0,1]^A\}\).  Before the weight that is an interval per coordinate; after
   it, least squares in a box, for descent may exist where no coordinate has any.
3. In error space, with *any* slopes \(s \in [0,1]^A\) whose jumps K (the costates in place of \(-\varepsilon\)) are
   \(\ge 0\) and \(G = \nabla_\varepsilon F_b\) under them, \(F_b(\varepsilon + e) \ge F_b(\varepsilon) - \|G\|\|e\|
   + \tfrac12\|e\|^2\) on every adjacent piece: no point of them is lower by more than \(\tfrac12\|G\|^2\), and their
   minimum is within \(2\|G\|\).  Where no other unit can reach its kink within that, it is a local minimum.

Gradient descent does not reach a kink, it chatters around it.  So units near theirs are moved onto it, and everything
is said of that point and of how much the move cost: exact for any choice of units, sharp only for the right one.

**References:** Clarke 1990, Optimization and Nonsmooth Analysis, section 2.3; Scholtes 2012, Introduction to Piecewise
Differentiable Equations, for directional derivatives; theory, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pcbench.errors import TheoryError
from pcbench.problem.network import Network
from pcbench.theory import losses, operators
from pcbench.theory.operators import Array

_FLAT = 1e-10  # a jump this small beside the largest of its sample is rounding, and no concave kink
_SWEEPS = 400

Width = float | Sequence[Array]
r"""How close to its kink a unit is taken to be at it: a number, or an array `(B, n)` per layer of arguments."""


@dataclass(frozen=True)
class OneSided:
    r"""How far activities of a relu network are from a local minimum, kinks included.

    - `holds`: whether there is a bound for every sample.  It is a theorem, but for the rounding of its evaluation.
    - `residual`: a bound of the steepest descent \(\max_{\|d\|=1} -F_b'(\tilde z; d)\) at `activities`, `(B,)`; exact
      where no jump in use is negative.  It is 0 at local minima only.
    - `at_kink`: the units on their kink or moved onto it, a boolean `(B, n)` per layer of arguments: \(z_l\) before the
      weight for \(l = 1 \dots L-1\), \(a_l W_l z_{l-1}\) after it for \(l = 2 \dots L-1\).
    - `activities`: \(\tilde z\), the given activities with those units on their kink.
    - `energy_change`: \(F_b(z) - F_b(\tilde z)\), `(B,)`.
    - `gap_bound`: bounds \(F_b(z) - F_b^*\), `(B,)`, \(F_b^*\) a local minimum; None where `holds` is false.
    - `distance_bound`: bounds \(\|\varepsilon - \varepsilon^*\|\), `(B,)`, to the same; None where `holds` is false.
    - `reason`: what the verdict rests on, in a sentence.
    """

    holds: bool
    residual: Array
    at_kink: list[Array]
    activities: list[Array]
    energy_change: Array
    gap_bound: Array | None
    distance_bound: Array | None
    reason: str

    @property
    def mean_gap_bound(self) -> float:
        r"""The bound of \(F - F^*\) of the batch, infinite without one."""
        return math.inf if self.gap_bound is None else float(np.mean(self.gap_bound))


def one_sided_residual(
    network: Network, input: Array, target: Array, activities: list[Array], *, width_of_kink: Width
) -> OneSided:
    r"""How far `activities`, `(B, N)` each, are from a local minimum of a relu network; see the module for what holds.

    Units within `width_of_kink` of a kink that is not concave are moved onto it: exactly before the weight, by the
    shortest move of \(z_l\) that does so after it.  Units near concave kinks stay on their side, for nothing rests
    there, and so does every unit of a sample that is closer to rest where it is.  A width of 0 moves nothing.

    **Raises:** `TheoryError` for another activation, arrays that do not fit, a negative width.
    """
    point = _prepare(network, input, target, activities)
    widths = _widths(point, width_of_kink)
    exact = [u == 0 for u in point.arguments]
    unmoved = _steepest_descent(point, exact)
    kinks = [
        at | ((np.abs(u) <= w) & _not_concave(jump))
        for at, u, w, jump in zip(exact, point.arguments, widths, point.jumps(point.forces), strict=True)
    ]
    while True:
        moved = point.project_onto(kinks)
        residual = _steepest_descent(moved, kinks)
        norm, costate_jumps = _error_space(moved, kinks)
        # the move changes the jumps: a unit whose kink is concave there stays on its side after all
        convex = [
            at | (k & _not_concave(a) & _not_concave(b))
            for at, k, a, b in zip(exact, kinks, moved.jumps(moved.forces), costate_jumps, strict=True)
        ]
        final = ~np.any([np.any(k & ~c, axis=1) for k, c in zip(kinks, convex, strict=True)], axis=0)
        vain = (final & (residual >= unmoved))[:, None]
        kept = [np.where(vain, at, c) for at, c in zip(exact, convex, strict=True)]
        if all(np.array_equal(a, b) for a, b in zip(kept, kinks, strict=True)):
            return _verdict(point, moved, kinks, residual, norm)
        kinks = kept


def gradient_of_piece(
    network: Network, input: Array, target: Array, activities: list[Array], *, piece: list[Array]
) -> list[Array]:
    r"""The gradient of \(F_b\) at `activities`, `(B, N)` each, if every unit were on the side that it has at `piece`.

    Where the activities lie on the border of that piece, it is the limit of the gradient from inside.

    **Raises:** as `one_sided_residual`.
    """
    point, there = _prepare(network, input, target, activities), _prepare(network, input, target, piece)
    none = [np.zeros(u.shape, bool) for u in there.arguments]
    return [
        error + point.pull_back(m, force, there.sides(m, none))
        for m, (error, force) in enumerate(zip(point.errors, point.forces, strict=True), start=1)
    ]


class _Point:
    """The energy of every sample at one setting of the activities, with the slopes of the units left open.

    Layers of activities are counted by m from 1.  `forces` are minus the prediction errors of the layers above each,
    the last times the precision: what the gradient in activities pulls down, as that in errors does the costates.
    """

    def __init__(self, network: Network, x: Array, y: Array, z: list[Array]) -> None:
        self.network, self.x, self.y, self.activities = network, x, y, z
        self.weights = network.effective_weights()
        self.before = network.placement == "before-weight"
        self.arguments = z if self.before else [a @ W.T for a, W in zip(z[:-1], self.weights[1:-1], strict=True)]
        predictions = [x @ self.weights[0].T]
        if not self.before:
            predictions[0] = np.maximum(predictions[0], 0.0)
        for m, a in enumerate(z, start=1):
            W, tau = self.weights[m], network.skips[m]
            if self.before:
                f = np.maximum(a, 0.0) @ W.T
            else:
                f = np.maximum(self.arguments[m - 1], 0.0) if m < len(z) else a @ W.T
            predictions.append(f + tau * a if tau else f)
        self.errors = [a - f for a, f in zip(z, predictions[:-1], strict=True)]
        self.output = predictions[-1]
        top = network.precision * losses.gradient(network.loss, self.output, y)
        self.forces = [*(-e for e in self.errors[1:]), top]

    def energies(self) -> Array:
        hidden = np.sum([np.sum(e * e, axis=1) for e in self.errors], axis=0) / 2
        return hidden + self.network.precision * losses.value(self.network.loss, self.output, self.y)

    def rows(self, m: int) -> Array | None:
        r"""The \(w_j\) of the arguments above layer m; None for the unit vectors."""
        return None if self.before else self.weights[m]

    def jump(self, m: int, above: Array) -> Array:
        """The jumps of the arguments above layer m when `above` is pulled down."""
        return above @ self.weights[m] if self.before else above

    def jumps(self, above: list[Array]) -> list[Array]:
        return [self.jump(m, above[m - 1]) for m in range(1, len(self.arguments) + 1)]

    def pull_back(self, m: int, above: Array, slopes: Array | None) -> Array:
        """`above` through the layer over m, transposed, with these slopes of its units."""
        result = self.network.skips[m] * above if self.network.skips[m] else 0.0
        if slopes is None:
            return result + above @ self.weights[m]
        bent = slopes * self.jump(m, above)
        return result + (bent if self.before else bent @ self.weights[m])

    def sides(self, m: int, kinks: list[Array]) -> Array | None:
        """The slopes of the units above layer m that are not at a kink, 0 for the others; None if nothing bends."""
        if m > len(kinks):
            return None
        return np.where(kinks[m - 1], 0.0, (self.arguments[m - 1] > 0).astype(np.float64))

    def project_onto(self, kinks: list[Array]) -> _Point:
        z = list(self.activities)
        for m, kink in enumerate(kinks, start=1):
            if self.before:
                z[m - 1] = np.where(kink, 0.0, z[m - 1])
                continue
            z[m - 1] = z[m - 1].copy()
            for b in np.flatnonzero(kink.any(axis=1)):
                W = self.weights[m][kink[b]]
                z[m - 1][b] -= np.linalg.lstsq(W, W @ z[m - 1][b], rcond=None)[0]
        return _Point(self.network, self.x, self.y, z)


def _prepare(network: Network, input: Array, target: Array, activities: list[Array]) -> _Point:
    if network.activation != "relu":
        raise TheoryError(
            f"one-sided derivatives of a network with activation={network.activation!r}: needed 'relu', the one "
            "activation with a kink; pcbench.theory.certificate describes the others"
        )
    operators.require_square_skips(network)
    x, y = operators.batch_arrays(network, input, target)
    losses.check_target(network.loss, y)
    return _Point(network, x, y, operators.activity_arrays(network, activities, len(x)))


def _widths(point: _Point, width: Width) -> list[Array]:
    needed = [u.shape for u in point.arguments]
    given = [np.full(s, width) for s in needed] if isinstance(width, (int, float)) else [np.asarray(w) for w in width]
    if [w.shape for w in given] != needed or not all(np.all(w >= 0) for w in given):
        raise TheoryError(
            f"width_of_kink={width!r}: needed a number of at least 0, or arrays of such of shapes {needed}, those of "
            "what the activation acts on"
        )
    return given


def _not_concave(jump: Array) -> Array:
    return jump >= -_FLAT * np.max(np.abs(jump), axis=1, keepdims=True)


def _steepest_descent(point: _Point, kinks: list[Array]) -> Array:
    r"""A bound of \(\max_{\|d\|=1} -F_b'(z; d)\), `(B,)`: the distance of 0 to the subdifferential, layer by layer."""
    squares, jump_loss = 0.0, 0.0
    for m, force in enumerate(point.forces, start=1):
        gradient, slopes = _closest(point, m, point.errors[m - 1], force, kinks)
        squares = squares + np.sum(gradient**2, axis=1)
        if slopes is not None:
            jump_loss = jump_loss + _jump_loss(point, m, point.jump(m, force), slopes, kinks[m - 1])
    return np.sqrt(squares) + jump_loss


def _error_space(point: _Point, kinks: list[Array]) -> tuple[Array, list[Array]]:
    r"""\(\|G\|\) of statement 3 with slopes that make it small, raised by what negative jumps cost, and the jumps."""
    costate, squares, jump_loss, jumps = point.forces[-1], 0.0, 0.0, []
    stretch = _stretch(point)
    for m in range(len(point.errors), 0, -1):
        gradient, slopes = _closest(point, m, point.errors[m - 1], costate, kinks)
        squares = squares + np.sum(gradient**2, axis=1)
        if slopes is not None:
            jumps.append(point.jump(m, costate))
            jump_loss = jump_loss + stretch[m - 1] * _jump_loss(point, m, jumps[-1], slopes, kinks[m - 1])
        costate = gradient - point.errors[m - 1]
    return np.sqrt(squares) + jump_loss, jumps[::-1]


def _closest(point: _Point, m: int, error: Array, above: Array, kinks: list[Array]) -> tuple[Array, Array | None]:
    """The shortest gradient of layer m over the slopes of the units at their kink, and the slopes of all."""
    sides = point.sides(m, kinks)
    base = error + point.pull_back(m, above, sides)
    if sides is None or not kinks[m - 1].any():
        return base, sides
    kink, jump, rows = kinks[m - 1], point.jump(m, above), point.rows(m)
    if rows is None:
        s = np.clip(-base / np.where(jump == 0, 1.0, jump), 0.0, 1.0)
        slopes = np.where(kink, s, sides)
        return base + np.where(kink, s * jump, 0.0), slopes
    slopes, base = sides.copy(), base.copy()
    for b in np.flatnonzero(kink.any(axis=1)):
        A = jump[b, kink[b]][:, None] * rows[kink[b]]
        s = _box_least_squares(A, base[b])
        slopes[b, kink[b]] = s
        base[b] += s @ A
    return base, slopes


def _box_least_squares(A: Array, base: Array) -> Array:
    r"""The s in \([0,1]^a\) that makes \(\|base + s A\|\) least, A `(a, N)`, by coordinate descent.

    Any s gives a valid bound, so that an early end of the sweeps costs sharpness and not truth.
    """
    s = np.clip(np.linalg.lstsq(A.T, -base, rcond=None)[0], 0.0, 1.0)
    gram, linear = A @ A.T, A @ base
    scale = np.where(np.diag(gram) > 0, np.diag(gram), 1.0)
    for _ in range(_SWEEPS):
        before = s.copy()
        for j in range(len(s)):
            s[j] = min(1.0, max(0.0, s[j] - (gram[j] @ s + linear[j]) / scale[j]))
        if np.max(np.abs(s - before)) <= 1e-15:
            break
    return s


def _jump_loss(point: _Point, m: int, jump: Array, slopes: Array, kink: Array) -> Array:
    r"""What jumps below 0 may take from the bound, \(\sum_j |\kappa_j|\max(s_j, 1-s_j)\|w_j\|\) over them, `(B,)`."""
    rows = point.rows(m)
    lengths = 1.0 if rows is None else np.linalg.norm(rows, axis=1)
    lost = np.where(kink, np.maximum(-jump, 0.0) * np.maximum(slopes, 1 - slopes) * lengths, 0.0)
    return np.sum(lost, axis=1)


def _stretch(point: _Point) -> Array:
    r"""\(\|dz_m\|\) is at most this times \(\|d\varepsilon\|\), `(L - 1,)`: layers have slopes \(\tau + \|aW\|\)."""
    squares = [1.0]
    for W, tau in zip(point.weights[1:-1], point.network.skips[1:-1], strict=True):
        squares.append(1 + (abs(tau) + operators.norm_bound(W)) ** 2 * squares[-1])
    return np.sqrt(squares)


def _verdict(given: _Point, at: _Point, kinks: list[Array], residual: Array, norm: Array) -> OneSided:
    change = given.energies() - at.energies()
    count = sum(int(k.sum()) for k in kinks)
    crossing = _count_reachable(at, kinks, 2 * norm)
    if not np.isfinite(norm).all():
        reason = "no bound: the activities or their gradient are not finite"
    elif crossing:
        reason = (
            f"one-sided residual {np.max(residual):.3g} with {count} units on their kink, but no bound: {crossing} "
            "others may reach theirs before equilibrium"
        )
    else:
        moved = np.sqrt(sum(np.sum((a - b) ** 2, axis=1) for a, b in zip(given.errors, at.errors, strict=True)))
        reason = f"every piece around the activities, {count} units on their kink, has an error-space Hessian above 1"
        gap_bound = change + norm**2 / 2
        return OneSided(True, residual, kinks, at.activities, change, gap_bound, moved + 2 * norm, reason)
    return OneSided(False, residual, kinks, at.activities, change, None, None, reason)


def _count_reachable(point: _Point, kinks: list[Array], radius: Array) -> int:
    """How many units that are not on their kink may reach it while the errors move by `radius` `(B,)`."""
    stretch, count = _stretch(point), 0
    for m, (u, kink) in enumerate(zip(point.arguments, kinks, strict=True), start=1):
        rows = point.rows(m)
        lengths = np.ones(u.shape[1]) if rows is None else np.linalg.norm(rows, axis=1)
        reach = stretch[m - 1] * radius[:, None] * lengths[None, :]
        count += int(np.sum(~kink & ~(np.abs(u) > reach)))
    return count
