r"""Growth exponents of PC at exact equilibrium and of BP, for many parameterisations of a linear residual net at once.

A parameterisation is nothing but scalars on the same \(\mathcal N(0, 1)\) weights \(G_l\): the effective weight of
layer l is \(g_l G_l\), \(g_l = a_l\sigma_l\), and a step of gradient descent adds

\[a_l\,\Delta W_l = \frac{q_l}{B}\, J_l^T \sum_b \mu_b z_{l-1,b}^T, \qquad q_l = a_l^2\,\eta,\]

with \(\mu = r\) and feedforward activities for BP, \(\mu = S^{-1} r\) and equilibrium activities for PC: two scalars a
layer, and an update of rank K whatever the batch.  So no parameterisation has weights of its own.  The layers of all
of them are applied by one matrix product with \(G_l\) and a few thin ones with the updates so far, at the cost
\(O(L N^2 (B + K))\) each, and 225 parameterisations fit in memory at any width at which one does.

Changes are propagated as changes, \(\delta_l = A_l(0)\,\delta_{l-1} + \Delta A_l\, z_{l-1}\), never by subtracting
activities, so that an \(N^{-4}\) is measured as well as an \(N^0\).  What overflows becomes infinite or NaN and has
the exponent \(+\infty\).

**References:** theory W6; `pcbench.theory.stability` for the regimes and for what is expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pcbench.errors import UsageError
from pcbench.problem.parameterisation import Exponents, initial_std, layer_scalings, learning_rate

RULES = ("pc", "bp")
QUANTITIES = ("initial_hidden", "initial_output", "hidden", "output", "branches", "shift")
_MEMORY = 1 << 29  # bytes of activities and updates for which parameterisations are taken together
_HUGE = 1e150  # beyond it the square overflows

Array = np.ndarray


@dataclass(frozen=True)
class Strengths:
    r"""\(g_l\) and \(q_l\) of P parameterisations, `(P, L)` each."""

    initial: Array
    learning: Array

    def __getitem__(self, part: slice) -> Strengths:
        return Strengths(self.initial[part], self.learning[part])


def strengths(
    parameterisations: Sequence[Exponents],
    *,
    width: int,
    depth: int,
    input_dim: int,
    base_rate: float,
    output_multiplier: float = 1.0,
    depth_rates: Sequence[float] | None = None,
) -> Strengths:
    r"""The scalars of parameterisations at one size; `depth_rates` are exponents \(\kappa\) in \(\eta L^{-\kappa}\)."""
    sizes = {"width": width, "depth": depth, "residual": True, "output_multiplier": output_multiplier}
    initial, learning = [], []
    rates = [0.0] * len(parameterisations) if depth_rates is None else depth_rates
    for e, kappa in zip(parameterisations, rates, strict=True):
        a = layer_scalings(e, input_dim=input_dim, **sizes)
        std = [initial_std(e, layer=l, depth=depth, fan_in=width, width=width) for l in range(1, depth + 1)]
        eta = learning_rate(e, base_rate, **sizes) * depth**-kappa
        initial.append(np.multiply(a, std))
        learning.append(np.square(a) * eta)
    return Strengths(np.array(initial), np.array(learning))


class _Layer:
    r"""\(A_l = \tau I + g G + \sum_s\) updates, for P parameterisations; activities are `(P, rows, units)`."""

    def __init__(self, weight: Array, initial: Array, learning: Array, skip: bool) -> None:
        self.weight, self.skip = weight, skip
        self.initial, self.learning = initial[:, None, None], learning[:, None, None]
        self._left: list[Array] = []
        self._right: list[Array] = []

    def add_update(self, rows: Array, costate: Array, below: Array) -> None:
        r"""Add \(\frac qB J^T \mu^T z\), for `rows` J, `costate` \(\mu\) and `below` z."""
        self._left.append(rows)
        self._right.append(self.learning / below.shape[1] * (costate.swapaxes(1, 2) @ below))

    def _start(self, x: Array, weight: Array) -> Array:
        product = (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:2], -1)
        return self.initial * product + x if self.skip else self.initial * product

    def apply_initial(self, x: Array) -> Array:
        r"""\(A_l(0)\, x\)."""
        return self._start(x, self.weight.T)

    def apply_change(self, x: Array) -> Array | float:
        r"""\((A_l - A_l(0))\, x\)."""
        return sum((x @ right.swapaxes(1, 2)) @ left for left, right in zip(self._left, self._right, strict=True))

    def apply_transpose(self, x: Array) -> Array:
        r"""\(A_l^T x\)."""
        back = sum((x @ left.swapaxes(1, 2)) @ right for left, right in zip(self._left, self._right, strict=True))
        return self._start(x, self.weight) + back


def measure_sizes(
    weights: Sequence[Array], input: Array, target: Array, strengths: Strengths, *, steps: int, rule: str
) -> dict[str, Array]:
    r"""Train P parameterisations for `steps` steps; how large everything was, `(P,)` for each of `QUANTITIES`.

    Root mean squares over samples and units, of the last hidden layer (`hidden`), the output, what the residual
    branches have learnt \(\sum_l (A_l - A_l(0)) z_{l-1}\) (`branches`) and \(z^* - \hat z\) (`shift`); of changes
    since initialisation the largest of all steps, for a parameterisation is stable if *every* step is.

    **Arguments:** `weights`: \(G_1 \dots G_L\), standard normal, `(fan_out, fan_in)`; layers 2 to L-1 have skips.
    `input` `(B, D)`, `target` `(B, K)`.  `rule`: `pc`, at exact equilibrium, or `bp`.

    **Raises:** `UsageError` for another rule, fewer than 3 layers or no step.
    """
    if rule not in RULES or steps < 1 or len(weights) < 3:
        raise UsageError(
            f"rule={rule!r}, steps={steps}, {len(weights)} layers: needed a rule of {', '.join(RULES)}, "
            "at least one step and at least 3 layers, for there must be a hidden weight"
        )
    units = sum(len(w) for w in weights) + input.shape[1]
    columns = 5 * len(input) + 2 * (steps + 2) * target.shape[1]
    together = max(1, _MEMORY // (8 * units * columns))
    parts = []
    with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        for first in range(0, len(strengths.initial), together):
            part = strengths[first : first + together]
            parts.append(_train(weights, input, target, part, steps, rule))
    return {name: np.concatenate([part[name] for part in parts]) for name in QUANTITIES}


def _train(weights: Sequence[Array], x: Array, y: Array, s: Strengths, steps: int, rule: str) -> dict[str, Array]:
    top = len(weights) - 1
    layers = [_Layer(w, s.initial[:, l], s.learning[:, l], 0 < l < top) for l, w in enumerate(weights)]
    count = len(s.initial)
    start = [np.broadcast_to(x, (count, *x.shape))]
    for layer in layers:
        start.append(layer.apply_initial(start[-1]))
    change: list[Array] = [np.zeros_like(z) for z in start]
    sizes = {name: np.zeros(count) for name in QUANTITIES}
    sizes["initial_hidden"], sizes["initial_output"] = _size(start[-2]), _size(start[-1])
    for _ in range(steps):
        rows = _jacobians(layers, count, y.shape[1])
        r = y - start[-1] - change[-1]
        activities = [z + d for z, d in zip(start[:-1], change[:-1], strict=True)]
        costate = r
        if rule == "pc":
            costate = _equilibrium_costate(rows[:-1], r)
            shift = _shifts(layers, rows, costate)
            activities = [activities[0], *(z + d for z, d in zip(activities[1:], shift, strict=True))]
            sizes["shift"] = np.maximum(sizes["shift"], _size(shift[-1]))
        for layer, J, z in zip(layers, rows, activities, strict=True):
            layer.add_update(J, costate, z)
        change, branches = _changes(layers, start)
        for name, value in (("hidden", change[-2]), ("output", change[-1]), ("branches", branches)):
            sizes[name] = np.maximum(sizes[name], _size(value))
    return sizes


def _jacobians(layers: Sequence[_Layer], count: int, outputs: int) -> list[Array]:
    r"""\(J_1 \dots J_{L-1}\) and \(J_L = I\), `(P, K, units)` each."""
    rows = [np.broadcast_to(np.eye(outputs), (count, outputs, outputs))]
    for layer in reversed(layers[1:]):
        rows.append(layer.apply_transpose(rows[-1]))
    return rows[::-1]


def _equilibrium_costate(rows: Sequence[Array], r: Array) -> Array:
    r"""\(\mu = S^{-1} r\), `(P, B, K)`, \(S = I + \sum_l J_l J_l^T\); NaN where S overflows.

    By eigenvalues, which are at least 1: beside huge ones the small ones would come out of a factorisation as noise.
    """
    S: Array = np.eye(r.shape[-1]) + sum(J @ J.swapaxes(1, 2) for J in rows)
    finite: Array = np.all(np.abs(S) < _HUGE, axis=(1, 2))
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], S, np.eye(r.shape[-1])))
    mu = ((r @ vectors) / np.maximum(values, 1.0)[:, None]) @ vectors.swapaxes(1, 2)
    return np.where(finite[:, None, None], mu, np.nan)


def _shifts(layers: Sequence[_Layer], rows: Sequence[Array], costate: Array) -> list[Array]:
    r"""\(z_l^* - \hat z_l\), hidden layers: the errors \(J_l^T\mu\) passed up, K columns instead of a batch."""
    columns = rows[0]
    shifts = [costate @ columns]
    for layer, J in zip(layers[1:-1], rows[1:-1], strict=True):
        columns = layer.apply_initial(columns) + layer.apply_change(columns) + J
        shifts.append(costate @ columns)
    return shifts


def _changes(layers: Sequence[_Layer], start: Sequence[Array]) -> tuple[list[Array], Array]:
    """What training has changed in the activities of every layer, the input's and the output's included."""
    change = [np.zeros_like(start[0])]
    branches = np.zeros_like(start[1])
    for l, layer in enumerate(layers):
        learnt = layer.apply_change(start[l] + change[-1])
        if layer.skip:
            branches = branches + learnt
        change.append(layer.apply_initial(change[-1]) + learnt)
    return change, branches


def _size(x: Array) -> Array:
    """Root mean square over samples and units, `(P,)`; infinite where it is not finite."""
    value = np.sqrt(np.mean(np.square(x), axis=(1, 2)))
    return np.where(np.isfinite(value), value, np.inf)
